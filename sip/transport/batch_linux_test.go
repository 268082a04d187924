package transport

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// batches notes what Worker.Batch says for each message.
type batches chan bool

func (b batches) Handle(m *Message) {
	serial, full := m.Worker.Batch()
	b <- full || serial == 0
}

// TestF15BatchIsNotFull: a single datagram comes in a numbered batch that is not full.
func TestF15BatchIsNotFull(t *testing.T) {
	seen := make(batches, 1)
	tr, err := New(Config{Workers: 1, Listeners: []ListenerConfig{{Addr: netip.MustParseAddrPort("127.0.0.1:0")}}}, seen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	conn, err := net.Dial("udp", tr.Listeners()[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("OPTIONS sip:a SIP/2.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case wrong := <-seen:
		if wrong {
			t.Error("full, or without a number")
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing came")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// behind writes more datagrams while the first one is handled, and tells what Worker.Backlog says then; and what Worker.Arrived says of a
// message, the second time that it is asked.
type behind struct {
	conn  net.Conn
	asked int
	seen  chan float64
	came  chan time.Time
}

func (b *behind) Handle(m *Message) {
	b.asked++
	if at := m.Worker.Arrived(); b.asked == 3 { // the first ones may have come before the kernel took note of times
		b.came <- at
	}
	for range 5 {
		_, _ = b.conn.Write([]byte("OPTIONS sip:b SIP/2.0\r\n\r\n"))
	}
	select {
	case b.seen <- m.Worker.Backlog():
	default:
	}
}

// TestF15Backlog: what waits in the socket counts, and a worker without one knows nothing.
func TestF15Backlog(t *testing.T) {
	if w := new(Worker); w.Backlog() != 0 || !w.Arrived().IsZero() || w.Idle() != 0 {
		t.Errorf("%v, %v and %v of no socket", w.Backlog(), w.Arrived(), w.Idle())
	}
	start := time.Now()
	h := &behind{seen: make(chan float64, 1), came: make(chan time.Time, 1)}
	tr, err := New(Config{Workers: 1, Listeners: []ListenerConfig{{Addr: netip.MustParseAddrPort("127.0.0.1:0")}}}, h)
	if err != nil {
		t.Fatal(err)
	}
	if h.conn, err = net.Dial("udp", tr.Listeners()[0].Addr().String()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	if _, err := h.conn.Write([]byte("OPTIONS sip:a SIP/2.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-h.seen:
		if n <= 0 || n > 1 {
			t.Errorf("backlog %v, but five datagrams wait", n)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing came")
	}
	select {
	case at := <-h.came:
		if at.Before(start) || at.After(time.Now()) {
			t.Errorf("a message of now came at %v", at)
		}
	case <-time.After(5 * time.Second):
		t.Error("no third message")
	}
	h.conn.Close() // or they would go on for ever
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
