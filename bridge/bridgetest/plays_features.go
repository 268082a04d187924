package bridgetest

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/transcode/g711"
)

// features: echo; keys as events, and by the API; the phone's own hold with music for the other; external media that hears and is heard; the
// move of a running call into a conference, with its tones.
func features(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, nil)
	alice, bob, carol, dave := p[0], p[1], p[2], p[3]
	echo := alice.MustDial("600")
	alice.Hears(tones()[:1], nil)
	hangUp(t, echo)
	api.None()

	told := api.Listen()
	a := alice.MustDial(bob.Name)
	b := bob.Taken()
	call := api.One(2)
	alice.Hears(tones()[1:2], tones()[:1])
	path := "/v1/calls/" + call.ID

	alice.Press("4")
	waitFor(t, "the key as an event", func() bool { return told("dtmf", "4") })
	waitFor(t, "the key at bob's phone", func() bool { return bob.now().Report().DTMF() == "4" })
	api.Must("POST", api.LegOf(call, bob)+"/dtmf", map[string]string{"text": "9"})
	waitFor(t, "the API's key at bob's phone", func() bool { return strings.HasSuffix(bob.now().Report().DTMF(), "9") })

	reinvite := func(direction string) {
		t.Helper()
		offer := string(a.LocalSDP())
		for _, old := range []string{"a=sendrecv\r\n", "a=sendonly\r\n"} {
			offer = strings.ReplaceAll(offer, old, "")
		}
		if _, err := a.Reinvite(t.Context(), []byte(offer+"a="+direction+"\r\n")); err != nil { // the only stream is the last section
			t.Fatal(err)
		}
	}
	reinvite("sendonly")
	mark := bob.Mark()
	waitFor(t, "music for the other one", func() bool { return bob.heardAnything(mark, tones()[0]) })
	api.Until("alice holds", func(c []Call) bool {
		return len(c) == 1 && slices.ContainsFunc(c[0].Legs, func(l Leg) bool { return l.Number == alice.Name && l.Held })
	})
	reinvite("sendrecv")
	bob.Hears(tones()[:1], tones()[1:2])
	alice.Hears(tones()[1:2], nil)

	outside := newExternal(t, 2250)
	api.Must("POST", path+"/media", map[string]string{"to": outside.addr.String()})
	waitFor(t, "external media hears both", func() bool {
		heard := outside.recent()
		return len(heard) == 3200 && mediatest.Level(heard, 8000, tones()[0]) > audible && mediatest.Level(heard, 8000, tones()[1]) > audible
	})
	alice.Hears([]float64{tones()[1], 2250}, tones()[:1])
	bob.Hears([]float64{tones()[0], 2250}, tones()[1:2])

	api.Must("PUT", "/v1/conferences/7009", map[string]any{"tones": true})
	api.Must("POST", path+"/move", map[string]string{"to": "7009"})
	api.Conference("7009", "", 2)
	c := carol.MustDial("7009")
	carol.Hears(tones()[:2], tones()[2:3])
	alice.Hears(tones()[1:3], tones()[:1])
	bob.Hears([]float64{tones()[0], tones()[2]}, tones()[1:2])
	mark = carol.Mark()
	d := dave.MustDial("7009")
	waitFor(t, "the entry tone", func() bool { return carol.HeardSince(mark, 600, 680) })
	dave.Hears(tones()[:3], nil)
	mark = carol.Mark()
	hangUp(t, d)
	waitFor(t, "the exit tone", func() bool { return carol.HeardSince(mark, 600, 680) })
	api.Must("DELETE", "/v1/conferences/7009", nil)
	ended(t, "alice", a)
	ended(t, "bob", b)
	ended(t, "carol", c)
	api.None()
}

// Listen collects the API's events until the test ends; what it returns tells if one came.
func (c *Control) Listen() func(event, value string) bool {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.api.String()+"/v1/events", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	var mu sync.Mutex
	seen := map[string]bool{}
	go func() {
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var n struct{ Event, Value string }
			if text, is := strings.CutPrefix(lines.Text(), "data: "); is && json.Unmarshal([]byte(text), &n) == nil {
				mu.Lock()
				seen[n.Event+" "+n.Value] = true
				mu.Unlock()
			}
		}
	}()
	return func(event, value string) bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[event+" "+value]
	}
}

// external is a program at the other end of external media: RTP with PCMU, to where it comes from.
type external struct {
	addr netip.AddrPort

	mu    sync.Mutex // guards heard
	heard []int16
}

func newExternal(t *testing.T, hz float64) *external {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	e := &external{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	var work sync.WaitGroup
	work.Go(func() { e.run(conn, mediatest.Tone(hz, -20, time.Minute)(8000)) })
	t.Cleanup(func() {
		conn.Close()
		work.Wait()
	})
	return e
}

func (e *external) run(conn *net.UDPConn, tone []int16) {
	var b [1500]byte
	for at := 0; ; {
		n, from, err := conn.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return
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
		_, _ = conn.WriteToUDPAddrPort(b[:n], from)
	}
}

// recent is the last 400 ms.
func (e *external) recent() []int16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard[max(0, len(e.heard)-3200):])
}
