package media

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"sync/atomic"
	"testing"

	piondtls "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
)

// TestB21DTLSRoles: both roles, every profile, every hash; pion/dtls and pion/srtp are the other end.
func TestB21DTLSRoles(t *testing.T) {
	b := newDTLSBench(t, dtlsConfig{})
	hashes := []string{"sha-256", "sha-1", "sha-384", "sha-512"}
	for i, profile := range dtlsProfiles() {
		for _, active := range []bool{false, true} {
			for _, ice := range []bool{false, true} {
				phone := newDTLSPhone(t)
				e := b.end(active, ice, phone.cert, hashes[i])
				if active {
					b.loop.Do(func() { e.link.open(phone.addr()) })
				}
				c, err := phone.handshake(e.conn.LocalAddr(), !active, profile)
				if err != nil {
					t.Fatalf("%v active=%v ice=%v: %v", profile, active, ice, err)
				}
				checkSRTP(t, e, c, !active)
				if !pinsOf(b.agent).match(mustState(t, c).PeerCertificates[0]) {
					t.Fatal("our certificate is not the one of our fingerprint")
				}
				c.Close()
			}
		}
	}
	if n := b.agent.ended[dtlsOK].Load(); n != 16 {
		t.Fatalf("%d associations", n)
	}
}

// TestB21DTLSRSAPeer: older phones and servers have RSA certificates.
func TestB21DTLSRSAPeer(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := selfsign.SelfSign(key)
	if err != nil {
		t.Fatal(err)
	}
	b := newDTLSBench(t, dtlsConfig{})
	for _, active := range []bool{false, true} {
		phone := newDTLSPhone(t)
		phone.cert = cert
		e := b.end(active, true, cert, "sha-256")
		if active {
			e.on(func() { e.link.open(phone.addr()) })
		}
		c, err := phone.handshake(e.conn.LocalAddr(), !active, piondtls.SRTP_AES128_CM_HMAC_SHA1_80)
		if err != nil {
			t.Fatalf("active=%v: %v", active, err)
		}
		checkSRTP(t, e, c, !active)
	}
}

// TestB21DTLSPrefersGCM: of what a browser offers the best is taken.
func TestB21DTLSPrefersGCM(t *testing.T) {
	b, phone := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t)
	e := b.end(false, true, phone.cert, "sha-256")
	c, err := phone.handshake(e.conn.LocalAddr(), true, piondtls.SRTP_AES128_CM_HMAC_SHA1_80, piondtls.SRTP_AEAD_AES_256_GCM, piondtls.SRTP_AEAD_AES_128_GCM)
	if err != nil {
		t.Fatal(err)
	}
	checkSRTP(t, e, c, true)
	if rx, _ := e.contexts(); rx.suite != srtpGCM128 {
		t.Fatalf("suite %v", rx.suite)
	}
}

// TestB21DTLSLostFinal: our last flight is lost, twice; the client's repeated one brings it again.
func TestB21DTLSLostFinal(t *testing.T) {
	b, phone := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t)
	e := b.end(false, true, phone.cert, "sha-256")
	var lost atomic.Int64
	e.on(func() { e.drop = func(p []byte) bool { return p[0] == dtlsChangeCipherSpec && lost.Add(1) <= 2 } })
	c, err := phone.handshake(e.conn.LocalAddr(), true, dtlsProfiles()...)
	if err != nil || lost.Load() != 3 {
		t.Fatal(err, lost.Load())
	}
	checkSRTP(t, e, c, true)
}

// BenchmarkDTLSHandshake is both sides of a handshake.
func BenchmarkDTLSHandshake(b *testing.B) {
	a, err := newDTLSAgent(dtlsConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer a.close()
	b.ReportAllocs()
	for b.Loop() {
		var client, server *dtlsConn
		client = newDTLSConn(func(p []byte) { server.push(p) })
		server = newDTLSConn(func(p []byte) { client.push(p) })
		var both sync.WaitGroup
		both.Go(func() { a.handshake(b.Context(), server, false, nil, pinsOf(a)) })
		if _, fault := a.handshake(b.Context(), client, true, nil, pinsOf(a)); fault != dtlsOK {
			b.Fatal(fault)
		}
		both.Wait()
	}
}
