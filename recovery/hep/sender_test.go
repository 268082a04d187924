package hep

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// start runs a sender until the test's end, and checks that it then ends soon and leaves no goroutine.
func start(t *testing.T, cfg Config) (*Sender, func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := func() {
		if cancel == nil {
			return
		}
		cancel()
		cancel = nil
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("run does not end")
		}
	}
	t.Cleanup(func() {
		stop()
		if !eventually(func() bool { return runtime.NumGoroutine() <= before }) {
			t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	})
	return s, stop
}

func eventually(ok func() bool) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// numbered is a packet of a real one's size that says which one it is.
func numbered(i uint32) Packet {
	p := sample()
	p.Payload = make([]byte, 1400)
	binary.BigEndian.PutUint32(p.Payload, i)
	return p
}

func number(t *testing.T, b []byte) uint32 {
	t.Helper()
	p, fault := Parse(b)
	if fault != FaultNone || len(p.Payload) != 1400 {
		t.Fatalf("%v, %d bytes of payload", fault, len(p.Payload))
	}
	if p.CaptureID != 7 || string(p.Node) != "edge-7" || string(p.AuthKey) != "secret" || string(p.CorrelationID) != "asidkj3ss@192.0.2.4" {
		t.Fatalf("%+v", p)
	}
	return binary.BigEndian.Uint32(p.Payload)
}

func config(addr netip.AddrPort, proto Proto) Config {
	return Config{Addr: addr, Proto: proto, CaptureID: 7, NodeName: "edge-7", AuthKey: "secret"}
}

// readPacket cuts one packet out of a stream.
func readPacket(r io.Reader) ([]byte, error) {
	b := make([]byte, MaxPacket)
	if _, err := io.ReadFull(r, b[:headerLen]); err != nil {
		return nil, err
	}
	n, fault := Length(b)
	if fault != FaultNone {
		return nil, net.InvalidAddrError(fault.String())
	}
	_, err := io.ReadFull(r, b[headerLen:n])
	return b[:n], err
}

// TestB12UDP: each packet is a datagram of its own, in order, over both families.
func TestB12UDP(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(local, func(t *testing.T) {
			pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local)))
			if err != nil {
				t.Skip("no such address here: ", err)
			}
			defer pc.Close()
			s, _ := start(t, config(addrOf(pc.LocalAddr()), OverUDP))
			buf := make([]byte, MaxPacket)
			for i := uint32(0); i < 1000; {
				for range 50 { // what fits the kernel's buffer
					s.Send(numbered(i))
					i++
				}
				for k := i - 50; k < i; k++ {
					_ = pc.SetReadDeadline(time.Now().Add(20 * time.Second))
					n, err := pc.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					if got := number(t, buf[:n]); got != k {
						t.Fatalf("packet %d, want %d", got, k)
					}
				}
			}
			if !eventually(func() bool { return s.Stats().Sent == 1000 }) {
				t.Errorf("%+v", s.Stats())
			}
		})
	}
}

// TestB12TCP: all of a burst of many times a socket's buffer arrives, in order, and what waits at the end is flushed.
func TestB12TCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, stop := start(t, config(addrOf(l.Addr()), OverTCP))
	const n = 5000
	for i := range uint32(n) {
		s.Send(numbered(i))
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stopped := make(chan struct{})
	r := bufio.NewReader(conn)
	for i := range uint32(n) {
		if i == n/2 {
			go func() { defer close(stopped); stop() }()
		}
		b, err := readPacket(r)
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if got := number(t, b); got != i {
			t.Fatalf("packet %d, want %d", got, i)
		}
	}
	if _, err := readPacket(r); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last packet: %v", err)
	}
	<-stopped
	if st := s.Stats(); st.Sent != n || st.Dropped != [NumDrops]uint64{} || st.Connected {
		t.Errorf("%+v", st)
	}
	s.Send(numbered(n))
	if got := s.Stats().Dropped[DropEnded]; got != 1 {
		t.Errorf("after the end: %d dropped", got)
	}
}

