//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
	"rtcedge/transcode/g711"
)

// notice is one event of the API's stream.
type notice struct{ Event, Call, Leg, Value string }

// listen collects the API's events until the test ends.
func (c *control) listen() func(event, value string) bool {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.api.String()+"/v1/events", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	var mu sync.Mutex
	var seen []notice
	go func() {
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var n notice
			if text, is := strings.CutPrefix(lines.Text(), "data: "); is && json.Unmarshal([]byte(text), &n) == nil {
				mu.Lock()
				seen = append(seen, n)
				mu.Unlock()
			}
		}
	}()
	return func(event, value string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(seen, func(n notice) bool { return n.Event == event && n.Value == value })
	}
}

// TestB39HowCallsEndUnanswered: what the caller gets when the called phone is busy, declines, does not answer, sends it on (302), or is
// not there. The ringback comes before (B39).
func TestB39HowCallsEndUnanswered(t *testing.T) {
	system := startFarms(t, farms.Config{})
	rejects := func(name string, code int) *person {
		return newPerson(t, system, name, 300, func(in *siptest.Incoming) bool { _ = in.Reject(code, "No"); return false })
	}
	carol := newPerson(t, system, "carol", 1200, nil)
	silent := newPerson(t, system, "silent", 300, func(in *siptest.Incoming) bool { <-in.Canceled(); return false })
	forward := newPerson(t, system, "forward", 300, func(in *siptest.Incoming) bool { _ = in.Redirect("carol"); return false })
	circle := newPerson(t, system, "circle", 300, func(in *siptest.Incoming) bool { _ = in.Redirect("circle"); return false })
	abroad := newPerson(t, system, "abroad", 300, func(in *siptest.Incoming) bool { _ = in.Redirect("sip:00900123@192.0.2.1"); return false })
	people := []*person{carol, silent, forward, circle, abroad, rejects("busy", 486), rejects("declines", 603), rejects("everywhere", 600)}
	api := startBridge(t, system, people...)
	restartBridge(t, system, "--ring-timeout", "2s")
	api.Ready(len(system.Nodes))
	alice := newPerson(t, system, "alice", 500, nil)
	for _, tc := range []struct {
		number string
		codes  []int
	}{
		{"busy", []int{486}}, {"declines", []int{603, 403}}, {"everywhere", []int{486, 600}}, {"silent", []int{480, 408}}, {"nobody", []int{404}},
		{"circle", []int{486}}, {"abroad", []int{404}},
	} {
		start := time.Now()
		call, ring, err := alice.ringDial(tc.number)
		if err == nil {
			t.Errorf("%s answered", tc.number)
			_ = call.Hangup(t.Context())
		} else if !slices.Contains(tc.codes, statusOf(err)) {
			t.Errorf("%s: %v, want one of %v", tc.number, err, tc.codes)
		}
		if tc.number == "silent" && ring == 0 {
			t.Error("no 180 from a phone that rings")
		}
		answered := time.Since(start)
		api.settled()
		t.Logf("%s: %v after %v, no call left after %v", tc.number, err, answered.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	}
	call := alice.mustDial("forward")
	<-carol.calls
	alice.hearsSoon([]float64{1200}, []float64{500})
	carol.hearsSoon([]float64{500}, []float64{1200})
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.settled()
}

// TestB40FeaturesOverRealAsterisk: keys as events, the phone's own hold with music for the other, a recording of one leg, external media
// that hears and is heard, and the move of a running call into a conference with its tones.
func TestB40FeaturesOverRealAsterisk(t *testing.T) {
	system := startFarms(t, farms.Config{})
	alice, bob, carol := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil), newPerson(t, system, "carol", 1200, nil)
	api := startBridge(t, system, bob, carol)
	told := api.listen()
	call := alice.mustDial("bob")
	bobs := <-bob.calls
	alice.hearsSoon([]float64{800}, []float64{500})
	two := api.Until("a call of two", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 2 })[0]
	path, legA, legB := "/v1/calls/"+two.ID, two.Legs[0].ID, two.Legs[1].ID

	// Keys, told by the API and heard by the other phone.
	if err := alice.media.SendDTMF("4"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key as an event", 5*time.Second, func() bool { return told("dtmf", "4") })
	eventually(t, "the key at bob's phone", 5*time.Second, func() bool { return bob.report().DTMF() == "4" })
	api.Must("POST", path+"/participants/"+legB+"/dtmf", map[string]string{"text": "9"})
	eventually(t, "the API's key at bob's phone", 5*time.Second, func() bool { return strings.HasSuffix(bob.report().DTMF(), "9") })

	// Hold by the phone (sendonly) gives the other one music.
	reinvite := func(direction string) {
		t.Helper()
		offer := string(call.LocalSDP())
		for _, old := range []string{"a=sendrecv\r\n", "a=sendonly\r\n"} {
			offer = strings.ReplaceAll(offer, old, "")
		}
		offer += "a=" + direction + "\r\n" // the only stream is the last section
		if _, err := call.Reinvite(t.Context(), []byte(offer)); err != nil {
			t.Fatal(err)
		}
	}
	reinvite("sendonly")
	bob.hearsMusic()
	api.Until("alice holds", func(c []bridgetest.Call) bool {
		return len(c) == 1 && slices.ContainsFunc(c[0].Legs, func(l bridgetest.Leg) bool { return l.ID == legA && l.Held })
	})
	reinvite("sendrecv")
	bob.hearsSoon([]float64{500}, []float64{800})
	alice.hearsSoon([]float64{800}, nil)
	// Hold by the API.
	api.Must("POST", path+"/participants/"+legA+"/hold", map[string]bool{"on": true})
	alice.hearsMusic()
	api.Must("POST", path+"/participants/"+legA+"/hold", map[string]bool{"on": false})
	alice.hearsSoon([]float64{800}, []float64{500})

	// One leg is recorded, while both talk.
	var rec bridgetest.Call
	_ = json.Unmarshal(api.Must("POST", path+"/participants/"+legB+"/record", nil), &rec)
	time.Sleep(1500 * time.Millisecond) // of talk
	api.Must("POST", path+"/participants/"+legB+"/record", map[string]bool{"on": false})
	if len(rec.Recordings) == 1 {
		eventuallyWAV(t, api, rec.Recordings[0], []float64{800})
	} else {
		t.Errorf("recordings: %v", rec.Recordings)
	}
	alice.hearsSoon([]float64{800}, []float64{500})

	// External media hears both and is heard by both.
	sink := newExternal(t, 1700)
	api.Must("POST", path+"/media", map[string]string{"to": sink.addr.String()})
	hearing(t, "external media", sink.recent, []float64{500, 800}, []float64{1700})
	alice.hearsSoon([]float64{800, 1700}, []float64{500})
	bob.hearsSoon([]float64{500, 1700}, []float64{800})

	// The running call becomes a conference on the conference node.
	api.Must("PUT", "/v1/conferences/7009", map[string]any{"tones": true})
	api.Must("POST", path+"/move", map[string]string{"to": "7009"})
	api.Until("both in the conference", func(c []bridgetest.Call) bool {
		return slices.ContainsFunc(c, func(x bridgetest.Call) bool {
			return x.Conference == "7009" && len(x.Legs) == 2 && x.Node == "conference1"
		})
	})
	carol.mustDial("7009")
	carol.hearsSoon([]float64{500, 800}, []float64{1200})
	alice.hearsSoon([]float64{800, 1200}, []float64{500})
	bob.hearsSoon([]float64{500, 1200}, []float64{800})
	// Somebody enters, and leaves.
	dave := newPerson(t, system, "dave", 2000, nil)
	last := len(carol.report().Recording)
	left := dave.mustDial("7009")
	eventually(t, "the entry tone", 5*time.Second, func() bool { return sweeps(carol.report(), last) })
	last = len(carol.report().Recording)
	if err := left.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "the exit tone", 5*time.Second, func() bool { return sweeps(carol.report(), last) })
	api.Must("DELETE", "/v1/conferences/7009", nil)
	wait(t, "alice's BYE", call)
	wait(t, "bob's BYE", bobs)
	api.settled()
}

