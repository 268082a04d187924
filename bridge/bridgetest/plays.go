package bridgetest

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rtcedge/sip/siptest"
)

// plays are all of them, in the order of the behaviours.
func plays() []Play {
	return []Play{
		{"B37 a third one joins", thirdJoins},
		{"B38 the end at one participant", endsAtOne},
		{"B39 ringback, busy, forwarded, absent, unknown", unanswered},
		{"B40 mute, hold, record, transfer, kick", controls},
		{"B40 transfers by the phone", transfers},
		{"B40 keys, hold, external media, a call becomes a conference", features},
		{"B41 events are lost", eventsLost},
		{"B42 a conference and its moderator", conference},
		{"B42 a conference moves to another node", conferenceMoves},
		{"B43 a flow", flow},
		{"B41 a bridge process ends", bridgeEnds},
	}
}

// Run runs plays one after the other: all, or those with one of the words in their names. A word without a play is a mistake.
func Run(t *testing.T, w World, words ...string) {
	t.Helper()
	for _, word := range words {
		if !slices.ContainsFunc(plays(), func(p Play) bool { return strings.Contains(p.Name, word) }) {
			t.Errorf("no play has the word %q in its name", word)
		}
	}
	for _, p := range plays() {
		if len(words) == 0 || slices.ContainsFunc(words, func(word string) bool { return strings.Contains(p.Name, word) }) {
			t.Run(p.Name, func(t *testing.T) { p.Run(t, w) })
		}
	}
}

// thirdJoins: a call of two is a bridge; the third one's coming sends nothing to the first two, who hear it.
func thirdJoins(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 3, nil)
	alice, bob, carol := p[0], p[1], p[2]
	a := alice.MustDial(bob.Name)
	b := bob.Taken()
	alice.Hears(tones()[1:2], tones()[:1])
	bob.Hears(tones()[:1], tones()[1:2])
	two := api.One(2)
	sdpA, sdpB := string(a.RemoteSDP()), string(b.RemoteSDP())
	api.Must("POST", "/v1/calls/"+two.ID+"/participants", map[string]string{"to": carol.Name})
	c := carol.Taken()
	alice.Hears(tones()[1:3], tones()[:1])
	bob.Hears([]float64{tones()[0], tones()[2]}, tones()[1:2])
	carol.Hears(tones()[:2], tones()[2:3])
	if string(a.RemoteSDP()) != sdpA || string(b.RemoteSDP()) != sdpB {
		t.Error("the third one's coming sent a re-INVITE to the first two")
	}
	api.One(3)
	hangUp(t, a)
	api.One(2) // bob and carol talk on
	hangUp(t, b)
	ended(t, "the last one", c)
	api.None()
}

// endsAtOne: a call ends at one participant, unless the API said that it stays; a conference stays until it is ended.
func endsAtOne(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 2, nil)
	alice, bob := p[0], p[1]
	a := alice.MustDial(bob.Name)
	hangUp(t, bob.Taken())
	ended(t, "alice", a)
	api.None()

	a = alice.MustDial(bob.Name)
	b := bob.Taken()
	call := api.One(2)
	api.Must("POST", "/v1/calls/"+call.ID+"/stay", on{On: true})
	hangUp(t, b)
	api.One(1)
	notEnded(t, "a caller whose call stays", a)
	api.Must("POST", "/v1/calls/"+call.ID+"/stay", on{})
	ended(t, "a caller whose call does not stay any more", a)
	api.None()

	a = alice.MustDial("7038")
	b = bob.MustDial("7038")
	api.Conference("7038", "", 2)
	hangUp(t, b)
	api.Conference("7038", "", 1)
	notEnded(t, "the last one of a conference", a)
	api.Must("DELETE", "/v1/conferences/7038", nil)
	ended(t, "the last one of a conference that was ended", a)
	api.None()
}

// unanswered: the caller has ringback, and learns why nobody comes; a phone that sends the caller on (302) is followed, not in a circle.
func unanswered(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	var mood atomic.Value
	var odd *Person
	p := people(t, w, 3, func(in *siptest.Incoming) bool {
		time.Sleep(200 * time.Millisecond) // it rings before it is rejected
		switch mood.Load() {
		case "busy":
			_ = in.Reject(486, "Busy Here")
		case "declines":
			_ = in.Reject(603, "Decline")
		case "circle":
			_ = in.Redirect(odd.Name)
		case "forward":
			_ = in.Redirect(w.Accounts[1].User)
		}
		return false
	})
	alice, bob := p[0], p[1]
	odd = p[2]
	for _, tc := range []struct {
		mood  string
		codes []int
	}{{"busy", []int{486}}, {"declines", []int{603, 403}}, {"circle", []int{486}}} {
		mood.Store(tc.mood)
		if _, err := alice.Dial(odd.Name); !slices.Contains(tc.codes, statusOf(err)) {
			t.Errorf("a callee that is %s: %v, want one of %v", tc.mood, err, tc.codes)
		}
		if !alice.Rang() {
			t.Errorf("%s: the caller had no 180 although the callee rang", tc.mood)
		}
	}
	mood.Store("forward")
	a := alice.MustDial(odd.Name)
	b := bob.Taken()
	alice.Hears(tones()[1:2], tones()[:1])
	bob.Hears(tones()[:1], tones()[1:2])
	hangUp(t, a)
	ended(t, "who was called in place of another", b)
	if _, err := alice.Dial(w.Accounts[3].User); statusOf(err) != 480 {
		t.Errorf("a callee that has not registered: %v, want 480", err)
	}
	if _, err := alice.Dial("nobody"); statusOf(err) != 404 {
		t.Errorf("a callee that is not there: %v, want 404", err)
	}
	api.None()
}

func hangUp(t *testing.T, c *siptest.Call) {
	t.Helper()
	if err := c.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
}

func notEnded(t *testing.T, who string, c *siptest.Call) {
	t.Helper()
	select {
	case <-c.Done():
		t.Errorf("%s is hung up", who)
	default:
	}
}
