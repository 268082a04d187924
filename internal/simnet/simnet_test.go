package simnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, listen func(netip.AddrPort) (*Conn, error), addr string) *Conn {
	t.Helper()
	c, err := listen(netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c *Conn, to net.Addr, s string) {
	t.Helper()
	if _, err := c.WriteTo([]byte(s), to); err != nil {
		t.Fatal(err)
	}
}

// read returns what comes within a second, and from where; "" if nothing does.
func read(t *testing.T, c *Conn) (string, net.Addr) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 100)
	n, from, err := c.ReadFrom(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(buf[:n]), from
}

func TestDelayAndLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Delay: 40 * time.Millisecond, Loss: 0.25})
		a, b := open(t, n.Listen, "192.0.2.1:5060"), open(t, n.Listen, "192.0.2.2:5060")
		if _, err := n.Listen(netip.MustParseAddrPort("192.0.2.2:5060")); !errors.Is(err, os.ErrExist) {
			t.Error(err)
		}
		begin := time.Now()
		for range 1000 {
			send(t, a, b.LocalAddr(), "x")
		}
		got := 0
		for ; ; got++ {
			s, from := read(t, b)
			if s == "" {
				break
			}
			if got == 0 && (time.Since(begin) != 40*time.Millisecond || from.String() != "192.0.2.1:5060") {
				t.Error(time.Since(begin), from)
			}
		}
		if got < 700 || got > 800 {
			t.Errorf("%d of 1000 arrived with 25 %% loss", got)
		}
		_ = b.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { _ = b.SetReadDeadline(time.Now()) })
		if _, _, err := b.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a call that waits is not ended:", err)
		}
		b.Close()
		if _, _, err := b.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestNAT: who gets in, under which port the host is seen, and when the mapping ends.
func TestNAT(t *testing.T) {
	for _, test := range []struct {
		name             string
		cfg              NATConfig
		samePort, letsIn bool
	}{
		{"port restricted", NATConfig{}, true, false}, {"full cone", NATConfig{OpenFilter: true}, true, true}, {"symmetric", NATConfig{Symmetric: true}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New(Config{Delay: time.Millisecond})
				test.cfg.Public = netip.MustParseAddr("203.0.113.1")
				test.cfg.Timeout = 14 * time.Second
				nat := n.NAT(test.cfg)
				other := test.cfg
				other.Public = netip.MustParseAddr("203.0.113.2")
				phone, twin := open(t, nat.Listen, "10.0.0.2:5060"), open(t, n.NAT(other).Listen, "10.0.0.2:5060")
				edge, peer := open(t, n.Listen, "192.0.2.1:5060"), open(t, n.Listen, "192.0.2.2:5060")

				send(t, phone, edge.LocalAddr(), "register")
				_, first := read(t, edge)
				if host, _, _ := net.SplitHostPort(first.String()); host != "203.0.113.1" {
					t.Fatal("seen as ", first)
				}
				send(t, twin, edge.LocalAddr(), "twin")
				if _, a := read(t, edge); a.String() == first.String() {
					t.Error("two homes with one address")
				}
				send(t, edge, first, "invite")
				if s, _ := read(t, phone); s != "invite" {
					t.Error("the answer does not come back")
				}
				send(t, peer, first, "spray")
				if s, _ := read(t, phone); (s != "") != test.letsIn {
					t.Errorf("a stranger's datagram: %q", s)
				}
				send(t, phone, peer.LocalAddr(), "rtp")
				if _, second := read(t, peer); (second.String() == first.String()) != test.samePort {
					t.Errorf("seen as %v and %v", first, second)
				}
				time.Sleep(15 * time.Second)
				send(t, edge, first, "late")
				if s, _ := read(t, phone); s != "" {
					t.Error("the mapping has not ended")
				}
				send(t, phone, edge.LocalAddr(), "again")
				if _, again := read(t, edge); again.String() == first.String() {
					t.Error("the same port after the mapping had ended")
				}
			})
		})
	}
}
