//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	piondtls "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/srtp/v3"

	"rtcedge/sip/siptest"
)

func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// dtlsClient is pion's client on a socket of its own, which it closes with itself.
func dtlsClient(t *testing.T, cert tls.Certificate, to netip.AddrPort) (c *piondtls.Conn, at netip.AddrPort) {
	t.Helper()
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c, err = piondtls.ClientWithOptions(sock, net.UDPAddrFromAddrPort(to), piondtls.WithCertificates(cert), piondtls.WithInsecureSkipVerify(true),
		piondtls.WithSRTPProtectionProfiles(piondtls.SRTP_AES128_CM_HMAC_SHA1_80), piondtls.WithFlightInterval(200*time.Millisecond),
		piondtls.WithDisableRetransmitBackoff(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = sock.Close() })
	return c, sock.LocalAddr().(*net.UDPAddr).AddrPort()
}

// clientHellos are what real clients begin with; no two are alike.
func clientHellos(t *testing.T, n int) (hellos [][]byte) {
	t.Helper()
	for range n {
		first := make(chan []byte, 1)
		s := newStranger(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0), func(b []byte) {
			select {
			case first <- bytes.Clone(b):
			default:
			}
		})
		c, _ := dtlsClient(t, newCertificate(t), s.addr)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = c.HandshakeContext(ctx) }()
		hellos = append(hellos, <-first)
		cancel()
	}
	return hellos
}

// TestF25ClientHelloRace sprays ClientHellos of real clients over the port range, and 100 a second at both ports of each call from before the
// phone's own until the end of the call, and as many in the phone's own name. Every handshake of a phone succeeds, behind NAT or not, and its
// SRTP is echoed (F25, B35); a baresip calls meanwhile, without and with ICE. The stranger is told nothing. What else can be forged in the
// phone's name is in media's TestF25ForgedInThePhonesName.
func TestF25ClientHelloRace(t *testing.T) {
	const lines, each = 3, 6 // phones at once, calls of each
	for _, layer := range []string{"auto", "off"} {
		t.Run("xdp "+layer, func(t *testing.T) {
			e := startUp(t, "--xdp", layer)
			watch := feel(t, e.proc)
			hellos := clientHellos(t, 8)
			a := newStranger(t, netip.AddrPortFrom(newHost(), 0), nil)
			var shots atomic.Int64
			runUntilEnd(t, "spray", func(ctx context.Context) error {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for n := 0; ; n++ {
					select {
					case <-ctx.Done():
						return nil
					case <-tick.C:
					}
					for k := range 4 { // 2000 a second: each port once a second
						_, _ = a.WriteToUDPAddrPort(hellos[n%len(hellos)], netip.AddrPortFrom(e.SIP.Addr(), uint16(10000+(4*n+k)%2000)))
					}
					shots.Add(4)
				}
			})
			before := e.samples(t)
			var good atomic.Int64
			t.Run("phones", func(t *testing.T) {
				for i := range lines {
					t.Run(fmt.Sprint("line ", i+1), func(t *testing.T) {
						t.Parallel()
						for k := range each {
							if raced(t, e, e.Accounts[i], k%2 == 1, a, hellos) {
								good.Add(1)
							}
						}
					})
				}
				for i, ice := range []bool{false, true} {
					t.Run(fmt.Sprint("baresip, ICE ", ice), func(t *testing.T) {
						t.Parallel()
						u := e.Accounts[lines+i]
						ph := phone{server: e.SIP, transport: "udp", user: u.User, password: u.Password, register: true, codec: pcmu, srtp: "dtls_srtp", ice: ice, seconds: 3}
						heard, _ := ph.call(t, "600", nil)
						echoed(t, "baresip", heard, 30)
					})
				}
			})
			_, ends := growth(before, e.samples(t), "media_dtls_handshakes")
			_, drops := growth(before, e.samples(t), "media_dropped_total")
			t.Logf("%d of %d handshakes of phones, and two of baresip, through a spray of %d ClientHellos; handshakes ended:%s; dropped:%s; came back to the attacker: %d packets",
				good.Load(), lines*each, shots.Load(), ends, drops, a.count.Load())
			if good.Load() != lines*each && !watch.stoodStill() {
				t.Error("not every handshake succeeded")
			}
			if a.bytes.Load() > 0 {
				t.Error("the stranger was answered")
			}
			endsWell(t, e.proc)
		})
	}
}

