package bridge

import (
	"errors"
	"fmt"
	"slices"

	"rtcedge/bridge/ari"
)

// gone is a leg that ended by itself.
func (m *machine) gone(id string, cause int) {
	l := m.call.Leg(id)
	if l == nil {
		return
	}
	switch {
	case l.Carry != "" && m.call.Moving != nil && m.call.Moving.Done:
		m.drop(id) // recommit finds the member without it
		return
	case l.Carry != "":
		m.moveBack(fmt.Sprintf("no way to the new node, cause %d", cause))
		return
	}
	if m.flowLegGone(id, cause) {
		return
	}
	if m.transferGone(id, cause) {
		return
	}
	wasUp, role := l.State != LegRinging, l.Role
	m.call.Cause = worse(m.call.Cause, cause)
	m.remove(id)
	if !wasUp && role == LegOut {
		m.unanswered()
	}
}

// drop forgets a leg.
func (m *machine) drop(id string) {
	if l := m.call.Leg(id); l != nil && l.Recording != "" {
		m.do(action{Do: doStopRecord, Text: l.Recording})
	}
	m.call.Legs = slices.DeleteFunc(m.call.Legs, func(l Leg) bool { return l.ID == id })
	m.uncarry(id)
	m.tell("left", id)
}

// remove forgets a leg and ends the call if that was its sense.
func (m *machine) remove(id string) {
	was := m.call.Leg(id)
	inside := was != nil && was.Waiting == "" && was.State == LegUp
	m.drop(id)
	if inside && m.call.Tones && m.call.Bridge != "" && m.call.Up() > 0 {
		m.sound(m.rules.ExitSound)
	}
	m.settle()
}

// settle ends a call at one participant (B38); a conference and a call that shall stay go on.
func (m *machine) settle() {
	if m.ended || slices.ContainsFunc(m.call.Legs, func(l Leg) bool { return l.Waiting == waitMove }) {
		return // who goes last ends it
	}
	if m.call.Conference != "" || m.call.Stay {
		if len(m.call.Legs) == 0 {
			if m.call.Conference == "" {
				m.over()
			} else if m.call.Empty.IsZero() {
				m.call.Empty = m.now
			}
		}
		return
	}
	people := 0
	waitingIn := false
	for _, l := range m.call.Legs {
		if l.External == "" {
			people++
		}
		waitingIn = waitingIn || l.Role == LegIn && l.State == LegRinging
	}
	switch {
	case m.call.Program != "" && people > 0:
		return
	case people >= 2:
		// Two that ring for a caller who is gone are no call.
		if m.call.Up() > 0 || waitingIn {
			return
		}
	case people == 1 && waitingIn:
		return // the caller hears a tone until its number is resolved
	case people == 1 && m.call.Next != "":
		return
	}
	m.end(causeNormal)
}

// end hangs all up.
func (m *machine) end(cause int) {
	for _, l := range m.call.Legs {
		m.do(action{Do: doHangup, Leg: l.ID, N: cause})
	}
	m.call.Legs = nil
	m.over()
}

func (m *machine) over() {
	if m.ended {
		return
	}
	if m.call.Recording != "" {
		m.do(action{Do: doStopRecord, Text: m.call.Recording})
	}
	if m.call.Bridge != "" {
		m.do(action{Do: doDestroy, Text: m.call.Bridge})
	}
	m.ended = true
	m.tell("ended", "")
}

// fail is an action that the node refused or did not answer. Of a node that does not answer nobody knows what became of the leg, so it stays: when the
// node answers again it is compared (repair), and if it died the leg is recovered on another one, or given up. To end the call here would leave its
// phones in a dialog that nobody has (F3).
func (m *machine) fail(in failed) {
	if errors.Is(in.err, ari.ErrNoAnswer) {
		switch in.Do {
		case doOriginate, doJoin, doAnswer, doCreateBridge:
			return
		}
	}
	switch in.Do {
	case doOriginate:
		m.gone(in.Leg, causeFailure)
	case doJoin, doAnswer:
		// A channel that ended meanwhile: its end is on the way, or was told while the stream was down.
		m.gone(in.Leg, 0)
	case doOpenThere:
		if m.call.Moving != nil {
			m.moveBack(in.err.Error())
		}
	case doHandOver, doReroute:
		m.returned(in.Record)
	case doCreateBridge:
		m.end(causeFailure)
	case doRecord, doSnoop:
		m.recorded(ari.LiveRecording{Name: in.Text})
	case doPlay:
		m.flowPlayed(ari.Playback{ID: in.Text, State: ari.PlaybackFailed})
	case doProgress, doMute, doMusic, doRing:
		m.tell("failed: "+in.action.String(), in.Leg)
	}
}
