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

// TestB50Answers: what follows from each answer of the far end.
func TestB50Answers(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	w.put("pending", "call1", "", "pending.1")
	w.put("unknown", "call1", "", "unknown.1")
	w.put("ended", "call1", "", "ended.1")
	w.put("broken", "call1", "", "broken.1")
	w.put("timeout", "call1", "", "timeout.1")
	w.put("stubborn", "call1", "", "stubborn.1")
	w.put("nowhere", "call1", "", "nowhere.1")
	w.role = bridge.LegOut
	w.put("owner", "call1", "", "owner.1")
	w.script["sip-pending.1"] = []int{491, 491}
	w.script["sip-owner.1"] = []int{491}
	w.script["sip-timeout.1"] = []int{408}
	w.put("strange", "call1", "", "strange.1")
	w.script["sip-strange.1"] = []int{401} // and the node has no password: it gives up, with a BYE
	w.script["sip-stubborn.1"] = []int{491, 491, 491, 491, 491, 491}
	w.refuses["sip-nowhere.1"] = errors.New("503")
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
		"sip-pending.1": {ResultRecovered, 3}, "sip-unknown.1": {ResultClosed, 1}, "sip-ended.1": {ResultRefused, 0}, "sip-timeout.1": {ResultClosed, 1}, "sip-strange.1": {ResultFailed, 1},
		"sip-owner.1": {ResultRecovered, 2}, "sip-stubborn.1": {ResultFailed, 6}, "sip-nowhere.1": {ResultFailed, 6}, // no node takes it
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
	// Who gets no INVITE that the node would have followed by a BYE gets one from here.
	w.until("two are told that it is over", func() bool { return len(w.spoken) >= 6 })
	if byes := w.words("BYE"); len(byes) != 2 || byes["sip-stubborn.1"] == 0 || byes["sip-nowhere.1"] == 0 {
		t.Errorf("BYEs %v", byes)
	}
	for _, text := range w.spoken {
		if strings.Contains(text, "Call-ID: sip-stubborn.1\r\n") && !strings.Contains(text, "CSeq: 7 BYE\r\n") {
			t.Errorf("six INVITEs have used the numbers up to 6: %s", text)
		}
	}
	// RFC 3261 section 14.1: it was the farm that had called.
	var refused time.Time
	for _, s := range legs["sip-owner.1"].Steps {
		if s.Result == "491" {
			refused = s.At
		} else if d := s.At.Sub(refused); s.Name == "claimed" && !refused.IsZero() && d < 2100*time.Millisecond {
			t.Errorf("the owner of the Call-ID tries again after %v", d)
		}
	}
}

// TestB50BackOff: RFC 3261 section 14.1, in steps of 10 ms.
func TestB50BackOff(t *testing.T) {
	for role, want := range map[string][2]time.Duration{bridge.LegOut: {2100 * time.Millisecond, 4 * time.Second}, bridge.LegIn: {10 * time.Millisecond, 2 * time.Second}} {
		least, most := time.Hour, time.Duration(0)
		for range 20000 {
			d := backOff(role)
			least, most = min(least, d), max(most, d)
			if d%(10*time.Millisecond) != 0 {
				t.Fatalf("%s: %v", role, d)
			}
		}
		if least != want[0] || most != want[1] {
			t.Errorf("%s: %v to %v, want %v", role, least, most, want)
		}
	}
}

// TestB50Bounded: no more INVITEs are under way than Parallel, and as many; who has waited longest is asked for first, and the legs of a call one behind the other.
func TestB50Bounded(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	var want []string
	for i := range 12 {
		w.put(fmt.Sprintf("c%02d", 11-i), "call1", "", fmt.Sprintf("c%d.1", i), fmt.Sprintf("c%d.2", i))
		want = append(want, fmt.Sprintf("sip-c%d.1", i), fmt.Sprintf("sip-c%d.2", i))
	}
	w.slow = 60 * time.Millisecond
	most := 0
	w.onAsk = func(bridge.NodeID) {
		w.mu.Lock()
		defer w.mu.Unlock()
		answered := 0
		for _, a := range w.answers {
			answered += len(a)
		}
		most = max(most, len(w.order)-answered)
	}
	r := w.recoverer(Config{Parallel: 3})
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	if most != 3 {
		t.Errorf("%d INVITEs at a time, want 3", most)
	}
	for i, id := range w.order { // those that are at it at a time may change places
		if j := slices.Index(want, id); j < i-2 || j > i+2 {
			t.Errorf("%s is the %dth that is asked for, want the %dth: %v", id, i, j, w.order)
		}
	}

	one := newWorld(t, "call2")
	for i := range 6 {
		one.put(fmt.Sprintf("c%d", 5-i), "call1", "", fmt.Sprintf("c%d.1", i))
	}
	r = one.recoverer(Config{Parallel: 1})
	r.Dead(t.Context(), death("call1", "e1"))
	one.crash(r, "call1", "e1")
	if !slices.Equal(one.order, []string{"sip-c0.1", "sip-c1.1", "sip-c2.1", "sip-c3.1", "sip-c4.1", "sip-c5.1"}) {
		t.Errorf("one at a time, and asked for in the order %v", one.order)
	}
}

