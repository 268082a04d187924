package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge"
)

// TestB50JoinBeforeInvite: two are joined before the INVITE of either leaves, or not at all, and not when one of them needs nothing any more. An INVITE waits for
// the join of its two, and not for long.
func TestB50JoinBeforeInvite(t *testing.T) {
	j := func(leg string) *job {
		return &job{call: bridge.Call{ID: "c", Legs: []bridge.Leg{{State: bridge.LegUp}, {State: bridge.LegUp}}}, leg: bridge.Leg{ID: leg, SIPCallID: "sip-" + leg}}
	}
	p := newPairs()
	p.expect([]job{*j("1"), *j("2")})
	began := make(chan struct{})
	done := make(chan struct{})
	go func() { close(began); p.wait(t.Context(), j("1")); close(done) }()
	<-began
	if !p.join("sip-1", "sip-2") {
		t.Error("nobody was invited, and they are not joined")
	}
	p.settle("c")
	<-done
	if p.settled("c") != nil {
		t.Error("it is still open")
	}

	p = newPairs()
	p.expect([]job{*j("1"), *j("2")})
	start := time.Now()
	p.wait(t.Context(), j("1")) // media does not answer
	if d := time.Since(start); d < joinWait {
		t.Errorf("the INVITE left after %v, and the join was under way", d)
	}
	if p.invite("sip-1"); p.join("sip-1", "sip-2") {
		t.Error("joined behind an INVITE")
	}
	p = newPairs()
	if p.over["sip-2"] = true; p.join("sip-1", "sip-2") {
		t.Error("joined with one who is back")
	}
	held := j("3")
	held.leg.Held = true
	if p.expect([]job{*held}); len(p.open) > 0 {
		t.Error("who is on hold is waited for")
	}
}

// TestF18KeptIsNotJoined: two whose node stood still and goes on are not kept apart from it by the join that bridged its silence, also if nobody knows whether
// media has joined them: its answer was lost.
func TestF18KeptIsNotJoined(t *testing.T) {
	for _, lost := range []bool{false, true} {
		w := newWorld(t)
		w.put("c", "call1", "", "c.1", "c.2")
		if lost {
			w.onJoin = func(ctx context.Context) { <-ctx.Done() } // media does it then, and nobody hears of it
		}
		r := w.recoverer(Config{})
		d := death("call1", "e1")
		r.Dead(t.Context(), d)
		w.until("two are joined", func() bool { return len(w.joined) == 1 })
		w.mu.Lock()
		w.healthy["call1"] = true
		w.mu.Unlock()
		for id, l := range w.crash(r, "call1", "e1") {
			if l.Result != ResultKept {
				t.Errorf("%s: %+v", id, l)
			}
		}
		w.until("nobody is joined", func() bool { return len(w.joined) == 0 })
		for _, id := range []string{"sip-c.1", "sip-c.2"} {
			w.until("no comfort noise", func() bool { n := len(w.noise[id]); return n == 0 && !lost || n > 0 && !w.noise[id][n-1] })
		}
	}
}

// TestB50LateJoin: media carries a join out when both have been answered by the new node. It refuses, and the INVITEs had not waited for it.
func TestB50LateJoin(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1", "c.2")
	w.onJoin = func(context.Context) {
		w.until("both are answered", func() bool { return len(w.answers["sip-c.1"]) == 1 && len(w.answers["sip-c.2"]) == 1 })
	}
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	for id, l := range w.crash(r, "call1", "e1") {
		if l.Result != ResultRecovered {
			t.Errorf("%s: %+v", id, l)
		}
	}
	w.until("the join is refused, and comfort noise in its place ended", func() bool {
		for _, id := range []string{"sip-c.1", "sip-c.2"} {
			if n := len(w.noise[id]); n > 0 && w.noise[id][n-1] {
				return false
			}
		}
		return len(w.joined) == 0
	})
}

// TestB50FailedIsNotJoined: where one of two cannot be brought back the join ends.
func TestB50FailedIsNotJoined(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1", "c.2")
	w.script["sip-c.1"], w.script["sip-c.2"] = []int{500}, []int{481}
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	legs := w.crash(r, "call1", "e1")
	if legs["sip-c.1"].Result != ResultFailed || legs["sip-c.2"].Result != ResultClosed {
		t.Errorf("%+v", legs)
	}
	w.until("nobody is joined", func() bool { return len(w.joined) == 0 })
}

