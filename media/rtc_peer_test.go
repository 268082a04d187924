package media

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	piondtls "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"

	"rtcedge/media/sdp"
	"rtcedge/nat"
)

// rtcPeer is a WebRTC client as far as media sees it: checks by pion/stun, keys by pion/dtls, packets by pion/srtp, on one port.
type rtcPeer struct {
	*peer
	cert       tls.Certificate
	ufrag, pwd string
	far        *sdp.Session // our last SDP
}

const chromiumFormats = "111 0 110 126"

func newRTCPeer(t testing.TB, ssrc uint32) *rtcPeer {
	t.Helper()
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return &rtcPeer{peer: newPeer(t, ssrc), cert: cert, ufrag: "EsAw", pwd: "P2uYro0UCOQ4zxjKXaWCBui1"}
}

// fingerprint is the a= line's text.
func (p *rtcPeer) fingerprint() string {
	return "fingerprint:" + sdp.Fingerprint{Hash: "sha-256", Sum: dtlsDigest("sha-256", p.cert.Certificate[0])}.String()
}

// rtcBody is what Chromium writes, without what has no meaning here. The address is where nobody can send to.
func (p *rtcPeer) rtcBody(setup string, lines ...string) string {
	all := append([]string{"group:BUNDLE 7", "rtpmap:111 opus/48000/2", "fmtp:111 minptime=10;useinbandfec=1", "rtpmap:110 telephone-event/48000",
		"rtpmap:126 telephone-event/8000", "ice-ufrag:" + p.ufrag, "ice-pwd:" + p.pwd, "ice-options:trickle", p.fingerprint(), "setup:" + setup,
		"mid:7", "rtcp-mux", "rtcp-rsize", "candidate:1 1 udp 2122260223 7b1cb6c5-2b0b-4f0a-93c8-6df7c0e3a1f2.local 46243 typ host"}, lines...)
	return "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=" + all[0] + "\r\nm=audio 9 UDP/TLS/RTP/SAVPF " + chromiumFormats +
		"\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=" + join(all[1:]) + "\r\n"
}

func join(lines []string) (s string) {
	for i, l := range lines {
		if i > 0 {
			s += "\r\na="
		}
		s += l
	}
	return s
}

// takeRTC reads our SDP as a browser does: it goes by the candidate.
func (p *rtcPeer) takeRTC(body []byte) *sdp.Media {
	p.t.Helper()
	s, err := sdp.Parse(body)
	if err != nil {
		p.t.Fatal(err)
	}
	m := s.Media[0]
	p.far = s
	c := m.Candidates()
	if len(c) != 1 || c[0].Component != 1 || c[0].Type != "host" || c[0].Priority != 2130706431 || !m.EndOfCandidates() || !s.ICELite() {
		p.t.Fatalf("candidates %v in\n%s", c, body)
	}
	p.to = netip.AddrPortFrom(c[0].Addr, uint16(c[0].Port))
	return m
}

// check sends a connectivity check and returns the kind of the answer; zero for none.
func (p *rtcPeer) check(nominate bool) stun.MessageType {
	p.t.Helper()
	ufrag, pwd, ok := p.far.Media[0].ICE()
	if !ok || len(ufrag) < 4 || len(pwd) < 22 {
		p.t.Fatalf("ice-ufrag %q, ice-pwd %q", ufrag, pwd)
	}
	return p.checkAs(ufrag, pwd, nominate)
}

func (p *rtcPeer) checkAs(ufrag, pwd string, nominate bool) stun.MessageType {
	p.t.Helper()
	set := []stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag + ":" + p.ufrag),
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{0x6e, 0, 1, 0xff}},
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)}}
	if nominate {
		set = append(set, stun.RawAttribute{Type: stun.AttrUseCandidate})
	}
	p.raw(stun.MustBuild(append(set, stun.NewShortTermIntegrity(pwd), stun.Fingerprint)...).Raw)
	for {
		b, ok := p.bytes(200 * time.Millisecond)
		if !ok {
			return stun.MessageType{}
		}
		if nat.Classify(b) != nat.STUN {
			continue
		}
		m := &stun.Message{Raw: b}
		if err := m.Decode(); err != nil {
			p.t.Fatal(err)
		}
		return m.Type
	}
}

