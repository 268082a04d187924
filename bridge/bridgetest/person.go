package bridgetest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// Person is a registered phone with its media. It answers what comes in unless it was told otherwise.
type Person struct {
	Name  string
	Calls chan *siptest.Call // that it has answered

	t       *testing.T
	explain func() string
	notices chan siptest.Notice // of transfers that it asked for
	ua      *siptest.UA
	audio   func(rate int) []int16
	runs    sync.WaitGroup

	mu    sync.Mutex
	media *mediatest.Peer
	rang  bool // of the last call that was dialled
}

// tones of the people in turn: no one is a harmonic of another, nor near the sounds of the farms.
func tones() []float64 { return []float64{500, 810, 1230, 1710} }

// people registers so many phones. answer, if there is one, decides for the last of them what becomes of a call: false is that it was
// refused.
func people(t *testing.T, w World, n int, answer func(*siptest.Incoming) bool) []*Person {
	t.Helper()
	out := make([]*Person, n)
	for i := range out {
		var decide func(*siptest.Incoming) bool
		if i == n-1 {
			decide = answer
		}
		out[i] = newPerson(t, w, w.Accounts[i], tones()[i], decide)
	}
	return out
}

func newPerson(t *testing.T, w World, a Account, tone float64, answer func(*siptest.Incoming) bool) *Person {
	t.Helper()
	p := &Person{Name: a.User, t: t, explain: w.Explain, Calls: make(chan *siptest.Call, 8), audio: mediatest.Once(mediatest.Tone(tone, -20, time.Minute)), notices: make(chan siptest.Notice, 64)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it unregisters when the test is over
	ua, err := siptest.New(siptest.Config{User: a.User, Password: a.Password, Proxy: w.SIP, OnNotice: func(_ *siptest.Call, n siptest.Notice) { p.notices <- n }, OnCall: func(ctx context.Context, in *siptest.Incoming) {
		_ = in.Ring()
		if answer != nil && !answer(in) {
			return
		}
		peer := p.peer()
		sdp, err := peer.Answer(in.Offer())
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			return
		}
		call, err := in.Answer(ctx, sdp)
		if err != nil {
			t.Errorf("%s: answer: %v", p.Name, err)
			return
		}
		p.talk(ctx, peer)
		p.Calls <- call
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.ua = ua
	p.runs.Go(func() { _ = ua.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		p.runs.Wait()
	})
	if _, err := ua.Register(t.Context(), time.Minute); err != nil {
		t.Fatalf("%s registers: %v", a.User, err)
	}
	t.Cleanup(func() {
		gone, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		_ = ua.Unregister(gone)
	})
	return p
}

func (p *Person) peer() *mediatest.Peer {
	peer, err := mediatest.New(mediatest.Config{Addr: netip.MustParseAddr("127.0.0.1"), Audio: p.audio, Tail: time.Millisecond, RTCPInterval: -1})
	if err != nil {
		p.t.Fatal(err)
	}
	return peer
}

func (p *Person) talk(ctx context.Context, peer *mediatest.Peer) {
	p.mu.Lock()
	p.media = peer
	p.mu.Unlock()
	p.runs.Go(func() { _ = peer.Run(ctx) })
}

func (p *Person) now() *mediatest.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.media
}

// Dial calls a number and talks.
func (p *Person) Dial(number string) (*siptest.Call, error) {
	peer := p.peer()
	offer, err := peer.Offer()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.rang = false
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Second)
	defer cancel()
	call, err := p.ua.Invite(ctx, number, offer, siptest.InviteOptions{OnProvisional: func(code int, _ []byte) {
		if code == 180 {
			p.mu.Lock()
			p.rang = true
			p.mu.Unlock()
		}
	}})
	if err == nil {
		err = peer.SetAnswer(call.RemoteSDP())
	}
	if err != nil {
		done, stop := context.WithCancel(p.t.Context())
		stop()
		_ = peer.Run(done) // releases the ports
		return nil, err
	}
	p.talk(p.t.Context(), peer)
	return call, nil
}

// Rang tells if the last call that was dialled had a 180.
func (p *Person) Rang() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rang
}

