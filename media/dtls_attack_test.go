package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	piondtls "github.com/pion/dtls/v3"

	"rtcedge/media/udp"
	"rtcedge/nat"
)

// TestB35WrongFingerprint: a certificate that the SDP does not name gets no keys, in either role; the right one comes through after
// it.
func TestB35WrongFingerprint(t *testing.T) {
	for _, active := range []bool{false, true} {
		b, phone, thief := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t), newDTLSPhone(t)
		thief.patience = time.Second
		e := b.end(active, true, phone.cert, "sha-256")
		if active {
			b.loop.Do(func() { e.link.open(thief.addr()) })
		}
		if c, err := thief.handshake(e.conn.LocalAddr(), !active, dtlsProfiles()...); err == nil && !active {
			c.Close()
			t.Fatal("the thief's handshake succeeded")
		}
		waitFor(t, "the refusal", func() bool { return b.agent.ended[dtlsFingerprint].Load() == 1 })
		select {
		case <-e.ready:
			t.Fatal("keys for the thief")
		default:
		}
		if active {
			b.loop.Do(func() { e.link.open(phone.addr()) })
		}
		c, err := phone.handshake(e.conn.LocalAddr(), !active, dtlsProfiles()...)
		if err != nil {
			t.Fatal(err)
		}
		checkSRTP(t, e, c, !active)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(8 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what + " did not come")
		}
	}
}

// TestB35NoCertificate: a client that shows none, or no SRTP profile, gets nothing.
func TestB35NoCertificate(t *testing.T) {
	b, phone := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t)
	e := b.end(false, true, phone.cert, "sha-256")
	for _, opts := range [][]piondtls.ClientOption{
		{piondtls.WithInsecureSkipVerify(true), piondtls.WithSRTPProtectionProfiles(dtlsProfiles()...)},
		{piondtls.WithInsecureSkipVerify(true), piondtls.WithCertificates(phone.cert)},
	} {
		c, err := piondtls.ClientWithOptions(newDTLSPhone(t).sock, net.UDPAddrFromAddrPort(e.conn.LocalAddr()), opts...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_ = c.HandshakeContext(ctx) // what it thinks of it does not count
		cancel()
	}
	waitFor(t, "the refusal", func() bool {
		return b.agent.ended[dtlsFingerprint].Load()+b.agent.ended[dtlsProtocol].Load() == 2
	})
	if rx, tx := e.contexts(); rx != nil || tx != nil || b.agent.ended[dtlsOK].Load() != 0 {
		t.Fatal("keys for a stranger")
	}
}

// TestF22DTLSGarbage: what anybody can write does not end a handshake, in either role.
func TestF22DTLSGarbage(t *testing.T) {
	garbage := [][]byte{
		{22}, {63, 1, 2, 3},
		{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 77, 0, 2, 2, 40},                                 // fatal alert, handshake_failure
		{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 78, 0, 2, 1, 0},                                  // close_notify
		{23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 79, 0, 3, 1, 2, 3},                               // data in clear text
		{20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 80, 0, 2, 1, 1},                                  // odd ChangeCipherSpec
		{24, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 81, 0, 3, 1, 0, 1},                               // heartbeat
		{25, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 82, 0, 1, 1},                                     // connection ID
		{22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 83, 0, 1, 1},                                           // TLS
		{22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 84, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8},                // sealed with another key
		{21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 85, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8},                // and as an alert
		{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 86, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8},                // and as data
		{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 87, 0xff, 0xff, 1},                               // longer than the datagram
		{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 88, 0, 12, 11, 0, 0, 9, 0, 99, 0, 0, 0, 0, 0, 9}, // fragment without a body
	}
	for _, active := range []bool{false, true} {
		b, phone := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t)
		e := b.end(active, true, phone.cert, "sha-256")
		before := func(pkt *udp.Packet) {
			for _, g := range garbage {
				e.link.receive(append([]byte(nil), g...), pkt.From)
			}
		}
		e.on(func() { e.before = before })
		if active {
			b.loop.Do(func() { e.link.open(phone.addr()) })
		}
		c, err := phone.handshake(e.conn.LocalAddr(), !active, dtlsProfiles()...)
		if err != nil {
			t.Fatalf("active=%v: %v", active, err)
		}
		checkSRTP(t, e, c, !active)
	}
}

// clientHello is one as a sprayer sends it, with this random.
func clientHello(random byte) []byte {
	body := append([]byte{0xfe, 0xfd}, bytes.Repeat([]byte{random}, 32)...)
	body = append(body, 0, 0, 0, 4, 0xc0, 0x2b, 0xc0, 0x0a, 1, 0) // session, cookie, suites, compression
	ext := []byte{0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3, 0, 14, 0, 5, 0, 2, 0, 1, 0}
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(ext))), ext...)
	msg := append([]byte{1, 0, 0, byte(len(body)), 0, 0, 0, 0, 0, 0, 0, byte(len(body))}, body...)
	return append([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(msg))}, msg...)
}

