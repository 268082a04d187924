package ari

import "time"

// States of a channel, as Asterisk writes them.
const (
	StateDown    = "Down"
	StateRing    = "Ring"    // an incoming call that is not answered
	StateRinging = "Ringing" // an outgoing call whose far end rings
	StateUp      = "Up"
)

// Technologies of a bridge.
const (
	TechnologySimple  = "simple_bridge" // two parties
	TechnologyNative  = "native_rtp"    // two parties, packets relayed as they are
	TechnologySoftmix = "softmix"       // any number, mixed
)

// Time is a point in time in Asterisk's form: milliseconds and a zone without a colon.
type Time struct{ time.Time }

// timeLayout is ast_json_timeval's.
const timeLayout = `"2006-01-02T15:04:05.000-0700"`

// MarshalJSON writes the time as Asterisk does.
func (t Time) MarshalJSON() ([]byte, error) { return []byte(t.Format(timeLayout)), nil }

// UnmarshalJSON reads a time as Asterisk writes it.
func (t *Time) UnmarshalJSON(b []byte) error {
	v, err := time.Parse(timeLayout, string(b))
	t.Time = v
	return err
}

// CallerID is a party's name and number.
type CallerID struct {
	Name   string `json:"name"`
	Number string `json:"number"`
}

// DialplanCEP is the place of a channel in the dialplan. Exten is the number that was dialled.
type DialplanCEP struct {
	Context  string `json:"context"`
	Exten    string `json:"exten"`
	Priority int64  `json:"priority"`
	AppName  string `json:"app_name"`
	AppData  string `json:"app_data"`
}

// Channel is one leg of a call. ProtocolID is the SIP Call-ID: the key that joins a channel to captured messages.
type Channel struct {
	ID           string      `json:"id"`
	ProtocolID   string      `json:"protocol_id"`
	Name         string      `json:"name"`
	State        string      `json:"state"`
	Caller       CallerID    `json:"caller"`
	Connected    CallerID    `json:"connected"`
	AccountCode  string      `json:"accountcode"`
	Dialplan     DialplanCEP `json:"dialplan"`
	CreationTime Time        `json:"creationtime"`
	Language     string      `json:"language"`

	// ChannelVars is filled for external media only: UNICASTRTP_LOCAL_ADDRESS and UNICASTRTP_LOCAL_PORT.
	ChannelVars map[string]string `json:"channelvars,omitempty"`
}

// Bridge is what joins channels: two parties of a call, or a conference.
type Bridge struct {
	ID           string   `json:"id"`
	Technology   string   `json:"technology"`
	BridgeType   string   `json:"bridge_type"`
	BridgeClass  string   `json:"bridge_class"`
	Creator      string   `json:"creator"`
	Name         string   `json:"name"`
	Channels     []string `json:"channels"`
	CreationTime Time     `json:"creationtime"`
	VideoMode    string   `json:"video_mode"`
}

// Endpoint is a peer that can be called: online while at least one contact is registered and not known to be unreachable.
type Endpoint struct {
	Technology string   `json:"technology"`
	Resource   string   `json:"resource"`
	State      string   `json:"state"`
	ChannelIDs []string `json:"channel_ids"`
}

// States of an endpoint.
const (
	EndpointOnline  = "online"
	EndpointOffline = "offline"
)

// AsteriskInfo tells what answers: GET /asterisk/info.
type AsteriskInfo struct {
	Build  BuildInfo  `json:"build"`
	System SystemInfo `json:"system"`
	Config ConfigInfo `json:"config"`
	Status StatusInfo `json:"status"`
}

// BuildInfo is how the program was built.
type BuildInfo struct {
	OS      string `json:"os"`
	Kernel  string `json:"kernel"`
	Options string `json:"options"`
	Machine string `json:"machine"`
	Date    string `json:"date"`
	User    string `json:"user"`
}

// SystemInfo names the program's version and the node. EntityID tells the nodes of a farm apart.
type SystemInfo struct {
	Version  string `json:"version"`
	EntityID string `json:"entity_id"`
}

// ConfigInfo is what the program was configured with. MaxChannels 0 is left out: no limit.
type ConfigInfo struct {
	Name            string `json:"name"`
	DefaultLanguage string `json:"default_language"`
	MaxChannels     int64  `json:"max_channels,omitempty"`
	SetID           SetID  `json:"setid"`
}

