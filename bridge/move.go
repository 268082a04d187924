package bridge

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A conference leaves a node that drains. The members' dialogs cannot: they stay where they are, each in a call of two with a leg that leads
// to the conference on its new node. What is mixed, recorded, muted and locked is there from then on. Functions occur in the order of a move:
//
//  1. depart: the wish. It waits until nobody rings and no transfer is under way.
//  2. relocate: the conference is opened at the new node (doOpenThere), and a leg to it is placed for each member (carry). Everybody still
//     talks in the old bridge; at the new node the legs enter silently, with what their member's record says (joinMoved).
//  3. moveOn: when all legs are up, all members change over at once (commit): that is the only gap.
//  4. settled: the new conference gets the last state and is the conference from now on.
//  5. committed: each member is in a call of its own now, and the old conference ends.
//
// Before the third step a failure of any leg puts everything back (moveBack): nobody has noticed. It is tried again later. From the third step on
// there is no way back: who takes over a record that is done and has members does the step again (recommit).
const (
	moveTimeout = 8 * time.Second        // for all legs to come up; healthy nodes take less than one second for a small conference
	moveMember  = 150 * time.Millisecond // more of it for each member: a hundred took 8 s on two busy processors
	moveRetry   = 10 * time.Second       // after one that failed, as long as the node drains
	moveLone    = 4 * time.Second        // for the first leg to come to the new node: the process that moves has died
)

// Moving is a conference on its way to another node.
type Moving struct {
	To    NodeID    `json:"to"`
	SIP   string    `json:"sip"`  // its IP:PORT
	Call  string    `json:"call"` // id of the conference there
	Until time.Time `json:"until"`
	Done  bool      `json:"done,omitempty"`
}

type (
	// depart wants a conference away from its node, or no longer.
	depart struct{ on bool }
	// relocate has a node for it; none is the zero value.
	relocate struct {
		to   Node
		call string // id of the conference there
	}
	// relayed is a call of two that a move has made: member and leg to the conference.
	relayed struct{}
	// settled ends a move at the new node, with the last state of the old one.
	settled struct{ old Call }
	// committed ends it at the old one.
	committed struct{}
)

// joinPrefix begins the numbers that lead to one leg's place in a call. Nobody can dial them who does not know the call's id, which is random
// and told to users of the API only.
const joinPrefix = "join."

// joinURI leads from any node to a place in a call at the node with that SIP address.
func joinURI(call, place, sip string) string {
	return "sip:" + joinPrefix + call + "." + place + "@" + strings.TrimPrefix(sip, "udp:")
}

// joinNumber reads what joinURI has made.
func joinNumber(number string) (call, place string, ok bool) {
	rest, ok := strings.CutPrefix(number, joinPrefix)
	if !ok {
		return "", "", false
	}
	call, place, ok = strings.Cut(rest, ".")
	return call, place, ok && call != "" && place != ""
}

func (m *machine) depart(on bool) {
	if m.call.Conference != "" && m.call.From == "" {
		m.call.Leaving, m.call.MoveAgain = on, time.Time{}
	}
}

// movable tells if a move may begin now.
func (m *machine) movable() bool {
	c := m.call
	if m.ended || !c.Leaving || c.Moving != nil || c.From != "" || c.Transfer != nil || m.now.Before(c.MoveAgain) {
		return false
	}
	return !slices.ContainsFunc(c.Legs, func(l Leg) bool { return l.State != LegUp || l.Waiting == waitMove })
}

func (m *machine) relocate(in relocate) {
	switch {
	case !m.movable():
		return
	case len(m.call.Legs) == 0: // who comes next finds the other node
		m.over()
		return
	case in.to.ID == "" || in.to.SIP == "":
		m.call.MoveAgain = m.now.Add(moveRetry)
		m.tell("move failed", "")
		return
	}
	m.call.Moving = &Moving{To: in.to.ID, SIP: strings.TrimPrefix(in.to.SIP, "udp:"), Call: in.call,
		Until: m.now.Add(moveTimeout + time.Duration(len(m.call.Legs))*moveMember)}
	m.do(action{Do: doOpenThere, Text: in.call})
	for _, l := range slices.Clone(m.call.Legs) {
		m.carry(l)
	}
}

