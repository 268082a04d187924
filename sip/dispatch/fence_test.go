package dispatch

import (
	"net/netip"
	"testing"
	"time"
)

// TestB54Fence: a fenced node gets nothing and is known by its address, and by its host's where nobody else is there; up needs answered probes.
func TestB54Fence(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a, b, c := netip.MustParseAddrPort("127.0.0.1:5060"), netip.MustParseAddrPort("127.0.0.1:5070"), netip.MustParseAddrPort("127.0.0.2:5060")
	var cfg Config
	cfg.Farms[Call] = []NodeConfig{{Addr: a, TCP: true}, {Addr: b}, {Addr: c}}
	s, err := New(cfg, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"call": 0, "127.0.0.9:5060": 0, "tcp:127.0.0.1:5060": 0, "udp:127.0.0.1:5060": 1} {
		if got := s.Fence(name, now); got != n {
			t.Errorf("fence %q: %d nodes, want %d", name, got, n)
		}
	}
	for h := range uint64(200) {
		if s.Pick(Call, h, now).Addr() == a {
			t.Fatal("a fenced node gets a new dialog")
		}
	}
	cut := func(what, from string, inside, stream, want bool) {
		t.Helper()
		if got := s.Cut(netip.MustParseAddrPort(from), inside, stream); got != want {
			t.Errorf("%s: cut %v, want %v", what, got, want)
		}
	}
	cut("the node", a.String(), false, false, true)
	cut("its neighbour", b.String(), true, true, false)
	cut("a connection that either may have opened", "127.0.0.1:40000", true, true, false)
	cut("another host", c.String(), true, true, false)
	s.Fence(b.String(), now)
	cut("a connection of the host", "127.0.0.1:40000", false, true, true)
	cut("any port of it on the inner side", "127.0.0.1:40000", true, false, true)
	cut("a phone's datagrams from the same host", "127.0.0.1:40000", false, false, false)
	s.Fence(c.String(), now)
	cut("a phone's connection from a host whose node speaks UDP only", "127.0.0.2:40000", false, true, false)

	// Recovery lifts its fence, and leaves the operator's drain; it may say so twice.
	s.Drain(b.String(), now)
	for range 2 {
		if got := s.Unfence("udp:"+b.String(), now); got != 1 || s.Nodes()[1].State == Fenced {
			t.Errorf("unfence: %d nodes, state %v", got, s.Nodes()[1].State)
		}
	}
	if n := s.table.Load().byAddr[b]; !n.drained.Load() {
		t.Error("the end of a fence ended the drain")
	}
	if s.Unfence("call", now) != 0 {
		t.Error("a farm's name lifted fences")
	}
	s.Fence(b.String(), now)

	// A farm's name lifts no fence, nor does a new configuration.
	s.Up("call", now)
	if err := s.Update(cfg, now); err != nil {
		t.Fatal(err)
	}
	if n := s.Pick(Call, 1, now); n != nil {
		t.Fatalf("%s gets a call behind its fence", n.Addr())
	}
	if got := s.Nodes()[2].State; got != Fenced || got.String() != "fenced" {
		t.Errorf("state %v", got)
	}
	var probed probes
	s.Tick(now, &probed)
	if len(probed.sent) != 0 {
		t.Errorf("fenced nodes are probed: %v", probed.sent)
	}
	s.Up(c.String(), now)
	cut("the node after up", c.String(), true, true, false)
	for i := range 2 {
		if n := s.Pick(Call, 1, now); n != nil {
			t.Fatalf("%s gets a call after %d answered probes", n.Addr(), i)
		}
		probed.sent = nil
		s.Tick(now, &probed)
		if len(probed.sent) != 1 || probed.sent[0] != c {
			t.Fatalf("probed %v, want %s", probed, c)
		}
		s.Answered(c, now)
		now = now.Add(time.Second)
	}
	if n := s.Pick(Call, 1, now); n == nil || n.Addr() != c {
		t.Errorf("after two answers the node has not come back: %v", n)
	}
}
