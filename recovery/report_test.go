package recovery

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge"
)

// said are the steps of a timeline as "name: result: reason".
func said(steps []Step) []string {
	var out []string
	for _, s := range steps {
		out = append(out, strings.TrimRight(s.Name+": "+s.Result+": "+s.Reason, ": "))
	}
	return out
}

// TestB55StepsSayWhatCameOfThem: each step has its time, and what it came to: where the dialog is from or why there is none, whether the two were joined or
// heard noise, which node was asked and why another one after it, what the phone answered, and why a leg ended as it did. The crash has steps of its own.
func TestB55StepsSayWhatCameOfThem(t *testing.T) {
	w := newWorld(t, "call2")
	w.healthy["call9"] = false
	w.put("pair", "call1", "", "pair.1", "pair.2")
	w.put("alone", "call1", "", "alone.1")
	w.put("pending", "call1", "", "pending.1")
	w.put("broken", "call1", "", "broken.1")
	w.put("ended", "call1", "", "ended.1")
	w.script["sip-pending.1"] = []int{491}
	w.script["sip-broken.1"] = []int{500}
	w.lost["sip-ended.1"] = errors.New("ended: a BYE was seen")
	r := w.recoverer(Config{Controller: "a"})
	d := death("call1", "e1")
	d.Since = d.At.Add(-300 * time.Millisecond)
	r.Dead(t.Context(), d)
	w.crash(r, "call1", "e1")
	crash := w.closed(d.key())
	if crash.ID != d.key() {
		t.Errorf("the crash is %q, want %q", crash.ID, d.key())
	}
	steps := said(crash.Steps)
	for _, want := range []string{"lease: a", "fence at edge: fenced", "sessions found: 6 legs", "nodes for farm call: call2: not call9: dead"} {
		if !slices.Contains(steps, want) {
			t.Errorf("the crash's steps %q lack %q", steps, want)
		}
	}
	if want := map[string]int{ResultRecovered: 4, ResultFailed: 1, ResultRefused: 1}; !maps.Equal(crash.Results, want) {
		t.Errorf("results %v, want %v", crash.Results, want)
	}
	for id, want := range map[string][]string{
		"sip-pair.1":    {"dialog: own capture", "join: joined", "invite: call2", "answered: 200", "goes on: bridge", "recovered: recovered", "rtp"},
		"sip-alone.1":   {"comfort: on", "invite: call2"},
		"sip-pending.1": {"again: 491: " + errPending.Error()},
		"sip-broken.1":  {"invite: call2", "failed: failed: the far end answers 500: the far end got a BYE"},
		"sip-ended.1":   {"dialog: refused: ended: a BYE was seen", "refused: refused: ended: a BYE was seen"},
	} {
		n := slices.IndexFunc(crash.Legs, func(l LegReport) bool { return l.SIPCallID == id })
		if n < 0 {
			t.Fatalf("no leg %s", id)
		}
		got := said(crash.Legs[n].Steps)
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("%s: %q lacks %q", id, got, line)
			}
		}
		last := d.At
		for _, s := range crash.Legs[n].Steps {
			if s.At.Before(last) {
				t.Errorf("%s: step %s is before the one ahead of it", id, s.Name)
			}
			last = s.At
		}
	}
	s := r.Stats()
	if s.Open != 0 || s.Pending != 0 {
		t.Errorf("%d crashes open, %d legs pending after the end", s.Open, s.Pending)
	}
	for name, want := range map[string]int64{spanVerdict: 1, spanRecovered: 4, spanRTP: 4, spanSilence: 4} {
		n := slices.IndexFunc(s.Timings, func(t bridge.Timing) bool { return t.Name == name })
		if n < 0 || s.Timings[n].Count != want {
			t.Errorf("%s was timed %+v, want %d", name, s.Timings, want)
		}
	}
}

