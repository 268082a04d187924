package transport

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func dialUDP(t testing.TB, l *Listener) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(l.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadBuffer(8 << 20)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

// udpListeners are the kernel's sockets and the portable twin, which must not differ.
func udpListeners(t *testing.T) map[string][]ListenerConfig {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]ListenerConfig{"kernel": listen(UDP), "portable": {{Packet: pc}}}
}

// TestUDPBatches: more messages than a batch holds, of every size up to the largest datagram, each answered once.
func TestUDPBatches(t *testing.T) {
	for name, listeners := range udpListeners(t) {
		t.Run(name, func(t *testing.T) {
			l := start(t, Config{Listeners: listeners, Workers: 2}, newEcho()).Listeners()[0]
			c := dialUDP(t, l)
			want := map[string]int{}
			for round := range 10 {
				for i := range 100 {
					m := message(round*100+i, i*97%9000)
					want[m]++
					if _, err := io.WriteString(c, m); err != nil {
						t.Fatal(err)
					}
				}
				got := collect(t, c, 100)
				for m, n := range got {
					if want[m] != n {
						t.Fatalf("%d times: %.60q", n, m)
					}
				}
			}
			large := message(1, 65000)
			_, _ = io.WriteString(c, large)
			if got := collect(t, c, 1); got[large] != 1 {
				t.Error("the largest datagram was changed")
			}
			eventually(t, "counters", func() bool {
				s := l.Stats()
				return s.MessagesIn == 1001 && s.MessagesOut == 1001 && s.BytesIn == s.BytesOut
			})
		})
	}
}

