package recovery

import (
	"context"
	"fmt"
	"testing"
	"time"

	"rtcedge/bridge"
)

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

// TestF13ControllerDiesWhileHomerIsAsked: what it could not ask any more is no refusal. The legs stay in their record, and the next controller brings them back.
func TestF13ControllerDiesWhileHomerIsAsked(t *testing.T) {
	w := newWorld(t, "call2")
	w.slowly, w.homer = map[string]bool{"sip-c.1": true, "sip-c.2": true}, make(chan struct{})
	w.put("c", "call1", "", "c.1", "c.2")
	w.put("d", "call1", "", "d.1", "d.2")
	r, err := New(Config{Store: w.store, History: w, Farm: w, Controller: "first", TakeOver: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	d := death("call1", "e1")
	r.Dead(t.Context(), d)
	for end := time.Now().Add(20 * time.Second); r.Stats().Recovered < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", r.Stats())
		}
	}
	cancel()
	<-done
	if st := r.Stats(); st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	for _, l := range w.read("c").Legs {
		if l.State != bridge.LegUp {
			t.Errorf("%s is %s", l.ID, l.State)
		}
	}
	close(w.homer)
	next := w.recoverer(Config{Controller: "next", TakeOver: 400 * time.Millisecond})
	next.Dead(t.Context(), d)
	for id, l := range w.crash(next, "call1", "e1") {
		if l.Result != ResultRecovered || len(w.invites[id]) != 1 {
			t.Errorf("%s: %+v after %v", id, l, w.invites[id])
		}
	}
}

// TestF13AskedSinceTheOlder: a leg may be older than the call that it is in now.
func TestF13AskedSinceTheOlder(t *testing.T) {
	old, young := time.Unix(1000, 0), time.Unix(2000, 0)
	for _, tt := range []struct{ created, answered, want time.Time }{{old, young, old}, {young, old, old}, {young, time.Time{}, young}, {time.Time{}, young, time.Time{}}} {
		got := asked([]job{{call: bridge.Call{Created: tt.created}, leg: bridge.Leg{Answered: tt.answered}}})[0].Since
		if !got.Equal(tt.want) {
			t.Errorf("%v and %v: %v", tt.created, tt.answered, got)
		}
	}
}
