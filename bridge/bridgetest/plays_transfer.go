package bridgetest

import (
	"strings"
	"testing"

	"rtcedge/sip/siptest"
)

// transfers are those that a phone asks for (REFER): to one who is busy and to one who is not there, when the phone is told so and the two talk
// on; to one who answers; attended, by the phone's second call, wherever that is held; and with a second call that is over.
func transfers(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, func(in *siptest.Incoming) bool { _ = in.Reject(486, "Busy Here"); return false })
	alice, bob, carol, busy := p[0], p[1], p[2], p[3]
	b := bob.MustDial(alice.Name)
	a := alice.Taken()
	bob.Hears(tones()[:1], nil)
	for _, nobody := range []string{busy.Name, "nosuchuser"} {
		refer(t, b, nobody, nil)
		bob.told("SIP/2.0 503")
		alice.Hears(tones()[1:2], tones()[:1])
		bob.Hears(tones()[:1], tones()[1:2])
	}
	refer(t, b, carol.Name, nil)
	c := carol.Taken()
	ended(t, "the phone that transferred", b) // the NOTIFY with the 200 and the BYE overtake each other at the phone: the BYE is what counts
	alice.Hears(tones()[2:3], tones()[1:2])
	carol.Hears(tones()[:1], tones()[1:2])
	hangUp(t, c)
	ended(t, "alice", a)
	api.None()

	bob.forget()
	b = bob.MustDial(alice.Name)
	alice.Taken()
	over := bob.MustDial(carol.Name)
	hangUp(t, over)
	carol.Taken()
	api.One(2)
	refer(t, b, carol.Name, over)
	bob.told("SIP/2.0 503")
	hangUp(t, b)
	api.None()

	attended(t, w, alice, bob, carol, true)
	attended(t, w, alice, bob, carol, false)
}

// attended: bob talks to alice and to carol and leaves them to each other. The two calls are on one call node or on two.
func attended(t *testing.T, w World, alice, bob, carol *Person, same bool) {
	t.Helper()
	if !same && w.CallNodes < 2 {
		t.Log("NOT JUDGED here: attended transfer between call nodes; another test of the same play has two")
		return
	}
	api := NewControl(t, w.API, nil)
	first := bob.MustDial(alice.Name)
	a := alice.Taken()
	one := api.One(2)
	var second, c *siptest.Call
	for try := 0; ; try++ { // the edge puts a call on a node by the hash of its Call-ID
		second = bob.MustDial(carol.Name)
		c = carol.Taken()
		both := api.Until("both calls", func(calls []Call) bool { return len(calls) == 2 && up(calls[0], 2) && up(calls[1], 2) })
		if (both[0].Node == both[1].Node) == same || try == 12 {
			break
		}
		hangUp(t, second)
		ended(t, "carol", c)
		api.One(2)
	}
	carol.Hears(tones()[1:2], nil)
	refer(t, first, carol.Name, second)
	ended(t, "bob's first call", first)
	ended(t, "bob's second call", second)
	alice.Hears(tones()[2:3], tones()[1:2])
	carol.Hears(tones()[:1], tones()[1:2])
	notEnded(t, "alice", a)
	api.Until("two who talk", func(calls []Call) bool { return len(calls) > 0 && !stays(calls, bob.Name, one.ID) })
	hangUp(t, a)
	ended(t, "carol", c)
	api.None()
}

// stays tells if a party is in a call still.
func stays(calls []Call, party, call string) bool {
	for _, c := range calls {
		for _, l := range c.Legs {
			if c.ID == call && l.Number == party {
				return true
			}
		}
	}
	return false
}

func up(c Call, legs int) bool {
	for _, l := range c.Legs {
		if l.State != "up" {
			return false
		}
	}
	return len(c.Legs) == legs
}

func refer(t *testing.T, call *siptest.Call, target string, instead *siptest.Call) {
	t.Helper()
	if status, err := call.Refer(t.Context(), target, instead); err != nil || status != 202 {
		t.Fatalf("REFER to %s: %d, %v", target, status, err)
	}
}

// forget drops what the phone was told so far.
func (p *Person) forget() {
	for {
		select {
		case <-p.notices:
		default:
			return
		}
	}
}

// told is the end of a transfer as the phone hears of it.
func (p *Person) told(want string) {
	p.t.Helper()
	var seen []string
	waitFor(p.t, p.Name+" is told "+want, func() bool {
		select {
		case n := <-p.notices:
			seen = append(seen, n.State+" "+strings.TrimSpace(n.Body))
			if strings.HasPrefix(n.State, "terminated") {
				if !strings.HasPrefix(n.Body, want) {
					p.t.Errorf("%s is told %q, want %s", p.Name, seen, want)
				}
				return true
			}
		default:
		}
		return false
	})
}
