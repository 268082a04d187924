package recovery

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// report keeps the timeline of a crash and writes it to the store in the background: each leg by itself, and not at each step, since the calls' own records
// go the same way at that time.
type report struct {
	legs  *store.Bucket
	key   string // of the crash
	taken int    // how often it was taken over

	mu   sync.Mutex // guards the rest
	list []LegReport
}

// add puts a leg into the report and returns its place. One that is there already goes on: we are not the first controller of this crash, or it was
// brought to a node that died.
func (r *report) add(j *job) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := slices.IndexFunc(r.list, func(l LegReport) bool { return l.SIPCallID == j.leg.SIPCallID && l.Call == j.call.ID })
	step := "found"
	if n < 0 {
		n = len(r.list)
		r.list = append(r.list, LegReport{Call: j.call.ID, Leg: j.leg.ID, SIPCallID: j.leg.SIPCallID})
	} else {
		step = "taken over"
	}
	l := &r.list[n]
	l.Result, l.Reason = ResultPending, ""
	r.stepLocked(n, step)
	r.writeLocked(n)
	return n
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

// target notes the node that is asked.
func (r *report) target(n int, node bridge.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[n].Target = node
}

// step notes a step that others follow soon: it is written with them.
func (r *report) step(n int, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stepLocked(n, name)
}

// halt notes a step behind which the leg waits, or the last one, and writes.
func (r *report) halt(n int, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stepLocked(n, name)
	r.writeLocked(n)
}

func (r *report) stepLocked(n int, name string) {
	l := &r.list[n]
	l.Steps = append(l.Steps, Step{name, time.Now()})
}

func (r *report) end(n int, result string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.list[n]
	l.Result = result
	if why != nil {
		l.Reason = why.Error()
	}
	r.stepLocked(n, result)
	r.writeLocked(n)
}

func (r *report) writeLocked(n int) {
	value, err := json.Marshal(r.list[n])
	if err != nil {
		return // it holds nothing that cannot be written
	}
	_ = r.legs.PutLater(legKey(r.key, r.taken, n), value) // a full queue loses a timeline, not a call
}

// results counts the legs by result, for the log.
func (r *report) results() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, l := range r.list {
		n[l.Result]++
	}
	return fmt.Sprint(n)
}
