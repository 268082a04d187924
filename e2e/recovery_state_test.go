//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/media/mediatest"
	"rtcedge/transcode/g711"
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

// local has the first one enter a conference whose home is the node where he arrives, remote one where a call between the nodes leads to it.
func (s *stricken) local(t *testing.T, first *person) string  { return s.confer(t, first, 1) }
func (s *stricken) remote(t *testing.T, first *person) string { return s.confer(t, first, 2) }

func (s *stricken) confer(t *testing.T, first *person, calls int) (name string) {
	t.Helper()
	for number := 7001; number < 7010; number++ {
		name = strconv.Itoa(number)
		call := first.mustDial(name)
		got := s.api.Until("the conference "+name, func(c []bridgetest.Call) bool {
			return slices.ContainsFunc(c, func(c bridgetest.Call) bool {
				return c.Conference == name && len(c.Legs) == 1 && c.Legs[0].State == "up"
			})
		})
		if len(got) == calls {
			return name
		}
		if err := call.Hangup(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.api.Must("DELETE", "/v1/conferences/"+name, nil)
		s.api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })
	}
	t.Fatalf("no conference takes %d calls", calls)
	return ""
}

// b52 kills the node of a conference in which one is muted, one moderates, one is on hold, and everything is recorded (F7).
func b52(t *testing.T, s *stricken) {
	alice, bob, carol, dave := newPerson(t, s.System, "alice", 500, nil), newPerson(t, s.System, "bob", 800, nil),
		newPerson(t, s.System, "carol", 1200, nil), newPerson(t, s.System, "dave", 1800, nil)
	s.steer(t, "drain") // all at one node
	name := s.local(t, alice)
	for _, p := range []*person{bob, carol, dave} {
		p.mustDial(name)
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
	if now.Node == room.Node || now.Conference != name {
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
	s.api.Must("DELETE", "/v1/conferences/"+name, nil)
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
		ID, Node string
		Flow     *struct {
			Step          int
			Phase, Digits string
		}
	}
	state := func() flow {
		var all []flow
		_ = json.Unmarshal(s.api.Must("GET", "/v1/calls", nil), &all)
		if i := slices.IndexFunc(all, func(f flow) bool { return f.Flow != nil }); i >= 0 {
			return all[i]
		}
		return flow{}
	}
	eventually(t, "the flow waits for digits", 8*time.Second, func() bool { f := state().Flow; return f != nil && f.Phase == "digits" })
	if err := alice.media.SendDTMF("47"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two digits are in the record", 5*time.Second, func() bool { f := state().Flow; return f != nil && f.Digits == "47" })
	before := state()
	at := time.Now()
	s.nodeOf(t, before.Node).Kill()
	eventually(t, "the call is back", 10*time.Second, func() bool { n, _ := s.generations(t, before.ID); return n == 1 })
	t.Logf("the flow's call is back after %v", time.Since(at))
	if now := state(); now.Flow == nil || *now.Flow != *before.Flow {
		t.Errorf("the flow was at %+v and is at %+v", before.Flow, now.Flow)
	}
	pause(t, 500*time.Millisecond) // media follows the 200 OK
	if err := alice.media.SendDTMF("11"); err != nil {
		t.Fatal(err)
	}
	// The conference is on a conference node: the call on the call node leads to it.
	s.api.Until("4711 leads into the conference", func(c []bridgetest.Call) bool {
		return slices.ContainsFunc(c, func(c bridgetest.Call) bool {
			return c.Conference == "7005" && len(c.Legs) == 1 && c.Legs[0].State == "up"
		})
	})
}

// b52Playback kills the node in the middle of the second sound of a play, of three tones, two seconds each: it goes on in the middle of it, and the flow goes
// on after it.
func b52Playback(t *testing.T, s *stricken) {
	const each = 2 * time.Second
	scale := []float64{600, 1000, 1400}
	var sound []byte
	for _, hz := range scale {
		tone := mediatest.Tone(hz, -20, each)(8000)
		pcm := make([]byte, len(tone))
		g711.EncodeULaw(pcm, tone)
		sound = append(sound, pcm...)
	}
	for _, n := range append(s.Farm("call"), s.Farm("conference")...) {
		if err := os.WriteFile(filepath.Join(n.Dir, "data/sounds/rtcedge/scale.ulaw"), sound, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	alice := newPerson(t, s.System, "alice", 500, nil)
	s.api.Must("PUT", "/v1/flows/801", map[string]any{"actions": []map[string]any{
		{"do": "play", "media": []string{"sound:rtcedge/enter", "sound:rtcedge/scale"}},
		{"do": "digits", "max": 4, "timeout": 15, "into": "code"},
	}})
	call := alice.mustDial("801")
	type flow struct {
		ID, Node string
		Flow     *struct {
			Step, Sound int
			Started     time.Time
			Position    int64
		}
	}
	state := func() flow {
		var all []flow
		_ = json.Unmarshal(s.api.Must("GET", "/v1/calls", nil), &all)
		if i := slices.IndexFunc(all, func(f flow) bool { return f.Flow != nil }); i >= 0 {
			return all[i]
		}
		return flow{}
	}
	alice.hears(0, scale[1:2], []float64{scale[0], scale[2]})
	before := state()
	if before.Flow == nil || before.Flow.Step != 0 || before.Flow.Sound != 1 {
		t.Fatalf("the flow is at %+v", before.Flow)
	}
	heard := len(alice.report().Recording)
	at := time.Now()
	s.nodeOf(t, before.Node).Kill()
	eventually(t, "the call is back", 10*time.Second, func() bool { n, _ := s.generations(t, before.ID); return n == 1 })
	gap := time.Since(at)
	now := state()
	switch {
	case now.Flow == nil || now.Flow.Step != 0: // the machine took as long as the sound
		t.Logf("NOT JUDGED: the call was back after %v, and the flow is at %+v", gap, now.Flow)
	default:
		// Where it went on is where it would have been.
		want := before.Flow.Position + now.Flow.Started.Sub(before.Flow.Started).Milliseconds()
		if d := now.Flow.Position - want; d < -100 || d > 100 || now.Flow.Position < each.Milliseconds() {
			t.Errorf("it plays from %d ms on, want %d", now.Flow.Position, want)
		}
		alice.hears(0, scale[2:], scale[:2])
	}
	eventually(t, "the flow goes on after the sound", 3*each, func() bool { f := state().Flow; return f != nil && f.Step == 1 })
	took := time.Since(before.Flow.Started)
	t.Logf("back after %v, at %d ms; after the sound of %v the flow went on %v after its beginning", gap, now.Flow.Position, 3*each, took)
	r := alice.report()
	for from := heard; from+r.Rate/5 <= len(r.Recording); from += r.Rate / 5 {
		if l := mediatest.Level(r.Recording[from:from+r.Rate/5], r.Rate, scale[0]); l > -35 {
			t.Errorf("the sound began anew: %.0f Hz at %.0f dBFS %.1f s after the crash", scale[0], l, float64(from-heard)/float64(r.Rate))
			break
		}
	}
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
}
