package recovery

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/bridge"
)

// TestB51BothLegsMeet: all legs of a dead node come back, those of one call and of one conference on one node; the calls spread; nobody else's
// is touched; the dead node is fenced before anybody speaks for it.
func TestB51BothLegsMeet(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	for i := range 40 {
		w.put(fmt.Sprintf("c%d", i), "call1", "", fmt.Sprintf("c%d.1", i), fmt.Sprintf("c%d.2", i))
	}
	w.put("room", "call1", "7000", "room.1", "room.2", "room.3", "room.4", "room.5")
	w.put("other", "call2", "", "other.1", "other.2")
	w.onAsk = func(bridge.NodeID) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.fenced) == 0 {
			t.Error("an INVITE left before the dead node was fenced")
		}
	}
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	d := death("call1", "e1")
	legs := map[string]LegReport{}
	for _, l := range w.closed(d.key()).Legs { // listened to until then
		legs[l.SIPCallID] = l
	}
	if len(legs) != 85 {
		t.Errorf("%d legs, want 85", len(legs))
	}
	for id, l := range legs {
		if l.Result != ResultRecovered || len(w.invites[id]) != 1 {
			t.Errorf("%s: %+v after %v", id, l, w.invites[id])
		}
		var names []string
		heard := 0
		for _, s := range l.Steps {
			switch s.Name {
			case StepRTP: // as soon as it was answered: it may be heard before anybody knows of that
				heard++
			case stepJoin, stepComfort:
			default:
				names = append(names, s.Name)
			}
		}
		if want := []string{"found", "dialog", "turn", "claimed", "invite", "answered", "goes on", "recovered"}; !slices.Equal(names, want) || heard != 1 {
			t.Errorf("%s: timeline %v and heard %d times, want %v and once", id, names, heard, want)
		}
		if !slices.IsSortedFunc(l.Steps, func(a, b Step) int { return a.At.Compare(b.At) }) {
			t.Errorf("%s: steps out of order: %+v", id, l.Steps)
		}
	}
	load := map[bridge.NodeID]int{}
	for i := range 40 {
		c := w.read(fmt.Sprintf("c%d", i))
		if c.Legs[0].Node != c.Legs[1].Node {
			t.Errorf("%s is torn: %+v", c.ID, c.Legs)
		}
		load[c.Node]++
	}
	if load["call2"] < 8 || load["call3"] < 8 {
		t.Errorf("the calls did not spread: %v", load)
	}
	room := map[bridge.NodeID]bool{}
	for _, l := range w.read("room").Legs {
		room[l.Node] = true
	}
	if len(room) != 1 {
		t.Errorf("the conference is torn over %v", slices.Collect(maps.Keys(room)))
	}
	if len(w.invites["sip-other.1"]) != 0 {
		t.Error("a call of a healthy node was touched")
	}
	if len(w.joined) != 40 {
		t.Errorf("%d pairs heard each other meanwhile, want 40", len(w.joined))
	}
}

// TestB49OnceForTwoControllers: two controllers that both see the crash, twice each, send one INVITE per dialog.
func TestB49OnceForTwoControllers(t *testing.T) {
	w := newWorld(t, "call2")
	for i := range 20 {
		w.put(fmt.Sprintf("c%d", i), "call1", "", fmt.Sprintf("c%d.1", i))
	}
	a, b := w.recoverer(Config{Controller: "a"}), w.recoverer(Config{Controller: "b"})
	for range 2 {
		a.Dead(t.Context(), death("call1", "e1"))
		b.Dead(t.Context(), death("call1", "e1"))
	}
	d := death("call1", "e1")
	w.closed(d.key())
	for id, sent := range w.invites {
		if len(sent) != 1 {
			t.Errorf("%s: %v", id, sent)
		}
	}
	w.eventually("it is counted", func() bool { return a.Stats().Crashes+b.Stats().Crashes > 0 })
	if n := a.Stats().Crashes + b.Stats().Crashes; n != 1 || len(w.invites) != 20 {
		t.Errorf("%d controllers recovered %d dialogs", n, len(w.invites))
	}
}

// TestB45Stopped: a node that ends without a call, or had ended its calls itself, has stopped; one that rang nobody, hangs, or loses a call has crashed.
func TestB45Stopped(t *testing.T) {
	for _, tt := range []struct {
		what    string
		prepare func(*world)
		ended   bool
		stopped bool
	}{
		{"empty, and ended", func(*world) {}, true, true},
		{"empty, and hangs", func(*world) {}, false, false},
		{"ended its calls", func(w *world) {
			w.put("c", "call1", "", "c.1")
			w.lost["sip-c.1"] = refuse(ReasonEnded, "a BYE is on the wire")
		}, true, true},
		{"has a call", func(w *world) { w.put("c", "call1", "", "c.1") }, true, false},
		{"has a call that nobody can go on with", func(w *world) {
			w.put("c", "call1", "", "c.1")
			w.lost["sip-c.1"] = refuse(ReasonUnconfirmed, "no ACK")
		}, true, false},
		{"has a call whose far end has gone", func(w *world) {
			w.put("c", "call1", "", "c.1")
			w.script["sip-c.1"] = []int{481}
		}, true, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "call2")
			tt.prepare(w)
			r := w.recoverer(Config{})
			r.late = 100 * time.Millisecond
			d := death("call1", "e1")
			d.Ended = tt.ended
			r.Dead(t.Context(), d)
			if c := w.closed(d.key()); c.Stopped != tt.stopped || (c.State() == "stopped") != tt.stopped {
				t.Errorf("%+v", c)
			}
			w.eventually("it is counted", func() bool { s := r.Stats(); return s.Stops == 1 == tt.stopped && s.Crashes == 1 != tt.stopped })
		})
	}
}

