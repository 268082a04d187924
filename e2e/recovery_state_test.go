//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
)

func readAll(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// generations counts the legs of a call that recovery brought back.
func (s *stricken) generations(t *testing.T, call string) (recovered, legs int) {
	t.Helper()
	var c struct {
		Legs []struct {
			State      string
			Generation int
		}
	}
	text, _ := s.api.Do("GET", "/v1/calls/"+call, nil)
	_ = json.Unmarshal(text, &c)
	for _, l := range c.Legs {
		if l.State == "up" && l.Generation > 0 {
			recovered++
		}
	}
	return recovered, len(c.Legs)
}

// nodeOf is the farm node of that name.
func (s *stricken) nodeOf(t *testing.T, id string) *farms.Node {
	t.Helper()
	for _, n := range s.Nodes {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("no node %s", id)
	return nil
}

// b52 kills the node of a conference in which one is muted, one moderates, one is on hold, and everything is recorded (F7).
func b52(t *testing.T, s *stricken) {
	alice, bob, carol, dave := newPerson(t, s.System, "alice", 500, nil), newPerson(t, s.System, "bob", 800, nil),
		newPerson(t, s.System, "carol", 1200, nil), newPerson(t, s.System, "dave", 1800, nil)
	s.steer(t, "drain") // all at one node
	for _, p := range []*person{alice, bob, carol, dave} {
		p.mustDial("7001")
	}
	s.steer(t, "up")
	room := s.api.Until("a conference of four", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 4 })[0]
	path := "/v1/calls/" + room.ID
	who := map[string]string{}
	for _, l := range room.Legs {
		who[l.Number] = l.ID
	}
	s.api.Must("POST", path+"/participants/"+who["alice"]+"/moderator", map[string]bool{"on": true})
	s.api.Must("POST", path+"/participants/"+who["bob"]+"/mute", map[string]bool{"on": true})
	s.api.Must("POST", path+"/participants/"+who["dave"]+"/hold", map[string]bool{"on": true})
	s.api.Must("POST", path+"/record", nil)
	alice.hears(800*time.Millisecond, []float64{1200}, []float64{500, 800, 1800})
	at := time.Now()
	s.nodeOf(t, room.Node).Kill()
	eventually(t, "all four are back", 10*time.Second, func() bool {
		recovered, legs := s.generations(t, room.ID)
		return recovered == 4 && legs == 4
	})
	t.Logf("4 of 4 in the conference again after %v", time.Since(at))
	alice.hears(900*time.Millisecond, []float64{1200}, []float64{500, 800, 1800})
	carol.hears(0, []float64{500}, []float64{800, 1200, 1800})
	bob.hears(0, []float64{500, 1200}, []float64{800})
	now := s.api.Until("the conference", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 4 })[0]
	if now.Node == room.Node || now.Conference != "7001" {
		t.Errorf("it was on %s and is %q on %s", room.Node, now.Conference, now.Node)
	}
	where := s.nodeOf(t, now.Node)
	var bridges []struct{ Channels []string }
	if err := where.Get("/bridges", &bridges); err != nil {
		t.Error(err)
	}
	most := 0
	for _, b := range bridges {
		most = max(most, len(b.Channels))
	}
	if most < 3 { // dave waits outside, on hold
		t.Errorf("at most %d are in one bridge: %+v", most, bridges)
	}
	after := map[string]bridgetest.Leg{}
	for _, l := range now.Legs {
		after[l.Number] = l
	}
	if !after["alice"].Moderator || !after["bob"].Muted || !after["dave"].Held || after["carol"].Muted {
		t.Errorf("moderator, mute and hold are %+v", now.Legs)
	}
	if text, status := s.api.Do("POST", path+"/mute-all", map[string]any{"on": true, "by": after["carol"].ID}); status != 403 {
		t.Errorf("carol is no moderator and mutes all: %d %s", status, text)
	}
	s.api.Must("POST", path+"/participants/"+after["bob"].ID+"/mute", map[string]bool{"on": false})
	s.api.Must("POST", path+"/participants/"+after["dave"].ID+"/hold", map[string]bool{"on": false})
	alice.hears(900*time.Millisecond, []float64{800, 1200, 1800}, []float64{500})
	dave.hears(0, []float64{500, 800, 1200}, []float64{1800})
	s.api.Must("POST", path+"/record", map[string]bool{"on": false})
	last := s.api.Calls()[0]
	if len(last.Recordings) == 0 {
		t.Fatalf("no recording in %+v", last)
	}
	pause(t, 300*time.Millisecond) // Asterisk closes the file
	wav := s.api.Must("GET", "/v1/recordings/"+last.Recordings[len(last.Recordings)-1], nil)
	if len(wav) < 8000 || string(wav[:4]) != "RIFF" {
		t.Errorf("what was recorded after the crash has %d bytes", len(wav))
	}
	s.api.Must("DELETE", "/v1/conferences/7001", nil)
	s.api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })
}

// b52Flow kills the node while a caller types: the digits before and after the crash are one number.
func b52Flow(t *testing.T, s *stricken) {
	alice := newPerson(t, s.System, "alice", 500, nil)
	s.api.Must("PUT", "/v1/flows/800", map[string]any{"actions": []map[string]any{
		{"do": "play", "media": []string{"sound:rtcedge/enter"}},
		{"do": "digits", "max": 4, "timeout": 15, "into": "code"},
		{"do": "branch", "if": "code", "value": "4711", "goto": "right", "else": "wrong"},
		{"do": "hangup", "label": "wrong", "cause": 21},
		{"do": "conference_join", "label": "right", "name": "7005"},
	}})
	call := alice.mustDial("800")
	defer func() { _ = call.Hangup(t.Context()) }()
	type flow struct {
		ID, Node, Conference string
		Flow                 *struct {
			Step  int
			Phase string
		}
		Legs []struct{ Digits string }
	}
	state := func() flow {
		var all []flow
		_ = json.Unmarshal(s.api.Must("GET", "/v1/calls", nil), &all)
		if len(all) != 1 {
			return flow{}
		}
		return all[0]
	}
	eventually(t, "the flow waits for digits", 8*time.Second, func() bool { f := state().Flow; return f != nil && f.Phase == "digits" })
	if err := alice.media.SendDTMF("47"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two digits are in the record", 5*time.Second, func() bool { l := state().Legs; return len(l) == 1 && l[0].Digits == "47" })
	before := state()
	at := time.Now()
	s.nodeOf(t, before.Node).Kill()
	eventually(t, "the call is back", 10*time.Second, func() bool { n, _ := s.generations(t, before.ID); return n == 1 })
	t.Logf("the flow's call is back after %v", time.Since(at))
	if now := state(); now.Flow == nil || now.Flow.Step != before.Flow.Step || len(now.Legs) != 1 || now.Legs[0].Digits != "47" {
		t.Errorf("the flow was at %+v with %+v and is at %+v with %+v", before.Flow, before.Legs, now.Flow, now.Legs)
	}
	pause(t, 500*time.Millisecond) // media follows the 200 OK
	if err := alice.media.SendDTMF("11"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "4711 leads into the conference", 8*time.Second, func() bool { return state().Conference == "7005" })
}
