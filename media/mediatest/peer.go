package mediatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/srtp/v3"

	"rtcedge/media/sdp"
)

// Peer is one end of an audio stream.
type Peer struct {
	cfg       Config
	id        string
	own       []sdp.Crypto // a key per suite
	rtp, rtcp *net.UDPConn
	dtls      *dtlsEnd // nil: no DTLS

	session atomic.Pointer[session]
	digits  chan byte
	paused  atomic.Bool

	version int // of the SDP; offers and answers are made by one goroutine

	// sendMu guards what is sent; it is taken before mu.
	sendMu  sync.Mutex
	tx      *srtp.Context
	txSuite string
	out     sender

	// mu guards what was received.
	mu     sync.Mutex
	rx     *srtp.Context
	rxLine string
	in     receiver
}

// New binds the ports. Nothing is sent and nothing read before Run, which also releases them: with a context that has ended it does
// only that.
func New(cfg Config) (*Peer, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("new peer: %w", err)
	}
	for _, name := range cfg.Codecs {
		if _, err := sdpCodec(name); err != nil {
			return nil, fmt.Errorf("new peer: %w", err)
		}
	}
	p := &Peer{cfg: cfg, id: strconv.FormatUint(rand.Uint64()>>1, 10), digits: make(chan byte, 64)}
	for i, name := range cfg.Suites {
		line, err := newCryptoLine(i+1, name)
		if err != nil {
			return nil, fmt.Errorf("new peer: %w", err)
		}
		p.own = append(p.own, line)
	}
	p.out = newSender(cfg.SSRC, cfg.Sequence)
	var err error
	if p.rtp, p.rtcp, err = bindPair(cfg.Addr); err != nil {
		return nil, fmt.Errorf("new peer: %w", err)
	}
	if cfg.DTLS {
		if p.dtls, err = newDTLSEnd(); err != nil {
			p.rtp.Close()
			p.rtcp.Close()
			return nil, fmt.Errorf("new peer: %w", err)
		}
	}
	return p, nil
}

// bindPair binds an even port and the one above it, below 60000: above, tests steer ports, which takes packets from whoever has them.
func bindPair(addr netip.Addr) (*net.UDPConn, *net.UDPConn, error) {
	for range 200 {
		port := uint16(40000 + 2*rand.IntN(10000))
		rtp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
		if err != nil {
			continue
		}
		rtcp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port+1)))
		if err == nil {
			return rtp, rtcp, nil
		}
		rtp.Close()
	}
	return nil, nil, fmt.Errorf("bind %v: no free pair of ports in 40000-59999", addr)
}

// Addr is where the peer receives RTP.
func (p *Peer) Addr() netip.AddrPort { return p.rtp.LocalAddr().(*net.UDPAddr).AddrPort() }

// Codec is the encoding name that was agreed on, "" before.
func (p *Peer) Codec() string {
	if s := p.session.Load(); s != nil {
		return s.coder
	}
	return ""
}

// Suite is the crypto suite that was agreed on, "" is plain RTP.
func (p *Peer) Suite() string {
	if s := p.session.Load(); s != nil {
		return s.suite
	}
	return ""
}

// SendDTMF queues digits (0-9, *, #, A-D) for Run to send by RFC 4733, 100 ms each, in place of audio.
func (p *Peer) SendDTMF(digits string) error {
	if s := p.session.Load(); s != nil && !s.hasEvent {
		return errors.New("send dtmf: no telephone-event was agreed on")
	}
	for i := range len(digits) {
		if _, ok := eventOf(digits[i]); !ok {
			return fmt.Errorf("send dtmf: %q is no digit", digits[i])
		}
		select {
		case p.digits <- digits[i]:
		default:
			return errors.New("send dtmf: too many digits wait")
		}
	}
	return nil
}

// Pause stops or resumes sending; time goes on meanwhile.
func (p *Peer) Pause(on bool) { p.paused.Store(on) }

// Run sends and receives until the audio and its tail are over or ctx ends, then closes the ports.
func (p *Peer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer func() {
		cancel()
		group.Wait()
		p.rtp.Close()
		p.rtcp.Close()
	}()
	if p.dtls != nil {
		handshake, end := context.WithCancel(ctx)
		defer end()
		defer p.dtls.close() // before the wait for who reads from it
		group.Go(func() { p.handshake(handshake) })
	}
	// A read ends when ctx does, so that nothing is left running.
	context.AfterFunc(ctx, func() {
		p.rtp.SetReadDeadline(time.Unix(1, 0))
		p.rtcp.SetReadDeadline(time.Unix(1, 0))
	})
	group.Go(func() { p.read(p.rtp) })
	group.Go(func() { p.read(p.rtcp) })
	if p.cfg.RTCPInterval > 0 {
		group.Go(func() { p.report(ctx) })
	}
	if p.cfg.Echo {
		<-ctx.Done()
		return nil
	}
	return p.send(ctx)
}
