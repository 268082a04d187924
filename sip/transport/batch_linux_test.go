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
