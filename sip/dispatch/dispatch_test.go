package dispatch

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func nodes(n int) (out []NodeConfig) {
	for i := range n {
		out = append(out, NodeConfig{Addr: netip.MustParseAddrPort(fmt.Sprintf("127.0.1.%d:5080", i+1))})
	}
	return out
}

func newSet(t testing.TB, call []NodeConfig) *Set {
	t.Helper()
	var c Config
	c.Farms[Call] = call
	s, err := New(c, start)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestB11Spread: a lost node's share spreads evenly, and nobody else moves.
func TestB11Spread(t *testing.T) {
	s := newSet(t, nodes(5))
	const calls = 50000
	before := make([]*Node, calls)
	for i := range before {
		before[i] = s.Pick(Call, mix(uint64(i)), start)
	}
	lost := before[0]
	s.SetDrain(lost.Addr(), true, start)
	gained := map[*Node]int{}
	for i := range before {
		n := s.Pick(Call, mix(uint64(i)), start)
		if before[i] != lost && n != before[i] {
			t.Fatalf("call %d moved from %v to %v", i, before[i].Addr(), n.Addr())
		}
		if before[i] == lost {
			gained[n]++
		}
	}
	for n, g := range gained {
		if share := float64(g) / calls; math.Abs(share-0.05) > 0.01 {
			t.Errorf("%v gained %.3f of all calls, want 0.05", n.Addr(), share)
		}
	}
}

func TestWeights(t *testing.T) {
	list := nodes(3)
	list[0].Weight = 2
	list[2].Weight = 0.5
	s := newSet(t, list)
	got := map[netip.AddrPort]float64{}
	for i := range 70000 {
		got[s.Pick(Call, mix(uint64(i)), start).Addr()] += 1.0 / 70000
	}
	for i, want := range []float64{2 / 3.5, 1 / 3.5, 0.5 / 3.5} {
		if g := got[list[i].Addr]; math.Abs(g-want) > 0.01 {
			t.Errorf("node %d got %.3f, want %.3f", i, g, want)
		}
	}
}

// TestB07Epoch: CANCEL and ACK follow the membership of their INVITE for 64*T1, whether a node left or came.
func TestB07Epoch(t *testing.T) {
	s := newSet(t, nodes(4))
	h := func(i int) uint64 { return mix(uint64(i) + 1<<40) }
	before := map[int]*Node{}
	for i := range 1000 {
		before[i] = s.Pick(Call, h(i), start)
	}
	now := start.Add(time.Second)
	s.SetDrain(before[0].Addr(), true, now)
	after := map[int]*Node{}
	for i := 1000; i < 1200; i++ {
		after[i] = s.Pick(Call, h(i), now)
	}
	for i, n := range before {
		if got := s.PickSame(Call, h(i), now.Add(31*time.Second)); got != n {
			t.Fatalf("call %d: %v, its INVITE went to %v", i, got.Addr(), n.Addr())
		}
	}
	for i, n := range after {
		if got := s.PickSame(Call, h(i), now.Add(time.Second)); got != n {
			t.Errorf("call %d of the new epoch: %v, its INVITE went to %v", i, got.Addr(), n.Addr())
		}
	}
	// A node that comes back within the time: still the oldest epoch counts.
	s.SetDrain(before[0].Addr(), false, now.Add(2*time.Second))
	for i, n := range before {
		if got := s.PickSame(Call, h(i), now.Add(3*time.Second)); got != n {
			t.Fatalf("call %d after the return: %v, want %v", i, got.Addr(), n.Addr())
		}
	}
	if s.table.Load().epoch(now.Add(40*time.Second)) != nil {
		t.Error("an epoch outlives 64*T1")
	}
}

type probes struct{ sent []netip.AddrPort }

func (p *probes) Probe(n *Node) { p.sent = append(p.sent, n.Addr()) }

// run ticks for a time; answer tells which nodes answer their probes.
func run(s *Set, p *probes, now *time.Time, d time.Duration, answer func(netip.AddrPort) bool) {
	for end := now.Add(d); now.Before(end); {
		*now = now.Add(s.Tick(*now, p))
		for _, a := range p.sent {
			if answer(a) {
				s.Answered(a, *now)
			}
		}
		p.sent = nil
	}
}

// TestB11DeadNode: a node that stops answering gets no new call within 1 s, whether idle or busy, and comes back by itself.
func TestB11DeadNode(t *testing.T) {
	for _, how := range []string{"idle", "busy", "unreachable"} {
		s := newSet(t, nodes(3))
		now, p := start, &probes{}
		all := func(netip.AddrPort) bool { return true }
		run(s, p, &now, 3*time.Second, all)
		for _, n := range s.Nodes() {
			if n.State != Up {
				t.Fatalf("%s: %v is %v while it answers", how, n.Addr, n.State)
			}
		}
		dead := nodes(1)[0].Addr
		but := func(a netip.AddrPort) bool { return a != dead }
		died := now
		switch how {
		case "busy":
			s.ByAddr(dead).Sent(now)
		case "unreachable":
			s.ByAddr(dead).Unreachable()
		}
		for s.ByAddr(dead).State() != Down {
			run(s, p, &now, 10*time.Millisecond, but)
			if now.Sub(died) > 2*time.Second {
				break
			}
		}
		t.Logf("%s: noticed after %v", how, now.Sub(died))
		if now.Sub(died) > time.Second {
			t.Errorf("%s: too late", how)
		}
		for i := range 1000 {
			if n := s.Pick(Call, mix(uint64(i)), now); n.Addr() == dead {
				t.Fatalf("%s: a new call for the dead", how)
			}
		}
		run(s, p, &now, 3*time.Second, all)
		if s.ByAddr(dead).State() != Up {
			t.Errorf("%s: it did not come back", how)
		}
	}
}

// TestProbeLoss: one lost probe takes no node out, and one that never worked does not count as alive.
func TestProbeLoss(t *testing.T) {
	s := newSet(t, nodes(1))
	now, p, n := start, &probes{}, 0
	run(s, p, &now, 20*time.Second, func(netip.AddrPort) bool { n++; return n%2 == 0 })
	if st := s.Nodes()[0]; st.State != Up || !st.Since.Equal(start) {
		t.Errorf("%v since %v", st.State, st.Since)
	}
	run(s, p, &now, 2*time.Second, func(netip.AddrPort) bool { return false })
	if s.Pick(Call, 1, now) != nil {
		t.Error("a dead node was picked")
	}
}

// TestB11StallIsNoDeath: a node that is heard lives although its probe was lost, and the last node of a farm gets twice the time,
// since without it every new call is refused.
func TestB11StallIsNoDeath(t *testing.T) {
	s := newSet(t, nodes(1))
	now, p := start, &probes{}
	all, none := func(netip.AddrPort) bool { return true }, func(netip.AddrPort) bool { return false }
	run(s, p, &now, 3*time.Second, all)
	only := s.ByAddr(nodes(1)[0].Addr)
	for range 100 {
		run(s, p, &now, 100*time.Millisecond, none)
		only.Heard()
		if only.State() != Up {
			t.Fatal("a node that speaks was taken out")
		}
	}
	run(s, p, &now, time.Second, all)
	silent := now
	for only.State() == Up && now.Sub(silent) < 3*time.Second {
		run(s, p, &now, 10*time.Millisecond, none)
	}
	if d := now.Sub(silent); d < 500*time.Millisecond || d > 1200*time.Millisecond {
		t.Errorf("the last node was taken out after %v, want between 0.6 s and one interval more", d)
	}
}

func TestUpdate(t *testing.T) {
	list := nodes(3)
	s := newSet(t, list)
	first := s.ByAddr(list[0].Addr)
	first.Sent(start)
	var c Config
	c.Farms[Call] = []NodeConfig{list[0], list[2]}
	c.Farms[Registrar] = []NodeConfig{list[2]}
	if err := s.Update(c, start); err != nil {
		t.Fatal(err)
	}
	if s.ByAddr(list[0].Addr) != first || s.ByAddr(list[1].Addr) != nil {
		t.Error("the nodes are not those of the new list")
	}
	if n := s.Pick(Registrar, 7, start); n.Addr() != list[2].Addr {
		t.Errorf("registrar is %v", n.Addr())
	}
	if info := s.Nodes(); len(info) != 2 || len(info[1].Farms) != 2 || info[0].Sent != 1 {
		t.Errorf("%+v", info)
	}
}

func TestBadConfig(t *testing.T) {
	for name, bad := range map[string][]NodeConfig{
		"no address": {{}}, "twice": append(nodes(1), nodes(1)...), "weight": {{Addr: nodes(1)[0].Addr, Weight: -1}}, "transport": {{Addr: nodes(1)[0].Addr, Proto: "sctp"}},
	} {
		var c Config
		c.Farms[Call] = bad
		if _, err := New(c, start); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestZeroAllocs(t *testing.T) {
	s := newSet(t, nodes(8))
	a := nodes(1)[0].Addr
	if n := testing.AllocsPerRun(100, func() {
		s.Pick(Call, 1, start)
		s.PickSame(Call, 1, start)
		s.ByAddr(a).Sent(start)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPick(b *testing.B) {
	s := newSet(b, nodes(5))
	i := uint64(0)
	for b.Loop() {
		i++
		s.Pick(Call, mix(i), start)
	}
}
