package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	piondtls "github.com/pion/dtls/v3"

	"rtcedge/media/sdp"
	"rtcedge/media/udp"
)

// forger writes what somebody can who knows the addresses of the phone and of our port, and sees no packet: DTLS in the phone's
// own name.
type forger struct{ n uint32 }

// record wraps a body; its number is far ahead of the phone's.
func (f *forger) record(kind byte, epoch byte, body []byte) []byte {
	b := []byte{kind, 0xfe, 0xfd, 0, epoch, 0, 0, 1}
	b = append(binary.BigEndian.AppendUint32(b, f.n)[:11], 0, 0)
	f.n++
	binary.BigEndian.PutUint16(b[11:], uint16(len(body)))
	return append(b, body...)
}

func (f *forger) message(kind, seq byte, body []byte) []byte {
	head := []byte{kind, 0, 0, byte(len(body)), 0, seq, 0, 0, 0, 0, 0, byte(len(body))}
	return f.record(dtlsHandshake, 0, append(head, body...))
}

// hello is a ClientHello with a random of its own; with a cookie nobody gave.
func (f *forger) hello(seq byte, cookie []byte) []byte {
	body := clientHello(0)[dtlsRecordLen+dtlsMessageLen:]
	binary.BigEndian.PutUint32(body[2:], f.n+1)
	body = slices.Concat(body[:35], []byte{byte(len(cookie))}, cookie, body[36:])
	return f.message(dtlsClientHello, seq, body)
}

// burst is one of each; its ClientHellos are fewer than begin handshakes in a tick.
func (f *forger) burst() [][]byte {
	return [][]byte{
		f.hello(0, nil), f.hello(0, nil), f.hello(0, bytes.Repeat([]byte{9}, 20)), f.hello(1, bytes.Repeat([]byte{7}, 20)),
		f.message(dtlsClientHello, 0, []byte{0xfe, 0xfd}),                             // too short for a random
		f.message(dtlsCertificate, 1, []byte{0, 0, 8, 0, 0, 5, 1, 2, 3, 4, 5}),        // of somebody else, where the phone's is waited for
		f.message(dtlsCertificate, 2, []byte{0, 0, 8, 0, 0, 5, 1, 2, 3, 4, 5}),        // the same behind a cookie
		f.message(dtlsCertificate, 2, []byte{0, 0, 0}),                                // none
		f.message(16, 2, []byte{4, 1, 2, 3, 4}), f.message(16, 3, []byte{4, 1, 2, 3}), // ClientKeyExchange
		f.message(15, 4, []byte{4, 3, 0, 2, 1, 1}), // CertificateVerify
		f.record(dtlsChangeCipherSpec, 0, []byte{1}),
		f.record(dtlsHandshake, 1, bytes.Repeat([]byte{3}, 40)),
		f.record(dtlsAlert, 0, []byte{2, 40}),
	}
}

// TestF25ForgedInThePhonesName: a blind forger writes ClientHellos and all that follows one, in the name of the phone, before each of
// the phone's packets. All handshakes succeed, and no alert that the forgery caused goes to the phone.
func TestF25ForgedInThePhonesName(t *testing.T) {
	for name, ice := range map[string]bool{"latch": false, "ice": true} {
		t.Run(name, func(t *testing.T) {
			b := newDTLSBench(t, dtlsConfig{})
			for i := range 25 {
				phone := newDTLSPhone(t)
				e := b.end(false, ice, phone.cert, "sha-256")
				var f forger
				alerts := 0
				e.on(func() {
					e.before = func(pkt *udp.Packet) {
						for _, forged := range f.burst() {
							e.link.receive(forged, pkt.From)
						}
					}
					e.drop = func(p []byte) bool {
						if dtlsFirst(p) == dtlsPlainAlert {
							alerts++
						}
						return false
					}
				})
				c, err := phone.handshake(e.conn.LocalAddr(), true, dtlsProfiles()...)
				if err != nil {
					t.Fatalf("handshake %d: %v", i, err)
				}
				checkSRTP(t, e, c, true)
				e.on(func() {
					if alerts > 0 || e.link.try != nil {
						t.Errorf("%d alerts, a handshake goes on: %v", alerts, e.link.try != nil)
					}
				})
			}
		})
	}
}

