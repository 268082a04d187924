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

// report keeps the timeline of a crash and writes it to the store, at most every reportEvery and at the end.
type report struct {
	crashes *store.Bucket

	mu      sync.Mutex // guards the rest
	crash   Crash
	written time.Time
}

const reportEvery = 250 * time.Millisecond

func newReport(crashes *store.Bucket, c Crash, jobs []job) *report {
	r := &report{crashes: crashes, crash: c}
	r.add(jobs)
	return r
}

// add puts legs into the report and returns the first one's place.
func (r *report) add(jobs []job) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := len(r.crash.Legs)
	now := time.Now()
	for _, j := range jobs {
		r.crash.Legs = append(r.crash.Legs, LegReport{Call: j.call.ID, Leg: j.leg.ID, SIPCallID: j.leg.SIPCallID, Result: ResultPending, Steps: []Step{{"found", now}}})
	}
	return first
}

// has tells whether a dialog is in the report.
func (r *report) has(sipCallID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.crash.Legs, func(l LegReport) bool { return l.SIPCallID == sipCallID })
}

func (r *report) change(n int, f func(*LegReport)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.crash.Legs[n])
	if time.Since(r.written) >= reportEvery {
		r.writeLocked()
	}
}

func (r *report) step(n int, name string) {
	r.change(n, func(l *LegReport) { l.Steps = append(l.Steps, Step{name, time.Now()}) })
}

func (r *report) target(n int, node bridge.NodeID) {
	r.change(n, func(l *LegReport) { l.Target = node })
}

func (r *report) end(n int, result string, why error) {
	r.change(n, func(l *LegReport) {
		l.Result = result
		if why != nil {
			l.Reason = why.Error()
		}
		l.Steps = append(l.Steps, Step{result, time.Now()})
	})
}

func (r *report) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crash.Done = time.Now()
	r.writeLocked()
}

func (r *report) writeLocked() {
	r.written = time.Now()
	value, err := json.Marshal(r.crash)
	if err != nil {
		return // it holds nothing that cannot be written
	}
	_ = r.crashes.PutLater(crashKey(r.crash.Node, r.crash.Epoch), value) // a full queue loses a timeline, not a call
}

// results counts the legs by result, for the log.
func (r *report) results() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, l := range r.crash.Legs {
		n[l.Result]++
	}
	return fmt.Sprint(n)
}
