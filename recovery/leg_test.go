package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge"
)

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

	// Another crash of the node, which is still open, has it too and has asked for it: what is to be said is that one's.
	other := &effort{rescue: newRescue(r, d, buckets{claims: w.bucket(BucketClaims)}, r.cfg.Logger), job: job{call: bridge.Call{ID: "d"}, leg: bridge.Leg{ID: "d.1", SIPCallID: "sip-d.1"}}}
	other.built = Rebuilt{CSeq: 1}
	if !other.untouched(t.Context()) {
		t.Error("nobody has it")
	}
	w.cseq["sip-d.1"], w.final["sip-d.1 1"] = 1, 481
	if other.untouched(t.Context()) {
		t.Error("it was asked for with number 1")
	}
	if other.built.CSeq = 2; other.untouched(t.Context()) {
		t.Error("the far end has answered 481")
	}
	w.cseq["sip-d.1"] = 0
	if _, err := w.bucket(BucketClaims).Create(t.Context(), "sip-d.1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if other.built.CSeq = 1; other.untouched(t.Context()) {
		t.Error("it is claimed")
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
