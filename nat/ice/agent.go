package ice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pionice "github.com/pion/ice/v4"
	"github.com/pion/logging"

	"rtcedge/nat"
)

// Config configures an agent.
type Config struct {
	Ufrag, Pwd string         // ours: at least 4 and 22 ice-chars (RFC 8839 section 5.4)
	Local      netip.AddrPort // address of the socket
	// Controlling is the role to begin with: of the offerer, or of anybody whose peer is lite (RFC 8445 section 6.1.1).
	Controlling bool
	// Send sends a packet from the socket. Several goroutines call it; b is not kept.
	Send func(b []byte, to netip.AddrPort)
	// Changed is called when Selected or Consent is another; it must not block. nil is none.
	Changed func()
}

// Fixed by RFC 7675 section 5.1, and chosen by us: half of it until a pair counts as silent.
const (
	consentLost = 30 * time.Second
	quietAfter  = 15 * time.Second
	keepalive   = 4 * time.Second // RFC 7675 section 5.1: checks of consent every 4 to 6 s
)

// Agent is a full agent of one component. Its methods may be called from any goroutine.
type Agent struct {
	cfg  Config
	pion *pionice.Agent
	mux  *mux

	selected atomic.Pointer[netip.AddrPort]
	live     atomic.Bool // connected, and consent has not run out

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	once   sync.Once // Start
}

// New makes an agent that does nothing yet.
func New(cfg Config) (*Agent, error) {
	if !cfg.Local.IsValid() || cfg.Send == nil {
		return nil, errors.New("ice agent: local address and send are needed")
	}
	a := &Agent{cfg: cfg, mux: newMux(cfg.Local, cfg.Send)}
	var err error
	a.pion, err = pionice.NewAgentWithOptions(
		pionice.WithLocalCredentials(cfg.Ufrag, cfg.Pwd),
		pionice.WithNetworkTypes([]pionice.NetworkType{pionice.NetworkTypeUDP4, pionice.NetworkTypeUDP6}),
		pionice.WithCandidateTypes([]pionice.CandidateType{pionice.CandidateTypeHost}),
		pionice.WithMulticastDNSMode(pionice.MulticastDNSModeDisabled),
		pionice.WithUDPMux(a.mux), pionice.WithIncludeLoopback(), pionice.WithDisableActiveTCP(),
		pionice.WithDisconnectedTimeout(quietAfter), pionice.WithFailedTimeout(consentLost-quietAfter), pionice.WithKeepaliveInterval(keepalive),
		pionice.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}),
	)
	if err != nil {
		return nil, fmt.Errorf("ice agent: %w", err)
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	err = errors.Join(
		a.pion.OnCandidate(func(pionice.Candidate) {}),
		a.pion.OnSelectedCandidatePairChange(func(_, remote pionice.Candidate) { a.choose(remote) }),
		a.pion.OnConnectionStateChange(a.state),
	)
	if err == nil {
		err = a.pion.GatherCandidates()
	}
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("ice agent: %w", err)
	}
	return a, nil
}

func (a *Agent) choose(remote pionice.Candidate) {
	addr, err := netip.ParseAddr(remote.Address())
	if err != nil {
		return
	}
	to := netip.AddrPortFrom(addr.Unmap(), uint16(remote.Port()))
	a.selected.Store(&to)
	a.changed()
}

func (a *Agent) state(s pionice.ConnectionState) {
	switch s {
	case pionice.ConnectionStateConnected, pionice.ConnectionStateCompleted:
		a.live.Store(true)
	case pionice.ConnectionStateFailed, pionice.ConnectionStateClosed:
		a.live.Store(false)
	default:
		return
	}
	a.changed()
}

func (a *Agent) changed() {
	if a.cfg.Changed != nil {
		a.cfg.Changed()
	}
}

// Start begins to check. candidates are values of a=candidate; those that cannot be used are left out.
func (a *Agent) Start(ufrag, pwd string, candidates []string) {
	a.Add(candidates...)
	a.once.Do(func() {
		a.wait.Go(func() {
			// The connection is not read: media never comes here. An error is that of the context, or consent that was never given.
			if a.cfg.Controlling {
				_, _ = a.pion.Dial(a.ctx, ufrag, pwd)
			} else {
				_, _ = a.pion.Accept(a.ctx, ufrag, pwd)
			}
		})
	})
}

// Add takes further candidates of the peer.
func (a *Agent) Add(candidates ...string) {
	for _, c := range candidates {
		if cand, err := pionice.UnmarshalCandidate(c); err == nil {
			_ = a.pion.AddRemoteCandidate(cand) // one of another component or transport
		}
	}
}

// Restart brings new credentials of both sides.
func (a *Agent) Restart(ufrag, pwd, remoteUfrag, remotePwd string, candidates []string) error {
	if err := a.pion.Restart(ufrag, pwd); err != nil {
		return fmt.Errorf("ice restart: %w", err)
	}
	if err := a.pion.GatherCandidates(); err != nil {
		return fmt.Errorf("ice restart: %w", err)
	}
	if err := a.pion.SetRemoteCredentials(remoteUfrag, remotePwd); err != nil {
		return fmt.Errorf("ice restart: %w", err)
	}
	a.Add(candidates...)
	return nil
}

// Handle takes a packet of class STUN that came to the socket. What the agent answers goes by Send.
func (a *Agent) Handle(packet []byte, from netip.AddrPort, _ time.Time, _ []byte) ([]byte, nat.ICEEvent) {
	if !a.mux.push(packet, from) {
		return nil, nat.ICEIgnored
	}
	return nil, nat.ICERefreshed
}

// Selected is where media goes; invalid before a pair was found.
func (a *Agent) Selected() netip.AddrPort {
	if to := a.selected.Load(); to != nil {
		return *to
	}
	return netip.AddrPort{}
}

// Validated tells if the source is the selected pair's.
func (a *Agent) Validated(from netip.AddrPort) bool { return from == a.Selected() && from.IsValid() }

// Consent tells if media may be sent.
func (a *Agent) Consent(time.Time) bool { return a.live.Load() && a.Selected().IsValid() }

// Refresh does nothing: a full agent asks for consent itself.
func (a *Agent) Refresh(time.Time) {}

// State is what a lite agent with the same credentials can go on from: it answers the peer's checks and keeps the pair.
func (a *Agent) State() *nat.ICEState {
	return &nat.ICEState{Selected: a.Selected(), Nominated: a.Selected().IsValid()}
}

// Close ends the agent and waits for its goroutines.
func (a *Agent) Close() {
	a.cancel()
	_ = a.mux.Close()
	_ = a.pion.Close()
	a.wait.Wait()
}
