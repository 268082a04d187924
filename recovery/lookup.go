package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// job is one leg that has to be brought back.
type job struct {
	call bridge.Call
	leg  bridge.Leg
}

// lookup reads the calls that have answered legs on a node. Legs that ring are left to the bridge role: there is no dialog to go on with
// (B46), and it tries elsewhere or fails them at once. The oldest calls come first.
func lookup(ctx context.Context, calls *store.Bucket, node bridge.NodeID) ([]job, error) {
	entries, err := calls.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("calls of %s: %w", node, err)
	}
	var jobs []job
	for _, e := range entries {
		var c bridge.Call
		if json.Unmarshal(e.Value, &c) != nil {
			continue // not ours to repair; the bridge role refuses it as well
		}
		for _, l := range c.Legs {
			if l.Node == node && (l.State == bridge.LegUp || l.State == bridge.LegLost) {
				jobs = append(jobs, job{c, l})
			}
		}
	}
	slices.SortStableFunc(jobs, func(a, b job) int { return a.call.Created.Compare(b.call.Created) })
	return jobs, nil
}

// current reads a leg's call again. gone tells that nothing is left to do: the call or the leg ended, or it lives on another node.
func current(ctx context.Context, calls *store.Bucket, j *job, dead bridge.NodeID) (gone bool, err error) {
	e, err := calls.Get(ctx, j.call.ID)
	if err != nil {
		return false, err
	}
	var c bridge.Call
	if err := json.Unmarshal(e.Value, &c); err != nil {
		return false, fmt.Errorf("call %s: %w", j.call.ID, err)
	}
	i := slices.IndexFunc(c.Legs, func(l bridge.Leg) bool { return l.SIPCallID == j.leg.SIPCallID })
	if i < 0 || c.Legs[i].State == bridge.LegGone || c.Legs[i].Node != dead {
		if i >= 0 {
			j.leg = c.Legs[i]
		}
		return true, nil
	}
	j.call, j.leg = c, c.Legs[i]
	return false, nil
}

// giveUp writes into the call's record that a leg is gone, which the bridge role takes for its hang-up.
func giveUp(ctx context.Context, calls *store.Bucket, j *job, dead bridge.NodeID) error {
	return calls.Modify(ctx, j.call.ID, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, nil
		}
		var c bridge.Call
		if err := json.Unmarshal(old, &c); err != nil {
			return nil, fmt.Errorf("call %s: %w", j.call.ID, err)
		}
		for i := range c.Legs {
			if l := &c.Legs[i]; l.SIPCallID == j.leg.SIPCallID && l.Node == dead {
				l.State = bridge.LegGone
			}
		}
		return json.Marshal(c)
	})
}
