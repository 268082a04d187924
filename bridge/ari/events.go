package ari

import (
	"encoding/json"
	"fmt"
)

// Event is one message of the event stream. Each has a type of its own below; one that is not known here is an UnknownEvent.
type Event interface {
	Head() *EventHead
}

// EventHead is what all events have. AsteriskID is the node's entity id.
type EventHead struct {
	Type        string `json:"type"`
	Application string `json:"application"`
	Timestamp   Time   `json:"timestamp"`
	AsteriskID  string `json:"asterisk_id"`
}

// Head returns the common part.
func (h *EventHead) Head() *EventHead { return h }

// Events about channels.
type (
	// StasisStart hands a channel to the application.
	StasisStart struct {
		EventHead
		Args           []string `json:"args"`
		Channel        Channel  `json:"channel"`
		ReplaceChannel *Channel `json:"replace_channel,omitempty"`
	}
	// StasisEnd takes it away: hung up, moved into the dialplan, or replaced.
	StasisEnd struct {
		EventHead
		Channel Channel `json:"channel"`
	}
	// ChannelCreated is sent to subscribers only.
	ChannelCreated struct {
		EventHead
		Channel Channel `json:"channel"`
	}
	// ChannelStateChange tells of Ringing and Up.
	ChannelStateChange struct {
		EventHead
		Channel Channel `json:"channel"`
	}
	// ChannelDestroyed is a channel's end, with its Q.850 cause.
	ChannelDestroyed struct {
		EventHead
		Cause    int     `json:"cause"`
		CauseTxt string  `json:"cause_txt"`
		Channel  Channel `json:"channel"`
	}
	// ChannelHangupRequest is the wish to end: the far end's BYE or CANCEL.
	ChannelHangupRequest struct {
		EventHead
		Cause   int     `json:"cause,omitempty"`
		Soft    bool    `json:"soft,omitempty"`
		Channel Channel `json:"channel"`
	}
	// ChannelEnteredBridge tells that it hears the others now.
	ChannelEnteredBridge struct {
		EventHead
		Bridge  Bridge  `json:"bridge"`
		Channel Channel `json:"channel"`
	}
	// ChannelLeftBridge tells that it does no longer.
	ChannelLeftBridge struct {
		EventHead
		Bridge  Bridge  `json:"bridge"`
		Channel Channel `json:"channel"`
	}
	// ChannelConnectedLine tells that the other party's number changed.
	ChannelConnectedLine struct {
		EventHead
		Channel Channel `json:"channel"`
	}
	// ChannelVarset floods: the client switches it off by the event filter.
	ChannelVarset struct {
		EventHead
		Variable string   `json:"variable"`
		Value    string   `json:"value"`
		Channel  *Channel `json:"channel,omitempty"`
	}
	// ChannelDtmfReceived is one digit, when its key was let go.
	ChannelDtmfReceived struct {
		EventHead
		Digit      string  `json:"digit"`
		DurationMS int     `json:"duration_ms"`
		Channel    Channel `json:"channel"`
	}
	// ChannelHold is the phone's hold.
	ChannelHold struct {
		EventHead
		MusicClass string  `json:"musicclass,omitempty"`
		Channel    Channel `json:"channel"`
	}
	// ChannelUnhold is its end.
	ChannelUnhold struct {
		EventHead
		Channel Channel `json:"channel"`
	}
	// ChannelTransfer is a REFER that the application must answer (PJSIP_TRANSFER_HANDLING ari-only).
	ChannelTransfer struct {
		EventHead
		State      string     `json:"state,omitempty"`
		ReferTo    ReferTo    `json:"refer_to"`
		ReferredBy ReferredBy `json:"referred_by"`
	}
	// Dial tells how an originated channel fares: "", RINGING, ANSWER, BUSY, NOANSWER, CANCEL, CONGESTION, CHANUNAVAIL.
	Dial struct {
		EventHead
		DialStatus string   `json:"dialstatus"`
		DialString string   `json:"dialstring,omitempty"`
		Forward    string   `json:"forward,omitempty"`
		Forwarded  *Channel `json:"forwarded,omitempty"`
		Caller     *Channel `json:"caller,omitempty"`
		Peer       Channel  `json:"peer"`
	}
)