// carry places the leg that leads a member to the new node. External media is told its new node at the end instead.
func (m *machine) carry(l Leg) {
	if l.External != "" {
		return
	}
	id := fmt.Sprintf("%s.%d", m.call.ID, m.nextLeg())
	uri := joinURI(m.call.Moving.Call, l.ID, m.call.Moving.SIP)
	m.call.Legs = append(m.call.Legs, Leg{ID: id, Node: m.call.Node, Role: LegOut, State: LegRinging, Number: m.call.Conference, URI: uri, Carry: l.ID})
	m.do(action{Do: doOriginate, Leg: id, Text: uri, N: int(m.call.Moving.Until.Sub(m.now) / time.Second), Record: l})
}

// carrier is the leg that leads a member to the new node.
func (m *machine) carrier(member string) *Leg {
	for i := range m.call.Legs {
		if m.call.Legs[i].Carry == member {
			return &m.call.Legs[i]
		}
	}
	return nil
}

// uncarry ends the leg of a member who left while the conference moved.
func (m *machine) uncarry(member string) {
	if l := m.carrier(member); l != nil {
		id := l.ID
		m.do(action{Do: doHangup, Leg: id, N: causeNormal})
		m.call.Legs = slices.DeleteFunc(m.call.Legs, func(l Leg) bool { return l.ID == id })
	}
}

// moveOn looks after each input if all are ready.
func (m *machine) moveOn() {
	if m.ended || m.call.Moving == nil || m.call.Moving.Done {
		return
	}
	members := 0
	for _, l := range m.call.Legs {
		switch {
		case l.State != LegUp:
			return
		case l.Carry != "" || l.External != "":
		case m.carrier(l.ID) == nil:
			return
		default:
			members++
		}
	}
	if members == 0 {
		m.moveBack("everybody has left")
		return
	}
	m.commit(false)
}

// commit changes all members over. Their channels leave the old bridge by entering the new one. The record keeps them until all have.
func (m *machine) commit(again bool) {
	mv := *m.call.Moving // snapshots share the old one
	mv.Done = true
	m.call.Moving = &mv
	final := clone(*m.call)
	if m.call.Recording != "" {
		m.do(action{Do: doStopRecord, Text: m.call.Recording})
	}
	for _, l := range final.Legs {
		switch {
		case l.Carry != "":
			continue
		case l.External != "":
			m.do(action{Do: doHangup, Leg: l.ID, N: causeNormal})
			continue
		}
		// What was done to the channel here is done to its leg there.
		if l.Muted {
			m.do(action{Do: doMute, Leg: l.ID, Text: "in"})
		}
		if l.Waiting == waitHold {
			m.do(action{Do: doMusic, Leg: l.ID})
		}
		if c := m.carrier(l.ID); c != nil {
			m.do(action{Do: doRelay, Leg: l.ID, Record: l, Second: *c, On: again})
		} else { // its leg ended while nobody controlled it
			m.do(action{Do: doReroute, Leg: l.ID, Text: localConference + ":" + m.call.Conference, Record: l})
		}
	}
	for _, l := range final.Legs {
		if l.Recording != "" {
			m.do(action{Do: doStopRecord, Text: l.Recording})
		}
	}
	m.do(action{Do: doMoved, Call: &final})
	m.tell("moving", "")
}

func (m *machine) committed() {
	m.call.Legs, m.call.Recording = nil, ""
	m.over()
}

// recommit is commit by the process that took over from one that died on the way: those that it has relayed stay, or are joined again.
func (m *machine) recommit(in seen) {
	for _, l := range slices.Clone(m.call.Legs) {
		_, there := in.channels[l.ID]
		if !there {
			m.call.Legs = slices.DeleteFunc(m.call.Legs, func(o Leg) bool { return o.ID == l.ID })
		}
	}
	for _, l := range slices.Clone(m.call.Legs) {
		if l.Carry != "" && m.call.Leg(l.Carry) == nil {
			m.uncarry(l.Carry)
		}
	}
	m.commit(true)
}