// TestUDPNotMessages: what is no message reaches nobody and is counted.
func TestUDPNotMessages(t *testing.T) {
	for name, listeners := range udpListeners(t) {
		t.Run(name, func(t *testing.T) {
			e := newEcho()
			l := start(t, Config{Listeners: listeners}, e).Listeners()[0]
			c := dialUDP(t, l)
			for _, s := range []string{"", "\r\n\r\n", "\r\n", "\x00\x00\x00\x00", "\x00\x01\x00\x00\x21\x12\xa4\x42transaction!", message(1, 0)} {
				if _, err := c.Write([]byte(s)); err != nil {
					t.Fatal(err)
				}
			}
			collect(t, c, 1)
			eventually(t, "counters", func() bool { return l.Stats().MessagesIn == 1 })
			s := l.Stats()
			if s.Drops[DropEmpty] != 1 || s.Drops[DropKeepAlive] != 3 || s.Drops[DropSTUN] != 1 || len(e.messages) != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestUDPFromAnywhere: sends of goroutines that are no worker, and what they may not do.
func TestUDPFromAnywhere(t *testing.T) {
	for name, listeners := range udpListeners(t) {
		t.Run(name, func(t *testing.T) {
			tr := start(t, Config{Listeners: listeners}, newEcho())
			l := tr.Listeners()[0]
			c := dialUDP(t, l)
			to := Target{Listener: l, Addr: addrPortOf(c.LocalAddr())}
			if err := tr.Send([]byte("hello"), to); err != nil {
				t.Fatal(err)
			}
			if got := collect(t, c, 1); got["hello"] != 1 {
				t.Error(got)
			}
			for want, to := range map[error]Target{
				ErrBadTarget: {Listener: l, Addr: at("[::1]:5060")},
				ErrFlowGone:  {Listener: l, Flow: 4711},
			} {
				if err := tr.Send([]byte("x"), to); !errors.Is(err, want) {
					t.Errorf("%v; want %v", err, want)
				}
			}
			if err := tr.Send([]byte("x"), Target{Addr: at("127.0.0.1:5060")}); !errors.Is(err, ErrBadTarget) {
				t.Error(err)
			}
			if err := tr.Send([]byte("x"), Target{Listener: l, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)}); !errors.Is(err, ErrBadTarget) {
				t.Error(err)
			}
			if err := tr.Send(make([]byte, 65536), to); !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
			if l.Stats().Drops[DropTooLarge] != 1 {
				t.Error("not counted")
			}
		})
	}
}

// twice sends the answer through a second listener too: one worker serves both.
type twice struct{ tr atomic.Pointer[Transport] }

func (h *twice) Handle(m *Message) {
	for _, l := range h.tr.Load().Listeners() {
		if l.Proto() == UDP {
			_ = m.Worker.Send(m.Bytes, Target{Listener: l, Addr: m.From})
		}
	}
}

// TestB05WorkerSendsThroughBothSides: a datagram or a stream's message leaves through any listener.
func TestB05WorkerSendsThroughBothSides(t *testing.T) {
	h := &twice{}
	tr, err := New(Config{Listeners: append(listen(UDP, UDP, TCP), ListenerConfig{Proto: UDP, Addr: at("127.0.0.2:0"), Internal: true})}, h)
	if err != nil {
		t.Fatal(err)
	}
	tr.Close()
	if err := tr.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	tr = start(t, tr.cfg, h)
	h.tr.Store(tr)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_ = pc.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := pc.WriteTo([]byte(message(1, 0)), net.UDPAddrFromAddrPort(tr.Listeners()[0].Addr())); err != nil {
		t.Fatal(err)
	}
	from := map[netip.AddrPort]bool{}
	buf := make([]byte, 2000)
	for range 3 {
		_, a, err := pc.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		from[addrPortOf(a)] = true
	}
	for _, i := range []int{0, 1, 3} {
		if !from[tr.Listeners()[i].Addr()] {
			t.Errorf("nothing from %v", tr.Listeners()[i])
		}
	}
}

// TestB11ICMPNotice: a peer whose port is closed is reported at once, and the others are served as before.
func TestB11ICMPNotice(t *testing.T) {
	for _, worker := range []bool{false, true} {
		e := newEcho()
		tr := start(t, Config{Listeners: listen(UDP)}, e)
		l := tr.Listeners()[0]
		if _, ok := l.packet.(*portableSocket); ok {
			t.Skip("Linux only")
		}
		dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := addrPortOf(dead.LocalAddr())
		if worker { // its own message, answered when it is gone
			_, _ = dead.WriteTo([]byte(message(1, 0)), net.UDPAddrFromAddrPort(l.Addr()))
			dead.Close()
		} else {
			dead.Close()
			if err := tr.Send([]byte(message(1, 0)), Target{Listener: l, Addr: addr}); err != nil {
				t.Fatal(err)
			}
		}
		if !worker {
			select {
			case got := <-e.away:
				if got != addr {
					t.Errorf("%v is away; want %v", got, addr)
				}
			case <-time.After(time.Second):
				t.Fatal("no notice within 1 s")
			}
			if l.Stats().Unreachable == 0 {
				t.Error("not counted")
			}
		}
		c := dialUDP(t, l)
		for i := range 20 {
			_ = tr.Send([]byte("x"), Target{Listener: l, Addr: addr})
			m := message(i, 10)
			_, _ = io.WriteString(c, m)
			if got := collect(t, c, 1); got[m] != 1 {
				t.Fatal(got)
			}
		}
	}
}

type discard struct{ echo Target }

func (d *discard) Handle(m *Message) { _ = m.Worker.Send(m.Bytes, d.echo) }

// TestUDPDoesNotAllocate: receive, handle and send, measured on a worker without its goroutine.
func TestUDPDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := &discard{}
	tr, err := New(Config{Listeners: listen(UDP), Workers: 1}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	l := tr.Listeners()[0]
	c := dialUDP(t, l)
	d.echo = Target{Listener: l, Addr: addrPortOf(c.LocalAddr())}
	turn, release := soloWorker(t, tr)
	defer release()
	m := []byte(message(1, 600))
	buf := make([]byte, 2000)
	if n := testing.AllocsPerRun(200, func() {
		for range 8 {
			_, _ = c.Write(m)
		}
		turn()
		for range 8 {
			_, _ = c.Read(buf)
		}
		_ = tr.Send(m, d.echo)
		_, _ = c.Read(buf)
	}); n != 0 {
		t.Errorf("%v allocations per 8 messages", n)
	}
	if s := l.Stats(); s.MessagesIn < 1600 || s.MessagesOut < 1800 {
		t.Errorf("%+v", s)
	}
}

// TestKernelDrops: what overflows the socket is counted once the next message is read.
func TestKernelDrops(t *testing.T) {
	tr, err := New(Config{Listeners: listen(UDP), Workers: 1, RecvBuffer: 4096}, &discard{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	l := tr.Listeners()[0]
	if _, ok := l.packet.(*portableSocket); ok {
		t.Skip("Linux only")
	}
	c := dialUDP(t, l)
	m := []byte(message(1, 1000))
	for range 100 {
		_, _ = c.Write(m)
	}
	turn, release := soloWorker(t, tr)
	defer release()
	turn()
	_, _ = c.Write(m)
	turn()
	if s := l.Stats(); s.KernelDrops == 0 || s.KernelDrops+s.MessagesIn != 101 {
		t.Errorf("%d received, %d dropped of 101", s.MessagesIn, s.KernelDrops)
	}
}

func TestReasonNames(t *testing.T) {
	for r := range dropReasons {
		if r.String() == "" || strings.Contains(r.String(), " ") {
			t.Errorf("drop reason %d: %q", r, r)
		}
	}
	for r := range closeReasons {
		if r.String() == "" || strings.Contains(r.String(), " ") {
			t.Errorf("close reason %d: %q", r, r)
		}
	}
}
