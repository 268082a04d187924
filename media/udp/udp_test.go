package udp_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"rtcedge/media/udp"
)

var loopback4, loopback6 = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")

// echo sends each packet back with one byte added behind it, in the tail room.
type echo struct {
	conn  *udp.Conn
	count atomic.Int64
	room  atomic.Int64
}

func (e *echo) Receive(p *udp.Packet) {
	e.room.Store(int64(cap(p.Data) - len(p.Data)))
	_ = e.conn.WriteTo(append(p.Data, '!'), p.From)
	e.count.Add(1)
}

func start(t testing.TB, cfg udp.LoopConfig) (*udp.Loop, func()) {
	t.Helper()
	l, err := udp.NewLoop(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("run:", err)
		}
	}
	return l, stop
}

// open puts an echo on the loop and waits until its connection is known to it.
func open(t testing.TB, l *udp.Loop, ip netip.Addr) *echo {
	t.Helper()
	e := &echo{}
	ready := make(chan struct{})
	c, err := l.Listen(netip.AddrPortFrom(ip, 0), udp.Options{RecvBuffer: 1 << 16, TOS: 184}, e)
	if err != nil {
		t.Fatal(err)
	}
	l.Do(func() { e.conn = c; close(ready) })
	<-ready
	return e
}

func dial(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

// TestConformance runs the same exchange through system calls and through the portable twin.
func TestConformance(t *testing.T) {
	for _, portable := range []bool{false, true} {
		for _, ip := range []netip.Addr{loopback4, loopback6} {
			t.Run(fmt.Sprintf("portable=%v/%s", portable, ip), func(t *testing.T) {
				var ticks atomic.Int64
				l, stop := start(t, udp.LoopConfig{
					Portable: portable, Interval: time.Millisecond, Tick: func(time.Time) { ticks.Add(1) },
				})
				var echoes []*echo
				for range 20 {
					echoes = append(echoes, open(t, l, ip))
				}
				buf := make([]byte, 3000)
				for i, e := range echoes {
					c := dial(t, e.conn.LocalAddr())
					for _, size := range []int{1, 172, 1500, 2048} {
						out := make([]byte, size)
						out[0] = byte(i)
						if _, err := c.Write(out); err != nil {
							t.Fatal(err)
						}
						n, err := c.Read(buf)
						if err != nil || n != size+1 || buf[0] != byte(i) || buf[n-1] != '!' {
							t.Fatalf("size %d: got %d bytes, %v", size, n, err)
						}
					}
					if e.room.Load() < udp.Tailroom {
						t.Fatalf("tail room %d", e.room.Load())
					}
				}
				// A socket closed on the loop is gone, its port can be opened again, its neighbours still answer.
				addr := echoes[0].conn.LocalAddr()
				closed := make(chan error, 1)
				l.Do(func() { closed <- echoes[0].conn.Close() })
				if err := <-closed; err != nil {
					t.Fatal("close:", err)
				}
				again := &echo{}
				c, err := l.Listen(addr, udp.Options{}, again)
				if err != nil {
					t.Fatal("listen again:", err)
				}
				ready := make(chan struct{})
				l.Do(func() { again.conn = c; close(ready) })
				<-ready
				for _, to := range []netip.AddrPort{addr, echoes[1].conn.LocalAddr()} {
					p := dial(t, to)
					p.Write([]byte("x"))
					if n, err := p.Read(buf); err != nil || n != 2 {
						t.Fatalf("%s after close: %d, %v", to, n, err)
					}
				}
				if _, err := l.Listen(addr, udp.Options{}, again); !udp.InUse(err) {
					t.Errorf("second listen: %v, want in use", err)
				}
				stop()
				if ticks.Load() == 0 {
					t.Error("no tick")
				}
				if _, err := l.Listen(netip.AddrPortFrom(ip, 0), udp.Options{}, again); err == nil {
					t.Error("listen after the end worked")
				}
				if _, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr)); err != nil {
					t.Error("port not released:", err)
				}
			})
		}
	}
}

