package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rtcedge/bridge"
)

// The way of a recovery INVITE: a node is asked to send it, and its answer is waited for.

// Chosen by us.
const (
	inviteTimeout = 12 * time.Second        // a phone that asks its user nothing answers in far less; SIP alone would wait for 32 s
	slotTime      = 1500 * time.Millisecond // a phone that does not answer keeps others waiting no longer
	askEvery      = 40 * time.Millisecond
	askMost       = 200 * time.Millisecond
	existsEvery   = 400 * time.Millisecond
)

// try places the channel and waits until the bridge role has it, or it is certain that it never will.
func (e *effort) try(ctx context.Context, ch Channel) error {
	e.pairs.invite(e.job.leg.SIPCallID)
	e.rep.target(e.n, e.held.Target)
	e.sent = time.Now()
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	err := e.r.cfg.Farm.Originate(ask, e.held.Target, ch)
	cancel()
	// An error may be an answer that came too late: an INVITE that left must not get a second one beside it.
	if err != nil && !e.exists(ctx, e.held) {
		return fmt.Errorf("node %s: %w", e.held.Target, err)
	}
	e.rep.step(e.n, stepInvite, string(e.held.Target))
	return e.await(ctx)
}

// exists asks a node that lives until it says whether it has the channel.
func (w *rescue) exists(ctx context.Context, h *held) bool {
	for w.r.cfg.Farm.Alive(h.Target, "") {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		there, err := w.r.cfg.Farm.Exists(ask, h.Target, h.Channel)
		cancel()
		if err == nil {
			return there
		}
		if !sleep(ctx, storePause) {
			return false
		}
	}
	return false
}

// await follows an INVITE: the record tells of the answer, the capture of a refusal, and the node that there is nothing to wait for.
func (e *effort) await(ctx context.Context) error {
	h := e.held
	begin := time.Now()
	looked := begin
	pause := askEvery
	tick := time.NewTimer(pause)
	defer tick.Stop()
	for {
		call, leg, changed, gone := e.roster.leg(&e.job)
		switch {
		case gone:
			return errElsewhere
		case leg.ID == h.Channel && leg.State != bridge.LegRinging:
			e.rep.step(e.n, "answered", "200") // of which the bridge role was told by the node, whether or not it was captured
			e.rep.step(e.n, "goes on", goesOn(&call, &leg)...)
			return nil
		case leg.Node != e.d.Node && leg.Generation >= h.Generation:
			return errElsewhere
		}
		select {
		case <-changed:
			continue
		case <-tick.C:
			pause = min(pause+pause/4, askMost)
			tick.Reset(pause)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := e.final(ctx, false); err != nil {
			return err
		}
		if !e.r.cfg.Farm.Alive(h.Target, "") {
			return fmt.Errorf("node %s died as well", h.Target)
		}
		if time.Since(begin) >= slotTime {
			e.slot.give()
		}
		if time.Since(looked) >= existsEvery {
			looked = time.Now()
			if !e.exists(ctx, h) && e.r.cfg.Farm.Alive(h.Target, "") && ctx.Err() == nil {
				sleep(ctx, captureLag)
				if err := e.final(ctx, true); err != nil {
					return err
				}
				if _, leg, _, _ := e.roster.leg(&e.job); leg.ID == h.Channel {
					continue
				}
				return fmt.Errorf("node %s gave the channel up", h.Target)
			}
		}
		if time.Since(begin) > inviteTimeout {
			return e.hangUp(ctx)
		}
	}
}

// hangUp ends a channel that nobody answers, of which the patched node makes the BYE. If it does not, it is ours to say.
func (e *effort) hangUp(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := e.r.cfg.Farm.Hangup(ask, e.held.Target, e.held.Channel); err != nil {
		return fmt.Errorf("no answer for %v: %w: %w", inviteTimeout, errMute, err)
	}
	return fmt.Errorf("no answer for %v: %w", inviteTimeout, errEnded)
}

// final is what follows from the far end's refusal, if there is one. What the node may answer by another INVITE counts when its channel is gone.
func (e *effort) final(ctx context.Context, gone bool) error {
	status, ok := e.r.cfg.History.Final(ctx, e.job.leg.SIPCallID, e.held.CSeq)
	switch {
	case !ok || status < 300, again(status) && !gone:
		return nil
	case status == 491:
		return errPending
	case status == 408, status == 481:
		return errGone
	}
	return fmt.Errorf("the far end answers %d: %w", status, errEnded)
}

// Outcomes of a recovery INVITE.
var (
	errPending = errors.New("the far end has an INVITE of its own pending (491)")
	errGone    = errors.New("the far end does not know the dialog any more")
	errEnded   = errors.New("the far end got a BYE") // the patched node sends it after any other failure
	errMute    = errors.New("the node cannot be told to end it")
)
