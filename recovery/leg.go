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
	lastWords   = 400 * time.Millisecond // how long what a node said before its end may wait in an edge's queue
	captureLag  = 150 * time.Millisecond // what the node said last, a BYE perhaps, has to reach the history
	pendingWait = 2 * time.Second        // for the answer to an INVITE that the dead node had under way
	storePause  = 100 * time.Millisecond
	maxTries    = 6
)

// effort is what is done for one leg.
type effort struct {
	*rescue
	job   job
	built Rebuilt
	slot  *slot
	held  *held // from the first attempt on
	avoid []bridge.NodeID
	n     int       // in the report
	sent  time.Time // when the last INVITE left; zero: none
	back  bool      // it was answered
}

// bring brings one leg back: node, dialog, claim, channel, INVITE, and again where that can help.
func (e *effort) bring(ctx context.Context) {
	if e.built.Err != nil {
		e.end(ctx, ResultRefused, e.built.Err)
		return
	}
	var last error
	for try := 0; try < maxTries; {
		next, ch, ok := e.plan(ctx)
		if !ok {
			return
		}
		fresh, ok := e.claim(ctx, next)
		if !ok {
			return
		}
		if !fresh { // somebody had it before us: what is planned here may be too late
			if e.held.Channel == "" {
				continue
			}
			if e.inherited(ctx) {
				return
			}
			e.avoid = append(e.avoid, e.held.Target)
			continue
		}
		e.rep.step(e.n, "claimed")
		last = e.try(ctx, ch)
		if e.settled(ctx, last) {
			return
		}
		try++
		e.pause(ctx, last)
	}
	if ctx.Err() == nil {
		e.end(ctx, ResultFailed, last)
	}
}

// plan chooses a node and reads the dialog as it stands. It tells whether there is anything left to do.
func (e *effort) plan(ctx context.Context) (next claim, ch Channel, ok bool) {
	node, err := e.node(ctx)
	if ctx.Err() != nil || e.slot.take(ctx) != nil {
		return next, ch, false
	}
	call, leg, _, gone := e.roster.leg(&e.job)
	switch {
	case errors.Is(err, errStays): // it stood still, and nobody had the call meanwhile
		e.end(ctx, ResultKept, nil)
		return next, ch, false
	case err != nil:
		e.end(ctx, ResultFailed, err)
		return next, ch, false
	case gone || leg.Node != e.d.Node:
		e.there(ctx)
		return next, ch, false
	case !e.moves(&call, &leg): // it has just been decided that it stays
		return e.plan(ctx)
	}
	e.job.call, e.job.leg = call, leg
	e.pairs.wait(ctx, &e.job)
	used := uint32(0)
	if e.held != nil {
		used = e.held.CSeq
	}
	if e.built = e.latest(ctx, used); e.built.Err != nil {
		e.end(ctx, ResultRefused, e.built.Err)
		return next, ch, false
	}
	next = claim{Target: node, Generation: leg.Generation + 1, CSeq: e.built.CSeq}
	if e.held != nil {
		next.Generation = max(next.Generation, e.held.Generation+1)
	}
	ch = channelFor(&call, &leg, e.built, next.Generation)
	next.Channel = ch.ID
	return next, ch, true
}

var errStays = errors.New("the call stays where it is")