// TestDoIsNeverLost posts from two goroutines while the loop wakes and sleeps.
func TestDoIsNeverLost(t *testing.T) {
	for _, portable := range []bool{false, true} {
		l, stop := start(t, udp.LoopConfig{Portable: portable})
		done := make(chan bool)
		for range 2 {
			go func() {
				for range 20000 {
					ran := make(chan struct{})
					l.Do(func() { close(ran) })
					select {
					case <-ran:
					case <-time.After(5 * time.Second):
						t.Error("a function did not run")
						done <- false
						return
					}
				}
				done <- true
			}()
		}
		<-done
		<-done
		stop()
	}
}

func TestListenPair(t *testing.T) {
	var conns []*udp.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	seen := map[uint16]bool{}
	for range 4 {
		a, b, err := udp.ListenPair(loopback4, 41001, 41009, udp.Options{TOS: 184})
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, a, b)
		p := a.LocalAddr().Port()
		if p%2 != 0 || b.LocalAddr().Port() != p+1 || p < 41002 || p > 41008 || seen[p] {
			t.Fatalf("pair %d/%d", p, b.LocalAddr().Port())
		}
		seen[p] = true
	}
	if _, _, err := udp.ListenPair(loopback4, 41001, 41009, udp.Options{}); err == nil {
		t.Error("a fifth pair in a range of four")
	}
	if _, _, err := udp.ListenPair(loopback4, 41001, 41002, udp.Options{}); err == nil {
		t.Error("a pair in a range with none")
	}
	c := dial(t, conns[0].LocalAddr())
	c.Write([]byte("hello"))
	conns[0].SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 100)
	n, from, err := conns[0].ReadFrom(buf)
	if err != nil || string(buf[:n]) != "hello" || from != c.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Fatalf("%q from %s, %v", buf[:n], from, err)
	}
}

func TestPairs(t *testing.T) {
	for _, tt := range []struct {
		lo, hi, first uint16
		n             int
	}{
		{30000, 39999, 30000, 5000}, {1, 3, 2, 1}, {1, 2, 0, 0}, {65534, 65535, 65534, 1}, {65535, 65535, 0, 0}, {10, 9, 0, 0},
	} {
		if first, n := udp.Pairs(tt.lo, tt.hi); first != tt.first || n != tt.n {
			t.Errorf("%d-%d: %d, %d", tt.lo, tt.hi, first, n)
		}
	}
}

// BenchmarkEcho is a packet in and a packet out, with a plain peer on the same core: the cost of two socket hops.
func BenchmarkEcho(b *testing.B) {
	for _, portable := range []bool{false, true} {
		b.Run(fmt.Sprintf("portable=%v", portable), func(b *testing.B) {
			l, stop := start(b, udp.LoopConfig{Portable: portable})
			defer stop()
			e := open(b, l, loopback4)
			c := dial(b, e.conn.LocalAddr())
			c.SetDeadline(time.Time{})
			out, in := make([]byte, 172), make([]byte, 2000)
			b.ReportAllocs()
			for b.Loop() {
				for range 16 {
					c.Write(out)
				}
				for range 16 {
					c.Read(in)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/packet")
		})
	}
}

// TestDoBeforeLaterPackets: a packet that was sent after Do finds its function done, also where both wait for a loop that is at work;
// Later's are done with the packet, at the latest.
func TestDoBeforeLaterPackets(t *testing.T) {
	l, stop := start(t, udp.LoopConfig{})
	defer stop()
	e := open(t, l, loopback4)
	c := dial(t, e.conn.LocalAddr())
	for range 20 {
		before := int64(0)
		busy, free := make(chan struct{}), make(chan struct{})
		l.Do(func() { before = e.count.Load(); close(busy); <-free })
		<-busy
		seen, later := int64(-1), make(chan struct{})
		l.Do(func() { seen = e.count.Load() })
		l.Later(func() { close(later) })
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		close(free)
		if _, err := c.Read(make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		<-later
		if seen != before {
			t.Fatalf("the function saw %d packets, want %d", seen, before)
		}
	}
}
