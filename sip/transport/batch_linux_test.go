package transport

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
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

// TestBatchKeepsOrder: what goes to one address comes there whole and in order, whether the kernel cuts runs or not, and runs are made.
func TestBatchKeepsOrder(t *testing.T) {
	tr, err := New(Config{Listeners: listen(UDP), Workers: 1}, &discard{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	l := tr.Listeners()[0]
	o := newBatch(l, l.packet.(*kernelSocket).fds[0], 0)
	if o.plain {
		t.Skip("the kernel cannot send segments")
	}
	type peer struct {
		conn net.PacketConn
		want [][]byte
	}
	var peers []*peer
	for range 4 {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peers = append(peers, &peer{conn: c})
	}
	dice := rand.New(rand.NewPCG(3, 4))
	check := func(name string) {
		t.Helper()
		for i, p := range peers {
			buf := make([]byte, 4096)
			_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			for j, want := range p.want {
				n, _, err := p.conn.ReadFrom(buf)
				if err != nil || !bytes.Equal(buf[:n], want) {
					t.Fatalf("%s: datagram %d of peer %d: %v, %.40q, want %.40q", name, j, i, err, buf[:n], want)
				}
			}
			p.want = nil
		}
	}
	put := func(size int) {
		p := peers[dice.IntN(len(peers))]
		b := bytes.Repeat([]byte{'x'}, size)
		copy(b, fmt.Sprintf("%08x", dice.Uint32()))
		if err := o.add(b, Target{Listener: l, Addr: addrPortOf(p.conn.LocalAddr())}); err != nil {
			t.Fatal(err)
		}
		p.want = append(p.want, b)
	}
	longest := uint8(0)
	before := l.counters[0].messagesOut.Load()
	const rounds, each = 50, 60
	for i := range rounds {
		for range each {
			put([]int{300, 301, 1000, 2000}[dice.IntN(4)%(1+i%4)])
		}
		for _, r := range o.run[:o.runs] {
			longest = max(longest, r.count)
			if r.count > 1 && r.size > maxSegment {
				t.Errorf("%d datagrams of %d bytes make a run", r.count, r.size)
			}
		}
		o.flush()
		check(fmt.Sprint("round ", i))
	}
	if sent := l.counters[0].messagesOut.Load() - before; sent != rounds*each || longest < 5 {
		t.Errorf("%d messages counted, want %d; the longest run is %d", sent, rounds*each, longest)
	}
	for range each { // runs that the kernel refuses
		put(300)
	}
	o.lay()
	for i := range o.runs {
		o.split(i)
	}
	o.n, o.used, o.runs, o.latest = 0, 0, 0, [latestSize]uint8{}
	check("one by one")
	o.plain = true
	for range each {
		put(300)
	}
	if o.runs != each {
		t.Errorf("%d runs of %d datagrams, if the kernel refuses runs", o.runs, each)
	}
	o.flush()
	check("plain")
	if drops := l.counters[0].drops[DropSend].Load(); drops != 0 {
		t.Errorf("%d dropped", drops)
	}
}
