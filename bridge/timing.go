package bridge

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Steps of a call's set-up, each timed from the moment at which the node told of the caller.
const (
	stepResolved   = "resolved"   // where the number leads is known
	stepOriginated = "originated" // the node has sent the INVITE to the callee, at best
	stepRinging    = "ringing"    // the callee's 180 was told to us
	stepRung       = "rung"       // the caller has its 180
	stepAnswered   = "answered"   // the callee's 200 was told to us
	stepTalking    = "talking"    // both are in the bridge
)

// bounds are the upper ends of a timing's buckets.
func bounds() [11]time.Duration {
	const ms = time.Millisecond
	return [...]time.Duration{ms, 2 * ms, 5 * ms, 10 * ms, 20 * ms, 50 * ms, 100 * ms, 200 * ms, 500 * ms, time.Second, 5 * time.Second}
}

// timing is a histogram that many goroutines add to.
type timing struct {
	sum    atomic.Int64
	counts [12]atomic.Int64 // the last one is above all bounds
}

func (t *timing) add(d time.Duration) {
	t.sum.Add(int64(d))
	limits := bounds()
	i := 0
	for i < len(limits) && d > limits[i] {
		i++
	}
	t.counts[i].Add(1)
}

// timings are those of a process by name. The map is constant after New.
type timings map[string]*timing

func newTimings(names ...string) timings {
	t := timings{}
	for _, name := range names {
		t[name] = new(timing)
	}
	return t
}

func (t timings) add(name string, d time.Duration) {
	if one := t[name]; one != nil {
		one.add(d)
	}
}

// Timing is a histogram as it stands.
type Timing struct {
	Name    string
	Count   int64
	Sum     time.Duration
	Buckets map[time.Duration]int64 // how many took no longer than this
}

func (t timings) snapshot() []Timing {
	var out []Timing
	limits := bounds()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		one := Timing{Name: name, Sum: time.Duration(t[name].sum.Load()), Buckets: map[time.Duration]int64{}}
		for i, limit := range limits {
			one.Count += t[name].counts[i].Load()
			one.Buckets[limit] = one.Count
		}
		one.Count += t[name].counts[len(limits)].Load()
		out = append(out, one)
	}
	return out
}

// steps times the set-up of one call of two. It is owned by the call's goroutine.
type steps struct {
	into timings
	from time.Time // zero: not timed
	done map[string]bool
}

func newSteps(into timings, c *Call) steps {
	s := steps{into: into, done: map[string]bool{}}
	if c.Conference == "" && c.Program == "" && len(c.Legs) == 0 && c.Next == "" {
		s.from = c.Created
	}
	return s
}

// reached notes a step the first time.
func (s *steps) reached(step string) {
	if step == "" || s.from.IsZero() || s.done[step] {
		return
	}
	s.done[step] = true
	s.into.add(step, time.Since(s.from))
	if step == stepTalking {
		s.from = time.Time{}
	}
}

// stepOf is the step that an action's end is. joined is how many legs are in the bridge by now.
func (s *steps) stepOf(a action) string {
	switch a.Do {
	case doResolve:
		return stepResolved
	case doOriginate:
		return stepOriginated
	case doRing:
		return stepRung
	case doJoin:
		if s.done[stepAnswered] && s.done["first"] {
			return stepTalking
		}
		s.done["first"] = true
	}
	return ""
}