// MustDial wants an answer.
func (p *Person) MustDial(number string) *siptest.Call {
	p.t.Helper()
	call, err := p.Dial(number)
	if err != nil {
		p.t.Fatalf("%s calls %s: %v", p.Name, number, err)
	}
	return call
}

// Taken is the call that the person has answered.
func (p *Person) Taken() *siptest.Call {
	p.t.Helper()
	select {
	case c := <-p.Calls:
		return c
	case <-time.After(patience):
		p.t.Fatalf("%s is not called within %v", p.Name, patience)
		return nil
	}
}

// Press sends keys.
func (p *Person) Press(keys string) {
	p.t.Helper()
	if err := p.now().SendDTMF(keys); err != nil {
		p.t.Fatalf("%s presses %s: %v", p.Name, keys, err)
	}
}

// Bounds of what counts as heard: people send -20 dBFS.
const (
	audible = -35
	silent  = -45
)

// Hears waits until the last 400 ms of what the person heard hold the tones of some and not those of others. A state that is right stays
// right, so that waiting for it is no loosening; how long it takes a busy machine to get there says nothing.
func (p *Person) Hears(want, not []float64) {
	p.t.Helper()
	var wrong string
	heard, since := p.now().Report().Received, time.Now()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if wrong = p.judge(want, not); wrong == "" {
			return
		}
		if n := p.now().Report().Received; n != heard {
			heard, since = n, time.Now()
		} else if len(want) == 0 && time.Since(since) > 400*time.Millisecond {
			return // nothing comes at all: a party that is alone in its bridge
		}
	}
	r := p.now().Report()
	p.t.Errorf("after %v: %s (%d packets, %.1f s)", patience, wrong, r.Received, float64(len(r.Recording))/float64(max(1, r.Rate)))
	if p.explain != nil {
		p.t.Logf("the system says %s", p.explain())
	}
}

func (p *Person) judge(want, not []float64) string {
	r := p.now().Report()
	n := r.Rate * 4 / 10
	if len(r.Recording) < n {
		if len(want) == 0 {
			return ""
		}
		return p.Name + " has heard less than 400 ms"
	}
	heard := r.Recording[len(r.Recording)-n:]
	for _, hz := range want {
		if l := mediatest.Level(heard, r.Rate, hz); l < audible {
			return fmt.Sprintf("%s hears %v Hz at %.0f dBFS only", p.Name, hz, l)
		}
	}
	for _, hz := range not {
		if l := mediatest.Level(heard, r.Rate, hz); l > silent {
			return fmt.Sprintf("%s hears %v Hz at %.0f dBFS, which it should not", p.Name, hz, l)
		}
	}
	return ""
}

// HeardSince tells if a tone was in what the person heard from a place of its recording on, in any 100 ms.
func (p *Person) HeardSince(from int, low, high float64) bool {
	r := p.now().Report()
	n := r.Rate / 10
	for at := from; n > 0 && at+n <= len(r.Recording); at += n / 2 {
		for hz := low; hz <= high; hz += 20 {
			if mediatest.Level(r.Recording[at:at+n], r.Rate, hz) > audible {
				return true
			}
		}
	}
	return false
}

// Mark is the place in the recording now.
func (p *Person) Mark() int { return len(p.now().Report().Recording) }

// ended wants the far end's BYE.
func ended(t *testing.T, who string, c *siptest.Call) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Errorf("%s is not hung up within %v", who, patience)
	}
}

// heardAnything tells if there was a sound that is not the tone: in 200 ms, -40 dBFS of anything.
func (p *Person) heardAnything(from int, not float64) bool {
	r := p.now().Report()
	n := r.Rate / 5
	for at := from; n > 0 && at+n <= len(r.Recording); at += n { // no rate before the first packet
		part := r.Recording[at : at+n]
		if mediatest.Power(part) > -40 && mediatest.Level(part, r.Rate, not) < silent {
			return true
		}
	}
	return false
}
