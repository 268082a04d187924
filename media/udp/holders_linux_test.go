package udp

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHoldersFindsEveryKindOfSocket: whatever binding would collide with is found, nothing else, and a list is used for holdersFresh.
func TestHoldersFindsEveryKindOfSocket(t *testing.T) {
	h := holders{portMin: 22900, portMax: 22909}
	open := func(network, at string) {
		t.Helper()
		a, err := net.ResolveUDPAddr(network, at)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenUDP(network, a)
		if err != nil {
			t.Skip("no socket at ", at, ": ", err)
		}
		t.Cleanup(func() { c.Close() })
	}
	open("udp4", "127.0.0.1:22900")
	open("udp4", "127.0.0.2:22901")
	open("udp4", "0.0.0.0:22903")
	open("udp6", "[::]:22909")
	open("udp4", "127.0.0.1:22910") // out of range
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 22905}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	now := time.Now()
	check := func(at string, want bool) {
		t.Helper()
		got, err := h.holds(netip.MustParseAddrPort(at), now)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) {
			t.Skip("no sock_diag here:", err)
		}
		if got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", at, got, err, want)
		}
	}
	check("127.0.0.1:22900", true)
	check("127.0.0.2:22900", false)
	check("127.0.0.2:22901", true)
	check("127.0.0.1:22901", false)
	check("127.0.0.1:22903", true)
	check("127.0.0.1:22905", true) // connected
	check("127.0.0.2:22909", true)
	check("127.0.0.1:22908", false)
	open("udp4", "127.0.0.1:22908")
	check("127.0.0.1:22908", false)
	now = now.Add(holdersFresh)
	check("127.0.0.1:22908", true)
	now = now.Add(-time.Hour) // a clock that was set
	check("127.0.0.1:22908", true)
	for _, a := range h.held {
		if a.Port() < 22900 || a.Port() > 22909 {
			t.Errorf("%s is out of the range that was asked for", a)
		}
	}
}

// BenchmarkHolders is the question that is asked once a second.
func BenchmarkHolders(b *testing.B) {
	h := holders{portMin: 22900, portMax: 22909}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.ask(nil); err != nil {
			b.Skip(err)
		}
	}
}