// TestB55TakenOverKeepsTheTimeline: who takes a crash over goes on with its timeline, and what the former controller still writes is not believed.
func TestB55TakenOverKeepsTheTimeline(t *testing.T) {
	w := newWorld(t)
	d := death("call1", "e1")
	legs := w.bucket(BucketCrashLegs)
	former := newReport(&Recoverer{}, d, legs)
	j := job{call: bridge.Call{ID: "c"}, leg: bridge.Leg{ID: "c.1", SIPCallID: "x"}}
	n := former.add(&j)
	former.note("lease", "a")
	former.halt(n, "dialog", SourceOwn)
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := newReport(&Recoverer{}, d, legs)
	calls, err := next.resume(t.Context(), 1)
	if err != nil || !calls["c"] || next.inFlight() != 1 {
		t.Fatalf("calls %v, %d pending, %v", calls, next.inFlight(), err)
	}
	next.note("taken over", "b")
	if again := next.add(&j); again != n || next.place(&j) != n {
		t.Errorf("the leg is at %d, was at %d", again, n)
	}
	next.end(n, ResultRecovered, nil)
	former.note("sessions found", "0 legs")
	former.end(n, ResultFailed, errors.New("too late"))
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	steps, list, err := readReport(t.Context(), legs, d.key())
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(said(steps)); got != "[lease: a taken over: b]" {
		t.Errorf("crash: %s", got)
	}
	if got := fmt.Sprint(said(list[0].Steps)); len(list) != 1 || list[0].Result != ResultRecovered || got != "[found dialog: own capture taken over recovered: recovered]" {
		t.Errorf("legs: %+v", list)
	}
	if next.inFlight() != 0 {
		t.Errorf("%d legs are pending", next.inFlight())
	}
}

// TestB55WhatALegGoesOnWith: the report says what the bridge role puts a leg back into.
func TestB55WhatALegGoesOnWith(t *testing.T) {
	room := bridge.Call{Conference: "7000"}
	flow := bridge.Call{Program: bridge.ProgramFlow, Flow: &bridge.FlowState{Name: "menu", Step: 3}}
	for _, c := range []struct {
		call bridge.Call
		leg  bridge.Leg
		want string
	}{
		{bridge.Call{}, bridge.Leg{}, "bridge: "},
		{bridge.Call{}, bridge.Leg{Waiting: "hold", Held: true, Recording: "r"}, "hold: recorded"},
		{room, bridge.Leg{Moderator: true, Muted: true}, "conference 7000: moderator, muted"},
		{room, bridge.Leg{Waiting: "pin", Digits: "12"}, "pin: digits"},
		{flow, bridge.Leg{Waiting: "flow"}, "flow menu, action 3: "},
		{bridge.Call{Program: bridge.ProgramEcho}, bridge.Leg{Waiting: "program", Limit: time.Unix(1, 0)}, "program echo: limited"},
	} {
		if got := strings.Join(goesOn(&c.call, &c.leg), ": "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.leg, got, c.want)
		}
	}
}

// TestB55WaitsForANode: a leg that no node can take says so at once, and why.
func TestB55WaitsForANode(t *testing.T) {
	w := newWorld(t)
	w.healthy["call2"] = false
	w.put("c", "call1", "", "c.1")
	r := w.recoverer(Config{})
	r.Dead(t.Context(), death("call1", "e1"))
	waits := func() bool {
		all, err := r.Crashes(t.Context(), Query{Node: "call1"})
		return err == nil && len(all) == 1 && len(all[0].Legs) == 1 && slices.Contains(said(all[0].Legs[0].Steps), "no node: waits: not call2: dead")
	}
	for end := time.Now().Add(20 * time.Second); !waits(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the report does not say that the leg waits")
		}
	}
	w.mu.Lock()
	w.healthy["call2"] = true
	w.mu.Unlock()
	if l := w.crash(r, "call1", "e1")["sip-c.1"]; l.Result != ResultRecovered {
		t.Errorf("%+v", l)
	}
}
