package bridge

// FlowAction is one step of a flow. Do says which; the other fields belong to it.
type FlowAction struct {
	Do    string `json:"do" yaml:"do"`
	Label string `json:"label,omitempty" yaml:"label,omitempty"` // a name that branch can go to

	Media   []string `json:"media,omitempty" yaml:"media,omitempty"`     // play: sound:NAME, recording:NAME
	Text    string   `json:"text,omitempty" yaml:"text,omitempty"`       // say-tones: digits, played as DTMF tones
	Max     int      `json:"max,omitempty" yaml:"max,omitempty"`         // digits: so many end it
	End     string   `json:"end,omitempty" yaml:"end,omitempty"`         // digits: this key ends it
	Timeout float64  `json:"timeout,omitempty" yaml:"timeout,omitempty"` // seconds: digits, connect
	Into    string   `json:"into,omitempty" yaml:"into,omitempty"`       // digits, connect, record: variable that gets the result
	To      string   `json:"to,omitempty" yaml:"to,omitempty"`           // connect, transfer: number or SIP URI
	Name    string   `json:"name,omitempty" yaml:"name,omitempty"`       // conference_join, record, set: name
	Value   string   `json:"value,omitempty" yaml:"value,omitempty"`     // set: value; branch: compared with
	If      string   `json:"if,omitempty" yaml:"if,omitempty"`           // branch: variable
	Goto    string   `json:"goto,omitempty" yaml:"goto,omitempty"`       // branch: label
	Else    string   `json:"else,omitempty" yaml:"else,omitempty"`       // branch: label otherwise
	Seconds float64  `json:"seconds,omitempty" yaml:"seconds,omitempty"` // record: longest
	Stop    bool     `json:"stop,omitempty" yaml:"stop,omitempty"`       // record: end it
	Cause   int      `json:"cause,omitempty" yaml:"cause,omitempty"`     // hangup: Q.850
	Mod     bool     `json:"moderator,omitempty" yaml:"moderator,omitempty"`
}
