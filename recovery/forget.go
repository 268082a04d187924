package recovery

import (
	"context"
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
		if err == nil {
			err = forget(ctx, b, time.Now().Add(-r.cfg.KeepFor), r.cfg.Keep)
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("old crashes are not removed", "err", err)
		}
		if !sleep(ctx, forgetEvery) {
			return
		}
	}
}

// process is one run of a node. Its deaths are numbered from 0 on, so that they are forgotten together.
type process struct {
	node  bridge.NodeID
	epoch string
}

// forget removes what was over before a moment, and of the rest what is more than keep. What is open stays, and so does what still keeps a node fenced.
func forget(ctx context.Context, b buckets, before time.Time, keep int) error {
	list, _, err := b.crashes.all(ctx)
	if err != nil {
		return err
	}
	deaths := map[process][]Crash{}
	for _, c := range list {
		p := process{c.Node, c.Epoch}
		deaths[p] = append(deaths[p], c)
	}
	var over [][]Crash
	for _, d := range deaths {
		if !slices.ContainsFunc(d, func(c Crash) bool { return !c.over() }) {
			over = append(over, d)
		}
	}
	last := func(d []Crash) (at time.Time) {
		for _, c := range d {
			if c.Closed.After(at) {
				at = c.Closed
			}
		}
		return at
	}
	slices.SortFunc(over, func(a, b []Crash) int { return last(b).Compare(last(a)) }) // the newest first
	kept := 0
	for _, d := range over {
		if kept += len(d); kept <= keep && last(d).After(before) {
			continue
		}
		slices.SortFunc(d, func(a, b Crash) int { return b.Number - a.Number }) // a number is looked for from 0 on: no gap below one that is there
		for _, c := range d {
			if err := forgetOne(ctx, b, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
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
