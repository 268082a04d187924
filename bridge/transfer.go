package bridge

import (
	"time"

	"rtcedge/bridge/ari"
)

// refer is a phone's REFER (PJSIP_TRANSFER_HANDLING ari-only). Nothing of the old call is given up before the new leg is up: until then
// a failure only tells the phone, and the two talk on (roll-back).
func (m *machine) refer(ev *ari.ChannelTransfer) {
	if ev.State != "" {
		return // Asterisk's echo of our own word on it (channel_progress and the rest), no new REFER
	}
	by := m.call.Leg(ev.ReferredBy.SourceChannel.ID)
	if by == nil {
		return
	}
	other := m.peer(by.ID)
	if other == nil || m.call.Transfer != nil || by.State != LegUp {
		m.do(action{Do: doProgress, Leg: by.ID, Text: ari.TransferUnavailable})
		return
	}
	if to := ev.ReferTo.DestinationChannel; to != nil {
		m.attended(by, other, to.ID)
		return
	}
	if second := ev.ReferTo.RequestedDestination.ProtocolID; second != "" {
		// The phone's second call is on another node: who is in it stays there, and a leg to there takes the phone's place.
		m.call.Transfer = &Transfer{By: by.ID, Leg: other.ID, Number: other.Number, Attended: true}
		m.do(action{Do: doProgress, Leg: by.ID, Text: ari.TransferProgress})
		m.do(action{Do: doSeek, Leg: by.ID, Text: second, Text2: other.ID})
		return
	}
	m.call.Transfer = &Transfer{By: by.ID, Leg: other.ID, Number: ev.ReferTo.RequestedDestination.Destination}
	m.do(action{Do: doProgress, Leg: by.ID, Text: ari.TransferProgress})
	m.do(action{Do: doResolve, Leg: by.ID, Text: m.call.Transfer.Number, Text2: other.ID, N: int(m.rules.RingTimeout / time.Second)})
}

// peer is who a leg talks to: the one other leg that is up. In a conference there is none: the whole bridge is.
func (m *machine) peer(id string) *Leg {
	var found *Leg
	for i := range m.call.Legs {
		if l := &m.call.Legs[i]; l.ID != id && l.State == LegUp && l.External == "" && l.Carry == "" {
			if found != nil {
				return nil
			}
			found = l
		}
	}
	return found
}

// attended hands the peer over to the call of the phone's second leg, in that leg's place.
func (m *machine) attended(by, other *Leg, second string) {
	if m.call.Leg(second) != nil {
		m.do(action{Do: doProgress, Leg: by.ID, Text: ari.TransferUnavailable})
		return
	}
	m.call.Transfer = &Transfer{By: by.ID, Leg: other.ID, Target: second, Attended: true}
	record := *other
	m.do(action{Do: doHandOver, Leg: other.ID, Text: second, Record: record})
}

// handedOver is told when the other call has taken the leg.
func (m *machine) handedOver(leg string) {
	t := m.call.Transfer
	if t == nil || t.Leg != leg {
		m.remove(leg)
		return
	}
	m.call.Transfer = nil
	if t.By != "" {
		m.do(action{Do: doProgress, Leg: t.By, Text: ari.TransferAnswered})
	}
	m.drop(leg)
	m.tell("transferred", leg)
	m.settle()
}

// returned is a hand-over that did not work: the leg never left the record, it only may have left the bridge.
func (m *machine) returned(l Leg) {
	if t := m.call.Transfer; t != nil {
		m.call.Transfer = nil
		if t.By != "" {
			m.do(action{Do: doProgress, Leg: t.By, Text: ari.TransferUnavailable})
		}
	}
	if mine := m.call.Leg(l.ID); mine != nil && (mine.Waiting == "" || mine.Waiting == waitMove) {
		mine.Waiting = ""
		m.do(action{Do: doJoin, Leg: l.ID})
		m.tell("transfer failed", l.ID)
	}
}

// transferTo knows where a blind transfer leads.
func (m *machine) transferTo(in resolved) {
	t := m.call.Transfer
	if t == nil || m.call.Leg(t.Leg) == nil {
		return
	}
	switch {
	case in.err != nil || len(in.dest.Targets) == 0 && in.dest.Local == "":
		m.transferFailed()
	case in.dest.Local != "": // a conference or a program: the leg goes there as it is
		m.do(action{Do: doReroute, Leg: t.Leg, Text: in.number, Record: *m.call.Leg(t.Leg)})
	default:
		ids := m.ringAll(in.dest.Targets, in.number, in.timeout)
		for i := range m.call.Legs {
			for _, id := range ids {
				if m.call.Legs[i].ID == id {
					m.call.Legs[i].Transfer = true
				}
			}
		}
	}
}

// transferAnswered ends the transfer: the new leg talks to the old peer, the one who asked leaves.
func (m *machine) transferAnswered(id string) {
	t := m.call.Transfer
	l := m.call.Leg(id)
	if t == nil || l == nil || !l.Transfer {
		return
	}
	l.Transfer = false
	m.call.Transfer = nil
	if t.By != "" && m.call.Leg(t.By) != nil {
		m.do(action{Do: doProgress, Leg: t.By, Text: ari.TransferAnswered})
		m.do(action{Do: doHangup, Leg: t.By, N: causeNormal})
		m.drop(t.By)
	}
	m.tell("transferred", t.Leg)
	m.settle()
}

// transferGone is a leg of a transfer that ended before it was done. It tells if that was all there was to do.
func (m *machine) transferGone(id string, _ int) bool {
	t := m.call.Transfer
	if t == nil {
		return false
	}
	l := m.call.Leg(id)
	if l.Transfer && l.State == LegRinging {
		m.drop(id)
		for _, other := range m.call.Legs {
			if other.Transfer && other.State == LegRinging {
				return true // another of the target's phones still rings
			}
		}
		m.transferFailed()
		return true
	}
	if id == t.By { // many phones hang up once they have the 202: the transfer goes on without them
		t.By = ""
		m.drop(id)
		return true
	}
	return false
}

func (m *machine) transferFailed() {
	t := m.call.Transfer
	m.call.Transfer = nil
	if t.By != "" {
		m.do(action{Do: doProgress, Leg: t.By, Text: ari.TransferUnavailable})
	}
	m.tell("transfer failed", t.Leg)
	m.settle()
}
