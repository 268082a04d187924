package recovery

import "rtcedge/bridge"

// Stats count since the start.
type Stats struct {
	Crashes   int // that this controller recovered, when they are closed
	Stops     int // of nodes that left no call
	Watched   int // that another one recovers
	TakenOver int // from a controller that was silent; they count as one of the two above, too
	Recovered int // legs
	Refused   int
	Closed    int
	Kept      int
	Failed    int
	Heard     int // recovered legs of which media heard the new node
	Silent    int // and of which it did not

	Open    int             // crashes that this controller recovers now
	Pending int             // their legs without a result
	Timings []bridge.Timing // how long it took: spanVerdict, ...
}

func (r *Recoverer) count(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
}

// Stats returns the counters.
func (r *Recoverer) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Open = len(r.active)
	for rep := range r.active {
		s.Pending += rep.inFlight()
	}
	s.Timings = r.meter.snapshot()
	return s
}

// tracked counts a report in the Stats until what it returns is called.
func (r *Recoverer) tracked(rep *report) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active[rep] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.active, rep)
	}
}
