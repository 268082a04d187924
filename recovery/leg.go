package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// The functions of this file occur in the order in which a leg meets them.

// Chosen by us.
const (
	inviteTimeout = 12 * time.Second        // a phone that asks its user nothing answers in far less; SIP alone would wait for 32 s
	slotTime      = 1500 * time.Millisecond // a phone that does not answer keeps others waiting no longer
	askEvery      = 40 * time.Millisecond
	existsEvery   = 400 * time.Millisecond
	lastWords     = 400 * time.Millisecond // how long what a node said before its end may wait in an edge's queue
	captureLag    = 150 * time.Millisecond // what the node said last, a BYE perhaps, has to reach the history
	pendingWait   = 2 * time.Second        // for the answer to an INVITE that the dead node had under way
	storePause    = 100 * time.Millisecond
	maxTries      = 6
)

// leg brings one leg back: claim, node, channel, INVITE, and again where that can help.
func (w *rescue) leg(ctx context.Context, j job, built Rebuilt, s *slot, n int) {
	if built.Err != nil {
		w.end(ctx, &j, nil, n, built.RemoteTag, ResultRefused, built.Err)
		return
	}
	var h *held // from the first attempt on
	var avoid []bridge.NodeID
	var last error
	for try := 0; try < maxTries; {
		node, err := w.node(ctx, &j, avoid, s)
		if ctx.Err() != nil || s.take(ctx) != nil {
			return
		}
		if errors.Is(err, errStays) { // it stood still, and nobody had the call meanwhile
			w.end(ctx, &j, h, n, built.RemoteTag, ResultKept, nil)
			return
		}
		if err != nil {
			w.end(ctx, &j, h, n, built.RemoteTag, ResultFailed, err)
			return
		}
		call, leg, _, gone := w.roster.leg(&j)
		if gone || leg.Node != w.d.Node {
			w.there(ctx, &j, h, n, built.RemoteTag)
			return
		}
		if !w.moves(call.ID) {
			continue // it has just been decided that it stays
		}
		j.call, j.leg = call, leg
		w.pairs.wait(ctx, &j)
		used := uint32(0)
		if h != nil {
			used = h.CSeq
		}
		if built = w.latest(ctx, &j, built, used); built.Err != nil {
			w.end(ctx, &j, h, n, built.RemoteTag, ResultRefused, built.Err)
			return
		}
		next := claim{Target: node, Generation: leg.Generation + 1, CSeq: built.CSeq}
		if h != nil {
			next.Generation = max(next.Generation, h.Generation+1)
		}
		ch := channelFor(&j.call, &j.leg, built, next.Generation)
		next.Channel = ch.ID
		if h == nil {
			// The claim is taken with what it is taken for, so that one write says both.
			var fresh bool
			h, fresh, err = w.claimLeg(ctx, &j, s, next)
			if errors.Is(err, errElsewhere) {
				w.there(ctx, &j, nil, n, built.RemoteTag)
				return
			}
			if err != nil {
				return
			}
			if !fresh { // somebody had it before us: what is planned here may be too late
				if w.inherited(ctx, &j, h, s, n, &built) {
					return
				}
				if h.Channel != "" {
					avoid = append(avoid, h.Target)
				}
				continue
			}
			if _, leg, _, gone := w.roster.leg(&j); gone || leg.Node != w.d.Node {
				w.there(ctx, &j, h, n, built.RemoteTag) // its claim was given free just before
				return
			}
		} else {
			h.Target, h.Channel, h.CSeq, h.Generation = next.Target, next.Channel, next.CSeq, next.Generation
			if !w.declare(ctx, h) {
				return
			}
		}
		w.rep.step(n, "claimed")
		before := w.heard(ctx, j.leg.SIPCallID, built.RemoteTag)
		w.pairs.invite(j.leg.SIPCallID)
		last = w.try(ctx, &j, h, ch, s, n)
		if w.settled(ctx, &j, h, s, n, &built, last, before) {
			return
		}
		try++
		if errors.Is(last, errPending) {
			// RFC 3261, section 14.1: who does not own the Call-ID waits for up to 2 s.
			w.rep.halt(n, "again", "491", last.Error())
			s.give()
			sleep(ctx, time.Duration(100+rand.IntN(1900))*time.Millisecond)
			continue
		}
		w.rep.halt(n, "again", string(node), last.Error())
		avoid = append(avoid, node)
		sleep(ctx, captureLag)
	}
	if ctx.Err() == nil {
		w.end(ctx, &j, h, n, built.RemoteTag, ResultFailed, last)
	}
}

