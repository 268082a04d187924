package hep

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"rtcedge/internal/testrun"
)

// receive runs a receiver and returns its addresses (udp, tcp) and the payloads that it handed on.
func receive(t *testing.T, cfg ReceiverConfig) (r *Receiver, got chan string) {
	t.Helper()
	got = make(chan string, 1000)
	local := netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Listen = []ListenAddr{{OverUDP, local}, {OverTCP, local}}
	cfg.Handle = func(p Packet) { got <- string(p.Payload) }
	r, err := NewReceiver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, r.Run)
	return r, got
}

func packetFor(t *testing.T, text, key string) []byte {
	t.Helper()
	b, fault := Append(nil, Packet{Source: netip.MustParseAddrPort("192.0.2.1:5060"), Destination: netip.MustParseAddrPort("192.0.2.2:5060"),
		Protocol: SIP, Time: time.Unix(1, 0), AuthKey: []byte(key), Payload: []byte(text)})
	if fault != FaultNone {
		t.Fatal(fault)
	}
	return b
}

func send(t *testing.T, a net.Addr, packets ...[]byte) net.Conn {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for _, p := range packets {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func want(t *testing.T, got chan string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		select {
		case g := <-got:
			if g != text {
				t.Fatalf("got %q, want %q", g, text)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%q did not come", text)
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestB53ReceiverTakesUDPAndTCP(t *testing.T) {
	r, got := receive(t, ReceiverConfig{})
	send(t, r.Addrs()[0], packetFor(t, "one", ""))
	want(t, got, "one")
	two := packetFor(t, "two", "")
	c := send(t, r.Addrs()[1], two[:5]) // a stream has no packets
	if _, err := c.Write(append(two[5:], packetFor(t, "three", "")...)); err != nil {
		t.Fatal(err)
	}
	want(t, got, "two", "three")
}

// TestF34ReceiverTakesNoForgedHEP: neither from elsewhere nor without the key; nothing that is no packet does harm.
func TestF34ReceiverTakesNoForgedHEP(t *testing.T) {
	r, got := receive(t, ReceiverConfig{Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	send(t, r.Addrs()[0], packetFor(t, "forged", ""))
	send(t, r.Addrs()[1])
	waitFor(t, "the source is counted", func() bool { return r.Stats().Rejected[RejectSource] == 2 })

	r, got2 := receive(t, ReceiverConfig{AuthKey: "secret"})
	send(t, r.Addrs()[0], packetFor(t, "forged", ""), packetFor(t, "forged", "secre"), []byte("HEP3 nonsense"), nil, packetFor(t, "true", "secret"))
	want(t, got2, "true")
	st := r.Stats()
	if st.Rejected[RejectKey] != 2 || st.Rejected[RejectFault] < 1 || len(got) != 0 {
		t.Errorf("%+v", st)
	}
	c := send(t, r.Addrs()[1], []byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a stream that is no HEP goes on")
	}
}

func TestReceiverBoundsConnections(t *testing.T) {
	r, got := receive(t, ReceiverConfig{MaxConns: 1})
	send(t, r.Addrs()[1], packetFor(t, "one", ""))
	want(t, got, "one")
	c := send(t, r.Addrs()[1])
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a second connection is served")
	}
	if st := r.Stats(); st.Conns != 1 || st.Rejected[RejectConns] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestF34SilentStrangersKeepNobodyOut: whoever connects and says nothing, or nothing that can be read, gives way to those who come later; a sender that was
// heard stays.
func TestF34SilentStrangersKeepNobodyOut(t *testing.T) {
	r, got := receive(t, ReceiverConfig{MaxConns: 4, AuthKey: "secret"})
	edge := send(t, r.Addrs()[1], packetFor(t, "one", "secret"))
	want(t, got, "one")
	waitFor(t, "the sender was heard", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.mute) == 0 })
	var strangers []net.Conn
	for i := range 12 {
		c := send(t, r.Addrs()[1])
		if i%2 == 0 {
			if _, err := c.Write(faultyPacket(t)); err != nil {
				t.Fatal(err)
			}
		}
		strangers = append(strangers, c)
	}
	second := send(t, r.Addrs()[1], packetFor(t, "two", "secret"))
	want(t, got, "two")
	for _, c := range strangers[:9] {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the oldest that says nothing stays: %v", err)
		}
	}
	for n, c := range []net.Conn{edge, second} {
		if _, err := c.Write(packetFor(t, "again", "secret")); err != nil {
			t.Errorf("sender %d: %v", n, err)
		}
		want(t, got, "again")
	}
	if st := r.Stats(); st.Conns != 4 || st.Rejected[RejectConns] != 10 {
		t.Errorf("%+v", st)
	}
}

// faultyPacket has a right length and a chunk that ends behind it.
func faultyPacket(t *testing.T) []byte {
	t.Helper()
	b := packetFor(t, "faulty", "secret")
	b[headerLen+4] = 0xff
	return b
}

// TestB53FaultInAPacketEndsNoStream: where the next packet begins is known, so it is read.
func TestB53FaultInAPacketEndsNoStream(t *testing.T) {
	r, got := receive(t, ReceiverConfig{})
	send(t, r.Addrs()[1], packetFor(t, "one", ""), faultyPacket(t), packetFor(t, "two", ""))
	want(t, got, "one", "two")
	if st := r.Stats(); st.Rejected[RejectFault] != 1 || st.Received != 2 {
		t.Errorf("%+v", st)
	}
}

// broken is a socket whose reads fail, until it is closed.
type broken struct {
	net.PacketConn
	reads  int
	closed chan struct{}
}

func (b *broken) ReadFrom([]byte) (int, net.Addr, error) {
	b.reads++
	select {
	case <-b.closed:
		return 0, nil, net.ErrClosed
	default:
		return 0, nil, errors.New("no buffer space available")
	}
}

// TestB53SocketErrorThatRepeats takes no core for itself.
func TestB53SocketErrorThatRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &broken{closed: make(chan struct{})}
		r := &Receiver{}
		time.AfterFunc(10*time.Second, func() { close(b.closed) })
		r.datagrams(b)
		if b.reads < 90 || b.reads > 120 {
			t.Errorf("%d reads in 10 s", b.reads)
		}
	})
}
