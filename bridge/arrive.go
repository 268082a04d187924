package bridge

import (
	"fmt"
)

// Why a leg is not in the bridge.
const (
	waitPIN     = "pin"
	waitProgram = "program"
	waitHold    = "hold"
	waitFlow    = "flow"
	waitMove    = "move" // another call takes it, or gives it back
)

// arrive takes a leg into the call: from the edge, unanswered, or from another call, answered.
func (m *machine) arrive(in arrived) {
	l := in.leg
	if m.call.Leg(l.ID) != nil {
		return // the event came twice: by the stream and by a reading after a gap
	}
	if in.moved {
		m.joinMoved(l)
		return
	}
	if in.replace != "" && l.State == LegRinging && m.call.Leg(in.replace) == nil {
		m.do(action{Do: doHangup, Leg: l.ID, N: causeFailure}) // who was there has left
		return
	}
	limit := m.rules.MaxLegs
	if m.call.MaxLegs > 0 {
		limit = min(limit, m.call.MaxLegs)
	}
	if in.replace == "" && len(m.call.Legs) > 0 && (m.call.Locked && !l.Moderator || m.members() >= limit) {
		m.do(action{Do: doHangup, Leg: l.ID, N: causeFull})
		m.tell("refused", l.ID)
		return
	}
	if m.rules.MaxDuration > 0 && l.Limit.IsZero() {
		l.Limit = m.now.Add(m.rules.MaxDuration)
	}
	m.call.Legs = append(m.call.Legs, l)
	leg := m.call.Leg(l.ID)
	m.tell("leg", l.ID)
	if in.replace != "" {
		m.answer(leg)
		m.enter(leg)
		if old := m.call.Leg(in.replace); old != nil {
			m.do(action{Do: doHangup, Leg: old.ID, N: causeNormal})
			m.remove(old.ID)
		}
		return
	}
	switch {
	case m.call.Conference != "":
		m.answer(leg)
		if m.call.PIN != "" && !leg.Moderator {
			leg.Waiting = waitPIN
			m.playTo(leg.ID, m.rules.PINSound)
		} else {
			m.enter(leg)
		}
		if m.call.Moving != nil { // it has to come along
			m.carry(*m.call.Leg(l.ID))
		}
	case m.call.Program == ProgramEcho:
		m.answer(leg)
		m.program(leg)
	case m.call.Program == ProgramMusic:
		m.answer(leg)
		m.program(leg)
	case m.call.Program == ProgramFlow:
		leg.Waiting = waitFlow
		m.call.Flow.Leg = leg.ID
		m.runFlow()
	case len(m.call.Legs) == 1:
		if leg.State == LegUp { // it comes from another call: it waits for its target in the bridge, nobody will answer it again
			m.enter(leg)
		}
		m.do(action{Do: doResolve, Text: m.call.Number})
	default:
		m.answer(leg)
		m.enter(leg)
	}
}

// Q.850 causes that we give.
const (
	causeUnallocated = 1
	causeNormal      = 16
	causeBusy        = 17
	causeNoAnswer    = 19
	causeAbsent      = 20
	causeElsewhere   = 26
	causeFailure     = 38
	causeFull        = 42 // switching equipment congestion: 503 at the edge
	causeInterwork   = 127
)

// program lets a leg hear itself or music. Echo runs in the dialplan, so the channel leaves the application; its end is still told,
// because doContinue subscribes to it. The record says so, and a recovered channel is sent there again.
func (m *machine) program(l *Leg) {
	l.Waiting = waitProgram
	if m.call.Program == ProgramEcho {
		m.do(action{Do: doContinue, Leg: l.ID, Text: m.rules.EchoContext})
		return
	}
	m.do(action{Do: doMusic, Leg: l.ID, On: true})
}

func (m *machine) answer(l *Leg) {
	if l.State == LegUp {
		return
	}
	m.do(action{Do: doAnswer, Leg: l.ID})
	l.State, l.Answered = LegUp, m.now
}

// enter puts an answered leg into the call's bridge, with all that its record says.
func (m *machine) enter(l *Leg) {
	if m.call.Bridge == "" {
		m.call.Bridge = "b-" + m.call.ID
		m.do(action{Do: doCreateBridge, Text: m.call.Bridge})
	}
	l.Waiting, l.Digits = "", ""
	if m.call.MutedAll && !l.Moderator {
		l.Muted = true
	}
	m.do(action{Do: doJoin, Leg: l.ID})
	if l.Muted {
		m.do(action{Do: doMute, Leg: l.ID, Text: "in", On: true})
	}
	if m.call.Tones {
		m.sound(m.rules.EnterSound)
	}
	m.tell("joined", l.ID)
}

func (m *machine) sound(media string) {
	m.seq++
	m.do(action{Do: doPlay, Text: fmt.Sprintf("%s.p%d", m.call.ID, m.seq), Media: []string{media}})
}

func (m *machine) playTo(leg, media string) {
	m.seq++
	m.do(action{Do: doPlay, Leg: leg, Text: fmt.Sprintf("%s.p%d", m.call.ID, m.seq), Media: []string{media}})
}
