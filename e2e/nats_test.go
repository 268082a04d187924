//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/internal/store"
	"rtcedge/sip/siptest"
)

// natsCluster is three nodes of Debian's nats-server and a connection to them, which is how an operator would look into it.
type natsCluster struct {
	*farms.NATS
	t  *testing.T
	js jetstream.JetStream
}

func startCluster(t *testing.T) *natsCluster {
	t.Helper()
	need(t, "nats-server")
	c, err := farms.StartNATS(t.TempDir(), newHost(), newHost(), newHost())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		c.Stop()
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		c.Stop()
		for _, p := range c.Nodes {
			if t.Failed() {
				t.Logf("output of %s:\n%s", p.Name, tail(p.Output(), 3000))
			}
		}
	})
	return &natsCluster{c, t, js}
}

// leader is the node that takes the writes of a bucket, and how many copies there are.
func (c *natsCluster) leader(bucket string) (node, copies int) {
	c.t.Helper()
	for limit := time.Now().Add(15 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		s, err := c.js.Stream(ctx, "KV_"+bucket)
		cancel()
		if err != nil || s.CachedInfo().Cluster == nil {
			continue
		}
		info := s.CachedInfo()
		for i, p := range c.Nodes {
			if p.Name == info.Cluster.Leader {
				return i, info.Config.Replicas
			}
		}
	}
	c.t.Fatalf("bucket %s has no leader after 15 s", bucket)
	return 0, 0
}

// open is a store of a process of its own.
func (c *natsCluster) open() *store.Store {
	c.t.Helper()
	s, err := store.New(store.Config{URL: c.URL()})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

func (c *natsCluster) bucket(s *store.Store, name string) *store.Bucket {
	c.t.Helper()
	for limit := time.Now().Add(15 * time.Second); ; {
		b, err := s.Bucket(c.t.Context(), name)
		if err == nil {
			return b
		}
		if time.Now().After(limit) {
			c.t.Fatal(err)
		}
	}
}

// TestF12ClusterNodeKilled: kill -9 of the node that leads a bucket. What was confirmed is there, writes go on, watchers and counters that
// are changed by compare-and-set lose nothing, and a lease that is renewed stays where it is.
func TestF12ClusterNodeKilled(t *testing.T) {
	c := startCluster(t)
	one, two := c.open(), c.open()
	b, far := c.bucket(one, "calls"), c.bucket(two, "calls")
	lead, copies := c.leader("calls")
	if copies != 3 {
		t.Fatalf("%d copies in a cluster of three", copies)
	}
	changes, err := far.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-changes; e.Key != "" {
		t.Fatalf("mark: %+v", e)
	}
	const ttl = 1200 * time.Millisecond // the bridge's
	lease, err := one.Lease(t.Context(), "node", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	confirmed := map[string]bool{}
	var longest time.Duration
	adds := 0
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // one writer, keys of their own
		last := time.Now()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			key := fmt.Sprint("w", n)
			if _, err := b.Put(t.Context(), key, []byte("1")); err != nil {
				continue
			}
			mu.Lock()
			confirmed[key] = true
			mu.Unlock()
			longest, last = max(longest, time.Since(last)), time.Now()
		}
	})
	for _, bucket := range []*store.Bucket{b, far} { // two processes, one key
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				err := bucket.Modify(t.Context(), "count", func(old []byte) ([]byte, error) {
					var n int
					_ = json.Unmarshal(old, &n) // nothing is 0
					return json.Marshal(n + 1)
				})
				if err == nil {
					mu.Lock()
					adds++
					mu.Unlock()
				}
			}
		})
	}
	// The killed node may lead the leases, too: the election takes longer than a lease, whose holder then stops, and asks again as the bridge does.
	wg.Go(func() {
		for lost := lease.Lost(); ; {
			select {
			case <-done:
				return
			case <-lost:
			}
			if again, err := one.Lease(t.Context(), "node", "a", ttl); err == nil {
				lost = again.Lost()
				continue
			}
			time.Sleep(ttl / 4)
		}
	})
	taken := false
	wg.Go(func() { // as a standby does
		for {
			select {
			case <-done:
				return
			case <-time.After(ttl / 4):
			}
			if _, err := two.Lease(t.Context(), "node", "b", ttl); err == nil {
				taken = true
			} else if !errors.Is(err, store.ErrHeld) && !errors.Is(err, store.ErrAway) {
				t.Errorf("lease: %v", err)
			}
		}
	})
	time.Sleep(time.Second)
	c.Nodes[lead].Kill()
	killed := time.Now()
	mu.Lock()
	before := len(confirmed)
	mu.Unlock()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		n := len(confirmed)
		mu.Unlock()
		if n >= before+50 {
			break
		}
		if time.Now().After(limit) {
			t.Error("no writes 20 s after a node was killed")
			break
		}
	}
	back := time.Since(killed)
	close(done)
	wg.Wait()
	if err := c.Restart(lead); err != nil {
		t.Fatal(err)
	}

	var count int
	e, err := far.Get(t.Context(), "count")
	if err != nil || json.Unmarshal(e.Value, &count) != nil || count < adds {
		t.Errorf("%d were confirmed, the counter says %s, %v", adds, e.Value, err)
	}
	// The node that comes back may be given the lead at once, and nobody answers meanwhile.
	var list []store.Entry
	for limit := time.Now().Add(15 * time.Second); ; {
		if list, err = far.List(t.Context(), "w"); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.Key] = true
	}
	for key := range confirmed {
		if !there[key] {
			t.Errorf("%s was confirmed and is lost", key)
		}
	}
	seen := map[string]bool{}
	quiet := time.NewTimer(10 * time.Second)
	for len(seen) < len(there) {
		select {
		case e := <-changes:
			if strings.HasPrefix(e.Key, "w") {
				seen[e.Key] = true
			}
		case <-quiet.C:
			t.Fatalf("the watcher saw %d of %d keys", len(seen), len(there))
		}
	}
	if taken {
		t.Error("the lease of a holder that lives went to the standby")
	}
	t.Logf("leader of three killed: %d confirmed writes, 0 lost; 50 more %v later, longest pause between two %v; %d of the counter's %d confirmed", len(confirmed),
		back.Round(time.Millisecond), longest.Round(time.Millisecond), adds, count)
}

