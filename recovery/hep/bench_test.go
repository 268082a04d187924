package hep

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

// BenchmarkSend is the price that the hot side pays for a packet of 1.4 kB that is taken, without a wake-up.
func BenchmarkSend(b *testing.B) {
	s, err := New(Config{Addr: netip.MustParseAddrPort("127.0.0.1:9060")})
	if err != nil {
		b.Fatal(err)
	}
	p := numbered(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Send(p)
		s.queue.release(s.queue.peek(s.spans[:]))
	}
	if d := s.Stats().Dropped; d != [NumDrops]uint64{} {
		b.Error(d)
	}
}

// BenchmarkUDP is what Run brings away over loopback with a hot side that never rests.
func BenchmarkUDP(b *testing.B) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer pc.Close()
	s, err := New(Config{Addr: addrOf(pc.LocalAddr())})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	p := numbered(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Send(p)
	}
	sent := s.Stats().Sent
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "sent/s")
	cancel()
	<-done
}
