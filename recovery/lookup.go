package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// job is one leg that has to be brought back.
type job struct {
	call bridge.Call
	leg  bridge.Leg
}

// sort puts the oldest calls first, and the legs of one call beside each other.
func sortJobs(jobs []job) {
	slices.SortStableFunc(jobs, func(a, b job) int {
		if c := a.call.Created.Compare(b.call.Created); c != 0 {
			return c
		}
		return strings.Compare(a.call.ID, b.call.ID)
	})
}

// legsOf are the answered legs of a call on a node. For legs that ring there is no dialog to go on with (B46): unanswered.go
// ends them. Of a node that lives the lost ones only: what is up there is a new process's, or was kept.
func legsOf(c *bridge.Call, node bridge.NodeID, lives bool) []job {
	var jobs []job
	for _, l := range c.Legs {
		if l.Node == node && (l.State == bridge.LegLost || l.State == bridge.LegUp && !lives) {
			jobs = append(jobs, job{*c, l})
		}
	}
	return jobs
}

// goesOn is what the bridge role puts a leg back into, as its record says, and what it has there.
func goesOn(c *bridge.Call, l *bridge.Leg) (about []string) {
	what := l.Waiting // hold, pin
	switch {
	case l.Waiting == "flow" && c.Flow != nil:
		what = fmt.Sprintf("flow %s, action %d", c.Flow.Name, c.Flow.Step)
	case l.Waiting == "program":
		what = "program " + c.Program
	case what == "" && c.Conference != "":
		what = "conference " + c.Conference
	case what == "":
		what = "bridge"
	}
	var has []string
	for _, p := range []struct {
		on   bool
		text string
	}{{l.Moderator, "moderator"}, {l.Muted, "muted"}, {l.Deaf, "deaf"}, {l.Recording != "", "recorded"}, {!l.Limit.IsZero(), "limited"}, {l.Digits != "", "digits"}} {
		if p.on {
			has = append(has, p.text)
		}
	}
	return []string{what, strings.Join(has, ", ")}
}

// roster follows the records of the calls that a crash has to do with.
type roster struct {
	mu      sync.Mutex // guards the rest
	calls   map[string]bridge.Call
	changes map[string]chan struct{} // by call; closed by its next change
}

func newRoster() *roster {
	return &roster{calls: map[string]bridge.Call{}, changes: map[string]chan struct{}{}}
}

// take reads a change of the store and returns the call; of a call that has never had to do with the node it keeps nothing.
func (r *roster) take(e store.Entry, concerns func(*bridge.Call) bool) (c bridge.Call, ok bool) {
	if !e.Deleted && json.Unmarshal(e.Value, &c) != nil {
		return c, false // not ours to repair; the bridge role refuses it as well
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.calls[e.Key]
	if !known && (e.Deleted || !concerns(&c)) {
		return c, false
	}
	if e.Deleted {
		c = bridge.Call{ID: e.Key}
	}
	r.calls[e.Key] = c
	if ch := r.changes[e.Key]; ch != nil {
		close(ch)
		delete(r.changes, e.Key)
	}
	return c, !e.Deleted
}

// leg is the leg of a job as the record has it now, with what is closed when the record changes. gone tells that it ended.
func (r *roster) leg(j *job) (call bridge.Call, leg bridge.Leg, changed <-chan struct{}, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.changes[j.call.ID]
	if ch == nil {
		ch = make(chan struct{})
		r.changes[j.call.ID] = ch
	}
	call = r.calls[j.call.ID]
	base := bridge.BaseID(j.leg.ID)
	i := slices.IndexFunc(call.Legs, func(l bridge.Leg) bool { return bridge.BaseID(l.ID) == base })
	if i < 0 || call.Legs[i].State == bridge.LegGone {
		return call, bridge.Leg{}, ch, true
	}
	return call, call.Legs[i], ch, false
}

// insistGiveUp gives a leg up as soon as the store takes it, while the crash is open.
func insistGiveUp(ctx context.Context, calls *store.Bucket, j *job, dead bridge.NodeID, log *slog.Logger) {
	for told := false; ; told = true {
		err := giveUp(ctx, calls, j, dead)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return
		}
		if !told {
			log.Warn("leg is not given up yet", "call", j.call.ID, "leg", j.leg.ID, "err", err)
		}
		if !sleep(ctx, storePause) {
			return
		}
	}
}

// legIn is the leg of a job in a call's record.
func legIn(value []byte, j *job) (leg bridge.Leg, ok bool) {
	var c bridge.Call
	if json.Unmarshal(value, &c) != nil {
		return leg, false
	}
	base := bridge.BaseID(j.leg.ID)
	for _, l := range c.Legs {
		if bridge.BaseID(l.ID) == base {
			return l, true
		}
	}
	return leg, false
}

// giveUp writes into the call's record that a leg is gone, which the bridge role takes for its hang-up. A leg that another node has meanwhile stays.
func giveUp(ctx context.Context, calls *store.Bucket, j *job, dead bridge.NodeID) error {
	base := bridge.BaseID(j.leg.ID)
	return calls.Modify(ctx, j.call.ID, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, nil
		}
		var c bridge.Call
		if err := json.Unmarshal(old, &c); err != nil {
			return nil, fmt.Errorf("call %s: %w", j.call.ID, err)
		}
		for i := range c.Legs {
			if l := &c.Legs[i]; bridge.BaseID(l.ID) == base && l.Node == dead {
				l.State = bridge.LegGone
			}
		}
		return json.Marshal(c)
	})
}
