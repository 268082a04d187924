package obs

import "github.com/prometheus/client_golang/prometheus"

// Source returns the samples of one package as they stand now. The same name always has the same label names.
type Source func() []Sample

// Sample is one number. Labels are name, value, name, value.
type Sample struct {
	Name   string // without the prefix rtcedge_
	Help   string
	Gauge  bool // may go down; else a counter, whose name ends in _total
	Value  float64
	Labels []string

	// Of a histogram, whose Value is the sum: how many there were, and how many of them were not above a bound.
	Buckets map[float64]uint64
	Count   uint64
}

// sources is a Prometheus collector over Source functions. It describes nothing beforehand, so that a source may grow
// samples (a farm node that joins) while it runs.
type sources []Source

func (sources) Describe(chan<- *prometheus.Desc) {}

func (s sources) Collect(out chan<- prometheus.Metric) {
	for _, source := range s {
		for _, sample := range source() {
			out <- sample.metric()
		}
	}
}

func (s Sample) metric() prometheus.Metric {
	names := make([]string, 0, len(s.Labels)/2)
	values := make([]string, 0, len(s.Labels)/2)
	for i := 0; i+1 < len(s.Labels); i += 2 {
		names = append(names, s.Labels[i])
		values = append(values, s.Labels[i+1])
	}
	kind := prometheus.CounterValue
	if s.Gauge {
		kind = prometheus.GaugeValue
	}
	desc := prometheus.NewDesc("rtcedge_"+s.Name, s.Help, names, nil)
	if s.Buckets != nil {
		m, err := prometheus.NewConstHistogram(desc, s.Count, s.Value, s.Buckets, values...)
		if err != nil {
			return prometheus.NewInvalidMetric(desc, err)
		}
		return m
	}
	m, err := prometheus.NewConstMetric(desc, kind, s.Value, values...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}
