package bridgetest

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"rtcedge/sip/siptest"
)

// controls is what an operator does with a call of two: mute, hold with music, recordings of the bridge and of a leg with their files,
// a transfer that fails and is rolled back, one that works, and a kick.
func controls(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, func(in *siptest.Incoming) bool { _ = in.Reject(486, "Busy Here"); return false })
	alice, bob, carol, busy := p[0], p[1], p[2], p[3]
	a := alice.MustDial(bob.Name)
	b := bob.Taken()
	call := api.One(2)
	bobs := api.LegOf(call, bob)
	alice.Hears(tones()[1:2], nil)

	api.Must("POST", bobs+"/mute", on{On: true})
	alice.Hears(nil, tones()[1:2])
	api.Must("POST", bobs+"/mute", on{})
	alice.Hears(tones()[1:2], nil)

	mark := bob.Mark()
	api.Must("POST", bobs+"/hold", on{On: true})
	alice.Hears(nil, tones()[1:2])
	waitFor(t, "music for the one on hold", func() bool { return bob.heardAnything(mark, tones()[0]) })
	api.Must("POST", bobs+"/hold", on{})
	bob.Hears(tones()[:1], nil)

	api.Must("POST", "/v1/calls/"+call.ID+"/record", on{On: true})
	api.Must("POST", bobs+"/record", on{On: true})
	time.Sleep(1200 * time.Millisecond) // what is recorded takes its time
	api.Must("POST", bobs+"/record", on{})
	var rec Call
	_ = json.Unmarshal(api.Must("POST", "/v1/calls/"+call.ID+"/record", on{}), &rec)
	if len(rec.Recordings) != 2 {
		t.Errorf("recordings are %v, want one of the bridge and one of the leg", rec.Recordings)
	}
	for _, name := range rec.Recordings {
		waitFor(t, "the file of "+name, func() bool {
			wav, status := api.Do("GET", "/v1/recordings/"+name, nil)
			return status == 200 && len(wav) > 8000 && string(wav[:4]) == "RIFF"
		})
		api.Must("DELETE", "/v1/recordings/"+name, nil)
	}

	alices := api.LegOf(call, alice)
	api.Must("POST", alices+"/transfer", map[string]string{"to": busy.Name})
	api.One(2)
	alice.Hears(tones()[1:2], nil) // rolled back
	api.Must("POST", alices+"/transfer", map[string]string{"to": carol.Name})
	c := carol.Taken()
	ended(t, "the one who was left behind", b)
	alice.Hears(tones()[2:3], tones()[1:2])
	call = api.One(2)
	api.Must("DELETE", api.LegOf(call, carol), nil)
	ended(t, "the one who was kicked", c)
	ended(t, "the other one", a)
	api.None()
}

// eventsLost: one hangs up while the bridge cannot be told. That is made good when it can, and the next call is as any other.
func eventsLost(t *testing.T, w World) {
	if w.Cut == nil {
		t.Skip("NOT JUDGED here: this world cannot cut the bridge off; another test of the same play can")
	}
	api := NewControl(t, w.API, nil)
	p := people(t, w, 2, nil)
	alice, bob := p[0], p[1]
	a := alice.MustDial(bob.Name)
	b := bob.Taken()
	api.One(2)
	bob.Hears(tones()[:1], nil)
	before := api.nodes()
	restore := w.Cut()
	hangUp(t, b)
	time.Sleep(500 * time.Millisecond) // long enough for a bridge that hears of it to act
	notEnded(t, "alice, while nobody knows that bob has left,", a)
	restore()
	ended(t, "alice, whose peer left unheard,", a)
	api.None()
	// The connections to the nodes come back one by one, and a node without one can do nothing for its callers.
	waitFor(t, "all nodes", func() bool { return maps.Equal(api.nodes(), before) })
	next := alice.MustDial(bob.Name)
	bob.Taken()
	hangUp(t, next)
	hangUp(t, alice.MustDial("7009"))
	api.Must("DELETE", "/v1/conferences/7009", nil)
	api.None()
}

// bridgeEnds: another process goes on with a call, a conference and a flow where they are. Nobody hears of it.
func bridgeEnds(t *testing.T, w World) {
	if w.StopBridge == nil {
		t.Skip("NOT JUDGED here: this world has one bridge process; another test of the same play has two")
	}
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, nil)
	alice, bob, carol, dave := p[0], p[1], p[2], p[3]
	api.Must("PUT", "/v1/flows/804", map[string]any{"actions": []map[string]any{
		{"do": "digits", "max": 2, "timeout": 60, "into": "choice"}, {"do": "conference_join", "name": "7041"}}})
	a := alice.MustDial(bob.Name)
	b := bob.Taken()
	call := api.One(2)
	api.Must("POST", api.LegOf(call, bob)+"/mute", on{On: true})
	alice.Hears(nil, tones()[1:2])
	c := carol.MustDial("7041")
	conference := api.Conference("7041", "", 1)
	d := dave.MustDial("804")
	api.Until("it waits for keys", func(calls []Call) bool {
		for _, c := range calls {
			if c.Flow != nil && c.Flow.Phase == "digits" {
				return true
			}
		}
		return false
	})
	dave.Press("4")
	api.Until("the key is in the record", func(calls []Call) bool {
		for _, c := range calls {
			if c.Flow != nil && c.Flow.Digits == "4" {
				return true
			}
		}
		return false
	})
	time.Sleep(500 * time.Millisecond) // the record's way to the store

	mark := bob.Mark()
	api = NewControl(t, w.StopBridge(), nil)
	api.Until("the other process has all of it", func(calls []Call) bool {
		for _, c := range calls {
			if c.Owner != api.api.String() {
				return false
			}
		}
		return len(calls) >= 3
	})
	if gap := bob.without(mark, tones()[0]); gap > time.Second {
		t.Errorf("bob was without alice for %v", gap)
	}
	alice.Hears(nil, tones()[1:2]) // still muted
	api.Must("POST", api.LegOf(call, bob)+"/mute", on{})
	alice.Hears(tones()[1:2], tones()[:1])
	dave.Press("2") // the second of two
	if again := api.Conference("7041", conference.Node, 2); again.ID != conference.ID {
		t.Error("it is another conference")
	}
	carol.Hears(tones()[3:4], tones()[2:3])
	for _, x := range []*siptest.Call{a, b, c, d} {
		notEnded(t, "one of them", x)
	}
	hangUp(t, a)
	ended(t, "bob", b)
	api.Must("DELETE", "/v1/conferences/7041", nil)
	ended(t, "carol", c)
	ended(t, "dave", d)
	api.Must("DELETE", "/v1/flows/804", nil)
	api.None()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("not within %v: %s", patience, what)
}
