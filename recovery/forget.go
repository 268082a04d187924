package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// Chosen by us.
const (
	defaultKeepFor = 30 * 24 * time.Hour
	defaultKeep    = 1000
	forgetEvery    = 10 * time.Minute
)

// forget removes the records of crashes that are over and too old, or too many. Of several controllers each does so: what is gone is gone for all.
func (r *Recoverer) forget(ctx context.Context) {
	for sleep(ctx, settleTime) {
		b, err := r.buckets(ctx)
		var nodes *store.Bucket
		if err == nil {
			nodes, err = r.cfg.Store.Bucket(ctx, bridge.BucketNodes)
		}
		if err == nil {
			err = forget(ctx, b, nodes, time.Now().Add(-r.cfg.KeepFor), r.cfg.Keep)
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("old crashes are not removed", "err", err)
		}
		if !sleep(ctx, forgetEvery) {
			return
		}
	}
}

// forget removes what was over before a moment, and of the rest the oldest beyond keep. What is open stays, what still keeps a node fenced, and the last
// death of a process that runs: its next one is numbered by it.
func forget(ctx context.Context, b buckets, nodes *store.Bucket, before time.Time, keep int) error {
	list, _, err := b.crashes.all(ctx)
	if err != nil {
		return err
	}
	runs, err := epochs(ctx, nodes)
	if err != nil {
		return err
	}
	last := map[bridge.NodeID]int{} // number of the last death of the process that runs
	for _, c := range list {
		if bridge.SameStart(c.Epoch, runs[c.Node]) {
			last[c.Node] = max(last[c.Node], c.Number)
		}
	}
	list = slices.DeleteFunc(list, func(c Crash) bool {
		return !c.over() || bridge.SameStart(c.Epoch, runs[c.Node]) && c.Number == last[c.Node]
	})
	slices.SortFunc(list, func(a, b Crash) int { return b.Closed.Compare(a.Closed) }) // the newest first
	for n, c := range list {
		if n < keep && c.Closed.After(before) {
			continue
		}
		if err := forgetOne(ctx, b, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// epochs are the processes that nodes have now.
func epochs(ctx context.Context, nodes *store.Bucket) (map[bridge.NodeID]string, error) {
	entries, err := nodes.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := map[bridge.NodeID]string{}
	for _, e := range entries {
		var n bridge.Node
		if json.Unmarshal(e.Value, &n) == nil {
			out[n.ID] = n.Epoch
		}
	}
	return out, nil
}

// over tells that nobody needs the record to go on, and that no fence stands for it.
func (c *Crash) over() bool { return !c.Closed.IsZero() && !c.Settled.IsZero() }

// forgetOne removes a crash, its legs first: what is left of it when the store goes away is found again by the record.
func forgetOne(ctx context.Context, b buckets, id string) error {
	e, err := b.crashes.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil // another controller was quicker
	}
	if err != nil {
		return err
	}
	if c, err := readCrash(id, e.Value); err != nil || !c.over() {
		return err
	}
	legs, err := b.legs.List(ctx, id+".")
	if err != nil {
		return err
	}
	for _, l := range legs {
		if err := b.legs.Delete(ctx, l.Key, 0); err != nil {
			return err
		}
	}
	if err := b.crashes.Delete(ctx, id, e.Revision); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil // it was changed meanwhile: the next round looks again
}
