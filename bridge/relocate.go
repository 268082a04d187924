package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"rtcedge/internal/store"
)

// openThere begins the conference at its new node: here, if that node is ours, else in the store, from where the process that has the node
// takes it when the first leg arrives.
func (s *session) openThere(ctx context.Context) error {
	old := s.m.call
	mv := old.Moving
	c := Call{ID: mv.Call, Node: mv.To, Conference: old.Conference, Number: old.Number, From: old.ID, Created: time.Now(), Legs: []Leg{},
		PIN: old.PIN, ModeratorPIN: old.ModeratorPIN, MutedAll: old.MutedAll, Stay: old.Stay}
	if n := s.b.node(mv.To, nil); n != nil && n.controlled() {
		c.Owner = s.b.cfg.Owner
		_, err := s.b.open1(n, c, 0)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	e, err := s.b.buckets.nodes.Get(ctx, string(mv.To))
	if err != nil {
		return fmt.Errorf("open the conference at %s: %w", mv.To, err)
	}
	var n Node
	if err := json.Unmarshal(e.Value, &n); err != nil {
		return err
	}
	c.Owner = n.Owner
	text, _ := json.Marshal(c) // a record always marshals
	if _, err := s.b.buckets.calls.Create(ctx, c.ID, text); err != nil {
		return fmt.Errorf("open the conference at %s: %w", mv.To, err)
	}
	return nil
}

// closeThere ends what openThere has begun. Another process' end of it ends by its own timer.
func (s *session) closeThere(ctx context.Context, id string) error {
	if t := s.b.session(id); t != nil {
		t.post(asked{Command{Do: CmdHangup}, make(chan error, 1)})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	err := s.b.buckets.calls.Delete(ctx, id, 0)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// relay makes a member of the old conference and the leg to the new one a call of their own. Its id follows from the leg's, so that it is the same
// one for a process that does it again.
func (s *session) relay(ctx context.Context, a action) error {
	member, carrier := moved(a.Record), moved(a.Second)
	member.Muted, member.Moderator, member.Digits = false, false, ""
	carrier.Carry = ""
	c := Call{ID: strings.Replace(carrier.ID, ".", "m", 1), Node: s.m.call.Node, Number: s.m.call.Conference, Trunk: s.m.call.Conference, Created: time.Now(),
		Owner: s.b.cfg.Owner, Legs: []Leg{member, carrier}}
	if a.On && s.b.session(c.ID) == nil {
		s.b.adopt(ctx, s.node, c.ID)
	}
	r, err := s.b.open1(s.node, c, 0)
	if err != nil {
		return err
	}
	s.b.own(member.ID, r) // also where it was there already
	s.b.own(carrier.ID, r)
	r.post(relayed{})
	return nil
}

// movedNotice is how long the last state of a conference that moved stays in the store, for the process that has its new node.
const movedNotice = time.Second

// moved hands the conference over. Who comes from now on is led to the new one.
func (s *session) moved(ctx context.Context, final *Call) error {
	t := s.b.session(final.Moving.Call)
	s.b.mu.Lock()
	if s.b.meeting[final.Conference] == s {
		delete(s.b.meeting, final.Conference)
	}
	if t != nil {
		s.b.meeting[final.Conference] = t
	} else {
		s.b.held[final.Moving.Call] = Call{ID: final.Moving.Call, Node: final.Moving.To, Conference: final.Conference}
	}
	s.b.mu.Unlock()
	if t != nil {
		t.post(settled{*final})
		return nil
	}
	text, _ := json.Marshal(final) // a record always marshals
	put, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	_, err := s.b.buckets.calls.Put(put, final.ID, text)
	pause(ctx, movedNotice)
	return err
}

// meet makes the session the conference of its name.
func (b *Bridge) meet(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meeting[s.m.call.Conference] = s
}

// joins takes a leg that comes by joinURI: to a conference that moves, or in the place of another leg.
func (n *node) joins(ctx context.Context, call, place string, l Leg) {
	s := n.b.session(call)
	if s == nil {
		s = n.b.adopt(ctx, n, call)
	}
	if s == nil || s.record().Node != n.id() {
		n.b.refuse(n, l, fmt.Errorf("%w: %s", ErrNoCall, call))
		return
	}
	in := arrived{leg: l, replace: place}
	if c := s.record(); c.From != "" {
		member, err := n.b.memberOf(ctx, c.From, place)
		if err != nil {
			n.b.refuse(n, l, err)
			return
		}
		was := l
		l = moved(member)
		l.ID, l.Node, l.SIPCallID, l.Role, l.State, l.URI, l.Route, l.Place = was.ID, was.Node, was.SIPCallID, was.Role, was.State, "", "", place
		l.Waiting, l.Generation = member.Waiting, 0
		in = arrived{leg: l, moved: true}
	}
	if !s.post(in) {
		n.b.refuse(n, l, ErrBusy)
	}
}

// memberOf reads a member of a conference that moves. The process that has it writes its record while the leg is on its way.
func (b *Bridge) memberOf(ctx context.Context, call, place string) (Leg, error) {
	for try := 0; ; try++ {
		var c Call
		if s := b.session(call); s != nil {
			c = s.record()
		} else if e, err := b.buckets.calls.Get(ctx, call); err == nil {
			_ = json.Unmarshal(e.Value, &c)
		}
		if l := c.Leg(place); l != nil {
			return *l, nil
		}
		if try == 10 || ctx.Err() != nil {
			return Leg{}, fmt.Errorf("%w: %s of %s", ErrNoLeg, place, call)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// seek finds a leg by its SIP Call-ID, on any node: the second call of a phone that transfers attended (RFC 3891).
func (s *session) seek(ctx context.Context, a action) any {
	in := resolved{number: a.Text, purpose: purpose{transferBy: a.Leg, transferLeg: a.Text2}}
	all := s.b.Calls()
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if entries, err := s.b.buckets.calls.List(ctx, ""); err == nil {
		for _, e := range entries {
			var c Call
			if json.Unmarshal(e.Value, &c) == nil && c.Owner != s.b.cfg.Owner {
				all = append(all, c)
			}
		}
	}
	for _, c := range all {
		for _, l := range c.Legs {
			if l.SIPCallID != a.Text || l.State != LegUp || c.ID == s.m.call.ID {
				continue
			}
			if n := s.b.node(c.Node, nil); n != nil && n.record().SIP != "" {
				in.number = l.Number
				for _, other := range c.Legs {
					if other.ID != l.ID && other.State == LegUp {
						in.number = other.Number
					}
				}
				in.dest.Targets = []Target{{URI: joinURI(c.ID, l.ID, n.record().SIP)}}
			}
			return in
		}
	}
	return in
}

// relocation is where a conference of a node that drains goes to.
func (s *session) relocation() relocate {
	var all []Node
	for _, n := range s.b.conferenceNodes() {
		if n.ID != s.m.call.Node {
			all = append(all, n)
		}
	}
	in := relocate{call: newID()}
	if id, ok := choose(s.m.call.Conference, RoleConference, all); ok {
		in.to = s.b.node(id, nil).record()
	}
	return in
}

// leaveConferences moves the conferences of a node that drains, or lets them stay.
func (n *node) leaveConferences(on bool) {
	for _, s := range n.b.sessionsOf(n.id()) {
		if s.record().Conference != "" {
			s.post(depart{on})
		}
	}
}
