package bridge

import (
	"time"

	"rtcedge/bridge/ari"
)

// machine decides for one call. It does no I/O and reads no clock: event + record -> record + actions.
type machine struct {
	rules Rules
	call  *Call
	now   time.Time
	acts  []action
	ended bool // nothing is left of the call
	seq   int  // for the ids of playbacks and recordings
}

func (m *machine) do(a action) { m.acts = append(m.acts, a) }

func (m *machine) tell(what, leg string) { m.do(action{Do: doTell, Leg: leg, Text: what}) }

// take returns the actions and forgets them.
func (m *machine) take() []action {
	acts := m.acts
	m.acts = nil
	return acts
}

// Inputs that are not events of ARI.
type (
	// resolved answers doResolve.
	resolved struct {
		number string
		purpose
		dest Destination
		err  error
	}
	// purpose is what a number was asked for.
	purpose struct {
		transferBy  string // leg whose REFER it is
		transferLeg string // leg to be transferred
		forwardLeg  string // place of a leg that answered 302
		flow        bool
		timeout     time.Duration
	}
	// failed is an action that could not be done.
	failed struct {
		action
		err error
	}
	// arrived is a leg that comes in: from the edge, from another call, or by recovery.
	arrived struct {
		leg     Leg
		replace string // leg that it takes the place of
		moved   bool   // its conference comes here from another node
	}
	// seen is what the node has, after a gap (B41).
	seen struct {
		node     NodeID
		crashed  bool // its epoch is another one
		channels map[string]ari.Channel
		bridges  map[string]ari.Bridge
	}
	// foreign is the record as somebody else wrote it.
	foreign struct{ call Call }
	// tick is the time that wake asked for.
	tick struct{}
)

// input runs one event. Functions below occur in the order of a call's life.
func (m *machine) input(in any) {
	switch in := in.(type) {
	case arrived:
		m.arrive(in)
	case depart:
		m.depart(in.on)
	case relocate:
		m.relocate(in)
	case relayed:
		m.relay()
	case settled:
		m.settled(in.old)
	case committed:
		m.committed()
	case resolved:
		m.resolve(in)
	case *ari.StasisStart:
		m.start(in)
	case *ari.Dial:
		m.dial(in)
	case *ari.ChannelStateChange:
		m.state(in.Channel)
	case *ari.ChannelDtmfReceived:
		m.digit(in.Channel.ID, in.Digit)
	case *ari.ChannelHold:
		m.held(in.Channel.ID, true)
	case *ari.ChannelUnhold:
		m.held(in.Channel.ID, false)
	case *ari.ChannelTransfer:
		m.refer(in)
	case *ari.PlaybackContinuing:
		m.flowNext(in.Playback)
	case *ari.PlaybackFinished:
		m.flowPlayed(in.Playback)
	case *ari.RecordingFinished:
		m.recorded(in.Recording)
	case *ari.RecordingFailed:
		m.recorded(in.Recording)
	case *ari.StasisEnd:
		if l := m.call.Leg(in.Channel.ID); l != nil && l.Waiting != waitProgram {
			m.gone(in.Channel.ID, 0)
		}
	case *ari.ChannelDestroyed:
		m.gone(in.Channel.ID, in.Cause)
	case failed:
		m.fail(in)
	case seen:
		m.repair(in)
	case foreign:
		m.merge(in.call)
	case tick:
		m.timers()
	}
	m.moveOn()
}

// held notes the phone's own hold. In a bridge of two Asterisk gives the other one music by itself.
func (m *machine) held(id string, on bool) {
	if l := m.call.Leg(id); l != nil && l.Held != on {
		l.Held = on
		m.tell(pick(on, "held", "resumed"), id)
	}
}

func pick(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}
