package recovery

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// report keeps the timeline of a crash and writes it to the store in the background: each leg by itself, and not at each step, since the calls' own records
// go the same way at that time. What is said about a step is its result, then the reason.
type report struct {
	legs  *store.Bucket
	meter *meter
	key   string    // of the crash
	since time.Time // the first sign
	at    time.Time // the verdict
	taken int       // how often it was taken over

	mu      sync.Mutex // guards the rest
	steps   []Step     // of the crash as a whole
	list    []LegReport
	places  map[legName]int // in list
	waiting int             // legs without a result
}

// legName is by what a leg is known again: its id changes with each recovery.
type legName struct{ call, sipCallID string }

func newReport(r *Recoverer, d Death, legs *store.Bucket) *report {
	return &report{legs: legs, meter: &r.meter, key: d.key(), since: d.Since, at: d.At, places: map[legName]int{}}
}

// resume goes on with what was written about the crash before, and returns the calls that had to do with it.
func (r *report) resume(ctx context.Context, taken int) (calls map[string]bool, err error) {
	steps, legs, err := readReport(ctx, r.legs, r.key)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken, r.steps, r.list = taken, steps, legs
	calls = map[string]bool{}
	for n, l := range r.list {
		r.places[legName{l.Call, l.SIPCallID}] = n
		calls[l.Call] = true
		if l.Result == ResultPending {
			r.waiting++
		}
	}
	return calls, nil
}

// note writes a step of the crash as a whole.
func (r *report) note(name string, about ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, newStep(name, about))
	if value, err := json.Marshal(r.steps); err == nil {
		_ = r.legs.PutLater(stepsKey(r.key, r.taken), value)
	}
}

func newStep(name string, about []string) Step {
	s := Step{Name: name, At: time.Now()}
	if len(about) > 0 {
		s.Result = about[0]
	}
	if len(about) > 1 {
		s.Reason = about[1]
	}
	return s
}

// add puts a leg into the report and returns its place. One that is there already goes on: we are not the first controller of this crash, or it was
// brought to a node that died.
func (r *report) add(j *job) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := legName{j.call.ID, j.leg.SIPCallID}
	n, before := r.places[name]
	step := "found"
	if before {
		step = "taken over"
	} else {
		n = len(r.list)
		r.list = append(r.list, LegReport{Call: j.call.ID, Leg: j.leg.ID, SIPCallID: j.leg.SIPCallID})
		r.places[name] = n
	}
	l := &r.list[n]
	if l.Result != ResultPending {
		r.waiting++
	}
	l.Result, l.Reason = ResultPending, ""
	r.stepLocked(n, step)
	r.writeLocked(n)
	return n
}

// place is where a leg is that was added.
func (r *report) place(j *job) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.places[legName{j.call.ID, j.leg.SIPCallID}]
}

// pending are the legs without a result, by their place.
func (r *report) pending() map[int]LegReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[int]LegReport{}
	for n, l := range r.list {
		if l.Result == ResultPending {
			out[n] = l
		}
	}
	return out
}

// inFlight counts the legs without a result.
func (r *report) inFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

// target notes the node that is asked.
func (r *report) target(n int, node bridge.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[n].Target = node
}

// step notes a step that others follow soon: it is written with them.
func (r *report) step(n int, name string, about ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stepLocked(n, name, about...)
}

// halt notes a step behind which the leg waits, or the last one, and writes.
func (r *report) halt(n int, name string, about ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stepLocked(n, name, about...)
	r.writeLocked(n)
}

func (r *report) stepLocked(n int, name string, about ...string) {
	l := &r.list[n]
	s := newStep(name, about)
	l.Steps = append(l.Steps, s)
	r.meter.step(r, s)
}

// heard notes when the farm was heard again, which was before we knew: the steps stay in the order of time.
func (r *report) heard(n int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.list[n]
	s := Step{Name: StepRTP, At: at}
	i := len(l.Steps)
	for i > 0 && l.Steps[i-1].At.After(at) {
		i--
	}
	l.Steps = slices.Insert(l.Steps, i, s)
	r.meter.step(r, s)
	r.writeLocked(n)
}

func (r *report) end(n int, result string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.list[n]
	if l.Result == ResultPending {
		r.waiting--
	}
	l.Result = result
	if why != nil {
		l.Reason = why.Error()
	}
	r.stepLocked(n, result, result, l.Reason)
	r.writeLocked(n)
}

func (r *report) writeLocked(n int) {
	value, err := json.Marshal(r.list[n])
	if err != nil {
		return // it holds nothing that cannot be written
	}
	_ = r.legs.PutLater(legKey(r.key, r.taken, n), value) // a full queue loses a timeline, not a call
}

// orderly tells that nobody had to speak in a dialog: the node had none, or had ended them itself.
func (r *report) orderly() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.list, func(l LegReport) bool {
		ended := l.Result == ResultClosed || l.Result == ResultRefused && strings.HasPrefix(l.Reason, string(ReasonEnded)+":")
		return !ended || slices.ContainsFunc(l.Steps, func(s Step) bool { return s.Name == stepInvite })
	})
}

// results counts the legs by result.
func (r *report) results() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return countResults(r.list)
}

func countResults(legs []LegReport) map[string]int {
	n := map[string]int{}
	for _, l := range legs {
		n[l.Result]++
	}
	return n
}
