package recovery

import (
	"bytes"
	"context"
	"errors"
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
	legs := w.crash(r, "call1", "e1")
	if len(legs) != 85 {
		t.Errorf("%d legs, want 85", len(legs))
	}
	for id, l := range legs {
		if l.Result != ResultRecovered || len(w.invites[id]) != 1 {
			t.Errorf("%s: %+v after %v", id, l, w.invites[id])
		}
		var names []string
		for _, s := range l.Steps {
			if s.Name != stepJoin && s.Name != stepComfort { // beside the others
				names = append(names, s.Name)
			}
		}
		if want := []string{"found", "dialog", "turn", "claimed", "invite", "answered", "recovered", "rtp"}; !slices.Equal(names, want) {
			t.Errorf("%s: timeline %v, want %v", id, names, want)
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
	w.crash(a, "call1", "e1")
	for id, sent := range w.invites {
		if len(sent) != 1 {
			t.Errorf("%s: %v", id, sent)
		}
	}
	if n := a.Stats().Crashes + b.Stats().Crashes; n != 1 || len(w.invites) != 20 {
		t.Errorf("%d controllers recovered %d dialogs", n, len(w.invites))
	}
}

// TestB50Answers: what follows from each answer of the far end.
func TestB50Answers(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	w.put("pending", "call1", "", "pending.1")
	w.put("unknown", "call1", "", "unknown.1")
	w.put("ended", "call1", "", "ended.1")
	w.put("broken", "call1", "", "broken.1")
	w.script["sip-pending.1"] = []int{491, 491}
	w.script["sip-unknown.1"] = []int{481}
	w.script["sip-broken.1"] = []int{500}
	w.lost["sip-ended.1"] = errors.New("a BYE was seen")
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	legs := w.crash(r, "call1", "e1")
	for id, want := range map[string]struct {
		result  string
		invites int
	}{
		"sip-pending.1": {ResultRecovered, 3}, "sip-unknown.1": {ResultClosed, 1}, "sip-ended.1": {ResultRefused, 0},
		"sip-broken.1": {ResultFailed, 1}, // the node has said BYE: nothing is left to try
	} {
		sent := w.invites[id]
		if legs[id].Result != want.result || len(sent) != want.invites {
			t.Errorf("%s: %+v after %v", id, legs[id], sent)
		}
		seen := map[string]bool{}
		for i, s := range sent {
			cseq, channel, _ := strings.Cut(s, " ")
			if cseq != fmt.Sprint(i+1) || seen[channel] {
				t.Errorf("%s: CSeq and channel of each try are new: %v", id, sent)
			}
			seen[channel] = true
		}
		call := strings.TrimSuffix(strings.TrimPrefix(id, "sip-"), ".1")
		if state := w.read(call).Legs[0].State; (state == bridge.LegGone) != (want.result != ResultRecovered) {
			t.Errorf("%s: result %s leaves the record at %s", id, want.result, state)
		}
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
	for end := time.Now().Add(10 * time.Second); w.read("late").Legs[0].Node != "call2"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("late leg: %+v", w.read("late").Legs)
		}
	}
	if n := w.read("alive").Legs[0]; n.Node != "call1" || n.Generation != 0 {
		t.Errorf("a leg of the new process was taken: %+v", n)
	}
}

// TestF13NobodyWaitsForHomer: legs that only HOMER knows, the oldest ones at that and more than a batch of them, keep nobody waiting: all others are back,
// and their pairs joined, before HOMER answers.
func TestF13NobodyWaitsForHomer(t *testing.T) {
	w := newWorld(t, "call2")
	w.slowly, w.homer = map[string]bool{}, make(chan struct{})
	for i := range 130 {
		id := fmt.Sprintf("c%03d", i)
		w.put(id, "call1", "", id+".1", id+".2")
		if i < 60 {
			w.slowly["sip-"+id+".1"], w.slowly["sip-"+id+".2"] = true, true
		}
	}
	w.slowly["sip-c100.1"] = true // its other one does not wait, either
	r := w.recoverer(Config{Parallel: 4})
	r.Dead(t.Context(), death("call1", "e1"))
	for end := time.Now().Add(20 * time.Second); r.Stats().Recovered < 139; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v: they wait for HOMER", r.Stats())
		}
	}
	w.mu.Lock()
	for id := range w.slowly {
		if len(w.invites[id]) > 0 {
			t.Errorf("%s: nobody knows its dialog yet", id)
		}
	}
	if len(w.joined) != 69 {
		t.Errorf("%d pairs are joined, want 69", len(w.joined))
	}
	w.mu.Unlock()
	close(w.homer)
	for id, l := range w.crash(r, "call1", "e1") {
		if l.Result != ResultRecovered || len(w.invites[id]) != 1 {
			t.Errorf("%s: %+v after %v", id, l, w.invites[id])
		}
	}
}
