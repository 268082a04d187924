//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// control is the API of a running bridge, with what only these tests ask of it.
type control struct {
	*bridgetest.Control
	t   *testing.T
	api netip.AddrPort
}

func newControl(t *testing.T, api netip.AddrPort, client *http.Client) *control {
	return &control{bridgetest.NewControl(t, api, client), t, api}
}

// person is a phone with its media.
type person struct {
	t    *testing.T
	name string
	ua   *siptest.UA
	tone float64

	shape func(*mediatest.Config) // of the media; nil: as it is
	quiet bool                    // the media is answered for, and not sent
	audio func(rate int) []int16  // computed once: 200 s of a tone cost more than a call

	mu    sync.Mutex
	media *mediatest.Peer
	calls chan *siptest.Call
	onRun sync.WaitGroup
	stop  context.CancelFunc
}

// newPerson is a phone on an address of its own; it answers what comes in unless answer says otherwise.
func newPerson(t *testing.T, s *farms.System, name string, tone float64, answer func(*siptest.Incoming) bool) *person {
	t.Helper()
	return newPersonWith(t, s, siptest.Config{User: name}, tone, answer)
}

// newPersonWith is one with an account.
func newPersonWith(t *testing.T, s *farms.System, cfg siptest.Config, tone float64, answer func(*siptest.Incoming) bool) *person {
	t.Helper()
	name := cfg.User
	p := &person{t: t, name: name, tone: tone, calls: make(chan *siptest.Call, 8), audio: mediatest.Once(mediatest.Tone(tone, -20, 200*time.Second))}
	ctx, cancel := context.WithCancel(t.Context())
	p.stop = cancel
	host := newHost()
	local := freePort(t, host)
	cfg.Domain, cfg.Proxy, cfg.Local = s.SIP().String(), s.SIP(), local
	cfg.OnCall = func(ctx context.Context, in *siptest.Incoming) {
		_ = in.Ring()
		if answer != nil && !answer(in) {
			return
		}
		peer := p.peer(t)
		sdp, err := peer.Answer(in.Offer())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		call, err := in.Answer(ctx, sdp)
		if err != nil {
			t.Errorf("%s: answer: %v", name, err)
			return
		}
		p.talk(ctx, peer)
		p.calls <- call
	}
	ua, err := siptest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.ua = ua
	p.onRun.Go(func() { _ = ua.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		p.onRun.Wait()
	})
	return p
}

func (p *person) peer(t *testing.T) *mediatest.Peer {
	cfg := mediatest.Config{Addr: newHost(), Audio: p.audio, Tail: time.Millisecond, RTCPInterval: -1}
	if p.shape != nil {
		p.shape(&cfg)
	}
	peer, err := mediatest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return peer
}

func (p *person) talk(ctx context.Context, peer *mediatest.Peer) {
	if p.quiet {
		done, cancel := context.WithCancel(ctx)
		cancel()
		_ = peer.Run(done) // releases the ports
		return
	}
	p.mu.Lock()
	p.media = peer
	p.mu.Unlock()
	p.onRun.Go(func() { _ = peer.Run(ctx) })
}

func (p *person) report() mediatest.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.media.Report()
}

// dial calls a number and talks.
func (p *person) dial(number string) (*siptest.Call, error) {
	call, _, err := p.ringDial(number)
	return call, err
}

// ringDial tells the post-dial delay, too: from INVITE to 180.
func (p *person) ringDial(number string) (*siptest.Call, time.Duration, error) {
	peer := p.peer(p.t)
	offer, err := peer.Offer()
	if err != nil {
		return nil, 0, err
	}
	var ring time.Duration
	start := time.Now()
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Second)
	defer cancel()
	call, err := p.ua.Invite(ctx, number, offer, siptest.InviteOptions{OnProvisional: func(code int, _ []byte) {
		if code == 180 && ring == 0 {
			ring = time.Since(start)
		}
	}})
	if err != nil {
		return nil, ring, err
	}
	if err := peer.SetAnswer(call.RemoteSDP()); err != nil {
		return nil, 0, err
	}
	p.talk(p.t.Context(), peer)
	return call, ring, nil
}

func (p *person) mustDial(number string) *siptest.Call {
	p.t.Helper()
	call, err := p.dial(number)
	if err != nil {
		p.t.Fatalf("%s calls %s: %v", p.name, number, err)
	}
	return call
}

// hears waits for d, and then until the last 400 ms that the person heard have these tones and not those.
func (p *person) hears(d time.Duration, want, not []float64) {
	p.t.Helper()
	time.Sleep(d)
	p.hearsSoon(want, not)
}

// startBridge restarts the system's bridge with these people as users.
func startBridge(t *testing.T, system *farms.System, people ...*person) *control {
	t.Helper()
	system.Bridge = []string{"--log-level", "debug"}
	for _, p := range people {
		system.Bridge = append(system.Bridge, "--user="+p.name+"="+p.ua.Contact())
	}
	bridge, err := system.StartBridge()
	if err != nil {
		t.Fatal(err)
	}
	system.BridgeP = bridge
	api := newControl(t, system.API(), nil)
	api.Ready(len(system.Nodes))
	return api
}

func wait(t *testing.T, what string, c *siptest.Call) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Errorf("not within 10 s: %s", what)
	}
}

func statusOf(err error) int {
	var refused *siptest.StatusError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return 0
}