// TestB12TCPReconnects: a collector that closes and one that is not there cost no packet that was offered meanwhile.
func TestB12TCPReconnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := addrOf(l.Addr())
	s, _ := start(t, config(addr, OverTCP))
	s.Send(numbered(0))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := readPacket(conn); err != nil || number(t, b) != 0 {
		t.Fatal(err)
	}
	l.Close()
	conn.Close()
	if !eventually(func() bool { return !s.Stats().Connected }) {
		t.Fatal("an idle sender does not notice the end of its connection")
	}
	for i := range uint32(500) {
		s.Send(numbered(1 + i))
	}
	l, err = net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := range uint32(500) {
		b, err := readPacket(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := number(t, b); got != i+1 {
			t.Fatalf("packet %d, want %d", got, i+1)
		}
	}
	if st := s.Stats(); st.Reconnects != 1 || st.Dropped != [NumDrops]uint64{} {
		t.Errorf("%+v", st)
	}
}

// TestB12TCPStalled: a connection that takes nothing is given up, and the packet that was written in part comes again
// whole: over all connections the collector sees each packet once, in order.
func TestB12TCPStalled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config(addrOf(l.Addr()), OverTCP)
	cfg.StallTimeout = 200 * time.Millisecond
	cfg.QueueMessages, cfg.QueueBytes = 1<<14, 32<<20
	s, _ := start(t, cfg)
	const n = 12000 // 18 MB: more than a loopback socket takes
	for i := range uint32(n) {
		s.Send(numbered(i))
	}
	if !eventually(func() bool { return s.Stats().Reconnects > 0 }) {
		t.Fatalf("%+v", s.Stats())
	}
	// What the first connection had taken is still there to be read, up to a packet that ends early. On a busy machine
	// this reader may be late for the second one as well.
	next, lens := uint32(0), []uint32{}
	for next < n {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		first := next
		for r := bufio.NewReader(conn); next < n; next++ {
			b, err := readPacket(r)
			if err != nil {
				break
			}
			if got := number(t, b); got != next {
				t.Fatalf("packet %d, want %d", got, next)
			}
		}
		conn.Close()
		lens = append(lens, next-first)
	}
	t.Logf("packets per connection %v; %+v", lens, s.Stats())
	if len(lens) < 2 || lens[0] == 0 || s.Stats().Dropped != [NumDrops]uint64{} {
		t.Error("the first connection did not stall")
	}
}