// Events about bridges.
type (
	// BridgeCreated is sent to subscribers only.
	BridgeCreated struct {
		EventHead
		Bridge Bridge `json:"bridge"`
	}
	// BridgeDestroyed is a bridge's end.
	BridgeDestroyed struct {
		EventHead
		Bridge Bridge `json:"bridge"`
	}
	// BridgeBlindTransfer tells of a REFER that Asterisk itself executed.
	BridgeBlindTransfer struct {
		EventHead
		Channel    Channel `json:"channel"`
		Transferee Channel `json:"transferee"`
		Exten      string  `json:"exten"`
		Context    string  `json:"context"`
		Result     string  `json:"result"`
		IsExternal bool    `json:"is_external"`
		Bridge     *Bridge `json:"bridge,omitempty"`
	}
	// BridgeAttendedTransfer is the same with Replaces.
	BridgeAttendedTransfer struct {
		EventHead
		Result          string `json:"result"`
		DestinationType string `json:"destination_type"`
		IsExternal      bool   `json:"is_external"`
	}
)

// Events about sounds, recordings, and the application itself.
type (
	// PlaybackStarted is the begin of a sound.
	PlaybackStarted struct {
		EventHead
		Playback Playback `json:"playback"`
	}
	// PlaybackContinuing is the next sound of a list.
	PlaybackContinuing struct {
		EventHead
		Playback Playback `json:"playback"`
	}
	// PlaybackFinished is the end, also of one that failed (Playback.State).
	PlaybackFinished struct {
		EventHead
		Playback Playback `json:"playback"`
	}
	// RecordingStarted is the begin of a recording.
	RecordingStarted struct {
		EventHead
		Recording LiveRecording `json:"recording"`
	}
	// RecordingFinished tells that the file is complete.
	RecordingFinished struct {
		EventHead
		Recording LiveRecording `json:"recording"`
	}
	// RecordingFailed tells that there is none.
	RecordingFailed struct {
		EventHead
		Recording LiveRecording `json:"recording"`
	}
	// ApplicationReplaced tells that somebody else took the application's events.
	ApplicationReplaced struct{ EventHead }
	// ApplicationRegistered is the first event on an outbound WebSocket.
	ApplicationRegistered struct{ EventHead }
	// ContactStatusChange tells of a registration.
	ContactStatusChange struct {
		EventHead
		ContactInfo ContactInfo `json:"contact_info"`
		Endpoint    Endpoint    `json:"endpoint"`
	}
	// ChannelUserevent is an event that a client of ARI sends.
	ChannelUserevent struct {
		EventHead
		EventName string `json:"eventname"`
	}
	// UnknownEvent is any other.
	UnknownEvent struct{ EventHead }
)

// newEvent returns an empty event of a type.
func newEvent(kind string) Event {
	switch kind {
	case "StasisStart":
		return new(StasisStart)
	case "StasisEnd":
		return new(StasisEnd)
	case "ChannelCreated":
		return new(ChannelCreated)
	case "ChannelStateChange":
		return new(ChannelStateChange)
	case "ChannelDestroyed":
		return new(ChannelDestroyed)
	case "ChannelHangupRequest":
		return new(ChannelHangupRequest)
	case "ChannelEnteredBridge":
		return new(ChannelEnteredBridge)
	case "ChannelLeftBridge":
		return new(ChannelLeftBridge)
	case "ChannelConnectedLine":
		return new(ChannelConnectedLine)
	case "ChannelVarset":
		return new(ChannelVarset)
	case "ChannelDtmfReceived":
		return new(ChannelDtmfReceived)
	case "ChannelHold":
		return new(ChannelHold)
	case "ChannelUnhold":
		return new(ChannelUnhold)
	case "ChannelTransfer":
		return new(ChannelTransfer)
	case "Dial":
		return new(Dial)
	case "BridgeCreated":
		return new(BridgeCreated)
	case "BridgeDestroyed":
		return new(BridgeDestroyed)
	case "BridgeBlindTransfer":
		return new(BridgeBlindTransfer)
	case "BridgeAttendedTransfer":
		return new(BridgeAttendedTransfer)
	case "PlaybackStarted":
		return new(PlaybackStarted)
	case "PlaybackContinuing":
		return new(PlaybackContinuing)
	case "PlaybackFinished":
		return new(PlaybackFinished)
	case "RecordingStarted":
		return new(RecordingStarted)
	case "RecordingFinished":
		return new(RecordingFinished)
	case "RecordingFailed":
		return new(RecordingFailed)
	case "ApplicationReplaced":
		return new(ApplicationReplaced)
	case "ApplicationRegistered":
		return new(ApplicationRegistered)
	case "ChannelUserevent":
		return new(ChannelUserevent)
	case "ContactStatusChange":
		return new(ContactStatusChange)
	}
	return new(UnknownEvent)
}

// ParseEvent reads one message of the event stream. The bytes are not kept.
func ParseEvent(b []byte) (Event, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	if head.Type == "" {
		return nil, fmt.Errorf("read event: no type")
	}
	ev := newEvent(head.Type)
	if err := json.Unmarshal(b, ev); err != nil {
		return nil, fmt.Errorf("read event %s: %w", head.Type, err)
	}
	return ev, nil
}