// SetID is the identity that the program runs with.
type SetID struct {
	User  string `json:"user"`
	Group string `json:"group"`
}

// StatusInfo tells since when the program runs.
type StatusInfo struct {
	StartupTime    Time `json:"startup_time"`
	LastReloadTime Time `json:"last_reload_time"`
}

// Playback is a sound that is played to a channel or a bridge.
type Playback struct {
	ID           string `json:"id"`
	MediaURI     string `json:"media_uri"`
	NextMediaURI string `json:"next_media_uri,omitempty"`
	TargetURI    string `json:"target_uri"` // channel:ID or bridge:ID
	Language     string `json:"language"`
	State        string `json:"state"`
}

// States of a playback.
const (
	PlaybackQueued  = "queued"
	PlaybackPlaying = "playing"
	PlaybackPaused  = "paused"
	PlaybackDone    = "done"
	PlaybackFailed  = "failed"
)

// LiveRecording is a recording that is being made. Durations are seconds, known when it has ended.
type LiveRecording struct {
	Name            string `json:"name"`
	Format          string `json:"format"`
	TargetURI       string `json:"target_uri"`
	State           string `json:"state"`
	Duration        int64  `json:"duration,omitempty"`
	TalkingDuration int64  `json:"talking_duration,omitempty"`
	SilenceDuration int64  `json:"silence_duration,omitempty"`
	Cause           string `json:"cause,omitempty"`
}

// States of a live recording.
const (
	RecordingQueued    = "queued"
	RecordingRecording = "recording"
	RecordingPaused    = "paused"
	RecordingDone      = "done"
	RecordingFailedNow = "failed"
	RecordingCanceled  = "canceled"
)

// StoredRecording is a recording that can be fetched.
type StoredRecording struct {
	Name   string `json:"name"`
	Format string `json:"format"`
}

// Application is a Stasis application with what it is subscribed to.
type Application struct {
	Name        string   `json:"name"`
	ChannelIDs  []string `json:"channel_ids"`
	BridgeIDs   []string `json:"bridge_ids"`
	EndpointIDs []string `json:"endpoint_ids"`
	DeviceNames []string `json:"device_names"`

	EventsAllowed    []EventFilter `json:"events_allowed"`
	EventsDisallowed []EventFilter `json:"events_disallowed"`
}

// EventFilter names an event type.
type EventFilter struct {
	Type string `json:"type"`
}

// Variable is the value of a channel's or a global variable.
type Variable struct {
	Value string `json:"value"`
}

// ReferTo is where a transfer shall go: a user part for a blind one, the dialog of another channel for an attended one.
type ReferTo struct {
	RequestedDestination RequiredDestination `json:"requested_destination"`
	DestinationChannel   *Channel            `json:"destination_channel,omitempty"`
	ConnectedChannel     *Channel            `json:"connected_channel,omitempty"`
	Bridge               *Bridge             `json:"bridge,omitempty"`
}

// RequiredDestination is the Refer-To as Asterisk understood it. ProtocolID is the Call-ID of a Replaces parameter; only one of the two
// is filled.
type RequiredDestination struct {
	ProtocolID  string       `json:"protocol_id,omitempty"`
	Destination string       `json:"destination,omitempty"`
	Parameters  []ReferParam `json:"additional_protocol_params,omitempty"`
}

// ReferParam is one more parameter of a Refer-To (from, to).
type ReferParam struct {
	Name  string `json:"parameter_name"`
	Value string `json:"parameter_value"`
}

// ReferredBy is who asks for a transfer.
type ReferredBy struct {
	SourceChannel    Channel  `json:"source_channel"`
	ConnectedChannel *Channel `json:"connected_channel,omitempty"`
	Bridge           *Bridge  `json:"bridge,omitempty"`
}

// ContactInfo is a registered address as ContactStatusChange tells it.
type ContactInfo struct {
	URI           string `json:"uri"`
	AOR           string `json:"aor"`
	ContactStatus string `json:"contact_status"`
	RoundtripUsec string `json:"roundtrip_usec,omitempty"`
}

// errorBody is the body of every answer that is not a success.
type errorBody struct {
	Message string `json:"message"`
}
