package bridge

import "time"

// NodeID names a farm node: Asterisk's entityid.
type NodeID string

// App is the name of our Stasis application on every node.
const App = "rtcedge"

// Buckets of the store.
const (
	BucketNodes       = "nodes"       // Node, by its ID
	BucketCalls       = "calls"       // Call, by its ID
	BucketConferences = "conferences" // Conference, by its name
	BucketFlows       = "flows"       // Flow, by its number
)

// Roles of a node.
const (
	RoleCall       = "call"
	RoleConference = "conference"
	RoleRegistrar  = "registrar"
)

// States of a node.
const (
	NodeUp    = "up"
	NodeDrain = "drain" // no new calls and conferences
	NodeDown  = "down"  // no event stream
)

// Node is a farm node as the store knows it. All but ID and State is what the node told about itself.
type Node struct {
	ID    NodeID   `json:"id"`
	Roles []string `json:"roles"`
	SIP   string   `json:"sip"`   // udp:IP:PORT
	Edge  string   `json:"edge"`  // IP:PORT, the edge's internal address
	State string   `json:"state"` // NodeUp, ...
	Epoch string   `json:"epoch"` // startup_time: another one means that all its channels are gone
	Owner string   `json:"owner,omitempty"`
	ARI   string   `json:"ari,omitempty"` // http://IP:PORT, without the account

	// Fenced is recovery's word, whatever the State: the edges drop what the process of this epoch sends, so it gets no new calls (B54).
	Fenced bool `json:"fenced,omitempty"`
}

// SameStart compares two forms of a process's epoch: the record's, and ARI's own.
func SameStart(a, b string) bool {
	t, err1 := startTime(a)
	u, err2 := startTime(b)
	return a == b || err1 == nil && err2 == nil && t.Equal(u)
}

func startTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999-0700", text)
	}
	return t, err
}

// takes tells whether new calls may go to the node.
func (n *Node) takes() bool { return n.State == NodeUp && !n.Fenced }

// Programs: what a call is when it is not people in a bridge.
const (
	ProgramEcho  = "echo"  // the leg hears itself
	ProgramMusic = "music" // the leg hears music
	ProgramFlow  = "flow"  // Flow says what
)

// Call is a call or a conference: the record from which any bridge process can go on.
type Call struct {
	ID           string     `json:"id"`
	Node         NodeID     `json:"node"`
	Bridge       string     `json:"bridge,omitempty"`     // ARI bridge id; "" as long as there is none
	Conference   string     `json:"conference,omitempty"` // its name, if it is one
	Number       string     `json:"number,omitempty"`     // what the first leg dialled
	Legs         []Leg      `json:"legs"`
	Program      string     `json:"program,omitempty"`
	Flow         *FlowState `json:"flow,omitempty"`
	Recording    string     `json:"recording,omitempty"` // name of the running recording of the bridge
	Recordings   []string   `json:"recordings,omitempty"`
	Locked       bool       `json:"locked,omitempty"`    // nobody may enter
	MutedAll     bool       `json:"muted_all,omitempty"` // who enters is muted, moderators are not
	PIN          string     `json:"pin,omitempty"`
	ModeratorPIN string     `json:"moderator_pin,omitempty"`
	Tones        bool       `json:"tones,omitempty"` // entry and exit tones
	Stay         bool       `json:"stay,omitempty"`  // does not end at one participant (B38)
	MaxLegs      int        `json:"max_legs,omitempty"`
	Transfer     *Transfer  `json:"transfer,omitempty"`
	Forwards     int        `json:"forwards,omitempty"`  // 302 answers that were followed
	Trunk        string     `json:"trunk,omitempty"`     // conference on another node that this call of two leads to
	Leaving      bool       `json:"leaving,omitempty"`   // the conference is to go to another node: its own drains
	Moving       *Moving    `json:"moving,omitempty"`    // and is on its way there
	MoveAgain    time.Time  `json:"move_again,omitzero"` // not before, because it could not
	From         string     `json:"from,omitempty"`      // the conference comes here from that call, and is not held here yet
	Next         string     `json:"next,omitempty"`      // number that is called when the first leg is up
	LastLeg      int        `json:"last_leg,omitempty"`  // of the ids that were given
	Rung         bool       `json:"rung,omitempty"`      // the caller has ringback
	Cause        int        `json:"cause,omitempty"`     // best Q.850 cause of the legs that failed
	Empty        time.Time  `json:"empty,omitzero"`      // since then nobody is in the conference
	LostAt       time.Time  `json:"lost_at,omitzero"`    // since then a leg waits for recovery
	Created      time.Time  `json:"created"`
	Owner        string     `json:"owner,omitempty"` // the bridge process that controls it: IP:PORT of its API
}