// node waits for a healthy node of the call's farm, for GiveUp at most (F4); errStays if the dead one goes on with the call. Others are not kept waiting.
func (e *effort) node(ctx context.Context) (bridge.NodeID, error) {
	role := roleOf(&e.job.call)
	waits := false
	for deadline := time.Now().Add(e.r.cfg.GiveUp); ; {
		if e.stays(&e.job) {
			return "", errStays
		}
		if _, leg, _, gone := e.roster.leg(&e.job); gone || leg.Node != e.d.Node {
			return "", nil // it needs none any more
		}
		if node, ok := e.r.place(&e.job.call, e.d.Node, e.r.healthy(role), e.avoid); ok {
			return node, nil
		}
		e.slot.give()
		if !waits {
			waits = true
			_, why := e.r.places(role)
			e.rep.halt(e.n, "no node", "waits", why)
		}
		if !time.Now().Before(deadline) {
			return "", fmt.Errorf("no healthy node of farm %s for %v", role, e.r.cfg.GiveUp)
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
func (e *effort) latest(ctx context.Context, used uint32) Rebuilt {
	built := e.built
	ask := asked([]job{e.job})
	pending := false
	for begin := time.Now(); ; {
		now, ok := e.r.cfg.History.Fresh(ctx, e.d.SIP, ask[0])
		if !ok && used > 0 {
			now, ok = answerOf(e.r.cfg.History.Dialogs(ctx, e.d.SIP, ask), ask[0].CallID)
		}
		if !ok {
			break
		}
		if now.Err != nil {
			now.RemoteTag = built.RemoteTag
			return now
		}
		built = now
		pending = pending || built.Pending
		if !built.Pending || time.Since(begin) >= pendingWait || !sleep(ctx, askEvery) {
			break
		}
	}
	if pending || used > 0 || e.job.leg.Generation > 0 {
		e.acknowledge(ctx)
	}
	// What a node sent that took the leg over and died may have missed the capture: each recovery before has used a number (section 12.2.2 allows gaps).
	if built.Err == nil && e.job.leg.Generation > 0 {
		built = built.at(built.CSeq + uint32(e.job.leg.Generation))
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

// claim writes down what is about to be asked, which is the right to ask it. fresh tells that nobody had the dialog before us; ok that the leg is not settled.
func (e *effort) claim(ctx context.Context, next claim) (fresh, ok bool) {
	if h := e.held; h != nil {
		h.Target, h.Channel, h.CSeq, h.Generation = next.Target, next.Channel, next.CSeq, next.Generation
		return true, e.declare(ctx, h)
	}
	// It is taken with what it is taken for, so that one write says both.
	h, fresh, err := e.claimLeg(ctx, &e.job, e.slot, next)
	if err != nil {
		if errors.Is(err, errElsewhere) {
			e.there(ctx)
		}
		return false, false
	}
	e.held = h
	if fresh {
		if _, leg, _, gone := e.roster.leg(&e.job); gone || leg.Node != e.d.Node {
			e.there(ctx) // its claim was given free just before
			return false, false
		}
	}
	return fresh, true
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

// inherited waits for the channel that a controller before us asked for, and may have got. It tells whether that ended the leg.
func (e *effort) inherited(ctx context.Context) bool {
	e.rep.halt(e.n, "channel of the former controller", string(e.held.Target))
	e.pairs.invite(e.job.leg.SIPCallID)
	e.sent = e.d.At // by the clock of whoever saw it; the answer before that is older than a machine's clock is wrong
	return e.settled(ctx, e.await(ctx))
}

// settled ends the leg if an attempt decided it.
func (e *effort) settled(ctx context.Context, outcome error) bool {
	switch {
	case outcome == nil:
		e.slot.give() // the next one need not wait for what is written about this one
		e.back = true
		e.end(ctx, ResultRecovered, nil)
	case ctx.Err() != nil:
	case errors.Is(outcome, errElsewhere):
		e.there(ctx)
	case errors.Is(outcome, errGone):
		e.end(ctx, ResultClosed, outcome)
	case errors.Is(outcome, errEnded), errors.Is(outcome, errMute):
		e.end(ctx, ResultFailed, outcome)
	default:
		return false
	}
	return true
}

// pause waits before the next attempt, without a place among those that are at it where it takes long.
func (e *effort) pause(ctx context.Context, last error) {
	if errors.Is(last, errPending) {
		e.rep.halt(e.n, "again", "491", last.Error())
		e.slot.give()
		sleep(ctx, backOff(e.job.leg.Role))
		return
	}
	e.rep.halt(e.n, "again", string(e.held.Target), last.Error())
	e.avoid = append(e.avoid, e.held.Target)
	sleep(ctx, captureLag)
}

// backOff is RFC 3261, section 14.1: whoever owns the Call-ID waits for 2.1 to 4 s, the other one for up to 2 s. It is the farm's where the farm had called.
func backOff(role string) time.Duration {
	const unit = 10 * time.Millisecond
	if role == bridge.LegOut {
		return 2100*time.Millisecond + unit*time.Duration(rand.IntN(191))
	}
	return unit * time.Duration(1+rand.IntN(200))
}

// there is for a leg that needs nothing any more: it lives on another node, or it ended.
func (e *effort) there(ctx context.Context) {
	_, leg, _, gone := e.roster.leg(&e.job)
	if gone {
		e.over(ctx)
		return
	}
	e.rep.target(e.n, leg.Node)
	e.end(ctx, ResultRecovered, nil)
}

// over is for a leg whose call was ended while its node was dead: its partner hung up, or the operator. That node was to say BYE.
func (e *effort) over(ctx context.Context) {
	if e.built.Err == nil && e.sent.IsZero() && e.untouched(ctx) { // else the node that was asked finds no call, and says it
		e.farewell(ctx)
	}
	e.end(ctx, ResultClosed, errors.New("the call ended meanwhile"))
}

// untouched tells that nobody has ended the dialog, or asked a node for it: another crash of the same node may still be open, and have the leg as well.
func (e *effort) untouched(ctx context.Context) bool {
	id := e.job.leg.SIPCallID
	if _, err := e.claims.Get(ctx, id); e.held == nil && !errors.Is(err, store.ErrNotFound) {
		return false
	}
	now, ok := e.r.cfg.History.Fresh(ctx, e.d.SIP, asked([]job{e.job})[0])
	if !ok {
		return true
	}
	status, answered := e.r.cfg.History.Final(ctx, id, now.CSeq-1)
	return now.Err == nil && now.CSeq == e.built.CSeq && (!answered || status < 300)
}

// end writes a leg's result; one that does not come back is given up in the call's record, and its far end is left in silence no longer: it gets a BYE, where the
// dialog is known and nobody has sent one. With a claim the dialog is free for the next crash.
func (e *effort) end(ctx context.Context, result string, why error) {
	alive := result == ResultRecovered || result == ResultKept
	e.soothed(ctx, &e.job, e.built.RemoteTag, result != ResultRecovered)
	if (result == ResultFailed || result == ResultRefused) && !errors.Is(why, errEnded) {
		e.farewell(ctx)
	}
	e.rep.end(e.n, result, why)
	e.r.count(func(s *Stats) {
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
	e.slot.give()
	if !alive {
		e.mu.Lock()
		e.lost[jobID(&e.job)] = true
		e.mu.Unlock()
		insistGiveUp(ctx, e.calls, &e.job, e.d.Node, e.log)
	}
	if e.held != nil {
		e.held.release(ctx)
	}
}
