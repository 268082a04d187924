package bridge

import (
	"fmt"
	"slices"
	"time"

	"rtcedge/bridge/ari"
)

// resolve goes on with a number whose destination is known now.
func (m *machine) resolve(in resolved) {
	if in.flow {
		m.flowConnect(in)
		return
	}
	if in.forwardLeg != "" {
		m.forwardTo(in)
		return
	}
	if in.transferLeg != "" {
		m.transferTo(in)
		return
	}
	if in.err != nil || len(in.dest.Targets) == 0 {
		cause := in.dest.Cause
		if cause == 0 {
			cause = causeUnallocated
		}
		m.refuse(cause)
		return
	}
	m.call.Stay = m.call.Stay || in.dest.Stay
	m.ringAll(in.dest.Targets, in.number, m.rules.RingTimeout)
}

// ringAll lets all targets of a number ring: the first that answers stays.
func (m *machine) ringAll(targets []Target, number string, timeout time.Duration) []string {
	if timeout <= 0 {
		timeout = m.rules.RingTimeout
	}
	var ids []string
	fork := fmt.Sprintf("f%d", m.nextLeg())
	for _, t := range targets {
		id := fmt.Sprintf("%s.%d", m.call.ID, m.nextLeg())
		m.call.Legs = append(m.call.Legs, Leg{ID: id, Node: m.call.Node, Role: LegOut, State: LegRinging, Number: number,
			URI: t.URI, Route: t.Route, Fork: fork})
		m.do(action{Do: doOriginate, Leg: id, Text: t.URI, Text2: t.Route, N: int(timeout / time.Second)})
		ids = append(ids, id)
	}
	return ids
}

// nextLeg is a number that no leg of this call had, also after a crash: it grows with the record.
func (m *machine) nextLeg() int {
	m.call.LastLeg++
	return m.call.LastLeg
}

// refuse ends an incoming leg that nobody answers.
func (m *machine) refuse(cause int) {
	for _, l := range m.call.Legs {
		m.do(action{Do: doHangup, Leg: l.ID, N: cause})
	}
	m.call.Legs = nil
	m.over()
}

// start is StasisStart of a leg that we placed, or that recovery made.
func (m *machine) start(ev *ari.StasisStart) {
	if len(ev.Args) < 3 {
		return
	}
	switch ev.Args[0] {
	case "out":
		if l := m.call.Leg(ev.Args[2]); l != nil {
			l.SIPCallID = ev.Channel.ProtocolID
			m.answered(l)
			return
		}
		m.do(action{Do: doHangup, Leg: ev.Channel.ID, N: causeNormal}) // it was ended while it rang
	case "resume":
		m.resume(ev)
	}
}

// state finds an answered channel whose StasisStart was lost.
func (m *machine) state(ch ari.Channel) {
	l := m.call.Leg(ch.ID)
	if l == nil {
		return
	}
	if l.SIPCallID == "" {
		l.SIPCallID = ch.ProtocolID
	}
	if ch.State == ari.StateRinging && l.Role == LegOut {
		m.ringing(l)
	}
}

// ringing gives the first leg ringback (B39).
func (m *machine) ringing(out *Leg) {
	for i := range m.call.Legs {
		if l := &m.call.Legs[i]; l.Role == LegIn && l.State == LegRinging && !m.call.Rung {
			m.call.Rung = true
			m.do(action{Do: doRing, Leg: l.ID})
		}
	}
	m.tell("ringing", out.ID)
}

// answered is a leg that we placed and that is up: it answers the peers (B39), and its forks end.
func (m *machine) answered(l *Leg) {
	if l.State == LegUp {
		return
	}
	l.State, l.Answered = LegUp, m.now
	if l.Carry != "" {
		return // moveOn sees it
	}
	id, fork := l.ID, l.Fork
	for _, other := range slices.Clone(m.call.Legs) {
		if other.ID != id && fork != "" && other.Fork == fork {
			m.do(action{Do: doHangup, Leg: other.ID, N: causeElsewhere})
			m.drop(other.ID)
		}
	}
	m.tell("answered", id)
	if m.flowAnswered(id) {
		return
	}
	for i := range m.call.Legs {
		peer := &m.call.Legs[i]
		if peer.Role == LegIn && peer.State == LegRinging {
			m.answer(peer)
			m.enter(peer)
		}
	}
	l = m.call.Leg(id)
	m.enter(l)
	m.transferAnswered(id)
	m.connectNext(l)
}

// connectNext is a call that was placed by the API: the first leg is up, now the number that it wants.
func (m *machine) connectNext(l *Leg) {
	if m.call.Next == "" {
		return
	}
	number := m.call.Next
	m.call.Next = ""
	m.do(action{Do: doResolve, Text: number, Leg: l.ID})
}

// worse prefers what tells the caller more: busy before no answer before failures.
func worse(a, b int) int {
	rank := func(c int) int { return slices.Index([]int{causeBusy, 21, causeNoAnswer, causeUnallocated}, c) }
	if a == 0 || rank(a) < 0 && b != 0 || rank(b) >= 0 && rank(b) < rank(a) {
		return b
	}
	return a
}

// unanswered ends a call all of whose targets have failed, with the cause that they gave.
func (m *machine) unanswered() {
	if slices.ContainsFunc(m.call.Legs, func(l Leg) bool { return l.Role == LegOut && l.State == LegRinging }) {
		return
	}
	for _, l := range slices.Clone(m.call.Legs) {
		if l.Role == LegIn && l.State == LegRinging {
			cause := m.call.Cause
			if cause == 0 {
				cause = causeNoAnswer
			}
			m.do(action{Do: doHangup, Leg: l.ID, N: cause})
			m.drop(l.ID)
		}
	}
	m.settle()
}