// Roles of a leg: who placed it, as the farm sees it.
const (
	LegIn  = "in"  // the farm received the INVITE
	LegOut = "out" // the farm placed it
)

// States of a leg.
const (
	LegRinging = "ringing" // not answered yet
	LegUp      = "up"
	LegLost    = "lost" // its node is gone; recovery may bring it back
	LegGone    = "gone" // ended; recovery writes it where it gave up
)

// Leg is one channel of a call.
type Leg struct {
	ID        string `json:"id"` // ARI channel id now
	Node      NodeID `json:"node"`
	SIPCallID string `json:"sip_call_id"`
	Role      string `json:"role"`
	State     string `json:"state"`

	Number   string `json:"number,omitempty"` // the party's number
	Name     string `json:"name,omitempty"`
	URI      string `json:"uri,omitempty"`      // where a leg that the farm placed went to
	Route    string `json:"route,omitempty"`    // the Path of the contact, as Route
	Transfer bool   `json:"transfer,omitempty"` // it rings for a transfer
	Fork     string `json:"fork,omitempty"`     // legs with one value ring together: the first that answers stays

	Carry string `json:"carry,omitempty"` // leads that member to the conference's new node; nobody's participant
	Place string `json:"place,omitempty"` // leg of the former node that it goes on for

	Muted      bool      `json:"muted,omitempty"`
	Held       bool      `json:"held,omitempty"`
	Deaf       bool      `json:"deaf,omitempty"`
	Moderator  bool      `json:"moderator,omitempty"`
	Waiting    string    `json:"waiting,omitempty"` // why it is not in the bridge: pin, program, hold
	Digits     string    `json:"digits,omitempty"`  // typed so far where digits are waited for
	Tries      int       `json:"tries,omitempty"`
	Recording  string    `json:"recording,omitempty"` // name of the running recording of this leg
	External   string    `json:"external,omitempty"`  // IP:PORT of external media
	Answered   time.Time `json:"answered,omitzero"`
	Limit      time.Time `json:"limit,omitzero"` // it is hung up then
	Generation int       `json:"generation,omitempty"`
}

// Transfer is a transfer under way: what is needed to roll it back.
type Transfer struct {
	By       string `json:"by"`     // leg that sent the REFER; "" by the API
	Leg      string `json:"leg"`    // leg that is transferred
	Target   string `json:"target"` // leg that is called
	Number   string `json:"number"`
	Attended bool   `json:"attended,omitempty"`
}

// Conference is what is fixed about a conference while nobody is in it, too.
type Conference struct {
	Name         string `json:"name"`
	PIN          string `json:"pin,omitempty"`
	ModeratorPIN string `json:"moderator_pin,omitempty"`
	Tones        bool   `json:"tones,omitempty"`
	MaxLegs      int    `json:"max_legs,omitempty"`
	Locked       bool   `json:"locked,omitempty"`
	Node         NodeID `json:"node,omitempty"` // where it is held now
}

// FlowState is the position in a flow. The actions are kept with it: a flow that is changed while a call runs does not change that call.
type FlowState struct {
	Name     string            `json:"name"`
	Leg      string            `json:"leg"`
	Step     int               `json:"step"`            // index of the action that runs
	Phase    string            `json:"phase,omitempty"` // within the action
	Vars     map[string]string `json:"vars,omitempty"`
	Digits   string            `json:"digits,omitempty"` // so far
	Playback string            `json:"playback,omitempty"`
	Sound    int               `json:"sound,omitempty"`    // index of the one that plays, of several in one action
	Started  time.Time         `json:"started,omitzero"`   // of the sound: its position after a crash
	Position int64             `json:"position,omitempty"` // ms into the sound at Started
	Deadline time.Time         `json:"deadline,omitzero"`
	Steps    int               `json:"steps,omitempty"` // done so far, for the limit
	Actions  []FlowAction      `json:"actions"`
}

// Leg returns the leg of an ARI channel, or nil.
func (c *Call) Leg(id string) *Leg {
	for i := range c.Legs {
		if c.Legs[i].ID == id {
			return &c.Legs[i]
		}
	}
	return nil
}

// Up counts the legs that are answered, also those that wait for recovery.
func (c *Call) Up() int {
	n := 0
	for i := range c.Legs {
		if s := c.Legs[i].State; s == LegUp || s == LegLost {
			n++
		}
	}
	return n
}
