package media

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	piondtls "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"rtcedge/media/sdp"
	"rtcedge/media/udp"
)

// dtlsBench is a worker with an agent.
type dtlsBench struct {
	t     *testing.T
	agent *dtlsAgent
	loop  *udp.Loop
	links []*dtlsEnd // owned by the loop
}

// dtlsEnd is a link with its socket.
type dtlsEnd struct {
	bench  *dtlsBench
	link   *dtlsLink
	conn   *udp.Conn
	accept func(pkt *udp.Packet) bool // the engine's gate; nil lets all in
	before func(pkt *udp.Packet)      // something that happens before a packet
	drop   func(b []byte) bool        // loses what the link sends
	ready  chan struct{}
}

func newDTLSBench(t *testing.T, cfg dtlsConfig) *dtlsBench {
	t.Helper()
	b := &dtlsBench{t: t}
	var err error
	if b.agent, err = newDTLSAgent(cfg); err != nil {
		t.Fatal(err)
	}
	b.loop, err = udp.NewLoop(udp.LoopConfig{Interval: 20 * time.Millisecond, Tick: func(time.Time) {
		for _, e := range b.links {
			e.link.tick()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.loop.Run(ctx) }()
	t.Cleanup(func() {
		b.agent.close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// end makes a link for a peer with this certificate.
func (b *dtlsBench) end(active, ice bool, peer tls.Certificate, hash string) *dtlsEnd {
	b.t.Helper()
	pins, err := newDTLSPins([]sdp.Fingerprint{{Hash: hash, Sum: dtlsDigest(hash, peer.Certificate[0])}})
	if err != nil {
		b.t.Fatal(err)
	}
	e := &dtlsEnd{bench: b, ready: make(chan struct{})}
	e.link = newDTLSLink(dtlsLinkConfig{
		agent: b.agent, pins: pins, active: active, ice: ice, do: b.loop.Do,
		send: func(p []byte, to netip.AddrPort) {
			if e.drop == nil || !e.drop(p) {
				_ = e.conn.WriteTo(p, to)
			}
		},
		ready: func() { close(e.ready) },
	})
	if e.conn, err = b.loop.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{}, e); err != nil {
		b.t.Fatal(err)
	}
	b.loop.Do(func() { b.links = append(b.links, e) })
	return e
}

func (e *dtlsEnd) Receive(pkt *udp.Packet) {
	if e.before != nil {
		e.before(pkt)
	}
	if e.accept == nil || e.accept(pkt) {
		e.link.receive(pkt.Data, pkt.From)
	}
}

// on changes the hooks on the worker's goroutine.
func (e *dtlsEnd) on(change func()) {
	done := make(chan struct{})
	e.bench.loop.Do(func() { change(); close(done) })
	<-done
}

func (e *dtlsEnd) wait() {
	e.bench.t.Helper()
	select {
	case <-e.ready:
	case <-time.After(8 * time.Second):
		e.bench.t.Fatal("no keys")
	}
}

// contexts reads those of the link on the worker.
func (e *dtlsEnd) contexts() (rx, tx *srtpContext) {
	e.on(func() { rx, tx = e.link.contexts() })
	return rx, tx
}

// dtlsPhone is the peer: pion/dtls on a socket.
type dtlsPhone struct {
	sock net.PacketConn
	cert tls.Certificate

	patience time.Duration // for a handshake; 8 s
}

func newDTLSPhone(t *testing.T) *dtlsPhone {
	t.Helper()
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	sock, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sock.Close() })
	return &dtlsPhone{sock: sock, cert: cert}
}

func (p *dtlsPhone) addr() netip.AddrPort {
	return p.sock.LocalAddr().(*net.UDPAddr).AddrPort()
}

// handshake runs the phone's side.
func (p *dtlsPhone) handshake(to netip.AddrPort, client bool, profiles ...piondtls.SRTPProtectionProfile) (*piondtls.Conn, error) {
	shared := []piondtls.Option{piondtls.WithCertificates(p.cert), piondtls.WithInsecureSkipVerify(true),
		piondtls.WithSRTPProtectionProfiles(profiles...), piondtls.WithFlightInterval(100 * time.Millisecond),
		piondtls.WithDisableRetransmitBackoff(true)}
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(p.patience, 8*time.Second))
	defer cancel()
	var c *piondtls.Conn
	var err error
	if remote := net.UDPAddrFromAddrPort(to); client {
		c, err = piondtls.ClientWithOptions(p.sock, remote, clientOptions(shared)...)
	} else {
		c, err = piondtls.ServerWithOptions(p.sock, remote, serverOptions(shared, true)...)
	}
	if err != nil {
		return nil, err
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// checkSRTP sends a packet in each direction, the phone's end by pion/srtp.
func checkSRTP(t *testing.T, e *dtlsEnd, c *piondtls.Conn, client bool) {
	t.Helper()
	e.wait()
	profile, _ := c.SelectedSRTPProtectionProfile()
	cfg := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	state, ok := c.ConnectionState()
	if !ok {
		t.Fatal("no state")
	}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		t.Fatal(err)
	}
	send, err1 := srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	recv, err2 := srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	plain, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: 9}, Payload: []byte("hello")}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	rx, tx := e.contexts()
	sealed, err := send.EncryptRTP(nil, plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := append(sealed, make([]byte, srtpRoom)...)
	if n, fault := rx.unprotectRTP(buf, len(sealed)); fault != faultNone || !bytes.Equal(buf[:n], plain) {
		t.Fatalf("from the phone: fault %d", fault)
	}
	buf = append(append([]byte(nil), plain...), make([]byte, srtpRoom)...)
	n, ok := tx.protectRTP(buf, len(plain))
	if !ok {
		t.Fatal("not sealed")
	}
	if opened, err := recv.DecryptRTP(nil, buf[:n], nil); err != nil || !bytes.Equal(opened, plain) {
		t.Fatalf("to the phone: %v", err)
	}
}

func pinsOf(a *dtlsAgent) dtlsPins {
	pins, _ := newDTLSPins([]sdp.Fingerprint{a.fingerprint("")})
	return pins
}

func mustState(t *testing.T, c *piondtls.Conn) piondtls.State {
	t.Helper()
	state, ok := c.ConnectionState()
	if !ok {
		t.Fatal("no state")
	}
	return state
}