// TestF12CallsOverACluster: real calls on a real Asterisk, bridge and media on a cluster of three, with two more bridge processes standing by.
// One node is killed: control stays. All three are killed for 10 s: calls and new calls go on, and the records catch up. A bridge is killed: another
// one has its calls in 2 s.
func TestF12CallsOverACluster(t *testing.T) {
	machine := feel(t)
	c := startCluster(t)
	system := startFarms(t, farms.Config{MediaArgs: []string{"--store", c.URL()}})
	alice, bob := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil)
	caller, callee := newPerson(t, system, "caller", 300, nil), newPerson(t, system, "callee", 300, nil)
	caller.quiet, callee.quiet = true, true
	callee.calls = make(chan *siptest.Call, 64)
	system.Bridge = []string{"--store", c.URL(), "--user=bob=" + bob.ua.Contact(), "--user=callee=" + callee.ua.Contact()}
	first, err := system.StartBridge()
	if err != nil {
		t.Fatal(err)
	}
	system.BridgeP = first
	api := newControl(t, system.API(), nil)
	api.Ready(len(system.Nodes))
	var others []*control
	for i := range uint16(2) {
		at := netip.AddrPortFrom(system.Inside, 8100+2*i)
		p, err := system.StartBridge("--api", at.String(), "--admin", netip.AddrPortFrom(system.Inside, 8101+2*i).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			p.Stop()
			if t.Failed() {
				t.Logf("output of the bridge at %s:\n%s", at, tail(p.Output(), 3000))
			}
		})
		others = append(others, newControl(t, at, nil))
	}
	look := c.open()
	calls := c.bucket(look, "calls")
	media := c.bucket(look, "media")

	talk := alice.mustDial("bob")
	<-bob.calls
	const quiet = 10
	var held []*siptest.Call
	for range quiet {
		held = append(held, caller.mustDial("callee"))
	}
	now := api.Until("11 calls of two", func(c []bridgetest.Call) bool {
		return len(c) == quiet+1 && !slices.ContainsFunc(c, func(c bridgetest.Call) bool { return len(c.Legs) != 2 || c.Legs[1].State != "up" })
	})
	// Calls come in no order; the one that is listened to is not to be muted.
	now = slices.DeleteFunc(now, func(c bridgetest.Call) bool {
		return slices.ContainsFunc(c.Legs, func(l bridgetest.Leg) bool { return l.Number == "bob" })
	})
	if len(now) != quiet {
		t.Fatalf("%d calls without bob, want %d", len(now), quiet)
	}
	// same tells if the store has the calls that the bridge has, with the same legs.
	same := func() bool {
		list, err := calls.List(t.Context(), "")
		views := api.Calls()
		if err != nil || len(list) != len(views) {
			return false
		}
		for _, e := range list {
			var rec bridgetest.Call
			i := slices.IndexFunc(views, func(v bridgetest.Call) bool { return v.ID == e.Key })
			if json.Unmarshal(e.Value, &rec) != nil || i < 0 || !slices.Equal(rec.Legs, views[i].Legs) {
				return false
			}
		}
		return true
	}
	eventually(t, "the store has every call", 10*time.Second, same)
	for _, name := range []string{"calls", "nodes", "leases", "media"} {
		if _, copies := c.leader(name); copies != 3 {
			t.Errorf("bucket %s has %d copies", name, copies)
		}
	}
	mute := func(by *control, call bridgetest.Call, leg int) error {
		if text, status := by.Do("POST", "/v1/calls/"+call.ID+"/participants/"+call.Legs[leg].ID+"/mute", map[string]bool{"on": true}); status != 200 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	}
	holder := func() string { return api.Calls()[0].Owner }

	// One node of three, the one that leads the records.
	owner := holder()
	lead, _ := c.leader("calls")
	c.Nodes[lead].Kill()
	killed := time.Now()
	if err := mute(api, now[0], 0); err != nil {
		t.Errorf("mute right after a store node was killed: %v", err)
	}
	held = append(held, caller.mustDial("callee"))
	eventually(t, "the store has all again", 40*time.Second, same)
	t.Logf("one of three store nodes killed: a mute and a new call at once, all of it in the store after %v", time.Since(killed).Round(10*time.Millisecond))
	if got := holder(); got != owner {
		t.Errorf("the calls went from %s to %s", owner, got)
	}
	if err := c.Restart(lead); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(lead); err != nil {
		t.Fatal(err)
	}

	// All of them, for 10 s.
	for _, n := range c.Nodes {
		n.Kill()
	}
	away := time.Now()
	if err := mute(api, now[1], 1); err != nil {
		t.Errorf("mute without a store: %v", err)
	}
	fresh := caller.mustDial("callee")
	if err := held[0].Hangup(t.Context()); err != nil {
		t.Errorf("hang up without a store: %v", err)
	}
	held = append(held[1:], fresh)
	time.Sleep(time.Until(away.Add(9 * time.Second)))
	alice.hears(0, []float64{800}, []float64{500})
	bob.hears(0, []float64{500}, []float64{800})
	time.Sleep(time.Until(away.Add(10 * time.Second)))
	for i := range c.Nodes {
		if err := c.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	machine.reset()
	back := time.Now()
	ready := make(chan time.Duration, 1)
	go func() {
		for i := range c.Nodes {
			if err := c.Ready(i); err != nil {
				t.Error(err)
			}
		}
		ready <- time.Since(back)
	}()
	eventually(t, "the store has caught up", 60*time.Second, same)
	resync, nodes := time.Since(back), <-ready
	list, err := media.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("no store for 10 s: calls go on, longest gap heard by alice %v, bob %v; records are right %v after the nodes start (they are ready after %v); %d media records",
		alice.report().MaxGap, bob.report().MaxGap, resync.Round(10*time.Millisecond), nodes.Round(10*time.Millisecond), len(list))
	machine.judge(t, "records caught up after the nodes were ready", resync-nodes, 10*time.Second)
	for _, call := range append(held, talk) {
		select {
		case <-call.Done():
			t.Error("a call ended")
		default:
		}
	}
	if got := holder(); got != owner {
		t.Errorf("the calls went from %s to %s while nobody could write", owner, got)
	}

	// The process that controls the calls, with two standing by.
	here := api.Calls()
	machine.reset()
	first.Kill()
	died := time.Now()
	var last time.Duration
	for _, call := range here {
		for {
			err := mute(others[0], call, 0)
			if err == nil {
				last = time.Since(died)
				break
			}
			if time.Since(died) > 10*time.Second {
				t.Fatalf("no control of %s after 10 s: %v", call.ID, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Logf("bridge killed, two stand by: control of all %d calls back after %v", len(here), last.Round(time.Millisecond))
	machine.judge(t, "control back", last, 2*time.Second)
	for _, call := range append(held, talk) {
		select {
		case <-call.Done():
			t.Error("a call ended with the bridge")
		default:
		}
	}
	for _, call := range here {
		others[1].Must("DELETE", "/v1/calls/"+call.ID, nil)
	}
	for _, call := range append(held, talk) {
		wait(t, "BYE", call)
	}
}
