package bridge

import (
	"fmt"
	"slices"
	"strings"

	"rtcedge/bridge/ari"
)

// maxForwards is how often one call follows a phone's 302: two that point at each other are a circle.
const maxForwards = 5

// forwarded is a phone that answers 302 (RFC 3261 section 21.3.3). Its channel is over; the number that it names is looked up as if it had
// been dialled, so that a phone cannot send a caller where a caller could not go. Until it is known, the leg's place is kept.
func (m *machine) forwarded(l *Leg, to string) {
	if l.Role != LegOut || l.State != LegRinging {
		return
	}
	number := strings.TrimPrefix(strings.TrimPrefix(to, "sips:"), "sip:")
	number, _, _ = strings.Cut(number, "@")
	m.call.Forwards++
	l.ID, l.URI, l.Route, l.SIPCallID = fmt.Sprintf("%s.%d", m.call.ID, m.nextLeg()), "", "", ""
	m.tell("forwarded", l.ID)
	if number == "" || m.call.Forwards > maxForwards {
		m.gone(l.ID, causeBusy)
		return
	}
	m.do(action{Do: doResolve, Leg: l.ID, Text: number, Forward: true})
}

// forwardTo puts the new target's phones into the place of the one that sent the call on.
func (m *machine) forwardTo(in resolved) {
	place := m.call.Leg(in.forwardLeg)
	if place == nil {
		return // the call is over
	}
	was := *place
	if in.err == nil && in.dest.Local != "" && m.rerouteCaller(in.number) {
		return
	}
	if in.err != nil || len(in.dest.Targets) == 0 {
		m.gone(was.ID, causeUnallocated)
		return
	}
	ids := m.ringAll(in.dest.Targets, in.number, m.rules.RingTimeout)
	for i := range m.call.Legs {
		if l := &m.call.Legs[i]; slices.Contains(ids, l.ID) {
			l.Fork, l.Transfer = was.Fork, was.Transfer
		}
	}
	m.call.Legs = slices.DeleteFunc(m.call.Legs, func(l Leg) bool { return l.ID == was.ID })
}

// rerouteCaller leads a caller whom nobody has answered to a conference or a flow, voice mail for one, to which its only target sent it.
func (m *machine) rerouteCaller(number string) bool {
	if m.call.Flow != nil || m.call.Transfer != nil || len(m.call.Legs) != 2 {
		return false
	}
	i := slices.IndexFunc(m.call.Legs, func(l Leg) bool { return l.Role == LegIn && l.State == LegRinging })
	if i < 0 {
		return false
	}
	caller := m.call.Legs[i]
	m.call.Legs = []Leg{caller}
	m.do(action{Do: doReroute, Leg: caller.ID, Text: number, Record: caller})
	return true
}

// dial tells how a leg that we place fares.
func (m *machine) dial(ev *ari.Dial) {
	l := m.call.Leg(ev.Peer.ID)
	if l == nil {
		return
	}
	if l.SIPCallID == "" {
		l.SIPCallID = ev.Peer.ProtocolID
	}
	switch {
	case ev.Forward != "":
		m.forwarded(l, ev.Forward)
	case ev.DialStatus == "RINGING":
		m.ringing(l)
	}
}
