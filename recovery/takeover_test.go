package recovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
	"rtcedge/internal/testrun"
)

// controller is one of several that act on a world, each with a connection of its own to the store. It dies at a step of its own.
type controller struct {
	*world
	*Recoverer
	die    func()
	dead   chan struct{}
	at     string // "STEP N": the step, and which time it is reached
	mu     sync.Mutex
	passed map[string]int
}

// step is where a controller may die: then it comes no further, and nobody hears of it.
func (c *controller) step(name string) {
	c.mu.Lock()
	c.passed[name]++
	now := fmt.Sprint(name, " ", c.passed[name])
	c.mu.Unlock()
	if now == c.at {
		c.die()
	}
}

func (c *controller) gone() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

func (c *controller) Dialogs(ctx context.Context, sip string, legs []Asked) iter.Seq[map[string]Rebuilt] {
	c.step("dialogs")
	return c.world.Dialogs(ctx, sip, legs)
}

func (c *controller) Fence(ctx context.Context, sip string) error {
	c.step("fence")
	return c.world.Fence(ctx, sip)
}

func (c *controller) Originate(ctx context.Context, node bridge.NodeID, ch Channel) error {
	c.step("claimed")
	if c.gone() {
		return context.Canceled // it never left
	}
	err := c.world.Originate(ctx, node, ch)
	c.step("invited")
	return err
}

