package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// A process that was dead and goes on (it stood still) has all its old dialogs. Each call is decided once: it stays where it is, or it moves. A call that
// moves has its old channels ended behind the fence.

// fate is what is decided about a call of a dead node, for all its legs.
type fate struct {
	crash string
	moves bool
}

type fateKey struct {
	node bridge.NodeID
	call string
}

// stays tells whether the leg's call stays at the process that went on, and decides it where that is open.
func (w *rescue) stays(j *job) bool {
	call, leg, _, gone := w.roster.leg(j)
	if gone || leg.State != bridge.LegUp || leg.Node != w.d.Node || call.Node != w.d.Node {
		return false
	}
	runs := w.r.cfg.Farm.Runs(w.d.Node, w.d.Epoch)
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	key := fateKey{w.d.Node, call.ID}
	if f := w.r.fates[key]; f.crash == w.key || f.moves {
		return !f.moves
	}
	if runs {
		w.r.fates[key] = fate{crash: w.key}
	}
	return runs
}

// moves decides that the leg's call goes to another node, before the first INVITE for any of its legs; false if it stays. A leg that is not up does not
// stay with a call that does.
func (w *rescue) moves(call *bridge.Call, leg *bridge.Leg) bool {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	key := fateKey{w.d.Node, call.ID}
	if f := w.r.fates[key]; f.crash == w.key && !f.moves {
		if call.Node == w.d.Node {
			return leg.State != bridge.LegUp
		}
	}
	w.r.fates[key] = fate{w.key, true}
	return true
}

// decided takes over what a controller before us had begun: a dialog for which it asked a node.
func (w *rescue) decided(ctx context.Context) error {
	asked, err := claimed(ctx, w.claims)
	if err != nil {
		return err
	}
	for _, l := range w.rep.pending() {
		if asked[l.SIPCallID] {
			w.moves(&bridge.Call{ID: l.Call}, &bridge.Leg{})
		}
	}
	return nil
}

// undecide is the end of a crash: now the records tell where its calls are.
func (r *Recoverer) undecide(crash string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, f := range r.fates {
		if f.crash == crash {
			delete(r.fates, key)
		}
	}
}

// claimed are the Call-IDs of dialogs for which a node was asked, by any controller.
func claimed(ctx context.Context, claims *store.Bucket) (map[string]bool, error) {
	entries, err := claims.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, e := range entries {
		var c claim
		if json.Unmarshal(e.Value, &c) == nil && c.Channel != "" {
			out[e.Key] = true
		}
	}
	return out, nil
}

// rid ends the channels of calls that live elsewhere, or are on their way there. It is done again and again while legs are brought back, and is over when
// none is left to bring and the BYEs of the last channels are repeated no more: nobody hears them, so they are repeated for half a minute. What nobody
// took stays where it is.
func (g *guard) rid(ctx context.Context, b buckets, s presence, same []Crash) (ready bool, err error) {
	ready = true
	taken, gone := false, map[string]bool{}
	for _, c := range same {
		ready = ready && !c.Done.IsZero()
		_, legs, err := readReport(ctx, b.legs, c.key())
		if err != nil {
			return false, err
		}
		for _, l := range legs {
			switch l.Result {
			case ResultRecovered, ResultClosed:
				taken = true
				fallthrough
			case ResultRefused, ResultFailed:
				gone[l.Leg] = true
			}
		}
	}
	keep, err := g.kept(ctx, b)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, clearWait)
	defer cancel()
	ended, err := g.r.cfg.Farm.Clear(ctx, g.node, func(channel string) bool {
		// Of a process that we never saw dead only what the report says that others took: whoever wrote the crash (F34).
		return keep[channel] || !s.returned && !gone[channel]
	})
	if ended > 0 || taken && g.ended.IsZero() { // another controller may have ended them just now
		g.ended = time.Now()
	}
	return err == nil && ready && (g.ended.IsZero() || time.Since(g.ended) >= g.r.byes), err
}

// kept are the channels of calls that nobody takes from the node, with those that listen to them.
func (g *guard) kept(ctx context.Context, b buckets) (map[string]bool, error) {
	asked, err := claimed(ctx, b.claims)
	if err != nil {
		return nil, err
	}
	entries, err := b.calls.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("calls of %s: %w", g.node, err)
	}
	keep := map[string]bool{}
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	for _, e := range entries {
		var c bridge.Call
		if json.Unmarshal(e.Value, &c) != nil || c.Node != g.node || g.r.fates[fateKey{g.node, c.ID}].moves {
			continue
		}
		legs := legsOf(&c, g.node, false)
		moves := false
		for _, j := range legs {
			moves = moves || asked[j.leg.SIPCallID]
		}
		for _, j := range legs {
			if moves || j.leg.State != bridge.LegUp {
				continue
			}
			keep[j.leg.ID] = true
			if j.leg.Recording != "" {
				keep[bridge.SnoopOf(j.leg.Recording)] = true
			}
		}
	}
	return keep, nil
}

// flag writes the fence into the node's record, for the bridge role and the other controllers; a node without one is nobody's target.
func (r *Recoverer) flag(ctx context.Context, node bridge.NodeID, epoch string, on bool) error {
	nodes, err := r.cfg.Store.Bucket(ctx, bridge.BucketNodes)
	if err != nil {
		return err
	}
	due := func(old []byte) (n bridge.Node, due bool) {
		return n, json.Unmarshal(old, &n) == nil && n.Fenced != on && (!on || bridge.SameStart(n.Epoch, epoch))
	}
	e, err := nodes.Get(ctx, string(node))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, yes := due(e.Value); !yes {
		return nil
	}
	return nodes.Modify(ctx, string(node), func(old []byte) ([]byte, error) {
		n, yes := due(old)
		if !yes {
			return old, nil
		}
		n.Fenced = on
		return json.Marshal(n)
	})
}
