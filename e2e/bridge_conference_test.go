//go:build e2e

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/sip/siptest"
)

// TestB42ConferenceOverRealAsterisk: each hears the others and never itself; a moderator's rights, a PIN by keys, the end for all (B38,
// B40, B42).
func TestB42ConferenceOverRealAsterisk(t *testing.T) {
	system := startFarms(t, farms.Config{})
	alice, bob, carol := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil), newPerson(t, system, "carol", 1200, nil)
	api := startBridge(t, system)
	a, b, c := alice.mustDial("7001"), bob.mustDial("7001"), carol.mustDial("7001")
	alice.hears(900*time.Millisecond, []float64{800, 1200}, []float64{500})
	bob.hears(0, []float64{500, 1200}, []float64{800})
	carol.hears(0, []float64{500, 800}, []float64{1200})

	three := api.Until("a conference of three", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 3 })[0]
	if three.Conference != "7001" || three.Node != "conference1" {
		t.Errorf("it is %q on %s", three.Conference, three.Node)
	}
	path := "/v1/calls/" + three.ID
	leg := func(name string) string {
		for _, l := range three.Legs {
			if l.Number == name {
				return l.ID
			}
		}
		t.Fatalf("no leg of %s", name)
		return ""
	}
	api.Must("POST", path+"/participants/"+leg("alice")+"/moderator", map[string]bool{"on": true})
	if text, status := api.Do("POST", path+"/mute-all", map[string]any{"on": true, "by": leg("bob")}); status != 403 {
		t.Errorf("mute all by one who is no moderator: %d %s", status, text)
	}
	api.Must("POST", path+"/mute-all", map[string]any{"on": true, "by": leg("alice")})
	carol.hears(800*time.Millisecond, []float64{500}, []float64{800})
	api.Must("POST", path+"/mute-all", map[string]any{"on": false, "by": leg("alice")})
	api.Must("POST", path+"/participants/"+leg("bob")+"/hold", map[string]bool{"on": true})
	carol.hears(800*time.Millisecond, []float64{500}, []float64{800})
	api.Must("POST", path+"/participants/"+leg("bob")+"/hold", map[string]bool{"on": false})
	carol.hears(800*time.Millisecond, []float64{500, 800}, nil)
	api.Must("POST", path+"/lock", nil)
	dave := newPerson(t, system, "dave", 2000, nil)
	if _, err := dave.dial("7001"); err == nil {
		t.Error("a locked conference let somebody in")
	}
	api.Must("DELETE", path+"/participants/"+leg("carol"), map[string]any{"by": leg("alice")})
	wait(t, "carol's BYE", c)
	api.Must("DELETE", "/v1/conferences/7001", nil)
	wait(t, "alice's BYE", a)
	wait(t, "bob's BYE", b)

	// A conference with a PIN, by the keys of the phone.
	api.Must("PUT", "/v1/conferences/7002", map[string]any{"pin": "4711", "moderator_pin": "99", "tones": true})
	alice.mustDial("7002")
	bob.mustDial("7002")
	time.Sleep(500 * time.Millisecond)
	alice.hears(0, nil, []float64{800})
	type digits interface{ SendDTMF(string) error }
	for p, pin := range map[*person]string{alice: "4711#", bob: "99#"} {
		if err := digits(p.media).SendDTMF(pin); err != nil {
			t.Fatal(err)
		}
	}
	api.Until("both in, bob as moderator", func(calls []bridgetest.Call) bool {
		mods, in := 0, 0
		for _, c := range calls {
			for _, l := range c.Legs {
				if c.Conference == "7002" && c.Bridge != "" {
					in++
				}
				if l.Moderator && l.Number == "bob" {
					mods++
				}
			}
		}
		return in == 2 && mods == 1
	})
	alice.hears(1500*time.Millisecond, []float64{800}, []float64{500})
}

func wait(t *testing.T, what string, c *siptest.Call) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Errorf("not within 5 s: %s", what)
	}
}

// TestB40TransferOverRealAsterisk: to one who is busy, which is rolled back, then to one who answers, and into a conference; echo as a
// number that the dialplan serves.
func TestB40TransferOverRealAsterisk(t *testing.T) {
	system := startFarms(t, farms.Config{})
	alice, bob, carol := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil), newPerson(t, system, "carol", 1200, nil)
	busy := newPerson(t, system, "busy", 300, func(in *siptest.Incoming) bool { _ = in.Reject(486, "Busy Here"); return false })
	api := startBridge(t, system, bob, carol, busy)

	echo := alice.mustDial("600")
	alice.hears(900*time.Millisecond, []float64{500}, nil)
	api.Until("the echo call", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 1 })
	if err := echo.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })

	call := alice.mustDial("bob")
	bobs := <-bob.calls
	two := api.Until("a call of two", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 2 })[0]
	path := "/v1/calls/" + two.ID + "/participants/" + two.Legs[0].ID
	api.Must("POST", path+"/transfer", map[string]string{"to": "busy"})
	time.Sleep(time.Second)
	alice.hears(0, []float64{800}, []float64{500})
	api.Until("still two", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 2 })

	api.Must("POST", path+"/transfer", map[string]string{"to": "carol"})
	<-carol.calls
	wait(t, "bob's BYE", bobs)
	alice.hears(900*time.Millisecond, []float64{1200}, []float64{500, 800})
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })
}

// TestB43FlowOverRealAsterisk: a menu by keys leads to a person; who is busy leads back into the flow.
func TestB43FlowOverRealAsterisk(t *testing.T) {
	system := startFarms(t, farms.Config{})
	alice, bob := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil)
	busy := newPerson(t, system, "busy", 300, func(in *siptest.Incoming) bool { _ = in.Reject(486, "Busy Here"); return false })
	api := startBridge(t, system, bob, busy)
	if text, status := api.Do("PUT", "/v1/flows/800", map[string]any{"actions": []map[string]any{{"do": "fly"}}}); status != 400 {
		t.Errorf("a bad flow: %d %s", status, text)
	}
	api.Must("PUT", "/v1/flows/800", map[string]any{"actions": []map[string]any{
		{"do": "play", "media": []string{"sound:rtcedge/enter"}},
		{"do": "say-tones", "text": "5"},
		{"do": "digits", "max": 2, "timeout": 8, "into": "choice"},
		{"do": "connect", "to": "busy", "into": "result"},
		{"do": "branch", "if": "result", "value": "busy", "goto": "next", "else": "end"},
		{"do": "connect", "label": "next", "to": "bob"},
		{"do": "hangup", "label": "end"},
	}})
	alice.mustDial("800")
	time.Sleep(1500 * time.Millisecond)
	var state []struct {
		Flow struct {
			Step  int
			Phase string
		}
	}
	_ = json.Unmarshal(api.Must("GET", "/v1/calls", nil), &state)
	if len(state) != 1 || state[0].Flow.Step != 2 || state[0].Flow.Phase != "digits" {
		t.Errorf("after the sounds: %+v", state)
	}
	if err := alice.media.SendDTMF("42"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-bob.calls:
	case <-time.After(8 * time.Second):
		t.Fatal("the flow did not connect to bob")
	}
	alice.hears(900*time.Millisecond, []float64{800}, []float64{500})
}