// TestF25ForgersFlood: 1000 forged ClientHellos a second, most before the phone's. None begins a handshake, each is answered by less than
// it was, and the phone's goes through.
func TestF25ForgersFlood(t *testing.T) {
	b, phone := newDTLSBench(t, dtlsConfig{}), newDTLSPhone(t)
	e := b.end(false, false, phone.cert, "sha-256")
	var f forger
	in, out := 0, 0
	e.on(func() { e.drop = func(p []byte) bool { out += len(p); return true } })
	for range 1000 {
		e.on(func() {
			hello := f.hello(0, nil)
			in += len(hello)
			e.link.receive(hello, phone.addr())
		})
	}
	if n := b.agent.started.Load(); n != 0 || out == 0 || out > in {
		t.Fatalf("%d handshakes, %d bytes out for %d", n, out, in)
	}
	e.on(func() { e.drop = nil })
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				b.loop.Do(func() { e.link.receive(f.hello(0, nil), phone.addr()) })
			}
		}
	}()
	c, err := phone.handshake(e.conn.LocalAddr(), true, dtlsProfiles()...)
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	checkSRTP(t, e, c, true)
	if n := b.agent.started.Load(); n != 1 {
		t.Fatalf("%d handshakes for one phone", n)
	}
}

// TestB35PionCookie: pion's cookie is where we look for it, and has the length of ours.
func TestB35PionCookie(t *testing.T) {
	phone := newDTLSPhone(t)
	conn := newDTLSConn(func([]byte) {})
	c, err := piondtls.ServerWithOptions(conn, dtlsPeer{}, piondtls.WithCertificates(phone.cert),
		piondtls.WithSRTPProtectionProfiles(dtlsProfiles()...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan int, 1)
	conn.resume(&dtlsProven{cookie: make([]byte, dtlsCookieLen), first: clientHello(1)}, func() []byte {
		seen <- len(pionCookie(c))
		cancel()
		return nil
	})
	_ = c.HandshakeContext(ctx)
	select {
	case n := <-seen:
		if n != dtlsCookieLen {
			t.Fatalf("pion's cookie has %d bytes, ours %d", n, dtlsCookieLen)
		}
	default:
		t.Fatal("pion did not ask for its cookie")
	}
}

// TestB35ClientHelloInFragments: one longer than a packet, as with large key shares, with others of the same name between.
func TestB35ClientHelloInFragments(t *testing.T) {
	a, err := newDTLSAgent(dtlsConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	from := netip.MustParseAddrPort("192.0.2.1:9")
	var f forger
	cookie := a.cookie(from)
	body := f.hello(1, cookie)[dtlsRecordLen+dtlsMessageLen:]
	var parts dtlsParts
	n := len(body)
	for at := 0; at < n; at += 90 {
		end := min(at+90, n)
		head := []byte{dtlsClientHello, 0, byte(n >> 8), byte(n), 0, 1, 0, 0, byte(at), 0, 0, byte(end - at)}
		record := f.record(dtlsHandshake, 0, append(head, body[at:end]...))
		if parts.add(record, dtlsMaxHello) != (end == n) {
			t.Fatalf("whole at %d of %d", end, n)
		}
	}
	h, ok := readHello(parts.body)
	if !ok || !bytes.Equal(h.cookie, cookie) {
		t.Fatal("cookie not found")
	}
	proven := newDTLSProven(&h, parts)
	want := slices.Concat(body[:35], []byte{0}, body[36+len(cookie):])
	if got := proven.first[dtlsRecordLen+dtlsMessageLen:]; !bytes.Equal(got, want) {
		t.Fatalf("without the cookie %x, want %x", got, want)
	}
}

// TestB35CertificateInFragments: a certificate longer than a packet is checked when it is whole, with another's fragment between.
func TestB35CertificateInFragments(t *testing.T) {
	phone := newDTLSPhone(t)
	der := phone.cert.Certificate[0]
	n := len(der)
	body := append([]byte{0, byte((n + 3) >> 8), byte(n + 3), 0, byte(n >> 8), byte(n)}, der...)
	var f forger
	part := func(from, to int) []byte {
		head := []byte{dtlsCertificate, 0, byte(len(body) >> 8), byte(len(body)), 0, 2, 0, byte(from >> 8), byte(from), 0, byte((to - from) >> 8), byte(to - from)}
		return f.record(dtlsHandshake, 0, append(head, body[from:to]...))
	}
	pins, err := newDTLSPins([]sdp.Fingerprint{{Hash: "sha-256", Sum: dtlsDigest("sha-256", der)}})
	if err != nil {
		t.Fatal(err)
	}
	p := dtlsProof{pins: pins}
	first, second, last := part(0, 100), part(100, 200), part(200, len(body))
	for i, b := range [][]byte{first, f.message(16, 3, []byte{1, 2}), second, second} {
		if got := p.pass(slices.Clone(b)); got != nil {
			t.Fatalf("part %d passed", i)
		}
	}
	next := f.message(16, 3, []byte{1, 2})
	want := slices.Concat(first, second, last, next)
	if got := p.pass(slices.Concat(last, next)); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes passed, want %d", len(got), len(want))
	}
	if got := p.pass(slices.Clone(next)); !bytes.Equal(got, next) {
		t.Fatal("what follows was kept")
	}
}