// TestF5NumberOfEachRecovery: each recovery before has used a number, which may have missed the capture (F3, F5).
func TestF5NumberOfEachRecovery(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1")
	w.cseq["sip-c.1"] = 7
	if err := w.calls.Modify(t.Context(), "c", func(old []byte) ([]byte, error) {
		return bytes.Replace(old, []byte(`"id":"c.1"`), []byte(`"id":"c.1r2","generation":2`), 1), nil
	}); err != nil {
		t.Fatal(err)
	}
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	if got := w.invites["sip-c.1"]; !slices.Equal(got, []string{"10 c.1r3 call2"}) {
		t.Errorf("%q, want number 10: 8, and one for each recovery before", got)
	}
}

// TestB50EndedMeanwhile: a call that is ended while its node is dead, by its partner or the operator, leaves nobody in silence: who is not brought back gets a BYE.
func TestB50EndedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.put("c", "call1", "", "c.1", "c.2")
	r := w.recoverer(Config{})
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	w.until("two are joined", func() bool { return len(w.joined) == 1 })
	e, err := w.calls.Get(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.calls.Delete(t.Context(), "c", e.Revision); err != nil {
		t.Fatal(err)
	}
	for id, l := range w.crash(r, "call1", "e1") { // though there is no node
		if l.Result != ResultClosed {
			t.Errorf("%s: %+v", id, l)
		}
	}
	w.until("both get a BYE", func() bool { return len(w.spoken) >= 2 })
	if byes := w.words("BYE"); byes["sip-c.1"] == 0 || byes["sip-c.2"] == 0 || len(w.invites) > 0 {
		t.Errorf("BYEs %v, INVITEs %v", byes, w.invites)
	}
}

// TestB50RefusedAndKnown: a dialog that is known and cannot go on, as one without an ACK, is ended by a BYE.
func TestB50RefusedAndKnown(t *testing.T) {
	w := newWorld(t, "call2")
	w.known = true
	w.put("c", "call1", "", "c.1")
	w.lost["sip-c.1"] = refuse(ReasonUnconfirmed, "no ACK")
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	if l := w.crash(r, "call1", "e1")["sip-c.1"]; l.Result != ResultRefused {
		t.Errorf("%+v", l)
	}
	w.until("there is a BYE", func() bool { return len(w.spoken) > 0 })
	if w.words("BYE")["sip-c.1"] == 0 || len(w.invites) > 0 {
		t.Errorf("said %q, INVITEs %v", w.spoken, w.invites)
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

// TestB50OldNews: what the store tells of a leg that does not come back, from before that was written, does not bring it up again.
func TestB50OldNews(t *testing.T) {
	w := newWorld(t, "call2")
	b := buckets{crashes: w.book(), claims: w.bucket(BucketClaims), calls: w.calls, legs: w.bucket(BucketCrashLegs)}
	r, err := New(Config{Store: w.store, History: w, Farm: w})
	if err != nil {
		t.Fatal(err)
	}
	w.put("c", "call1", "", "c.1", "c.2")
	rescue := newRescue(r, death("call1", "e1"), b, r.cfg.Logger)
	old := w.read("c")
	jobs := rescue.todo(&old)
	if len(jobs) != 2 {
		t.Fatalf("%d legs", len(jobs))
	}
	e := &effort{rescue: rescue, job: jobs[0], slot: &slot{all: r.slots}, n: rescue.rep.add(&jobs[0])}
	e.end(t.Context(), ResultClosed, errGone)
	rescue.leave(&jobs[0])
	if again := rescue.todo(&old); len(again) != 0 {
		t.Errorf("%+v is begun again", again)
	}
	if l := w.read("c").Legs; l[0].State != bridge.LegGone || l[1].State != bridge.LegUp {
		t.Errorf("%+v", l)
	}
}
