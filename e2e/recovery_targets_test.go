//go:build e2e

package e2e

import (
	"syscall"
	"testing"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/bridge/bridgetest"
)

// b50Drained drains the only other node before the crash: its calls wait until a node takes calls again.
func b50Drained(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 3)
	other := s.beside(n.ID)
	s.api.Must("POST", "/v1/farms/"+other+"/drain", map[string]bool{"on": true})
	pause(t, 300*time.Millisecond) // the controllers watch the store for it
	at := time.Now()
	n.Kill()
	pause(t, 2*time.Second)
	for _, p := range s.Legs {
		if seen := p.Seen(); len(seen.Invited)+seen.Byes > 0 {
			t.Errorf("the only healthy node is drained, and %s saw %+v", p.Name, seen)
		}
	}
	s.api.Must("POST", "/v1/farms/"+other+"/drain", map[string]bool{"on": false})
	undrained := time.Now()
	o := s.recovered(t, legs, at)
	if first := lab.Quantile(o.Invited, 0); at.Add(first).Before(undrained) {
		t.Errorf("a re-INVITE %v after the crash, the node takes calls since %v", first, undrained.Sub(at))
	}
	s.farewell(t, pairs)
}

// beside is the other call node.
func (s *stricken) beside(id string) string {
	for _, n := range s.Farm("call") {
		if n.ID != id {
			return n.ID
		}
	}
	return ""
}

// b49NeverAcked kills the target while it has a 200 that it has not acknowledged: a stopped process reads nothing. Then all of the farm is dead, and
// the first node comes back and has the calls (F3, F4).
func b49NeverAcked(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 2)
	other := s.nodeOf(t, s.beside(n.ID))
	stopped := make(chan error, len(legs))
	for _, p := range legs {
		p.Before(func() { stopped <- other.Signal(syscall.SIGSTOP) })
	}
	acks := func() (n int) {
		for _, p := range legs {
			n += p.Seen().Acks
		}
		return n
	}
	n.Kill()
	answered := func() (n int) {
		for _, p := range legs {
			n += len(p.Seen().Invited)
		}
		return n
	}
	eventually(t, "a phone has answered the target", 10*time.Second, func() bool { return answered() > 0 })
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	pause(t, 100*time.Millisecond) // other INVITEs may be on their way
	if n, of := acks(), answered(); n < of {
		t.Logf("%d phones have sent their 200, %d have an ACK; now their node dies", of, n)
	} else {
		t.Log("NOT JUDGED: every ACK was quicker than the signal")
	}
	other.Kill()
	first := map[*lab.Leg]int{}
	for _, p := range s.Legs {
		first[p] = len(p.Seen().Invited)
	}
	at := time.Now()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := s.Streamed(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	again := func(p *lab.Leg) bool { return len(p.Seen().Invited) > first[p] && p.Back() }
	for end := time.Now().Add(20 * time.Second); !lab.All(s.Legs, again) && time.Now().Before(end); {
		pause(t, 20*time.Millisecond)
	}
	t.Logf("%v after the farm was dead", time.Since(at))
	for _, p := range s.Legs {
		if seen := p.Seen(); !again(p) || seen.Byes+len(seen.Strangers)+len(seen.Wrong) > 0 {
			t.Errorf("%s (%d re-INVITEs before) saw %+v", p.Name, first[p], seen)
		}
	}
	// Nobody hangs up after 32 s: what the dead one did not acknowledge is acknowledged in its place.
	eventually(t, "each 200 has an ACK", 10*time.Second, func() bool {
		return lab.All(s.Legs, func(p *lab.Leg) bool { return p.Owed() == 0 })
	})
	s.whole(t)
	s.farewell(t, pairs)
}

// b51 kills the node of a conference that two of its three came to by a call between the nodes (F7).
func b51(t *testing.T, s *stricken) {
	alice, bob, carol := newPerson(t, s.System, "alice", 500, nil), newPerson(t, s.System, "bob", 800, nil), newPerson(t, s.System, "carol", 1200, nil)
	s.steer(t, "drain")
	name := s.remote(t, alice)
	bob.mustDial(name)
	s.steer(t, "up")
	carol.mustDial(name)
	room := func(c []bridgetest.Call) *bridgetest.Call {
		for i := range c {
			if c[i].Conference == name && len(c[i].Legs) == 3 {
				return &c[i]
			}
		}
		return nil
	}
	calls := s.api.Until("a conference of three", func(c []bridgetest.Call) bool { return room(c) != nil })
	before := room(calls)
	alice.hears(0, []float64{800, 1200}, []float64{500})
	at := time.Now()
	s.nodeOf(t, before.Node).Kill()
	calls = s.api.Until("the conference is on another node", func(c []bridgetest.Call) bool {
		now := room(c)
		return now != nil && now.Node != before.Node && lab.All(now.Legs, func(l bridgetest.Leg) bool { return l.State == "up" })
	})
	t.Logf("%d calls lead to it, again after %v", len(calls), time.Since(at))
	alice.hears(0, []float64{800, 1200}, []float64{500})
	bob.hears(0, []float64{500, 1200}, []float64{800})
	carol.hears(0, []float64{500, 800}, []float64{1200})
	s.api.Must("DELETE", "/v1/conferences/"+name, nil)
	s.api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })
}

// TestB49StoreNodeKilled: the store is a cluster of three, and the node that leads the calls' bucket dies in the same moment as the Asterisk. Every call is
// recovered once, by one of two controllers; the records are read and written while the cluster elects.
func TestB49StoreNodeKilled(t *testing.T) { alone(t, "B49Cluster", storeNodeKilled) }

func storeNodeKilled(t *testing.T) {
	c := startCluster(t)
	l := startLab(t, lab.Config{Call: 2, Conference: 1, Controllers: 2, Store: c.URL(), Recovery: []string{"--hang-after", "2s", "--lost-after", "4s"}})
	if err := l.Watching(t.Context()); err != nil {
		t.Fatal(err)
	}
	pairs, err := l.Pairs(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := l.Holder("call")
	if err != nil {
		t.Fatal(err)
	}
	legs, err := lab.Held(n, l.Legs)
	if err != nil {
		t.Fatal(err)
	}
	lead, copies := c.leader("calls")
	if copies != 3 {
		t.Fatalf("%d copies in a cluster of three", copies)
	}
	for i := range 2 { // a cluster that still makes its buckets is another story
		eventually(t, "a controller that reads the store", 30*time.Second, func() bool {
			_, err := l.Crashes(i)
			return err == nil
		})
	}
	l.Mark()
	at := time.Now()
	c.Nodes[lead].Kill()
	n.Kill()
	o := lab.Settle(t.Context(), legs, at, 45*time.Second) // a cluster elects for as long as it likes: 4 to 16 s were seen
	o.Print(l)
	if err := o.Judge(lab.Goal{}); err != nil {
		t.Error(err)
	}
	if o.Again > 0 {
		t.Errorf("%d re-INVITEs beside the first", o.Again)
	}
	if err := l.FarewellBoth(t.Context(), pairs); err != nil {
		t.Error(err)
	}
	for i := range 2 { // what they say of it while the cluster is one short is no matter of this test
		crashes, err := l.Crashes(i)
		t.Logf("controller %d: %d crashes, %v", i, len(crashes), err)
	}
}
