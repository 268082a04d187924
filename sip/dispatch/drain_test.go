package dispatch

import (
	"net/netip"
	"testing"
	"time"
)

// TestB11DrainByName: the operator names a node by address, by transport and address, or a whole farm.
func TestB11DrainByName(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a, b := netip.MustParseAddrPort("127.0.0.1:5060"), netip.MustParseAddrPort("127.0.0.2:5060")
	var cfg Config
	cfg.Farms[Call] = []NodeConfig{{Addr: a}, {Addr: b, Proto: "tcp"}}
	cfg.Farms[Conference] = []NodeConfig{{Addr: a}}
	s, err := New(cfg, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		n    int
	}{{"127.0.0.1:5060", 1}, {"tcp:127.0.0.2:5060", 1}, {"udp:127.0.0.2:5060", 0}, {"call", 2}, {"conference", 1}, {"registrar", 0}, {"", 0}} {
		if n := s.Drain(c.name, now); n != c.n {
			t.Errorf("drain %q: %d nodes, want %d", c.name, n, c.n)
		}
		if drained := s.Pick(Call, 1, now) == nil || s.Pick(Conference, 1, now) == nil; c.name == "call" && !drained {
			t.Errorf("%q takes new calls", c.name)
		}
		if n := s.Up(c.name, now); n != c.n {
			t.Errorf("up %q: %d nodes, want %d", c.name, n, c.n)
		}
		if s.Pick(Call, 1, now) == nil || s.Pick(Conference, 1, now) == nil {
			t.Errorf("%q did not come back", c.name)
		}
	}
}
