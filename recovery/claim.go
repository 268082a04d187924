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

// claim is the right to send INVITEs in one dialog, and what was done with it. It is written, by compare-and-set, before each INVITE: a controller
// that stood still while another one took its crash over finds it changed and sends nothing; the one that took over finds the channel that may
// exist already and waits for it instead of sending a second INVITE.
type claim struct {
	Crash      string        `json:"crash"`
	Controller string        `json:"controller"`
	Target     bridge.NodeID `json:"target,omitempty"` // the node that was asked last
	Channel    string        `json:"channel,omitempty"`
	Generation int           `json:"generation"`
	CSeq       uint32        `json:"cseq,omitempty"`
	At         time.Time     `json:"at"`
}

// Errors of a claim.
var (
	errElsewhere = errors.New("the leg needs nothing any more")
	errTaken     = errors.New("another controller has it now")
)

// held is a claim that is ours.
type held struct {
	b   *store.Bucket
	key string
	rev uint64
	claim
}

// claimLeg takes the claim of a job. While another crash's recovery has the dialog it waits: a call that was on its way to a node that died is in the
// hands of the first one until that has brought it to a third, or had it on the second. errElsewhere tells that nothing is left to do then. fresh tells
// that nobody had it, and the claim says what is planned; else it says what was done last.
func (w *rescue) claimLeg(ctx context.Context, j *job, s *slot, plan claim) (h *held, fresh bool, err error) {
	plan.Crash, plan.Controller = w.key, w.r.cfg.Controller
	h = &held{b: w.claims, key: j.leg.SIPCallID}
	for waited := false; ; waited = true {
		h.claim = plan
		if waited {
			h.claim = claim{Crash: plan.Crash, Controller: plan.Controller, Generation: j.leg.Generation}
		}
		h.At = time.Now()
		created, err := h.take(ctx, w)
		switch {
		case err == nil:
			return h, created && !waited, nil
		case ctx.Err() != nil:
			return nil, false, ctx.Err()
		case !errors.Is(err, store.ErrHeld):
			w.log.Warn("leg is not claimed yet", "call", j.call.ID, "err", err)
		}
		s.give()
		if !sleep(ctx, claimEvery) {
			return nil, false, ctx.Err()
		}
		if _, leg, _, gone := w.roster.leg(j); gone || leg.Node != w.d.Node {
			return nil, false, errElsewhere
		}
	}
}

const claimEvery = 50 * time.Millisecond

// take writes the claim if there is none (created), or if that of another one is over: then it keeps what that says about the last INVITE.
func (h *held) take(ctx context.Context, w *rescue) (created bool, err error) {
	value, err := json.Marshal(h.claim)
	if err != nil {
		return false, err
	}
	if h.rev, err = h.b.Create(ctx, h.key, value); err == nil || !errors.Is(err, store.ErrExists) {
		return err == nil, err
	}
	e, err := h.b.Get(ctx, h.key)
	if errors.Is(err, store.ErrNotFound) {
		return false, store.ErrHeld // released in between: the next try gets it
	}
	if err != nil {
		return false, err
	}
	var old claim
	if err := json.Unmarshal(e.Value, &old); err != nil {
		return false, fmt.Errorf("claim of %s: %w", h.key, err)
	}
	if old.Crash != w.key {
		c, err := w.crashes.read(ctx, old.Crash)
		if err == nil && c.Closed.IsZero() {
			return false, store.ErrHeld
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
	}
	// The lease of its crash is ours, or nobody works on that any more: what it says about the last INVITE stays.
	old.Crash, old.Controller = h.Crash, h.Controller
	h.claim, h.rev = old, e.Revision
	return false, h.write(ctx)
}

// write says what is about to be asked; errTaken if the claim is not ours any more.
func (h *held) write(ctx context.Context) error {
	h.At = time.Now()
	value, err := json.Marshal(h.claim)
	if err != nil {
		return err
	}
	rev, err := h.b.Update(ctx, h.key, value, h.rev)
	if errors.Is(err, store.ErrConflict) {
		// An answer that was lost on its way leaves our own value under a newer revision.
		e, again := h.b.Get(ctx, h.key)
		if again != nil || string(e.Value) != string(value) {
			return errTaken
		}
		rev, err = e.Revision, nil
	}
	if err != nil {
		return err
	}
	h.rev = rev
	return nil
}

// release gives the dialog free. One that cannot be given free is free when its crash is closed.
func (h *held) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = h.b.Delete(ctx, h.key, h.rev)
}