// raced is a call of a phone with DTLS-SRTP as its client while a stranger's ClientHellos come to the ports that the answer names. It tells if the phone has keys and hears its echo.
func raced(t *testing.T, e *edge, u user, behindNAT bool, a *stranger, hellos [][]byte) bool {
	t.Helper()
	ua := newPhone(t, e, u, "udp")
	cert := newCertificate(t)
	// pion's socket talks to the inner one; what it writes leaves by the phone's, and back.
	var inner, outer *stranger
	var port, lib netip.AddrPort
	var echoes atomic.Int64
	var open atomic.Pointer[srtp.Context]
	ready := make(chan struct{})
	inner = newStranger(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0), func(b []byte) {
		<-ready
		_, _ = outer.WriteToUDPAddrPort(b, port)
	})
	outer = newStranger(t, netip.AddrPortFrom(ua.Local().Addr(), 0), func(b []byte) {
		switch {
		case len(b) > 12 && b[0] >= 20 && b[0] <= 63: // DTLS, RFC 7983
			_, _ = inner.WriteToUDPAddrPort(b, lib)
		case len(b) > 12 && b[0]>>6 == 2 && open.Load() != nil:
			if plain, err := open.Load().DecryptRTP(nil, b, nil); err == nil && len(plain) == 172 && plain[100] == 0xd5 {
				echoes.Add(1)
			}
		}
	})
	conn, at := dtlsClient(t, cert, inner.addr)
	lib = at
	claimed := outer.addr
	if behindNAT {
		claimed = netip.AddrPortFrom(newHost(), 4000)
	}
	sum := sha256.Sum256(cert.Certificate[0])
	offer := bytes.Replace(offerOf(claimed, "0", "a=rtpmap:0 PCMU/8000", "a=rtcp-mux", "a=setup:actpass",
		"a=fingerprint:sha-256 "+strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")), []byte("RTP/AVP"), []byte("UDP/TLS/RTP/SAVP"), 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	call, err := ua.Invite(ctx, "600", offer, siptest.InviteOptions{})
	if err != nil {
		t.Error(err)
		close(ready)
		return false
	}
	defer func() {
		if err := call.Hangup(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	port = mediaAddr(t, call.RemoteSDP())
	if !bytes.Contains(call.RemoteSDP(), []byte("a=setup:passive")) {
		t.Errorf("the answer makes nobody wait for the phone:\n%s", call.RemoteSDP())
	}
	racing, end := context.WithCancel(ctx)
	defer end()
	begun := make(chan struct{})
	go func() {
		for n := 0; racing.Err() == nil; n++ {
			for _, to := range []netip.AddrPort{port, netip.AddrPortFrom(port.Addr(), port.Port()+1)} {
				_, _ = a.WriteToUDPAddrPort(hellos[n%len(hellos)], to)
			}
			// The same forged in the phone's own name, by who does not see what comes back to it.
			_, _ = outer.WriteToUDPAddrPort(hellos[(n+3)%len(hellos)], port)
			if n == 20 {
				close(begun)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	<-begun
	close(ready)
	if err := conn.HandshakeContext(ctx); err != nil {
		t.Errorf("behind NAT %v: handshake: %v", behindNAT, err)
		return false
	}
	state, _ := conn.ConnectionState()
	cfg := srtp.Config{Profile: srtp.ProtectionProfileAes128CmHmacSha1_80}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		t.Error(err)
		return false
	}
	seal, err := srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	if err == nil {
		var o *srtp.Context
		o, err = srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile)
		open.Store(o)
	}
	if err != nil {
		t.Error(err)
		return false
	}
	for n := 0; n < 150 && echoes.Load() < 20; n++ {
		b, err := seal.EncryptRTP(nil, rtpOf(7, n, 0xd5), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = outer.WriteToUDPAddrPort(b, port)
		time.Sleep(20 * time.Millisecond)
	}
	if echoes.Load() < 20 {
		t.Errorf("behind NAT %v: %d packets echoed", behindNAT, echoes.Load())
		return false
	}
	return true
}