// inherited waits for the channel that a controller before us asked for, and may have got. It tells whether that ended the leg.
func (w *rescue) inherited(ctx context.Context, j *job, h *held, s *slot, n int, built *Rebuilt) bool {
	if h.Channel == "" {
		return false
	}
	w.rep.halt(n, "channel of the former controller", string(h.Target))
	if w.pairs.invite(j.leg.SIPCallID) { // perhaps behind the answer to that
		_ = w.r.cfg.Media.Unjoin(ctx, j.leg.SIPCallID)
	}
	outcome := w.await(ctx, j, h, s, n)
	return w.settled(ctx, j, h, s, n, built, outcome, nil)
}

// settled ends the leg if an attempt decided it.
func (w *rescue) settled(ctx context.Context, j *job, h *held, s *slot, n int, built *Rebuilt, outcome error, before <-chan int64) bool {
	switch {
	case outcome == nil:
		s.give() // the next one need not wait for what is written about this one
		w.end(ctx, j, h, n, built.RemoteTag, ResultRecovered, nil)
		w.listen(ctx, j, built.RemoteTag, before, n)
	case ctx.Err() != nil:
	case errors.Is(outcome, errElsewhere):
		w.there(ctx, j, h, n, built.RemoteTag)
	case errors.Is(outcome, errGone):
		w.end(ctx, j, h, n, built.RemoteTag, ResultClosed, outcome)
	case errors.Is(outcome, errEnded):
		w.end(ctx, j, h, n, built.RemoteTag, ResultFailed, outcome)
	default:
		return false
	}
	return true
}

var errStays = errors.New("the call stays where it is")

// node waits for a healthy node of the call's farm, for GiveUp at most (F4); errStays if the dead one goes on with the call. Others are not kept waiting.
func (w *rescue) node(ctx context.Context, j *job, avoid []bridge.NodeID, s *slot) (bridge.NodeID, error) {
	role := roleOf(&j.call)
	for deadline := time.Now().Add(w.r.cfg.GiveUp); ; {
		if w.stays(j) {
			return "", errStays
		}
		if node, ok := w.r.place(&j.call, w.d.Node, w.r.healthy(role), avoid); ok {
			return node, nil
		}
		s.give()
		if !time.Now().Before(deadline) {
			return "", fmt.Errorf("no healthy node of farm %s for %v", role, w.r.cfg.GiveUp)
		}
		if !sleep(ctx, storePause) {
			return "", ctx.Err()
		}
	}
}

