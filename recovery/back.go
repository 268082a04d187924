package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// byesOver is when the last repetition of a BYE has been sent: 64 of RFC 3261's T1 (timer F), and a bit.
const byesOver = 33 * time.Second

// move notes that another node is asked to take a dialog.
func (r *Recoverer) move(callID string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.moving[callID] = true
	} else {
		delete(r.moving, callID)
	}
}

// cameBack is a node's last return.
type cameBack struct {
	Return
	at time.Time
}

// backSince tells whether the node came back after a death.
func (r *Recoverer) backSince(d Death) (Return, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.back[d.Node]
	return b.Return, ok && b.at.After(d.At)
}

// Back is for the sentinel: a node that answers again. A new process has none of the old dialogs, so the fence falls. The old process still has
// them (it stood still): it is rid of those that others took, behind the fence. Their BYEs reach nobody there, and they are repeated for half a
// minute, so that the fence falls only after that. What nobody took stays where it is.
func (r *Recoverer) Back(ctx context.Context, back Return) {
	r.mu.Lock()
	r.back[back.Node] = cameBack{back, time.Now()}
	r.mu.Unlock()
	b, err := r.buckets(ctx)
	if err != nil {
		return
	}
	wait := time.Duration(0)
	was, err := returned(ctx, b.crashes, back.Node, back.Epoch)
	if err != nil {
		r.cfg.Logger.Warn("node stays fenced: nobody knows whether it is the old process", "node", back.Node, "err", err)
		return
	}
	if was {
		ended, err := r.clear(ctx, back.Node, b.calls)
		if err != nil {
			r.cfg.Logger.Warn("node stays fenced: its old channels are still there", "node", back.Node, "err", err)
			return
		}
		taken := ended > 0
		if !taken { // another controller may have been quicker, and waits for the same BYEs
			if taken, err = anyTaken(ctx, b, back); err != nil {
				r.cfg.Logger.Warn("node stays fenced: nobody knows what others took", "node", back.Node, "err", err)
				return
			}
		}
		if taken {
			wait = byesOver
		}
	}
	r.mu.Lock()
	deaths := r.died[back.Node]
	r.mu.Unlock()
	unfence := func() {
		r.mu.Lock()
		again := r.died[back.Node] != deaths
		r.mu.Unlock()
		if again {
			return
		}
		for _, e := range r.cfg.Edges {
			if err := e.Unfence(ctx, back.SIP); err != nil {
				r.cfg.Logger.Warn("an edge does not take the node back", "node", back.Node, "err", err)
			}
		}
	}
	if wait == 0 {
		unfence()
		return
	}
	r.tasks.Go(func() {
		if sleep(ctx, wait) {
			unfence()
		}
	})
}

// clear ends the channels of a node whose legs live elsewhere, or are on their way there: the other legs of a call that has moved are, too.
func (r *Recoverer) clear(ctx context.Context, node bridge.NodeID, calls *store.Bucket) (ended int, err error) {
	entries, err := calls.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("calls of %s: %w", node, err)
	}
	keep := map[string]bool{}
	r.mu.Lock()
	for _, e := range entries {
		var c bridge.Call
		if json.Unmarshal(e.Value, &c) != nil {
			continue
		}
		for _, j := range legsOf(&c, node, false) {
			keep[j.leg.ID] = !r.moving[j.leg.SIPCallID] && j.leg.State == bridge.LegUp && c.Node == node
		}
	}
	r.mu.Unlock()
	return r.cfg.Farm.Clear(ctx, node, keep)
}

// anyTaken tells whether a dialog of a process that was dead went elsewhere, or was ended.
func anyTaken(ctx context.Context, b buckets, back Return) (bool, error) {
	crashes, err := readCrashes(ctx, b, Query{Node: back.Node, Limit: MaxCrashes})
	return slices.ContainsFunc(crashes, func(c Crash) bool {
		return c.Node == back.Node && c.Epoch == back.Epoch && slices.ContainsFunc(c.Legs, func(l LegReport) bool {
			return l.Result == ResultRecovered || l.Result == ResultClosed
		})
	}), err
}
