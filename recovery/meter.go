package recovery

import (
	"sync"
	"time"

	"rtcedge/bridge"
)

// Spans that are timed.
const (
	spanVerdict   = "verdict"   // from the first sign of a crash to the verdict
	spanRecovered = "recovered" // from the verdict to a leg that another node has
	spanRTP       = "rtp"       // from the verdict to the first packet of that node
	spanSilence   = "silence"   // from the first sign to that packet: how long the farm said nothing. A join or comfort noise filled it
)

// spanBounds are the upper ends of the buckets.
func spanBounds() [14]time.Duration {
	const ms = time.Millisecond
	return [...]time.Duration{50 * ms, 100 * ms, 200 * ms, 300 * ms, 500 * ms, 700 * ms, time.Second, 1500 * ms, 2 * time.Second, 3 * time.Second, 5 * time.Second,
		10 * time.Second, 30 * time.Second, time.Minute}
}

// meter times what this process did itself. Its zero value is ready.
type meter struct {
	mu    sync.Mutex // guards the rest
	spans [4]span
}

type span struct {
	sum    time.Duration
	counts [15]int64 // the last one is above all bounds
}

func spanNames() [4]string { return [...]string{spanVerdict, spanRecovered, spanRTP, spanSilence} }

func (m *meter) add(name string, took time.Duration) {
	limits := spanBounds()
	i := 0
	for i < len(limits) && took > limits[i] {
		i++
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, known := range spanNames() {
		if known == name {
			m.spans[n].sum += took
			m.spans[n].counts[i]++
		}
	}
}

// step is told of each step of a leg.
func (m *meter) step(r *report, s Step) {
	switch s.Name {
	case ResultRecovered:
		m.add(spanRecovered, s.At.Sub(r.at))
	case StepRTP:
		m.add(spanRTP, s.At.Sub(r.at))
		m.add(spanSilence, s.At.Sub(r.since))
	}
}

func (m *meter) snapshot() []bridge.Timing {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []bridge.Timing
	limits := spanBounds()
	for n, name := range spanNames() {
		t := bridge.Timing{Name: name, Sum: m.spans[n].sum, Buckets: map[time.Duration]int64{}}
		for i, limit := range limits {
			t.Count += m.spans[n].counts[i]
			t.Buckets[limit] = t.Count
		}
		t.Count += m.spans[n].counts[len(limits)]
		out = append(out, t)
	}
	return out
}
