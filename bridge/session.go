package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/internal/store"
)

// session is one call: a goroutine that owns the record, and one that writes it down.
type session struct {
	// Constant after newSession.
	b     *Bridge
	inbox chan any
	gone  chan struct{} // closed when the call is over here
	save  chan struct{} // there is a newer snapshot

	// Owned by the goroutine.
	m     *machine
	node  *node
	steps steps

	mu       sync.Mutex // guards the rest
	snapshot Call
	lost     bool // an event did not fit into the inbox, or the node answers again
	asking   bool // see askAgain
	over     bool // the call ended: nothing is read from the inbox any more
	final    bool // the record is to be deleted
	disowned bool // another process has the call: the record is his
	rev      uint64
}

// asked is a command that waits for its answer, placed one that starts a call.
type (
	asked struct {
		cmd  Command
		done chan<- error
	}
	placed struct {
		targets      []Target
		number, name string
		done         chan<- error
	}
	handed     struct{ leg string } // the other call has taken the leg
	conference struct{ Conference } // what is fixed about a conference has changed
	leave      struct{}             // this process controls the node no longer
)

func newSession(b *Bridge, n *node, c Call, rev uint64) *session {
	s := &session{b: b, node: n, inbox: make(chan any, b.cfg.Queue), gone: make(chan struct{}), save: make(chan struct{}, 1), rev: rev}
	s.m = &machine{rules: b.cfg.Rules, call: &c, now: time.Now()}
	s.steps = newSteps(b.setup, &c)
	s.snapshot = clone(c)
	return s
}

// post puts an input into the call's queue. One that does not fit is not waited for: the node is read again instead.
func (s *session) post(in any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.gone:
		return false
	default:
	}
	if s.over {
		return false
	}
	select {
	case s.inbox <- in:
		return true
	default:
	}
	s.lost = true
	s.b.stats.gaps.Add(1)
	return false
}

// ending tells if the call takes nothing any more because it is over.
func (s *session) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.gone:
		return true
	default:
		return s.over
	}
}

// afterEnd is what a command gets that came too late: nothing if the call is over, an error if only this process' control of it is.
func (s *session) afterEnd() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disowned || !s.over {
		return fmt.Errorf("%w: no process controls it now", ErrNoNode)
	}
	return nil
}

// orphans hangs up channels that came for the call while it ended: nobody else waits for them. One that recovery made has a far end, which would
// hear nothing for ever.
func (s *session) orphans(ctx context.Context) {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	for {
		select {
		case in := <-s.inbox:
			switch in := in.(type) {
			case *ari.StasisStart:
				if s.b.redeliver(in, s) {
					continue // it is another call's by now
				}
				if n := s.b.node(NodeID(in.Head().AsteriskID), nil); n != nil {
					_ = n.client.Hangup(ctx, in.Channel.ID, causeNormal)
				}
			case ari.Event: // of a leg that another call has taken meanwhile
				s.b.redeliver(in, s)
			case arrived: // at a conference that has moved
				if name := s.m.call.Conference; name != "" && !in.moved {
					s.b.enterConference(s.node, name, in.leg)
				} else {
					s.b.refuse(s.node, in.leg, ErrNoCall)
				}
			}
		default:
			return
		}
	}
}

// record is the call as of its last step.
func (s *session) record() Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

func (s *session) isForeign(c *Call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Owner != s.b.cfg.Owner {
		return true
	}
	for _, l := range c.Legs {
		if l.State == LegGone {
			return true
		}
	}
	return false
}

func (s *session) run(ctx context.Context) {
	defer close(s.gone)
	defer s.b.closed(s)
	var writer sync.WaitGroup
	writer.Go(func() { s.write(ctx) })
	defer writer.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if at := s.m.wake(); at.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(time.Until(at), 0))
		}
		select {
		case <-ctx.Done():
			return
		case in := <-s.inbox:
			if _, is := in.(leave); is {
				s.disown()
				return
			}
			if f, is := in.(foreign); is && f.call.Owner != s.b.cfg.Owner {
				s.disown() // he holds the node's lease now
				return
			}
			s.step(ctx, in)
		case <-timer.C:
			s.step(ctx, tick{})
		}
		if s.m.ended {
			s.mu.Lock()
			s.final = true
			s.mu.Unlock()
			s.wakeWriter()
			s.orphans(ctx)
			return
		}
		s.reread(ctx)
	}
}

func (s *session) disown() {
	s.mu.Lock()
	s.disowned = true
	s.mu.Unlock()
	s.wakeWriter()
}

// step runs one input and all that follows from it.
func (s *session) step(ctx context.Context, in any) {
	todo := []any{in}
	for len(todo) > 0 {
		s.m.now = time.Now()
		coming := s.m.call.From != ""
		s.input(todo[0])
		todo = todo[1:]
		if coming && s.m.call.From == "" {
			s.b.meet(s)
		}
		s.index()
		s.keep() // before the actions: who takes over must know of a leg before it exists
		for _, a := range s.m.take() {
			start := time.Now()
			next, err := s.perform(ctx, a)
			s.b.actions.add(a.Do, time.Since(start))
			s.steps.reached(s.steps.stepOf(a))
			if err != nil && ctx.Err() == nil && !errors.Is(err, ari.ErrNotFound) {
				s.b.stats.failed.Add(1)
				s.b.cfg.Logger.Debug("action", "call", s.m.call.ID, "action", a.String(), "error", err)
			}
			if errors.Is(err, ari.ErrNoAnswer) && ctx.Err() == nil {
				s.askAgain(ctx, s.node)
			}
			if err != nil {
				next = failed{a, err}
			}
			if next != nil {
				todo = append(todo, next)
			}
		}
		if len(todo) == 0 && s.m.movable() {
			todo = append(todo, s.relocation())
		}
	}
}

