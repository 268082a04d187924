package bridge

import (
	"slices"
	"strconv"
	"strings"

	"rtcedge/bridge/ari"
)

// resume takes a channel that recovery made for a leg of a crashed node. It may come twice, and in any order of the legs: the first one
// moves the call to the channel's node, and each gets back what its record says. A leg whose new node died as well comes again with a higher
// number, whether or not its first channel was told of (F3).
func (m *machine) resume(ev *ari.StasisStart) {
	l := m.call.Leg(ev.Args[2])
	base, _ := withoutGeneration(ev.Args[2])
	for i := range m.call.Legs {
		if id, _ := withoutGeneration(m.call.Legs[i].ID); l == nil && id == base {
			l = &m.call.Legs[i]
		}
	}
	if l == nil {
		m.do(action{Do: doHangup, Leg: ev.Channel.ID, N: causeNormal}) // it ended meanwhile: its far end gets a BYE
		return
	}
	if l.ID == ev.Channel.ID && l.State == LegUp || generation(ev.Channel.ID, l.Generation) < l.Generation {
		return // of a node that died: to hang it up would be a BYE in the dialog that lives on
	}
	node := NodeID(ev.Head().AsteriskID)
	if m.call.Node != node {
		m.call.Node, m.call.Bridge = node, ""
		m.call.LostAt = m.now // the others have the whole grace from now
		for i := range m.call.Legs {
			if o := &m.call.Legs[i]; o.Node != node && o.State != LegLost {
				o.State = LegLost
			}
		}
	}
	before := l.ID
	l.ID, l.Node, l.State, l.Generation = ev.Channel.ID, node, LegUp, generation(ev.Channel.ID, l.Generation)
	if m.call.Flow != nil && m.call.Flow.Leg == before {
		m.call.Flow.Leg = l.ID
	}
	if t := m.call.Transfer; t != nil {
		for _, id := range []*string{&t.By, &t.Leg, &t.Target} {
			if *id == before {
				*id = l.ID
			}
		}
	}
	m.tell("recovered", l.ID)
	switch l.Waiting {
	case waitProgram:
		m.program(l)
	case waitHold:
		m.do(action{Do: doMusic, Leg: l.ID, On: true})
	case waitFlow:
		m.flowResume()
	case waitPIN:
		m.playTo(l.ID, m.rules.PINSound)
	default:
		fresh := m.call.Bridge == ""
		m.enterSilently(l)
		if fresh && m.call.Recording != "" {
			m.recordBridge()
		}
	}
	if l = m.call.Leg(l.ID); l != nil && l.Recording != "" {
		m.recordLeg(l)
	}
}

// generation reads the rN at the end of a recovered channel's id.
func generation(id string, before int) int {
	if _, n := withoutGeneration(id); n > 0 {
		return n
	}
	return before + 1
}

// BaseID is what stays of a leg's channel id through any number of crashes.
func BaseID(id string) string {
	base, _ := withoutGeneration(id)
	return base
}

// withoutGeneration splits a channel's id into what stays through all crashes and the number of its recovery; 0 is none.
func withoutGeneration(id string) (string, int) {
	if i := strings.LastIndexByte(id, 'r'); i > 0 {
		if n, err := strconv.Atoi(id[i+1:]); err == nil {
			return id[:i], n
		}
	}
	return id, 0
}

// repair compares the record with what the node has (B41). The difference comes in as the events that were lost.
func (m *machine) repair(in seen) {
	if mv := m.call.Moving; mv != nil && mv.Done && !in.crashed && m.call.Node == in.node {
		m.recommit(in)
		return
	}
	before := clone(*m.call)
	for _, l := range before.Legs {
		if l.Node != in.node || l.State == LegLost || m.call.Leg(l.ID) == nil {
			continue // or it went with another one that is not there: a move that is taken back
		}
		ch, there := in.channels[l.ID]
		switch {
		case !there && in.crashed && l.State == LegUp && l.Carry == "":
			m.lose(l.ID)
		case !there:
			m.gone(l.ID, 0)
		case ch.State == ari.StateUp && l.State == LegRinging && l.Role == LegOut:
			m.answered(m.call.Leg(l.ID))
		}
	}
	if m.call.Trunk != "" && before.Bridge == "" && len(before.Legs) == 2 && m.call.Up() == 2 {
		m.relay() // the process that moved a conference died in the middle of it
		return
	}
	if m.ended || before.Bridge == "" || m.call.Node != in.node {
		return
	}
	b, there := in.bridges[m.call.Bridge]
	if !there {
		if in.crashed {
			m.call.Bridge = "" // the first leg that comes back, perhaps to this very node, makes another one
			return
		}
		if m.call.Up() == 0 {
			return
		}
		m.do(action{Do: doCreateBridge, Text: m.call.Bridge})
	}
	for i := range m.call.Legs {
		l := &m.call.Legs[i]
		was := before.Leg(l.ID)
		if was != nil && was.State == LegUp && l.Waiting == "" && l.Carry == "" && l.Node == in.node && !slices.Contains(b.Channels, l.ID) {
			m.do(action{Do: doJoin, Leg: l.ID})
			if l.Muted {
				m.do(action{Do: doMute, Leg: l.ID, Text: "in", On: true})
			}
		}
	}
}

// lose marks a leg whose node crashed: recovery may bring it back.
func (m *machine) lose(id string) {
	if m.call.Moving != nil && !m.call.Moving.Done {
		m.moveBack("its node crashed")
	}
	l := m.call.Leg(id)
	l.State = LegLost
	if m.call.LostAt.IsZero() {
		m.call.LostAt = m.now
	}
	m.tell("lost", id)
}

// merge takes what recovery wrote into the record: a leg that it gave up is a hang-up of that leg (B38).
func (m *machine) merge(theirs Call) {
	for _, l := range theirs.Legs {
		if l.State == LegGone {
			m.gone(l.ID, causeFailure)
		}
	}
}
