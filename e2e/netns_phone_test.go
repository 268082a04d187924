//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// agent is a user agent with its sockets in a namespace.
type agent struct {
	*siptest.UA
	in   *namespace
	addr netip.Addr
}

// startAgent makes a user agent in a namespace and runs it until the test ends.
func startAgent(t *testing.T, in *namespace, cfg siptest.Config) *agent {
	t.Helper()
	a := &agent{in: in, addr: cfg.Local.Addr()}
	in.inside(func() {
		ua, err := siptest.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		a.UA = ua
	})
	runUntilEnd(t, "agent "+cfg.User, a.Run)
	return a
}

// runUntilEnd runs f until the test ends, and waits for it.
func runUntilEnd(t *testing.T, what string, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	t.Cleanup(func() {
		stop()
		group.Wait()
	})
}

// peer makes an RTP peer beside the agent.
func (a *agent) peer(t *testing.T, cfg mediatest.Config) *mediatest.Peer {
	t.Helper()
	cfg.Addr = a.addr
	var p *mediatest.Peer
	a.in.inside(func() {
		var err error
		if p, err = mediatest.New(cfg); err != nil {
			t.Fatal(err)
		}
	})
	return p
}

// call places a call with an RTP peer that is ready to run.
func (a *agent) call(t *testing.T, ctx context.Context, number string, p *mediatest.Peer) *siptest.Call {
	t.Helper()
	offer, err := p.Offer()
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Invite(ctx, number, offer, siptest.InviteOptions{})
	if err != nil {
		t.Fatalf("%s: %v", number, err)
	}
	if err := p.SetAnswer(c.RemoteSDP()); err != nil {
		t.Fatalf("%s: %v", number, err)
	}
	return c
}

// machine notes how long it kept a goroutine of the test waiting that wanted to run every 5 ms. Phones, edge and the rest share it, so
// that a gap in the audio of this length says nothing of the edge.
type machine struct{ longest atomic.Int64 }

func watchMachine(t *testing.T) *machine {
	m := &machine{}
	runUntilEnd(t, "watch of the machine", func(ctx context.Context) error {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			now := time.Now()
			m.longest.Store(max(m.longest.Load(), int64(now.Sub(last)-5*time.Millisecond)))
			last = now
		}
	})
	return m
}

// gap is the longest gap that audio may have: d, and what the machine took.
func (m *machine) gap(d time.Duration) time.Duration { return d + 2*m.stall() }

func (m *machine) stall() time.Duration { return max(0, time.Duration(m.longest.Load())) }

// heard fails where a peer did not hear at least the share of what the other one sent, or heard it with a longer gap.
func heard(t *testing.T, who string, r mediatest.Report, sent int, share float64, gap time.Duration) {
	t.Helper()
	t.Logf("%s: sent %d, received %d of %d packets, lost %d, longest gap %v, first after %v, from %v", who, r.Sent, r.Received, sent,
		r.Lost, r.MaxGap.Round(time.Millisecond), r.SetUp.Round(time.Millisecond), r.Sources)
	if float64(r.Received) < share*float64(sent) {
		t.Errorf("%s: received %d of %d packets, want %.0f %%", who, r.Received, sent, 100*share)
	}
	if r.MaxGap > gap {
		t.Errorf("%s: a gap of %v, want at most %v", who, r.MaxGap, gap)
	}
	if len(r.Sources) > 1 {
		t.Errorf("%s: media from %v, want one source", who, r.Sources)
	}
}