func (s *session) input(in any) {
	switch in := in.(type) {
	case asked:
		in.done <- s.m.command(in.cmd)
	case placed:
		s.m.ringAll(in.targets, in.number, 0)
		in.done <- nil
	case handed:
		s.m.handedOver(in.leg)
	case conference:
		s.m.call.PIN, s.m.call.ModeratorPIN, s.m.call.Tones = in.PIN, in.ModeratorPIN, in.Tones
		s.m.call.MaxLegs, s.m.call.Locked, s.m.call.Stay = in.MaxLegs, in.Locked, true
	case *ari.StasisStart:
		if len(in.Args) > 0 && in.Args[0] == "resume" {
			s.b.stats.resumed.Add(1)
			defer func() { s.node = s.b.node(s.m.call.Node, s.node) }() // it may have moved the call
		}
		s.steps.reached(stepAnswered)
		s.m.input(in)
	case *ari.Dial:
		if in.DialStatus == "RINGING" {
			s.steps.reached(stepRinging)
		}
		s.m.input(in)
	default:
		s.m.input(in)
	}
}

// index lets the events of all legs find this call.
func (s *session) index() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, l := range s.m.call.Legs {
		if s.b.channels[l.ID] == nil || l.Node == s.m.call.Node {
			s.b.channels[l.ID] = s
		}
	}
}

// keep makes the record visible and has it written.
func (s *session) keep() {
	c := clone(*s.m.call)
	s.mu.Lock()
	s.snapshot = c
	s.mu.Unlock()
	s.wakeWriter()
}

func clone(c Call) Call {
	c.Legs = append([]Leg{}, c.Legs...)
	c.Recordings = append([]string(nil), c.Recordings...)
	if c.Flow != nil {
		f := *c.Flow
		c.Flow = &f
	}
	if c.Transfer != nil {
		t := *c.Transfer
		c.Transfer = &t
	}
	return c
}

func (s *session) wakeWriter() {
	select {
	case s.save <- struct{}{}:
	default:
	}
}

const (
	saveTimeout = 2 * time.Second
	saveAgain   = 200 * time.Millisecond
)

// write puts the newest snapshot into the store, by compare-and-set. While the store is away the call goes on (F12): the newest one is
// written when it is back.
func (s *session) write(ctx context.Context) {
	for {
		select {
		case <-s.save:
		case <-ctx.Done():
			return
		}
		last, ok := s.writeOnce(ctx)
		for ; !ok; last, ok = s.writeOnce(ctx) {
			s.b.stats.unsaved.Add(1)
			select {
			case <-ctx.Done():
				return
			case <-time.After(saveAgain):
			}
		}
		if last {
			return
		}
	}
}

// writeOnce writes the newest state. last tells that it was the end: the call may end while an earlier state is on its way to the store, and its
// record would stay if the writer went then.
func (s *session) writeOnce(ctx context.Context) (last, ok bool) {
	s.mu.Lock()
	c, rev, final, disowned := s.snapshot, s.rev, s.final, s.disowned
	s.mu.Unlock()
	if disowned {
		return true, true
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	bucket := s.b.buckets.calls
	if final {
		return true, bucket.Delete(ctx, c.ID, 0) == nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return false, true // a record always marshals
	}
	if rev == 0 {
		rev, err = bucket.Create(ctx, c.ID, text)
	} else {
		rev, err = bucket.Update(ctx, c.ID, text, rev)
	}
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) {
		return false, s.conflict(ctx, bucket, c.ID)
	}
	if err != nil {
		return false, false
	}
	s.mu.Lock()
	s.rev = rev
	s.mu.Unlock()
	return false, true
}

// conflict reads what somebody else wrote; the call's goroutine decides about it, and the next try is against his revision.
func (s *session) conflict(ctx context.Context, bucket *store.Bucket, id string) bool {
	e, err := bucket.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		s.mu.Lock()
		s.rev = 0
		s.mu.Unlock()
		return false
	}
	if err != nil {
		return false
	}
	var c Call
	if json.Unmarshal(e.Value, &c) == nil && s.isForeign(&c) {
		s.post(foreign{c})
		if c.Owner != s.b.cfg.Owner {
			return true // not ours any more: his word stands
		}
	}
	s.mu.Lock()
	s.rev = e.Revision
	s.mu.Unlock()
	return false
}

// askAgain has the record compared with the node as soon as that answers again. The call does not wait for it: recovery may bring it to another node
// meanwhile.
func (s *session) askAgain(ctx context.Context, n *node) {
	s.mu.Lock()
	again := s.asking
	s.asking = true
	s.mu.Unlock()
	if again {
		return
	}
	s.b.group.Go(func() {
		answers := false
		for !answers && ctx.Err() == nil && !s.ending() && s.record().Node == n.id() {
			pause(ctx, askAgainEvery)
			_, err := n.client.Info(ctx)
			answers = err == nil
		}
		s.mu.Lock()
		s.asking = false
		s.lost = s.lost || answers
		s.mu.Unlock()
		if answers {
			s.post(tick{})
		}
	})
}

const askAgainEvery = time.Second

// reread makes up for an event that did not fit.
func (s *session) reread(ctx context.Context) {
	s.mu.Lock()
	lost := s.lost
	s.lost = false
	s.mu.Unlock()
	if !lost {
		return
	}
	if state, err := s.node.read(ctx); err == nil {
		s.b.stats.repairs.Add(1)
		s.step(ctx, state)
	}
}
