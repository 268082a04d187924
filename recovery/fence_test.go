package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"rtcedge/bridge"
)

const deadSIP = "udp:192.0.2.9:5080" // of death

func (w *world) isFenced() bool { return slices.Contains(w.fenced, deadSIP) }

// node writes what the bridge role has written of a node.
func (w *world) node(id bridge.NodeID, epoch string) {
	w.t.Helper()
	value, err := json.Marshal(bridge.Node{ID: id, Epoch: epoch, State: bridge.NodeDrain})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.bucket(bridge.BucketNodes).Put(w.t.Context(), string(id), value); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) record(id bridge.NodeID) (n bridge.Node) {
	w.t.Helper()
	e, err := w.bucket(bridge.BucketNodes).Get(w.t.Context(), string(id))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(e.Value, &n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestB54Back: an old process that goes on is rid of the channels that others took, and stays fenced while their BYEs are repeated; as long as it
// cannot be rid of them the fence stays. A new process has none.
func TestB54Back(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1")
	w.node("call1", "e1")
	r := w.recoverer(Config{})
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	w.crash(r, "call1", "e1")
	w.mu.Lock()
	w.old, w.clear = []string{"c.1"}, errors.New("no")
	w.mu.Unlock()
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
	w.eventually("the channels are asked for", func() bool { return w.cleared > 3 })
	w.mu.Lock()
	if !w.isFenced() {
		t.Fatal("the fence fell although the old channels are there")
	}
	w.clear = nil
	w.mu.Unlock()
	if n := w.record("call1"); !n.Fenced || n.State != bridge.NodeDrain {
		t.Errorf("the bridge role reads %+v", n)
	}
	w.eventually("the old channel is ended", func() bool { return slices.Equal(w.over, []string{"c.1"}) })
	ended := time.Now()
	w.eventually("the fence falls", func() bool { return !w.isFenced() })
	if after := time.Since(ended); after < r.byes-2*r.every { // seen a turn late
		t.Errorf("the fence fell %v after the last BYE", after)
	}
	w.settled(d.key())
	if n := w.record("call1"); n.Fenced || n.State != bridge.NodeDrain {
		t.Errorf("after the fence the bridge role reads %+v", n)
	}

	r.Dead(t.Context(), d)
	w.eventually("it is fenced again", w.isFenced)
	w.mu.Lock()
	cleared := w.cleared
	w.mu.Unlock()
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e2", SIP: deadSIP})
	w.eventually("the fence falls", func() bool { return !w.isFenced() })
	if w.cleared != cleared {
		t.Error("a new process has nothing to be rid of")
	}
}

func (w *world) settled(key string) (c Crash) {
	w.t.Helper()
	w.eventually(key+" is settled", func() bool {
		var err error
		c, err = w.book().read(w.t.Context(), key)
		return err == nil && !c.Settled.IsZero()
	})
	return c
}

// TestB54SecondCrash: a node that stood still and goes on is nobody's target as long as its fence stands, whatever its farm says of it: calls of another
// node that dies meanwhile wait, and go to it when the edges let it speak.
func TestB54SecondCrash(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1", "c.2")
	w.onAsk = func(node bridge.NodeID) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if node == "call1" && w.isFenced() {
			t.Error("a fenced node was asked to send an INVITE")
		}
	}
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	w.mu.Lock()
	w.old = []string{"c.1", "c.2"}
	w.healthy["call1"], w.healthy["call2"] = true, false
	w.mu.Unlock()
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
	d := death("call2", "e2")
	d.SIP = "udp:192.0.2.8:5080"
	r.Dead(t.Context(), d)
	for id, l := range w.crash(r, "call2", "e2") {
		if l.Result != ResultRecovered || l.Target != "call1" {
			t.Errorf("%s: %+v", id, l)
		}
	}
}

// TestB54BackInTheMiddle: the node goes on while its calls are being brought back one by one. Each call is where its legs are, and only there: none is taken
// whose channel stays, and none is left whose channel was ended.
func TestB54BackInTheMiddle(t *testing.T) {
	w := newWorld(t, "call2")
	const calls = 16
	for i := range calls {
		w.put(fmt.Sprint("c", i), "call1", "", fmt.Sprintf("c%d.1", i), fmt.Sprintf("c%d.2", i))
		w.old = append(w.old, fmt.Sprintf("c%d.1", i), fmt.Sprintf("c%d.2", i))
	}
	r := w.recoverer(Config{Parallel: 1})
	asked := 0
	w.onAsk = func(bridge.NodeID) {
		if asked++; asked == 5 {
			// The channels are looked at while this INVITE, for the first leg of the third call, is on its way.
			w.set("call1", true)
			r.Back(context.Background(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
			w.eventually("the channels are looked at", func() bool { return w.cleared > 1 })
		}
	}
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	w.crash(r, "call1", "e1")
	w.settled(d.key())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isFenced() {
		t.Error("the fence stands")
	}
	moved := 0
	for i := range calls {
		c := w.read(fmt.Sprint("c", i))
		for _, l := range c.Legs {
			old := bridge.BaseID(l.ID)
			there, over := slices.Contains(w.old, old), slices.Contains(w.over, old)
			if l.State != bridge.LegUp || l.Node != c.Node || there == over || there != (l.Node == "call1") || (len(w.invites[l.SIPCallID]) > 0) == there {
				t.Errorf("leg %s is %s on %s (its call on %s), its old channel lives: %v, was ended: %v, INVITEs: %v", l.ID, l.State, l.Node, c.Node, there, over,
					w.invites[l.SIPCallID])
			}
		}
		if c.Node == "call2" {
			moved++
		}
	}
	if moved < 3 || moved == calls {
		t.Errorf("%d of %d calls moved", moved, calls)
	}
}

// TestF18StoodStill: the only node stands still and goes on before another one is there. Its calls stay where they are with those that listen to them, and
// it is taken back at once: behind its fence it is no target, but it need not be one.
func TestF18StoodStill(t *testing.T) {
	w := newWorld(t)
	w.put("c", "call1", "", "c.1")
	if err := w.calls.Modify(t.Context(), "c", func(old []byte) ([]byte, error) {
		var c bridge.Call
		err := json.Unmarshal(old, &c)
		c.Legs[0].Recording = "c-leg-7"
		value, _ := json.Marshal(c)
		return value, err
	}); err != nil {
		t.Fatal(err)
	}
	r := w.recoverer(Config{})
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	w.old = []string{"c.1", "c-leg-7-snoop", "stranger"}
	w.lookedAfter(d)
	r.Back(context.Background(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
	w.set("call1", true)
	if l := w.crash(r, "call1", "e1")["sip-c.1"]; l.Result != ResultKept {
		t.Errorf("%+v", l)
	}
	if c := w.read("c"); c.Legs[0].State != bridge.LegUp || c.Legs[0].Node != "call1" || len(w.invites) != 0 {
		t.Errorf("%+v after %v", c, w.invites)
	}
	w.settled(d.key())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isFenced() || !slices.Equal(w.over, []string{"stranger"}) {
		t.Errorf("fenced %v, ended %v", w.fenced, w.over)
	}
}

// TestF18BackBeforeBegun: the node is back before anybody has begun to recover it. Its fence falls again. It dies for good under its old epoch: that is
// another crash.
func TestF18BackBeforeBegun(t *testing.T) {
	w := newWorld(t, "call1")
	w.put("c", "call1", "", "c.1")
	r := w.recoverer(Config{})
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: d.SIP})
	w.crash(r, "call1", "e1")
	w.settled(d.key())
	w.mu.Lock()
	if w.isFenced() || len(w.invites) != 0 {
		t.Errorf("fenced %v, asked %v", w.fenced, w.invites)
	}
	w.healthy = map[bridge.NodeID]bool{"call2": true}
	w.mu.Unlock()
	r.Dead(t.Context(), death("call1", "e1"))
	w.movesTo("call2")
}

// TestF18BackBeforeWritten: a look at the store before the crash is in it does not forget that the node was dead, so that its fence, which stands a moment later, falls
// at once and not as that of a node which others saw dying.
func TestF18BackBeforeWritten(t *testing.T) {
	w := newWorld(t, "call1")
	r := w.recoverer(Config{})
	b, err := r.buckets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.blind = time.Hour
	r.seen["call1"] = &presence{Return: Return{Node: "call1", Epoch: "e1"}, at: time.Now(), returned: true}
	r.mu.Unlock()
	g := &guard{r: r, node: "call1"}
	open, err := g.look(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if !g.judges(open) {
		t.Error("nobody judges a node that we saw dead and back")
	}
}

// movesTo waits until call c is there.
func (w *world) movesTo(node bridge.NodeID) {
	w.t.Helper()
	w.eventually("c is on "+string(node), func() bool { return w.read("c").Legs[0].Node == node })
}

// TestF17OrderWithoutClocks: a process that went on and dies again is another crash, whatever its clock, ours, or that of another controller says.
func TestF17OrderWithoutClocks(t *testing.T) {
	for _, hours := range []time.Duration{-1, 1} {
		w := newWorld(t, "call1", "call2")
		w.put("c", "call1", "", "c.1")
		c := Crash{Node: "call1", Epoch: "e1", Controller: "b", Since: time.Now().Add(hours * time.Hour)}
		c.Detected, c.Done, c.Closed, c.Returned = c.Since, c.Since, c.Since, c.Since
		value, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.bucket(BucketCrashes).Put(t.Context(), c.key(), value); err != nil {
			t.Fatal(err)
		}
		r := w.recoverer(Config{Controller: "a"})
		r.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP}) // the first sight of a controller that has just started
		w.set("call1", false)
		d := death("call1", "e1")
		d.Since, d.At = d.Since.Round(0), d.At.Round(0)
		r.Dead(t.Context(), d)
		w.movesTo("call2")
	}
}

// TestF18OverElsewhere: another controller was quicker, and the node was back for it before our own verdict fell. That is one death, if it is back for us too;
// if it is not, it died again.
func TestF18OverElsewhere(t *testing.T) {
	for _, back := range []bool{true, false} {
		w := newWorld(t, "call2")
		w.put("c", "call1", "", "c.1")
		c := Crash{Node: "call1", Epoch: "e1", Controller: "b", Detected: time.Now(), Done: time.Now(), Closed: time.Now(), Returned: time.Now()}
		value, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		r := w.recoverer(Config{Controller: "a"})
		if _, err := w.bucket(BucketCrashes).Put(t.Context(), c.key(), value); err != nil {
			t.Fatal(err)
		}
		r.Dead(t.Context(), death("call1", "e1"))
		if !back {
			w.movesTo("call2")
			continue
		}
		w.set("call1", true)
		r.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
		w.settled(c.key())
		if all, err := r.Crashes(t.Context(), Query{}); err != nil || len(all) != 1 || len(w.invites) > 0 {
			t.Errorf("%d crashes (%v), INVITEs %v", len(all), err, w.invites)
		}
	}
}

// TestB54ControllerRestarts: the controller that fenced a node is gone. Another one, which sees the node for the first time when it lives, has the fence fall.
func TestB54ControllerRestarts(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1")
	first := w.recoverer(Config{Controller: "a"})
	first.late = 100 * time.Millisecond
	d := death("call1", "e1")
	first.Dead(t.Context(), d)
	w.closed(d.key())
	w.eventually("it is fenced", w.isFenced)
	w.stop()
	w.mu.Lock()
	w.old = []string{"c.1", "new"} // a call that came before, and that nobody took
	w.healthy["call1"] = true
	w.mu.Unlock()
	next := w.recoverer(Config{Controller: "b"})
	next.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
	if c := w.settled(d.key()); c.Returned.IsZero() || c.Freed.IsZero() {
		t.Errorf("%+v", c)
	}
	w.mu.Lock()
	if w.isFenced() || !slices.Equal(w.over, []string{"c.1"}) {
		t.Errorf("fenced %v, ended %v", w.fenced, w.over)
	}
	w.mu.Unlock()
	// And its next death is one of its own.
	w.put("c", "call1", "", "c.1")
	w.set("call1", false)
	next.Dead(t.Context(), death("call1", "e1"))
	w.movesTo("call2")
}

// gate is an edge that can be away, and that forgets its fences when it starts anew.
type gate struct {
	mu     sync.Mutex
	away   bool
	fenced map[string]bool
	told   int
	limit  time.Duration // for an answer, as asked for last
}

func (g *gate) tell(ctx context.Context, sip string, on bool) error {
	g.mu.Lock()
	g.told++
	if end, ok := ctx.Deadline(); ok {
		g.limit = time.Until(end)
	}
	away := g.away
	if !away {
		g.fenced[sip] = on
	}
	g.mu.Unlock()
	if away {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (g *gate) Fence(ctx context.Context, sip string) error   { return g.tell(ctx, sip, true) }
func (g *gate) Unfence(ctx context.Context, sip string) error { return g.tell(ctx, sip, false) }
func (g *gate) String() string                                { return "gate" }

func (g *gate) Speak(context.Context, string, netip.AddrPort, string) error { return nil }

func (g *gate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// TestB54EdgeAway: an edge that does not answer keeps no call waiting, gets the fence when it is there, also after a restart of its own, and is told of its end
// for as long as it takes. The others are told at once.
func TestB54EdgeAway(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1")
	edge := &gate{away: true, fenced: map[string]bool{}}
	r := w.recoverer(Config{Edges: []Edge{edge}})
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	w.crash(r, "call1", "e1")
	edge.set(func() {
		if edge.limit <= 0 || edge.limit > fenceWait {
			t.Errorf("a call waits for an edge for %v", edge.limit)
		}
		edge.away = false
	})
	stands := func(on bool) func() bool {
		return func() bool {
			edge.mu.Lock()
			defer edge.mu.Unlock()
			return edge.fenced[deadSIP] == on
		}
	}
	w.eventually("the edge that was away has the fence", stands(true))
	edge.set(func() { edge.fenced = map[string]bool{} })
	w.eventually("the edge that started anew has the fence", stands(true))
	told := 0
	edge.set(func() { edge.away, told = true, edge.told })
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e2", SIP: deadSIP})
	w.eventually("the other edge lets it in", func() bool { return !w.isFenced() })
	edge.set(func() { told = edge.told })
	w.eventually("the edge that is away is told again", func() bool {
		edge.mu.Lock()
		defer edge.mu.Unlock()
		return edge.told > told
	})
	w.eventually("the node is in again, and not for all", func() bool {
		c, err := w.book().read(t.Context(), d.key())
		return err == nil && !c.Freed.IsZero() && c.Settled.IsZero()
	})
	edge.set(func() { edge.away = false })
	w.eventually("the edge lets it in", stands(false))
	w.settled(d.key())
}

// TestB54SeenElsewhere: the controller that fenced a node cannot see it come back, another one can. That one lets it in.
func TestB54SeenElsewhere(t *testing.T) {
	w := newWorld(t, "call2")
	a, b := w.recoverer(Config{Controller: "a"}), w.recoverer(Config{Controller: "b"})
	d := death("call1", "e1")
	a.Dead(t.Context(), d)
	w.crash(a, "call1", "e1")
	w.eventually("it is fenced", w.isFenced)
	b.Dead(t.Context(), d)
	b.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: deadSIP})
	w.settled(d.key())
	if w.isFenced() {
		t.Error("the fence stands")
	}
}

// TestB54DeadAtTheStart: a controller that starts while a node is dead keeps its fence up, and need not wait for what others may know when it comes back: at
// another address, too.
func TestB54DeadAtTheStart(t *testing.T) {
	w := newWorld(t, "call2")
	c := Crash{Node: "call1", Epoch: "e1", SIP: deadSIP, Controller: "gone", Detected: time.Now(), Done: time.Now(), Closed: time.Now()}
	value, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.bucket(BucketCrashes).Put(t.Context(), c.key(), value); err != nil {
		t.Fatal(err)
	}
	r := w.recoverer(Config{})
	r.mu.Lock()
	r.blind = time.Hour
	r.mu.Unlock()
	w.eventually("it is fenced", w.isFenced)
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e1", SIP: "udp:192.0.2.7:5080"})
	w.settled(c.key())
	if w.isFenced() {
		t.Error("the fence stands at its old address")
	}
}