// moveBack gives a move up: all that was placed for it ends, the old bridge never changed.
func (m *machine) moveBack(why string) {
	there := m.call.Moving.Call
	for _, l := range m.call.Legs {
		if l.Carry != "" {
			m.do(action{Do: doHangup, Leg: l.ID, N: causeNormal})
		}
	}
	m.call.Legs = slices.DeleteFunc(m.call.Legs, func(l Leg) bool { return l.Carry != "" })
	m.call.Moving, m.call.MoveAgain = nil, m.now.Add(moveRetry)
	m.do(action{Do: doCloseThere, Text: there})
	m.do(action{Do: doTell, Text: "move failed", Text2: why})
	m.settle()
}

// relay joins member and leg to the conference.
func (m *machine) relay() {
	m.call.Bridge = "b-" + m.call.ID
	m.do(action{Do: doCreateBridge, Text: m.call.Bridge})
	for _, l := range m.call.Legs {
		m.do(action{Do: doJoin, Leg: l.ID})
	}
}

// joinMoved takes a member's leg at the new node: silently, and with all that its record says.
func (m *machine) joinMoved(l Leg) {
	m.call.Legs = append(m.call.Legs, l)
	leg := m.call.Leg(l.ID)
	m.answer(leg)
	switch l.Waiting {
	case waitHold:
		m.do(action{Do: doMusic, Leg: l.ID, On: true})
	case waitPIN:
	default:
		m.enterSilently(leg)
	}
}

// enterSilently is for one who never left.
func (m *machine) enterSilently(l *Leg) {
	tones := m.call.Tones
	m.call.Tones = false
	m.enter(l)
	m.call.Tones = tones
}

// settled takes what changed while the legs came up.
func (m *machine) settled(old Call) {
	if m.call.From == "" {
		return
	}
	c := m.call
	c.From, c.Created = "", old.Created
	c.Locked, c.MutedAll, c.Stay, c.Tones, c.MaxLegs = old.Locked, old.MutedAll, old.Stay, old.Tones, old.MaxLegs
	c.PIN, c.ModeratorPIN, c.Recordings = old.PIN, old.ModeratorPIN, slices.Clone(old.Recordings)
	for _, was := range old.Legs {
		if was.External != "" {
			m.external(was.External)
			continue
		}
		i := slices.IndexFunc(c.Legs, func(l Leg) bool { return was.Carry == "" && l.Place == was.ID })
		if i < 0 {
			continue
		}
		l := &c.Legs[i]
		l.Moderator, l.Digits, l.Tries = was.Moderator, was.Digits, was.Tries
		m.mute(l, was.Muted)
		switch {
		case l.Waiting == waitPIN && was.Waiting == "":
			m.enterSilently(l)
		case l.Waiting == waitHold != (was.Waiting == waitHold):
			_ = m.hold(l, was.Waiting == waitHold) // both are up
		}
		if was.Recording != "" {
			m.recordLeg(l)
		}
	}
	if old.Recording != "" && c.Bridge != "" {
		m.recordBridge()
	}
	m.tell("moved", "")
	m.settle()
}

// moveTimers does what is due of a move.
func (m *machine) moveTimers() {
	switch c := m.call; {
	case m.ended:
	case c.Moving != nil && !c.Moving.Done && !m.now.Before(c.Moving.Until):
		m.moveBack("not all legs came up")
	case c.From != "" && len(c.Legs) == 0 && !m.now.Before(c.Created.Add(moveLone)):
		m.over()
	case c.From != "" && !m.now.Before(c.Created.Add(2*moveTimeout+time.Duration(len(c.Legs))*moveMember)):
		c.From = "" // the process that moved it has died: it goes on as it is
	}
}

// moveWake is when moveTimers must run.
func (m *machine) moveWake() time.Time {
	switch c := m.call; {
	case c.Moving != nil && c.Moving.Done:
	case c.Moving != nil:
		return c.Moving.Until
	case c.From != "" && len(c.Legs) == 0:
		return c.Created.Add(moveLone)
	case c.From != "":
		return c.Created.Add(2*moveTimeout + time.Duration(len(c.Legs))*moveMember)
	case c.Leaving:
		return c.MoveAgain
	}
	return time.Time{}
}