// TestB50ComfortNoise: who has no partner to be joined with gets comfort noise, and it ends; two that are joined get none.
func TestB50ComfortNoise(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("pair", "call1", "", "pair.1", "pair.2")
	w.put("alone", "call1", "", "alone.1")
	w.put("room", "call1", "7000", "room.1", "room.2", "room.3")
	w.put("apart", "call1", "", "apart.1", "apart.2")
	w.deaf["sip-apart.2"] = errors.New("unknown call-id") // it is at another media node
	r := w.recoverer(Config{})
	w.onAsk = func(bridge.NodeID) {
		w.until("there is noise for all", func() bool { return len(w.noise) == 6 })
	}
	r.Dead(t.Context(), death("call1", "e1"))
	w.crash(r, "call1", "e1")
	for _, id := range []string{"sip-alone.1", "sip-room.1", "sip-room.2", "sip-room.3", "sip-apart.1", "sip-apart.2"} {
		w.until("noise on and off for "+id, func() bool { return slices.Equal(w.noise[id], []bool{true, false}) })
	}
	if n := len(w.noise["sip-pair.1"]) + len(w.noise["sip-pair.2"]); n > 0 {
		t.Errorf("two that hear each other got noise: %v", w.noise)
	}
}

// TestB55NoRTP: a leg that is back and that media hears nothing of says so in the report, with the reason, and is counted. The crash is done before that: nobody
// waits for who only listens.
func TestB55NoRTP(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("silent", "call1", "", "silent.1")
	w.put("away", "call1", "", "away.1")
	w.deaf["sip-away.1"] = errors.New("no answer")
	w.mute = true
	r := w.recoverer(Config{})
	begin := time.Now()
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	for id, l := range w.crash(r, "call1", "e1") {
		if l.Result != ResultRecovered || slices.ContainsFunc(l.Steps, func(s Step) bool { return s.Name == StepNoRTP }) {
			t.Errorf("%s after %v: %+v", id, time.Since(begin), l)
		}
	}
	reasons := map[string]string{}
	w.until("both legs say that they were not heard", func() bool { return r.Stats().Silent == 2 })
	for _, l := range w.closed(d.key()).Legs {
		for _, s := range l.Steps {
			if s.Name == StepNoRTP {
				reasons[l.SIPCallID] = s.Reason
			}
		}
	}
	if !strings.Contains(reasons["sip-silent.1"], "nothing came") || reasons["sip-away.1"] != "no answer" {
		t.Errorf("reasons %q", reasons)
	}
	if s := r.Stats(); s.Heard != 0 || s.Silent != 2 {
		t.Errorf("heard %d, silent %d", s.Heard, s.Silent)
	}
}

// TestB49NoJoinBehindAnother: where somebody before us may have sent an INVITE, nobody is joined by what media says now: it may be the answer to that.
func TestB49NoJoinBehindAnother(t *testing.T) {
	w := newWorld(t, "call2")
	w.put("c", "call1", "", "c.1")
	b := buckets{crashes: w.book(), claims: w.bucket(BucketClaims), calls: w.calls, legs: w.bucket(BucketCrashLegs)}
	r, err := New(Config{Store: w.store, History: w, Farm: w, Media: w})
	if err != nil {
		t.Fatal(err)
	}
	rescue := newRescue(r, death("call1", "e1"), b, r.cfg.Logger)
	j := &job{call: w.read("c"), leg: w.read("c").Legs[0]}
	if err := rescue.nobodyInvited(t.Context(), j); err != nil {
		t.Errorf("the first recovery of a call: %v", err)
	}
	rescue.former = map[string]bool{"c": true}
	if err := rescue.nobodyInvited(t.Context(), j); err != nil {
		t.Errorf("the controller before us had not come to it: %v", err)
	}
	value, _ := json.Marshal(claim{Crash: "another"})
	rev, err := b.claims.Create(t.Context(), "sip-c.1", value)
	if err != nil {
		t.Fatal(err)
	}
	if err := rescue.nobodyInvited(t.Context(), j); err == nil {
		t.Error("there is a claim")
	}
	if err := b.claims.Delete(t.Context(), "sip-c.1", rev); err != nil {
		t.Fatal(err)
	}
	w.answer("call2", Channel{ID: "c.1r1"}, []string{"resume", "c", "c.1"})
	if err := rescue.nobodyInvited(t.Context(), j); err == nil {
		t.Error("it has moved")
	}
}