// TestF3TargetDies: the node that takes the calls dies 300 ms into it; all are on a third in the end, each with a CSeq of its own.
func TestF3TargetDies(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	for i := range 30 {
		w.put(fmt.Sprintf("c%d", i), "call1", "", fmt.Sprintf("c%d.1", i), fmt.Sprintf("c%d.2", i))
	}
	r := w.recoverer(Config{Parallel: 4})
	var once sync.Once
	asked := 0
	w.onAsk = func(node bridge.NodeID) {
		w.mu.Lock()
		asked++
		now := asked >= 10 && node == "call2"
		if now {
			w.healthy["call2"] = false
		}
		w.mu.Unlock()
		if now {
			once.Do(func() { r.Dead(context.Background(), death("call2", "e2")) })
		}
	}
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	w.crash(r, "call2", "e2")
	for i := range 30 {
		c := w.read(fmt.Sprintf("c%d", i))
		for _, l := range c.Legs {
			if l.Node != "call3" || l.State != bridge.LegUp {
				t.Errorf("leg %s: %s on %s after %v", l.ID, l.State, l.Node, w.invites[l.SIPCallID])
			}
			last := 0
			for _, s := range w.invites[l.SIPCallID] {
				cseq, _, _ := strings.Cut(s, " ")
				n, _ := strconv.Atoi(cseq)
				if n <= last {
					t.Errorf("a CSeq was used twice: %v", w.invites[l.SIPCallID])
				}
				last = n
			}
		}
	}
}

// TestF4WholeFarm: with no node left the calls are held and come back with the first one; there is a limit, and it is said.
func TestF4WholeFarm(t *testing.T) {
	w := newWorld(t)
	w.put("c", "call1", "", "c.1")
	r := w.recoverer(Config{GiveUp: time.Minute})
	r.Dead(t.Context(), death("call1", "e1"))
	time.AfterFunc(500*time.Millisecond, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.healthy["call2"] = true
	})
	if l := w.crash(r, "call1", "e1")["sip-c.1"]; l.Result != ResultRecovered {
		t.Errorf("%+v", l)
	}

	none := newWorld(t)
	none.put("c", "call1", "", "c.1")
	short := none.recoverer(Config{GiveUp: 300 * time.Millisecond})
	short.Dead(t.Context(), death("call1", "e1"))
	if l := none.crash(short, "call1", "e1")["sip-c.1"]; l.Result != ResultFailed || !strings.Contains(l.Reason, "no healthy node") {
		t.Errorf("%+v", l)
	}
	none.until("the phone has a BYE", func() bool { return len(none.spoken) > 0 })
	const want = "udp:192.0.2.9:5080 BYE sip:phone@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5080;branch=z9hG4bK"
	const rest = "\r\nRoute: <sip:edge;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:farm@192.0.2.9>;tag=near\r\nTo: <sip:phone@192.0.2.1>;tag=far\r\nCall-ID: sip-c.1\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
	if got := none.spoken[0]; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, rest) {
		t.Errorf("%q, want %q...%q", got, want, rest)
	}
}

// TestF4NewProcess: the node that comes back while its leg waits is another process. It keeps nothing, it takes the leg.
func TestF4NewProcess(t *testing.T) {
	w := newWorld(t, "call1")
	w.put("c", "call1", "", "c.1")
	r := w.recoverer(Config{})
	w.mu.Lock()
	w.healthy["call1"], w.ended = false, "e1"
	w.mu.Unlock()
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	w.lookedAfter(d)
	w.set("call1", true)
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e2", SIP: d.SIP})
	if l := w.crash(r, "call1", "e1")["sip-c.1"]; l.Result != ResultRecovered || l.Target != "call1" {
		t.Errorf("%+v", l)
	}
}

// TestF3LateLeg: a leg that its node had won in its last moment is written there after all others were found. It is brought back, too; one that
// is up on a new process of that name is left alone.
func TestF3LateLeg(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1")
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	w.mu.Lock()
	w.healthy["call1"] = true
	w.mu.Unlock()
	r.Back(t.Context(), Return{Node: "call1", Epoch: "e2", SIP: "udp:192.0.2.9:5080"})
	w.put("late", "call1", "", "late.1")
	w.put("alive", "call1", "", "alive.1")
	if err := w.calls.Modify(t.Context(), "late", func(old []byte) ([]byte, error) {
		return bytes.Replace(old, []byte(`"state":"up"`), []byte(`"state":"lost"`), 1), nil
	}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); w.read("late").Legs[0].Generation != 1; time.Sleep(10 * time.Millisecond) { // the new process is as good as call2
		if time.Now().After(end) {
			t.Fatalf("late leg: %+v", w.read("late").Legs)
		}
	}
	if n := w.read("alive").Legs[0]; n.Node != "call1" || n.Generation != 0 {
		t.Errorf("a leg of the new process was taken: %+v", n)
	}
}
