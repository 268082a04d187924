package recovery

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
	"rtcedge/internal/testrun"
)

// TestF34ForgedCrash: somebody who can write into the store tells of crashes. Nobody who lives is fenced, nobody's call is touched.
func TestF34ForgedCrash(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	w.living = map[string]bool{"udp:192.0.2.2:5080": true}
	w.put("c", "call2", "", "c.1", "c.2")
	w.put("elsewhere", "foreign1", "", "f.1")
	r := w.recoverer(Config{TakeOver: 200 * time.Millisecond})
	crashes := w.bucket(BucketCrashes)
	for _, c := range []Crash{
		{Node: "call2", Epoch: "now", SIP: "udp:192.0.2.2:5080", Controller: "evil"},
		{Node: "call9", Epoch: "now", SIP: "udp:192.0.2.2:5080", Controller: "evil"}, // dead as far as anybody knows, with another one's address
		{Node: "foreign1", Epoch: "now", SIP: "udp:192.0.2.77:5080", Controller: "evil"},
		{Node: "", Epoch: ""},
	} {
		value, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := crashes.Create(t.Context(), "forged."+string(c.Node), value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := crashes.Create(t.Context(), "forged.text", []byte("{")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); r.Stats().Crashes < 2; time.Sleep(10 * time.Millisecond) { // of call2 and call9: it looked
		if time.Now().After(end) {
			t.Fatalf("%+v", r.Stats())
		}
	}
	w.put("d", "call2", "", "d.1") // a change while they are open
	time.Sleep(300 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.invites) != 0 || len(w.fenced) != 0 || len(w.hungUp) != 0 {
		t.Errorf("INVITEs %v, fenced %v, hung up %v", w.invites, w.fenced, w.hungUp)
	}
	for _, call := range []string{"c", "elsewhere", "d"} {
		e, err := w.calls.Get(t.Context(), call)
		if err != nil || !strings.Contains(string(e.Value), `"state":"up"`) {
			t.Errorf("%s: %s %v", call, e.Value, err)
		}
	}
}

// TestF34SealedRecords: with a key nobody who got into the store and does not have it tells of a crash, hides one behind a record that says that it is over,
// claims a dialog, or leads one into a call of his own. What another controller with the key has written is believed.
func TestF34SealedRecords(t *testing.T) {
	key, other := store.KeyOf([]byte("what all roles have")), store.KeyOf([]byte("another"))
	w, at := servedWorld(t, key, "call2", "call3")
	w.put("c", "call1", "", "c.1", "c.2")
	w.put("d", "call9", "", "d.1") // dead as far as anybody knows: its crash would be believed
	inside := func(key []byte) *store.Store {
		t.Helper()
		s, err := store.New(store.Config{URL: "nats://" + at.String(), Key: key})
		if err != nil {
			t.Fatal(err)
		}
		testrun.Run(t, s.Run)
		return s
	}
	write := func(s *store.Store, bucket, key string, v any) {
		t.Helper()
		value, raw := v.([]byte)
		if !raw {
			var err error
			if value, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		b, err := s.Bucket(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	gone := death("call1", "e1")
	storm := Crash{Node: "call9", Epoch: "e1", SIP: "udp:192.0.2.99:5080", Controller: "evil"}
	thief, keyed := inside(nil), inside(other)
	for _, s := range []*store.Store{thief, keyed} {
		write(s, BucketCrashes, gone.key(), Crash{Node: "call1", Epoch: "e1", Closed: time.Now(), Controller: "evil"})
		write(s, BucketCrashes, "call9.e1", storm)
		write(s, BucketClaims, "sip-c.1", claim{Crash: "call9.e1", Controller: "evil", Target: "call3", Channel: "evil", CSeq: 1 << 30})
		write(s, bridge.BucketCalls, "evil", bridge.Call{ID: "evil", Node: "call1", Legs: []bridge.Leg{
			{ID: "evil.1", Node: "call1", SIPCallID: "sip-c.2", State: bridge.LegUp, Role: bridge.LegIn, Answered: time.Now()},
			{ID: "evil.2", Node: "call1", SIPCallID: "sip-d.1", State: bridge.LegUp, Role: bridge.LegIn, Answered: time.Now()}}})
	}
	write(thief, BucketCrashes, "call9.e2", []byte("{"))
	mine, err := thief.Bucket(t.Context(), bridge.BucketCalls)
	if err != nil {
		t.Fatal(err)
	}
	true1, err := mine.Get(t.Context(), "c") // as it stands there
	if err != nil || strings.Contains(string(true1.Value), "sip-c") {
		t.Fatalf("without the key a call is read: %q, %v", true1.Value, err)
	}
	write(thief, bridge.BucketCalls, "copy", true1.Value) // a right one in another place

	r := w.recoverer(Config{TakeOver: 200 * time.Millisecond})
	time.Sleep(settleTime + 500*time.Millisecond) // it has looked at the crashes
	r.Dead(t.Context(), gone)
	for id, l := range w.crash(r, "call1", "e1") {
		if l.Result != ResultRecovered || l.Call != "c" {
			t.Errorf("%s: %+v", id, l)
		}
	}
	w.mu.Lock()
	for _, id := range []string{"sip-c.1", "sip-c.2"} {
		if n := len(w.invites[id]); n != 1 || !strings.HasPrefix(w.invites[id][0], "1 c.") {
			t.Errorf("INVITEs of %s: %v", id, w.invites[id])
		}
	}
	if len(w.invites) != 2 {
		t.Errorf("INVITEs of others: %v", w.invites)
	}
	if len(w.fenced) == 0 || slices.ContainsFunc(w.fenced, func(sip string) bool { return sip != gone.SIP }) {
		t.Errorf("fenced %v, want the dead node only", w.fenced)
	}
	w.mu.Unlock()
	if n := w.store.Stats().Forged; n < 5 {
		t.Errorf("%d records were not believed, want each that was forged", n)
	}

	// A true one of another controller, which fell silent.
	write(inside(key), BucketCrashes, "call9.e5", Crash{Node: "call9", Epoch: "e5", SIP: "udp:192.0.2.99:5080", Controller: "other"})
	if legs := w.crash(r, "call9", "e5"); legs["sip-d.1"].Result != ResultRecovered {
		t.Errorf("a crash of another controller: %+v", legs)
	}
}

// book is the bucket of crashes.
func (w *world) book() book { return book{w.bucket(BucketCrashes)} }