// TestF25SprayedClientHello: a stranger's ClientHellos come before, between and after those of the phone. The gate is what the
// engine has: validated by ICE, or the latch.
func TestF25SprayedClientHello(t *testing.T) {
	attacker := netip.MustParseAddrPort("127.0.0.66:4444")
	for name, gate := range map[string]func(phone netip.AddrPort) func(pkt *udp.Packet) bool{
		"latch": func(phone netip.AddrPort) func(pkt *udp.Packet) bool {
			latch := nat.NewLatch(nat.LatchConfig{Expected: phone}, time.Now())
			return func(pkt *udp.Packet) bool { return latch.Packet(pkt.From, false, pkt.Time) != nat.Drop }
		},
		"ice": func(phone netip.AddrPort) func(pkt *udp.Packet) bool {
			return func(pkt *udp.Packet) bool { return pkt.From == phone }
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newDTLSBench(t, dtlsConfig{})
			for i := range 25 {
				phone := newDTLSPhone(t)
				e := b.end(false, name == "ice", phone.cert, "sha-256")
				pass := gate(phone.addr())
				before := func(pkt *udp.Packet) {
					for n := range 20 {
						spray := udp.Packet{Data: clientHello(byte(n)), From: attacker, Time: pkt.Time}
						if pass(&spray) {
							e.link.receive(spray.Data, spray.From)
						}
					}
				}
				e.on(func() { e.accept, e.before = pass, before })
				c, err := phone.handshake(e.conn.LocalAddr(), true, dtlsProfiles()...)
				if err != nil {
					t.Fatalf("handshake %d: %v", i, err)
				}
				checkSRTP(t, e, c, true)
			}
			if n := b.agent.started.Load(); n != 25 {
				t.Fatalf("%d handshakes for 25 phones", n)
			}
		})
	}
}

// TestF25ForgedFirst: ClientHellos from the phone's own address, forged, come right before the real one, which takes their place.
func TestF25ForgedFirst(t *testing.T) {
	for _, ice := range []bool{false, true} {
		b, phone := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t)
		e := b.end(false, ice, phone.cert, "sha-256")
		sent := false
		before := func(pkt *udp.Packet) {
			if !sent {
				e.link.receive(clientHello(1), pkt.From)
				e.link.receive(clientHello(2), pkt.From)
			}
			sent = true
		}
		e.on(func() { e.before = before })
		c, err := phone.handshake(e.conn.LocalAddr(), true, dtlsProfiles()...)
		if err != nil {
			t.Fatalf("ice=%v: %v", ice, err)
		}
		checkSRTP(t, e, c, true)
	}
}

// TestDTLSHandshakesAreBounded: 100 phones at once, 8 handshakes at a time, all get through.
func TestDTLSHandshakesAreBounded(t *testing.T) {
	b := newDTLSBench(t, dtlsConfig{Handshakes: 8})
	var most atomic.Int64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			b.agent.mu.Lock()
			most.Store(max(most.Load(), int64(b.agent.mu.running)))
			b.agent.mu.Unlock()
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	var phones sync.WaitGroup
	for range 100 {
		phone := newDTLSPhone(t)
		e := b.end(false, true, phone.cert, "sha-256")
		phones.Go(func() {
			if _, err := phone.handshake(e.conn.LocalAddr(), true, dtlsProfiles()...); err != nil {
				t.Error(err)
			}
		})
	}
	phones.Wait()
	waitFor(t, "the end of all handshakes", func() bool { return b.agent.ended[dtlsOK].Load() == 100 })
	close(stop)
	watch.Wait()
	if most.Load() > 8 {
		t.Fatalf("%d handshakes at a time", most.Load())
	}
	t.Logf("%d ClientHellos waited for room", b.agent.busy.Load())
}

// TestDTLSClientHelloFlood: one source cannot buy a handshake with each packet.
func TestDTLSClientHelloFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newDTLSAgent(dtlsConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var link *dtlsLink
		w := newVirtualWorker(func() { link.tick() })
		link = newDTLSLink(dtlsLinkConfig{agent: a, ice: true, do: w.do, send: func([]byte, netip.AddrPort) {}})
		for i := range 1000 {
			w.do(func() { link.receive(clientHello(byte(i)), netip.MustParseAddrPort("192.0.2.1:9")) })
			time.Sleep(time.Millisecond)
		}
		if n := a.started.Load(); n > 11*dtlsTurns {
			t.Fatalf("%d handshakes in a second", n)
		}
		w.do(func() { link.close() })
		synctest.Wait()
		a.close()
		close(w.ended)
	})
}

func FuzzSortDTLS(f *testing.F) {
	f.Add(clientHello(1))
	f.Add([]byte{20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 80, 0, 1, 1, 22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 84, 0, 2, 1, 2})
	f.Add(bytes.Repeat(clientHello(3), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		kept, first := sortDTLS(append([]byte(nil), b...))
		if len(kept) > len(b) {
			t.Fatal("it grew")
		}
		again, second := sortDTLS(append([]byte(nil), kept...))
		if !bytes.Equal(kept, again) || first != second {
			t.Fatal("what was kept is not kept")
		}
		// What a certificate is looked for in is passed on or not, and never grows but by the fragments that were held.
		var proof dtlsProof
		if out := proof.pass(kept); len(out) > 0 {
			t.Fatal("a certificate that nobody named")
		}
	})
}
