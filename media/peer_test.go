package media

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// peer is a party as a stranger would write it: a plain socket, pion's packets.
type peer struct {
	t    testing.TB
	conn *net.UDPConn
	to   netip.AddrPort // our port, from the SDP that the peer got
	seal *srtp.Context
	open *srtp.Context

	seq  uint16
	ts   uint32
	ssrc uint32
}

var loopback = netip.MustParseAddr("127.0.0.1")

func newPeer(t testing.TB, ssrc uint32) *peer { return newPeerAt(t, "127.0.0.1", ssrc) }

func newPeerAt(t testing.TB, ip string, ssrc uint32) *peer {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t: t, conn: c, ssrc: ssrc, seq: 1000, ts: 50000}
}

func (p *peer) addr() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// packet makes the next 20 ms packet.
func (p *peer) packet(pt uint8, payload []byte) *rtp.Packet {
	p.seq++
	p.ts += 160
	return &rtp.Packet{
		Header: rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: p.seq, Timestamp: p.ts, SSRC: p.ssrc}, Payload: payload,
	}
}

func (p *peer) send(pkt *rtp.Packet) {
	p.t.Helper()
	b, err := pkt.Marshal()
	if err == nil && p.seal != nil {
		b, err = p.seal.EncryptRTP(nil, b, nil)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.raw(b)
}

func (p *peer) raw(b []byte) {
	if _, err := p.conn.WriteToUDPAddrPort(b, p.to); err != nil {
		p.t.Fatal(err)
	}
}

// bytes reads one datagram; false after the time.
func (p *peer) bytes(wait time.Duration) ([]byte, bool) {
	buf := make([]byte, 3000)
	p.conn.SetReadDeadline(time.Now().Add(wait))
	n, err := p.conn.Read(buf)
	return buf[:n], err == nil
}

func (p *peer) recv() *rtp.Packet {
	p.t.Helper()
	b, ok := p.bytes(2 * time.Second)
	if !ok {
		p.t.Fatal("no packet came")
	}
	var err error
	if p.open != nil {
		if b, err = p.open.DecryptRTP(nil, b, nil); err != nil {
			p.t.Fatal("decrypt:", err)
		}
	}
	var pkt rtp.Packet
	if err := pkt.Unmarshal(b); err != nil {
		p.t.Fatal(err)
	}
	return &pkt
}

func (p *peer) recvRTCP() []rtcp.Packet {
	p.t.Helper()
	b, ok := p.bytes(2 * time.Second)
	if !ok {
		p.t.Fatal("no RTCP came")
	}
	pkts, err := rtcp.Unmarshal(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return pkts
}

func (p *peer) silence() {
	p.t.Helper()
	if b, ok := p.bytes(50 * time.Millisecond); ok {
		p.t.Fatalf("%d bytes came, want none", len(b))
	}
}

// body is the peer's SDP: transport, then payload types with their rtpmap or extra lines.
func (p *peer) body(proto, formats string, lines ...string) string {
	return bodyAt(p.addr(), proto, formats, lines...)
}

func bodyAt(at netip.AddrPort, proto, formats string, lines ...string) string {
	s := fmt.Sprintf("v=0\r\no=peer 7 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d %s %s\r\n", at.Addr(), at.Addr(),
		at.Port(), proto, formats)
	for _, l := range lines {
		s += "a=" + l + "\r\n"
	}
	return s
}

// take reads our answer or offer: where to send to, and the keys.
func (p *peer) take(body []byte) *sdp.Session {
	p.t.Helper()
	s, err := sdp.Parse(body)
	if err != nil {
		p.t.Fatal(err)
	}
	m := s.Media[0]
	p.to = netip.AddrPortFrom(m.Connection(), uint16(m.Port()))
	if lines := m.Crypto(); len(lines) > 0 {
		p.open = srtpOf(p.t, lines[0].Suite, lines[0].Keys[0].KeySalt)
	}
	return s
}

// key is the peer's own, and the a=crypto line for it.
func (p *peer) key(suite string, fill byte) string {
	p.t.Helper()
	_, size := profileOf(p.t, suite)
	ks := make([]byte, size)
	for i := range ks {
		ks[i] = fill + byte(i)
	}
	p.seal = srtpOf(p.t, suite, ks)
	return "crypto:1 " + suite + " inline:" + base64.StdEncoding.EncodeToString(ks)
}

func profileOf(t testing.TB, suite string) (srtp.ProtectionProfile, int) {
	switch suite {
	case "AES_CM_128_HMAC_SHA1_80":
		return srtp.ProtectionProfileAes128CmHmacSha1_80, 30
	case "AES_CM_128_HMAC_SHA1_32":
		return srtp.ProtectionProfileAes128CmHmacSha1_32, 30
	case "AEAD_AES_128_GCM":
		return srtp.ProtectionProfileAeadAes128Gcm, 28
	case "AEAD_AES_256_GCM":
		return srtp.ProtectionProfileAeadAes256Gcm, 44
	}
	t.Fatal("suite", suite)
	return 0, 0
}

func srtpOf(t testing.TB, suite string, keySalt []byte) *srtp.Context {
	t.Helper()
	profile, _ := profileOf(t, suite)
	n, _ := profile.KeyLen()
	c, err := srtp.CreateContext(keySalt[:n], keySalt[n:], profile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rig is a running engine.
type rig struct {
	*Engine
	t     testing.TB
	ended chan CallEnd
	stop  func()
	clock *fakeClock
}

// fakeClock adds an offset to the real time, or to the time at which it was frozen.
type fakeClock struct {
	mu     sync.Mutex
	offset time.Duration
	frozen time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen.Add(c.offset)
	}
	return time.Now().Add(c.offset)
}

// freeze makes time go by advance only: how long the machine takes is nothing to a test whose packets have their place in time.
func (c *fakeClock) freeze() {
	c.mu.Lock()
	c.frozen = time.Now()
	c.mu.Unlock()
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	c.offset += d
	c.mu.Unlock()
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, ended: make(chan CallEnd, 20000), clock: &fakeClock{}}
	cfg.Now = r.clock.now
	cfg.Ended = func(end CallEnd) { r.ended <- end }
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if cfg.PortMin == 0 {
		cfg.PortMin, cfg.PortMax = 64000, 64399
	}
	if cfg.DeleteDelay == 0 {
		cfg.DeleteDelay = -1
	}
	if *steeredTests && !cfg.Portable && cfg.Steering == nil {
		cfg.Steering = steering(t, &cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = e
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error("run:", err)
			}
			for _, p := range e.Stats().Ports {
				if p.Used != 0 {
					t.Errorf("%d port pairs of %s leaked", p.Used, p.Interface)
				}
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) do(req ng.Request) *ng.Response {
	return r.Handle(context.Background(), &req)
}

// must runs a command that has to work and returns its SDP.
func (r *rig) must(req ng.Request) []byte {
	r.t.Helper()
	resp := r.do(req)
	if resp.Result != ng.ResultOK {
		r.t.Fatalf("%s: %s: %s", req.Command, resp.Result, resp.ErrorReason)
	}
	return resp.SDP
}

// toFarm is what the sip role asks for an offer from outside.
func toFarm(callID, from, body string) ng.Request {
	return ng.Request{
		Command: ng.CmdOffer, CallID: callID, FromTag: from, SDP: []byte(body), Transport: "RTP/AVP", ICE: "remove",
		RTCPMux: []string{"demux"}, Direction: [2]string{"pub", "priv"}, Replace: []string{"origin"},
		Codec: ng.Codec{Mask: []string{"all"}, Transcode: []string{"PCMU"}},
	}
}

// relayed is a plain offer.
func relayed(callID, from, body string) ng.Request {
	return ng.Request{Command: ng.CmdOffer, CallID: callID, FromTag: from, SDP: []byte(body)}
}

func answered(callID, from, to, body string) ng.Request {
	return ng.Request{Command: ng.CmdAnswer, CallID: callID, FromTag: from, ToTag: to, SDP: []byte(body)}
}

// connect sets a call up: a's offer, b's answer.
func (r *rig) connect(offer ng.Request, a, b *peer, answer string) (toB, toA *sdp.Session) {
	r.t.Helper()
	toB = b.take(r.must(offer))
	toA = a.take(r.must(answered(offer.CallID, offer.FromTag, "b", answer)))
	return toB, toA
}

func hasAttr(body []byte, text string) bool { return strings.Contains(string(body), text) }

func (r *rig) query(callID string) *ng.CallInfo {
	r.t.Helper()
	resp := r.do(ng.Request{Command: ng.CmdQuery, CallID: callID})
	if resp.Result != ng.ResultOK {
		r.t.Fatal(resp.ErrorReason)
	}
	return resp.Call
}

// barrier waits until the workers have done what control posted.
func (r *rig) barrier() {
	var wg sync.WaitGroup
	for _, w := range r.workers {
		wg.Add(1)
		if !w.loop.Do(wg.Done) {
			wg.Done()
		}
	}
	wg.Wait()
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func netPort(m *sdp.Media) netip.AddrPort {
	return netip.AddrPortFrom(m.Connection(), uint16(m.Port()))
}
