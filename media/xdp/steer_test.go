//go:build linux

package xdp

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Addrs: []netip.Addr{netip.IPv6Loopback()}, PortMin: 1, PortMax: 2, Lanes: 1}, "no IPv4 address"},
		{Config{Addrs: []netip.Addr{loopback}, PortMin: 9, PortMax: 2, Lanes: 1}, "ports 9 to 2"},
		{Config{Addrs: []netip.Addr{loopback}, PortMin: 1, PortMax: 2}, "0 lanes"},
	} {
		if err := tt.cfg.validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

func TestPlace(t *testing.T) {
	second := netip.MustParseAddr("127.0.0.2")
	c := Config{Addrs: []netip.Addr{loopback, netip.IPv6Loopback(), second, loopback}, PortMin: 100, PortMax: 109, Lanes: 1}
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		a  netip.AddrPort
		at int
		ok bool
	}{
		{netip.AddrPortFrom(loopback, 100), 0, true}, {netip.AddrPortFrom(loopback, 109), 9, true},
		{netip.AddrPortFrom(second, 100), 10, true}, {netip.AddrPortFrom(second, 110), 0, false},
		{netip.AddrPortFrom(second, 99), 0, false}, {netip.AddrPortFrom(netip.IPv6Loopback(), 100), 0, false},
	} {
		if at, ok := c.place(tt.a); at != tt.at || ok != tt.ok {
			t.Errorf("%s: %d %v, want %d %v", tt.a, at, ok, tt.at, tt.ok)
		}
	}
}

// attach skips where the capabilities or the kernel are missing: that is what layer 0 is for.
func attach(t *testing.T, cfg Config) *Steer {
	t.Helper()
	s, err := New(cfg)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no steering here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func socket(t *testing.T) (fd int, port uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		t.Fatal(err)
	}
	tv := unix.NsecToTimeval(int64(2 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, uint16(sa.(*unix.SockaddrInet4).Port)
}

// TestSteerPicksLane sends to ports that nobody has bound and finds the packets in the lane that was set, for two addresses, and a
// closed port refused as ever.
func TestSteerPicksLane(t *testing.T) {
	second := netip.MustParseAddr("127.0.0.2")
	s := attach(t, Config{Addrs: []netip.Addr{loopback, second}, PortMin: 65400, PortMax: 65409, Lanes: 2})
	var lanes [2]int
	for i := range lanes {
		lanes[i], _ = socket(t)
		if n, err := s.Join(lanes[i]); n != i || err != nil {
			t.Fatalf("lane %d: %v, want %d", n, err, i)
		}
	}
	if _, err := s.Join(lanes[0]); err == nil {
		t.Error("a third socket joined two lanes")
	}
	first := netip.AddrPortFrom(loopback, 65404)
	s.Set(first, 0)
	s.Set(netip.AddrPortFrom(second, 65404), 1)
	s.Set(netip.AddrPortFrom(second, 65410), 1) // out of range: nothing
	from, _ := socket(t)
	buf := make([]byte, 100)
	for i, a := range []netip.Addr{loopback, second} {
		text := "to " + a.String()
		if err := unix.Sendto(from, []byte(text), 0, &unix.SockaddrInet4{Addr: a.As4(), Port: 65404}); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Read(lanes[i], buf)
		if err != nil || string(buf[:n]) != text {
			t.Fatalf("lane %d: %q, %v", i, buf[:max(n, 0)], err)
		}
	}
	s.Clear(first)
	refused(t, first)
	refused(t, netip.AddrPortFrom(second, 65410))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, netip.AddrPortFrom(second, 65404))
}

// refused wants ICMP "port unreachable".
func refused(t *testing.T, a netip.AddrPort) {
	t.Helper()
	fd, _ := socket(t)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(fd, make([]byte, 10)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%s: %v, want connection refused", a, err)
	}
}