// controllers starts some over a world, whose store serves them by TCP.
func controllers(t *testing.T, w *world, at netip.AddrPort, names ...string) []*controller {
	t.Helper()
	var out []*controller
	for _, name := range names {
		own, err := store.New(store.Config{URL: "nats://" + at.String()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() { _ = own.Run(ctx) })
		c := &controller{world: w, dead: make(chan struct{}), passed: map[string]int{}}
		if c.Recoverer, err = New(Config{Store: own, History: c, Farm: c, Edges: []Edge{c}, Controller: name, Parallel: 4, TakeOver: 400 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		c.late = 500 * time.Millisecond
		all.Go(func() { _ = c.Recoverer.Run(ctx) })
		// A process that is killed gives no lease back: its connection ends, and with it everything.
		c.die = sync.OnceFunc(func() { close(c.dead); cancel() })
		t.Cleanup(func() { cancel(); all.Wait() })
		out = append(out, c)
	}
	return out
}

func servedWorld(t *testing.T, key []byte, nodes ...bridge.NodeID) (*world, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close()
	w := emptyWorld(t, nodes...)
	if w.store, err = store.New(store.Config{Listen: at, Key: key}); err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, w.store.Run)
	if w.calls, err = w.store.Bucket(t.Context(), bridge.BucketCalls); err != nil {
		t.Fatal(err)
	}
	return w, at
}

// TestB49ControllerDies: of two controllers the one that recovers is killed, at each step. The other one goes on: every leg is back, and no dialog has
// seen two INVITEs.
func TestB49ControllerDies(t *testing.T) {
	for _, tt := range []struct {
		at     string
		answer time.Duration // how long phones take
	}{
		{"fence 1", 0},
		{"dialogs 1", 0},
		{"claimed 1", 0},                        // written down, and not sent
		{"claimed 7", 0},                        // some are done
		{"invited 1", 50 * time.Millisecond},    // answered while nobody is there
		{"invited 5", 2500 * time.Millisecond},  // answered when the other one has it
		{"invited 12", 2500 * time.Millisecond}, // the last one
		{"nothing 1", 0},                        // nobody dies
	} {
		t.Run(tt.at, func(t *testing.T) {
			t.Parallel()
			w, at := servedWorld(t, nil, "call2", "call3")
			w.slow = tt.answer
			for i := range 6 {
				w.put(fmt.Sprintf("c%d", i), "call1", "", fmt.Sprintf("c%d.1", i), fmt.Sprintf("c%d.2", i))
			}
			both := controllers(t, w, at, "a", "b")
			a, b := both[0], both[1]
			a.at = tt.at
			d := death("call1", "e1")
			a.Dead(t.Context(), d)
			key := d.key()
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { // a has it
				if c, err := w.book().read(t.Context(), key); err == nil && c.Controller == "a" {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the first controller does nothing")
				}
			}
			b.Dead(t.Context(), d)
			crash := w.closed(key)
			switch died := a.gone(); {
			case died && (crash.Taken == 0 || crash.Controller != "b"):
				t.Errorf("a died, the crash is %s's after %d takings", crash.Controller, crash.Taken)
			case !died && crash.Taken > 0 || crash.Taken > 1:
				t.Logf("NOT JUDGED who recovered: the machine let a controller wait for longer than its lease (%d takings)", crash.Taken)
			}
			if len(crash.Legs) != 12 {
				t.Errorf("%d legs, want 12", len(crash.Legs))
			}
			for _, l := range crash.Legs {
				if l.Result != ResultRecovered {
					t.Errorf("%s: %+v", l.SIPCallID, l)
				}
			}
			w.mu.Lock()
			for id, sent := range w.invites {
				if len(sent) != 1 {
					t.Errorf("%s has seen %v", id, sent)
				}
			}
			sent := len(w.invites)
			w.mu.Unlock()
			if sent != 12 {
				t.Errorf("%d dialogs have seen an INVITE, want 12", sent)
			}
			for i := range 6 {
				for _, l := range w.read(fmt.Sprintf("c%d", i)).Legs {
					if l.Node == "call1" || l.State != bridge.LegUp {
						t.Errorf("leg %s: %s on %s", l.ID, l.State, l.Node)
					}
				}
			}
			if left, err := w.bucket(BucketClaims).List(t.Context(), ""); err != nil || len(left) > 0 {
				t.Errorf("%d claims are left, %v", len(left), err)
			}
		})
	}
}

func (w *world) bucket(name string) *store.Bucket {
	w.t.Helper()
	b, err := w.store.Bucket(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// closed waits until nothing can come of a crash any more.
func (w *world) closed(key string) Crash {
	w.t.Helper()
	for end := time.Now().Add(40 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := w.book().read(w.t.Context(), key)
		if err == nil && !c.Closed.IsZero() {
			if c.Steps, c.Legs, err = readReport(w.t.Context(), w.bucket(BucketCrashLegs), key); err != nil {
				w.t.Fatal(err)
			}
			return c
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s is not closed: %+v, %v", key, c, err)
		}
	}
}

// TestB49StoodStill: a controller that stood still while another one took its crash over sends nothing when it goes on: its claim has changed.
func TestB49StoodStill(t *testing.T) {
	w := newWorld(t, "call2")
	b := buckets{crashes: w.book(), claims: w.bucket(BucketClaims), calls: w.calls, legs: w.bucket(BucketCrashLegs)}
	mine := func(name string) *rescue {
		r, err := New(Config{Store: w.store, History: w, Farm: w, Controller: name})
		if err != nil {
			t.Fatal(err)
		}
		return newRescue(r, death("call1", "e1"), b, r.cfg.Logger)
	}
	j := job{call: bridge.Call{ID: "c"}, leg: bridge.Leg{ID: "c.1", Node: "call1", SIPCallID: "x"}}
	first, fresh, err := mine("a").claimLeg(t.Context(), &j, &slot{}, claim{Target: "call2", Channel: "c.1r1", Generation: 1, CSeq: 7})
	if err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	second, fresh, err := mine("b").claimLeg(t.Context(), &j, &slot{}, claim{Target: "call3", Channel: "c.1r9", Generation: 9, CSeq: 99})
	if err != nil || fresh {
		t.Fatal(fresh, err)
	}
	if second.Channel != "c.1r1" || second.Target != "call2" || second.CSeq != 7 || second.Generation != 1 {
		t.Errorf("the second one does not know of the first one's INVITE: %+v", second.claim)
	}
	first.Generation, first.Channel = 2, "c.1r2"
	if err := first.write(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("the first one may send on: %v", err)
	}
	first.release(t.Context()) // is none of its business any more
	if err := second.write(t.Context()); err != nil {
		t.Errorf("the second one: %v", err)
	}
}