// flood offers packets and tells the times that Send took.
func flood(s *Sender, n int) []time.Duration {
	took := make([]time.Duration, n)
	p := numbered(1)
	for i := range took {
		began := time.Now()
		s.Send(p)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took
}

func judge(t *testing.T, took []time.Duration) {
	t.Helper()
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	t.Logf("Send: p50 %v, p99 %v, p99.9 %v, longest %v", at(0.5), at(0.99), at(0.999), at(1))
	// The scheduler of a busy machine may stop any goroutine for milliseconds. One that waits for the collector stands for
	// StallTimeout, or for ever.
	if at(0.5) > 20*time.Microsecond || at(0.99) > 10*time.Millisecond || at(1) > defaultStall/2 {
		t.Error("Send waits")
	}
}

// TestB12CollectorNeverReads: it accepts and reads nothing. The queue fills, the rest is counted as dropped, and Send takes
// microseconds all the while; the end does not hang either.
func TestB12CollectorNeverReads(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, stop := start(t, config(addrOf(l.Addr()), OverTCP))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	took := flood(s, 100000)
	judge(t, took)
	st := s.Stats()
	dropped := st.Dropped[DropMessages] + st.Dropped[DropBytes]
	if dropped == 0 || st.WaitingMessages == 0 || st.WaitingMessages > defaultMessages || st.WaitingBytes > defaultBytes {
		t.Errorf("%+v", st)
	}
	flood(s, 100)
	if again := s.Stats(); again.Dropped[DropMessages]+again.Dropped[DropBytes] != dropped+100 {
		t.Errorf("the count of drops does not grow: %+v", again)
	}
	stop()
	st = s.Stats()
	if sum := st.Sent + st.Dropped[DropMessages] + st.Dropped[DropBytes] + st.Dropped[DropEnded]; sum != 100100 || st.WaitingMessages != 0 {
		t.Errorf("%d packets have a fate, of 100100: %+v", sum, st)
	}
}

// TestB12CollectorDead: nobody listens at the port, over both transports.
func TestB12CollectorDead(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp := addrOf(pc.LocalAddr())
	pc.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp := addrOf(l.Addr())
	l.Close()

	t.Run("udp", func(t *testing.T) {
		s, _ := start(t, config(udp, OverUDP))
		judge(t, flood(s, 20000))
		if !eventually(func() bool { return s.Stats().Dropped[DropRefused] > 0 && s.Stats().WaitingMessages == 0 }) {
			t.Errorf("%+v", s.Stats())
		}
		before := s.Stats().Dropped[DropRefused]
		if !eventually(func() bool { s.Send(numbered(1)); return s.Stats().Dropped[DropRefused] > before }) {
			t.Errorf("the count of drops does not grow: %+v", s.Stats())
		}
		if !s.Stats().Connected {
			t.Error("a refusal ended the socket")
		}
	})
	t.Run("tcp", func(t *testing.T) {
		s, _ := start(t, config(tcp, OverTCP))
		judge(t, flood(s, 20000))
		st := s.Stats()
		if st.Dropped[DropMessages]+st.Dropped[DropBytes] != 20000-uint64(st.WaitingMessages) || st.WaitingMessages == 0 || st.Connected {
			t.Errorf("%+v", st)
		}
	})
}

// TestB12UDPComesBack: a collector that starts late gets the next packet.
func TestB12UDPComesBack(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := addrOf(pc.LocalAddr())
	pc.Close()
	s, _ := start(t, config(addr, OverUDP))
	s.Send(numbered(1))
	if !eventually(func() bool { return s.Stats().Sent == 1 }) {
		t.Fatalf("%+v", s.Stats())
	}
	pc, err = net.ListenPacket("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	s.Send(numbered(2))
	_ = pc.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, MaxPacket)
	n, _, err := pc.ReadFrom(buf)
	if err != nil || number(t, buf[:n]) != 2 {
		t.Errorf("%v, %+v", err, s.Stats())
	}
}

// TestB12NotRunning: a sender that is never run costs its queue, and no time.
func TestB12NotRunning(t *testing.T) {
	s, err := New(Config{Addr: netip.MustParseAddrPort("127.0.0.1:9060"), QueueMessages: 100, QueueBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	judge(t, flood(s, 1000))
	if st := s.Stats(); st.WaitingMessages == 0 || st.WaitingBytes > minBytes || st.Dropped[DropBytes]+uint64(st.WaitingMessages) != 1000 {
		t.Errorf("%+v", st)
	}
	p := sample()
	p.Payload = make([]byte, MaxPacket)
	s.Send(p)
	if st := s.Stats(); st.Dropped[DropTooLarge] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestB12SendNoAllocation: neither a packet that is taken nor one that is dropped allocates, with Run at work.
func TestB12SendNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	running, _ := start(t, config(addrOf(pc.LocalAddr()), OverUDP))
	full, err := New(config(addrOf(pc.LocalAddr()), OverUDP))
	if err != nil {
		t.Fatal(err)
	}
	flood(full, defaultMessages)
	p := numbered(1)
	if !eventually(func() bool { return running.Stats().Connected }) {
		t.Fatal("not connected")
	}
	for name, s := range map[string]*Sender{"taken": running, "dropped": full} {
		if n := testing.AllocsPerRun(1000, func() {
			p.CorrelationID = CallID(p.Payload)
			s.Send(p)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestConfig(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:9060")
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"no address": {Config{}, "want IP:PORT"},
		"no port":    {Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")}, "want IP:PORT"},
		"protocol":   {Config{Addr: addr, Proto: "tls"}, "want udp or tcp"},
		"long name":  {Config{Addr: addr, NodeName: strings.Repeat("x", 256)}, "at most 255 bytes"},
		"long key":   {Config{Addr: addr, AuthKey: strings.Repeat("x", 256)}, "at most 255 bytes"},
		"messages":   {Config{Addr: addr, QueueMessages: -1}, "queue"},
		"bytes":      {Config{Addr: addr, QueueBytes: 2 << 30}, "queue"},
		"stall":      {Config{Addr: addr, StallTimeout: -1}, "stall timeout"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := Config{Addr: addr, QueueMessages: 1000, QueueBytes: 1}
	if err := cfg.validate(); err != nil || cfg.QueueMessages != 1024 || cfg.QueueBytes != minBytes || cfg.Proto != OverUDP {
		t.Errorf("%v, %+v", err, cfg)
	}
}