// sweeps tells if there is a tone of 600 Hz for at least 20 ms: the middle of the sweep from 400 to 800 Hz, which nobody here sends.
func sweeps(r mediatest.Report, from int) bool {
	window := r.Rate / 25
	for at := from; r.Rate > 0 && at+window <= len(r.Recording); at += window / 4 {
		if mediatest.Level(r.Recording[at:at+window], r.Rate, 600) > -30 {
			return true
		}
	}
	return false
}

// hearsMusic waits for a second of something loud that is none of the tones.
func (p *person) hearsMusic() {
	p.t.Helper()
	since := time.Time{}
	eventually(p.t, p.name+" hears music", 10*time.Second, func() bool {
		r := p.report()
		heard := r.Recording[max(0, len(r.Recording)-r.Rate*4/10):]
		music := len(heard) > 0 && mediatest.Power(heard) > -45 && mediatest.Level(heard, r.Rate, 500) < -28 && mediatest.Level(heard, r.Rate, 800) < -28
		switch {
		case !music:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		return music && time.Since(since) > time.Second
	})
}

// external is a program at the other end of external media: RTP with PCMU, to where it comes from.
type external struct {
	addr netip.AddrPort

	mu    sync.Mutex // guards heard
	heard []int16
}

func newExternal(t *testing.T, hz float64) *external {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(newHost(), 0)))
	if err != nil {
		t.Fatal(err)
	}
	e := &external{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	runUntilEnd(t, "external media", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		tone := mediatest.Tone(hz, -20, time.Minute)(8000)
		var b [1500]byte
		for at := 0; ; {
			n, from, err := conn.ReadFromUDPAddrPort(b[:])
			if err != nil {
				return err
			}
			if n < 12 || b[1]&0x7f != 0 {
				continue
			}
			pcm := make([]int16, n-12)
			g711.DecodeULaw(pcm, b[12:n])
			e.mu.Lock()
			e.heard = append(e.heard, pcm...)
			e.mu.Unlock()
			// Its header comes back with its times and numbers, and our sound.
			g711.EncodeULaw(b[12:n], tone[at:at+n-12])
			at = (at + n - 12) % (len(tone) - 1500)
			if _, err := conn.WriteToUDPAddrPort(b[:n], from); err != nil && ctx.Err() == nil {
				return err
			}
		}
	})
	return e
}

func (e *external) recent() ([]int16, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard[max(0, len(e.heard)-3200):]), 8000
}
