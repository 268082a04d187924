package dispatch

import (
	"net/netip"
	"testing"
	"time"
)

// TestF14HalfDeadNode: a node that answers probes but no INVITE is routed away from after two of them, and tried again later.
func TestF14HalfDeadNode(t *testing.T) {
	for _, how := range []string{"silent", "slow"} {
		s := newSet(t, nodes(3))
		now, p := start, &probes{}
		alive := func(netip.AddrPort) bool { return true }
		bad := nodes(1)[0].Addr
		type late struct {
			hash uint64
			at   time.Time
		}
		var answers []late // of the slow one
		misses, began := 0, now
		var routed time.Duration
		for i := uint64(0); now.Sub(began) < 4*time.Second; i++ {
			run(s, p, &now, 50*time.Millisecond, alive)
			hash := mix(i)
			n := s.Pick(Call, hash, now)
			n.Invited(hash, now)
			if n.Addr() != bad {
				n.Responded(hash)
				continue
			}
			misses++
			if how == "slow" {
				answers = append(answers, late{hash, now.Add(2 * time.Second)})
			}
			for len(answers) > 0 && !now.Before(answers[0].at) {
				n.Responded(answers[0].hash)
				answers = answers[1:]
			}
			routed = now.Sub(began)
		}
		if s.ByAddr(bad).State() != Sick {
			t.Fatalf("%s: %v after %d calls", how, s.ByAddr(bad).State(), misses)
		}
		t.Logf("%s: the last of %d calls went to the node after %v", how, misses, routed)
		if routed > 1500*time.Millisecond {
			t.Errorf("%s: too late", how)
		}
		run(s, p, &now, 5*time.Second, alive)
		if s.ByAddr(bad).State() != Up {
			t.Fatalf("%s: not tried again", how)
		}
		// It is on trial: one miss takes it out again.
		s.ByAddr(bad).Invited(1, now)
		run(s, p, &now, 600*time.Millisecond, alive)
		if s.ByAddr(bad).State() != Sick {
			t.Errorf("%s: up again without an answer", how)
		}
		run(s, p, &now, 6*time.Second, alive)
		s.ByAddr(bad).Invited(3, now)
		s.ByAddr(bad).Responded(3)
		s.ByAddr(bad).Invited(5, now)
		run(s, p, &now, 600*time.Millisecond, alive)
		if s.ByAddr(bad).State() != Up {
			t.Errorf("%s: one lost INVITE takes out a node that has answered", how)
		}
	}
}

// TestF14OurOwnStall: a time in which this process stood still is no node's fault.
func TestF14OurOwnStall(t *testing.T) {
	s := newSet(t, nodes(2))
	now, p := start, &probes{}
	alive := func(netip.AddrPort) bool { return true }
	run(s, p, &now, time.Second, alive)
	for range 4 {
		s.ByAddr(nodes(1)[0].Addr).Invited(7, now)
		now = now.Add(800 * time.Millisecond)
		run(s, p, &now, 100*time.Millisecond, alive)
	}
	if got := s.ByAddr(nodes(1)[0].Addr).State(); got != Up {
		t.Errorf("%v after four stalls of our own", got)
	}
}

// TestF14LastNode: the only node of a farm stays, whatever it does.
func TestF14LastNode(t *testing.T) {
	s := newSet(t, nodes(2))
	now, p := start, &probes{}
	for range 10 {
		for _, n := range nodes(2) {
			s.ByAddr(n.Addr).Invited(7, now)
		}
		run(s, p, &now, time.Second, func(netip.AddrPort) bool { return true })
		if s.Pick(Call, 1, now) == nil {
			t.Fatal("no node is left for new calls")
		}
	}
}
