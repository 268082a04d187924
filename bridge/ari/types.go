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

// errorBody is the body of every answer that is not a success.
type errorBody struct {
	Message string `json:"message"`
}
