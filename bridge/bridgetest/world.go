package bridgetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// Account is one that may register.
type Account struct{ User, Password string }

// World is a system under test. People take its accounts in turn: a play needs at most four.
type World struct {
	SIP      netip.AddrPort
	API      netip.AddrPort
	Accounts []Account
	// Cut takes the bridge's connections to the farms away until what it returns is called; nil where the system cannot.
	Cut func() (restore func())
	// Conferences are the names of the nodes that hold them.
	Conferences []string
	CallNodes   int // how many call nodes; 0 is one
	// StopBridge ends the process of API and returns the API of another one that has its nodes then; nil where there is none. The world is of no
	// more use after it.
	StopBridge func() netip.AddrPort
	// Explain tells what the system knows of its calls, for a test that fails; nil: nothing.
	Explain func() string
	// Freeze stops a node until what it returns is called; nil where the system cannot.
	Freeze func(node string) (thaw func())
}

// Play is one behaviour as phones and an operator see it.
type Play struct {
	Name string
	Run  func(t *testing.T, w World)
}

// Leg and Call are what the API shows, as far as plays look at it.
type (
	Leg struct {
		ID, Number, State, Role string
		Muted, Held, Moderator  bool
	}
	Call struct {
		ID, Node, Bridge, Conference, Owner, Number, From string
		Legs                                              []Leg
		Recordings                                        []string
		Locked                                            bool
		Flow                                              *struct {
			Step   int
			Phase  string
			Digits string
			Vars   map[string]string
		}
	}
)

// patience bounds each wait: a machine may be busy, but nothing here takes seconds by itself.
const patience = 10 * time.Second

// Control is the API of a running bridge.
type Control struct {
	t      *testing.T
	api    netip.AddrPort
	client *http.Client
}

// NewControl is the API at an address; a nil client is the default one.
func NewControl(t *testing.T, api netip.AddrPort, client *http.Client) *Control {
	if client == nil {
		client = http.DefaultClient
	}
	return &Control{t: t, api: api, client: client}
}

// Do sends a request and returns body and status; status 0 is no answer.
func (c *Control) Do(method, path string, in any) ([]byte, int) {
	c.t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			c.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.api.String()+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return []byte(err.Error()), 0
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return text, resp.StatusCode
}

// Must wants a success.
func (c *Control) Must(method, path string, in any) []byte {
	c.t.Helper()
	text, status := c.Do(method, path, in)
	if status/100 != 2 {
		c.t.Errorf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

// Want wants a refusal.
func (c *Control) Want(status int, method, path string, in any) {
	c.t.Helper()
	if text, got := c.Do(method, path, in); got != status {
		c.t.Errorf("%s %s: %d %s, want %d", method, path, got, text, status)
	}
}

// Calls lists them.
func (c *Control) Calls() []Call {
	c.t.Helper()
	var out []Call
	text, _ := c.Do("GET", "/v1/calls", nil)
	_ = json.Unmarshal(text, &out)
	return out
}

// Ready waits until the bridge controls so many nodes.
func (c *Control) Ready(nodes int) {
	c.t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		var all []struct{ State string }
		text, _ := c.Do("GET", "/v1/farms", nil)
		if json.Unmarshal(text, &all) == nil && len(all) >= nodes {
			return
		}
	}
	c.t.Fatalf("the bridge does not control %d nodes after %v", nodes, patience)
}

// nodes is what the API says of each node.
func (c *Control) nodes() (states map[string]string) {
	c.t.Helper()
	var all []struct{ ID, State string }
	text, _ := c.Do("GET", "/v1/farms", nil)
	_ = json.Unmarshal(text, &all)
	states = make(map[string]string)
	for _, n := range all {
		states[n.ID] = n.State
	}
	return states
}

// Recording wants a download that holds these tones, and removes it.
func (c *Control) Recording(name string, want []float64) {
	c.t.Helper()
	var missing string
	waitFor(c.t, "the file of "+name, func() bool { // it is closed after the answer
		wav, status := c.Do("GET", "/v1/recordings/"+name, nil)
		if status != http.StatusOK || len(wav) < 44+8000 || string(wav[:4]) != "RIFF" {
			return false
		}
		pcm := make([]int16, (len(wav)-44)/2)
		for i := range pcm {
			pcm[i] = int16(binary.LittleEndian.Uint16(wav[44+2*i:]))
		}
		// In some 400 ms all of them: over a whole file the far ends' clocks wander.
		for at := 0; at+3200 <= len(pcm); at += 1600 {
			missing = ""
			for _, hz := range want {
				if l := mediatest.Level(pcm[at:at+3200], 8000, hz); l < audible {
					missing += fmt.Sprintf(" %v Hz at %.0f dBFS only", hz, l)
				}
			}
			if missing == "" {
				break
			}
		}
		return true
	})
	if missing != "" {
		c.t.Errorf("the recording %s has%s", name, missing)
	}
	c.Must("DELETE", "/v1/recordings/"+name, nil)
}

// Until waits for a state of the calls; the API is asked, because that is what a client of it would do.
func (c *Control) Until(what string, ok func([]Call) bool) []Call {
	c.t.Helper()
	var last []Call
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if last = c.Calls(); ok(last) {
			return last
		}
	}
	c.t.Fatalf("not within %v: %s; calls are %+v", patience, what, last)
	return nil
}

// One waits for a single call with so many legs that are up.
func (c *Control) One(legs int) Call {
	c.t.Helper()
	return c.Until("one call with all legs up", func(calls []Call) bool {
		if len(calls) != 1 || len(calls[0].Legs) != legs {
			return false
		}
		for _, l := range calls[0].Legs {
			if l.State != "up" {
				return false
			}
		}
		return true
	})[0]
}

// None waits until nothing is left.
func (c *Control) None() {
	c.t.Helper()
	c.Until("no call", func(calls []Call) bool { return len(calls) == 0 })
}

// LegOf is the API's path of a party's leg.
func (c *Control) LegOf(call Call, p *Person) string {
	c.t.Helper()
	for _, l := range call.Legs {
		if l.Number == p.Name {
			return "/v1/calls/" + call.ID + "/participants/" + l.ID
		}
	}
	c.t.Fatalf("no leg of %s in %+v", p.Name, call.Legs)
	return ""
}

// ID is the leg's id of a party.
func (c *Control) ID(call Call, p *Person) string {
	c.t.Helper()
	for _, l := range call.Legs {
		if l.Number == p.Name {
			return l.ID
		}
	}
	c.t.Fatalf("no leg of %s in %+v", p.Name, call.Legs)
	return ""
}

func statusOf(err error) int {
	var refused *siptest.StatusError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return 0
}

type on struct {
	On bool   `json:"on"`
	By string `json:"by,omitempty"`
}