// place chooses the node for a call: where a leg of it or of its conference went before, as long as that can be, else by rendezvous hashing. The set of
// healthy nodes may be another one for the second leg.
func (r *Recoverer) place(c *bridge.Call, dead bridge.NodeID, healthy, avoid []bridge.NodeID) (bridge.NodeID, bool) {
	key := placeKey(c)
	fits := func(n bridge.NodeID) bool {
		return n != "" && slices.Contains(healthy, n) && !slices.Contains(avoid, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.sticky[key]; fits(n) {
		return n, true
	}
	if c.Node != dead && fits(c.Node) {
		return c.Node, true
	}
	n, ok := choose(key, healthy, avoid)
	if ok {
		r.sticky[key] = n
	}
	return n, ok
}

// latest is the dialog as it stands now: a BYE may have come while the leg waited for its turn, and what a node that died over it sent meanwhile
// counts. An INVITE of the farm that has no answer yet is waited for: a far end that has not answered it answers the next one with 500 (RFC 3261
// section 14.2). used is the CSeq of the last INVITE that we asked for; captured or not, it may be on the wire.
func (w *rescue) latest(ctx context.Context, j *job, built Rebuilt, used uint32) Rebuilt {
	for begin := time.Now(); ; {
		now, ok := w.r.cfg.History.Fresh(ctx, w.d.SIP, asked([]job{*j})[0])
		if !ok && used > 0 {
			now, ok = answerOf(w.r.cfg.History.Dialogs(ctx, w.d.SIP, asked([]job{*j})), j.leg.SIPCallID)
		}
		if !ok {
			break
		}
		if now.Err != nil {
			now.RemoteTag = built.RemoteTag
			return now
		}
		built = now
		if !built.Pending || time.Since(begin) >= pendingWait || !sleep(ctx, askEvery) {
			break
		}
	}
	// What a node sent that took the leg over and died may have missed the capture: each recovery before has used a number (section 12.2.2 allows gaps).
	if built.Err == nil && j.leg.Generation > 0 {
		built = built.at(built.CSeq + uint32(j.leg.Generation))
	}
	if built.CSeq <= used {
		built = built.at(used + 1)
	}
	return built
}

// at is the dialog with another number for its next INVITE.
func (b Rebuilt) at(cseq uint32) Rebuilt {
	b.CSeq = cseq
	b.Variables = maps.Clone(b.Variables)
	b.Variables["PJSIP_RECOVERY_CSEQ"] = strconv.FormatUint(uint64(cseq), 10)
	return b
}

// declare writes the claim before the node is asked. It tells whether the leg is still ours.
func (w *rescue) declare(ctx context.Context, h *held) bool {
	for {
		err := h.write(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		if errors.Is(err, errTaken) {
			w.log.Info("leg is another controller's now", "sip_call_id", h.key)
			return false
		}
		if !sleep(ctx, storePause) { // the store is away: nobody else gets it either
			return false
		}
	}
}

// try places the channel and waits until the bridge role has it, or it is certain that it never will.
func (w *rescue) try(ctx context.Context, j *job, h *held, ch Channel, s *slot, n int) error {
	w.rep.target(n, h.Target)
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	err := w.r.cfg.Farm.Originate(ask, h.Target, ch)
	cancel()
	// An error may be an answer that came too late: an INVITE that left must not get a second one beside it.
	if err != nil && !w.exists(ctx, h) {
		return fmt.Errorf("node %s: %w", h.Target, err)
	}
	w.rep.step(n, "invite", string(h.Target))
	return w.await(ctx, j, h, s, n)
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
func (w *rescue) await(ctx context.Context, j *job, h *held, s *slot, n int) error {
	sent := time.Now()
	asked := sent
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		_, leg, changed, gone := w.roster.leg(j)
		switch {
		case gone:
			return errElsewhere
		case leg.ID == h.Channel && leg.State != bridge.LegRinging:
			w.rep.step(n, "answered", "200") // of which the bridge role was told by the node, whether or not it was captured
			return nil
		case leg.Node != w.d.Node && leg.Generation >= h.Generation:
			return errElsewhere
		}
		select {
		case <-changed:
			continue
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := w.final(ctx, j, h); err != nil {
			return err
		}
		if !w.r.cfg.Farm.Alive(h.Target, "") {
			return fmt.Errorf("node %s died as well", h.Target)
		}
		if time.Since(sent) >= slotTime {
			s.give()
		}
		if time.Since(asked) >= existsEvery {
			asked = time.Now()
			if !w.exists(ctx, h) && w.r.cfg.Farm.Alive(h.Target, "") && ctx.Err() == nil {
				sleep(ctx, captureLag)
				if err := w.final(ctx, j, h); err != nil {
					return err
				}
				if _, leg, _, _ := w.roster.leg(j); leg.ID == h.Channel {
					continue
				}
				return fmt.Errorf("node %s gave the channel up", h.Target)
			}
		}
		if time.Since(sent) > inviteTimeout {
			ask, cancel := context.WithTimeout(ctx, 3*time.Second)
			err := w.r.cfg.Farm.Hangup(ask, h.Target, h.Channel)
			cancel()
			return errors.Join(fmt.Errorf("no answer for %v: %w", inviteTimeout, errEnded), err)
		}
	}
}

// final is what follows from the far end's refusal, if there is one.
func (w *rescue) final(ctx context.Context, j *job, h *held) error {
	status, ok := w.r.cfg.History.Final(ctx, j.leg.SIPCallID, h.CSeq)
	switch {
	case !ok || status < 300:
		return nil
	case status == 491:
		return errPending
	case status == 408, status == 481:
		return errGone
	}
	return fmt.Errorf("the far end answers %d: %w", status, errEnded)
}

// there is for a leg that needs nothing any more: it lives on another node, or it ended.
func (w *rescue) there(ctx context.Context, j *job, h *held, n int, tag string) {
	_, leg, _, gone := w.roster.leg(j)
	if gone {
		w.end(ctx, j, h, n, tag, ResultClosed, errors.New("the call ended meanwhile"))
		return
	}
	w.rep.target(n, leg.Node)
	w.end(ctx, j, h, n, tag, ResultRecovered, nil)
}

// end writes a leg's result; one that does not come back is given up in the call's record, and its far end is left in silence no longer. With h the
// dialog is free for the next crash.
func (w *rescue) end(ctx context.Context, j *job, h *held, n int, tag, result string, why error) {
	if result != ResultRecovered && result != ResultKept {
		if err := giveUp(ctx, w.calls, j, w.d.Node); err != nil && !errors.Is(err, store.ErrNotFound) {
			w.log.Warn("leg is not given up", "call", j.call.ID, "leg", j.leg.ID, "err", err)
		}
	}
	w.soothed(ctx, j.leg.SIPCallID, tag)
	w.rep.end(n, result, why)
	w.r.count(func(s *Stats) {
		switch result {
		case ResultRecovered:
			s.Recovered++
		case ResultRefused:
			s.Refused++
		case ResultClosed:
			s.Closed++
		case ResultKept:
			s.Kept++
		default:
			s.Failed++
		}
	})
	if h != nil {
		h.release(ctx)
	}
}