// secure runs the handshake and takes the keys.
func (p *rtcPeer) secure(client bool) {
	p.t.Helper()
	p.seal, p.open = p.handshake(client)
}

func (p *rtcPeer) handshake(client bool) (seal, open *srtp.Context) {
	p.t.Helper()
	c, conn, stop := p.dtls(client)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.HandshakeContext(ctx)
	if err != nil {
		p.t.Fatal("handshake: ", err)
	}
	want := p.far.Media[0].Fingerprints()
	state, _ := c.ConnectionState()
	if len(want) != 1 || string(want[0].Sum) != string(dtlsDigest("sha-256", state.PeerCertificates[0])) {
		p.t.Fatal("the certificate is not that of our SDP")
	}
	profile, _ := c.SelectedSRTPProtectionProfile()
	cfg := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		p.t.Fatal(err)
	}
	stop()
	conn.mute()
	c.Close()
	seal, err1 := srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	open, err2 := srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile)
	if err1 != nil || err2 != nil {
		p.t.Fatal(err1, err2)
	}
	return seal, open
}

// dtls starts pion on the peer's port; stop gives the port back.
func (p *rtcPeer) dtls(client bool) (c *piondtls.Conn, conn *dtlsConn, stop func()) {
	conn = newDTLSConn(func(b []byte) { _, _ = p.conn.WriteToUDPAddrPort(b, p.to) })
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if b, ok := p.bytes(50 * time.Millisecond); ok && nat.Classify(b) == nat.DTLS {
				conn.push(b)
			}
			select {
			case <-ended:
				return
			default:
			}
		}
	}()
	shared := []piondtls.Option{piondtls.WithCertificates(p.cert), piondtls.WithInsecureSkipVerify(true),
		piondtls.WithSRTPProtectionProfiles(dtlsProfiles()...), piondtls.WithFlightInterval(100 * time.Millisecond)}
	var err error
	if client {
		c, err = piondtls.ClientWithOptions(conn, dtlsPeer{}, clientOptions(shared)...)
	} else {
		c, err = piondtls.ServerWithOptions(conn, dtlsPeer{}, serverOptions(shared, true)...)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return c, conn, func() { close(ended); <-done }
}

// media reads the next RTP packet; records and checks' answers are passed over.
func (p *rtcPeer) media() *rtp.Packet {
	p.t.Helper()
	pkt, ok := p.mediaWithin(2 * time.Second)
	if !ok {
		p.t.Fatal("no media came")
	}
	return pkt
}

func (p *rtcPeer) mediaWithin(d time.Duration) (*rtp.Packet, bool) {
	p.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		b, ok := p.bytes(time.Until(end))
		if !ok || nat.Classify(b) != nat.RTP {
			continue
		}
		opened, err := p.open.DecryptRTP(nil, b, nil)
		if err != nil {
			p.t.Fatalf("%d bytes, SSRC %x: %v", len(b), binary.BigEndian.Uint32(b[8:]), err)
		}
		var pkt rtp.Packet
		if err := pkt.Unmarshal(opened); err != nil {
			p.t.Fatal(err)
		}
		return &pkt, true
	}
	return nil, false
}

// talk sends until the other end hears: the last flight may still be on its way.
func (p *rtcPeer) talk(pt uint8, payload []byte, other *peer) *rtp.Packet {
	p.t.Helper()
	for range 40 {
		p.send(p.packet(pt, payload))
		if b, ok := other.bytes(50 * time.Millisecond); ok {
			var pkt rtp.Packet
			if err := pkt.Unmarshal(b); err != nil {
				p.t.Fatal(err)
			}
			return &pkt
		}
	}
	p.t.Fatal("not heard")
	return nil
}

// hears lets the other end send until media comes.
func (p *rtcPeer) hears(pt uint8, payload []byte, other *peer) *rtp.Packet {
	p.t.Helper()
	for range 40 {
		other.send(other.packet(pt, payload))
		if pkt, ok := p.mediaWithin(50 * time.Millisecond); ok {
			return pkt
		}
	}
	p.t.Fatal("nothing heard")
	return nil
}
