package recovery

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
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

// TestF34SealedCrash: with a key nobody who can write into the store and does not have it tells of a crash, of whatever node, and nobody hides one behind a
// record that says that it is over. What another controller with the key has written is believed.
func TestF34SealedCrash(t *testing.T) {
	w := newWorld(t, "call2", "call3")
	w.put("c", "call1", "", "c.1", "c.2")
	w.put("d", "call9", "", "d.1") // dead as far as anybody knows: its crash would be believed
	key := []byte("what all controllers have")
	good, other := w.book(key), w.book([]byte("another key"))
	forge := func(at string, value []byte) {
		t.Helper()
		if _, err := good.Put(t.Context(), at, value); err != nil {
			t.Fatal(err)
		}
	}
	text := func(b *book, at string, c Crash) []byte {
		t.Helper()
		value, err := b.close(at, c)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	gone := death("call1", "e1")
	over := Crash{Node: "call1", Epoch: "e1", Closed: time.Now(), Controller: "evil"}
	storm := Crash{Node: "call9", Epoch: "e1", SIP: "udp:192.0.2.99:5080", Controller: "evil"}
	forge(gone.key(), text(w.book(nil), gone.key(), over))
	forge("call9.e1", text(w.book(nil), "call9.e1", storm))
	forge("call9.e2", text(other, "call9.e2", storm))
	forge("call9.e3", text(good, "elsewhere", storm)) // a right one in another place
	forge("call9.e4", []byte("{"))

	r := w.recoverer(Config{Key: key})
	for end := time.Now().Add(20 * time.Second); r.Stats().Forged < 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", r.Stats())
		}
	}
	r.Dead(t.Context(), gone)
	for id, l := range w.crash(r, "call1", "e1") {
		if l.Result != ResultRecovered {
			t.Errorf("%s: %+v", id, l)
		}
	}
	w.mu.Lock()
	if len(w.invites["sip-d.1"]) != 0 {
		t.Errorf("INVITEs by a forged crash: %v", w.invites)
	}
	if len(w.fenced) == 0 || slices.ContainsFunc(w.fenced, func(sip string) bool { return sip != gone.SIP }) {
		t.Errorf("fenced %v, want the dead node only", w.fenced)
	}
	w.mu.Unlock()

	e, err := good.Get(t.Context(), gone.key())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.open(gone.key(), e.Value); err == nil {
		t.Error("a record is read with another key")
	}
	for _, b := range []*book{good, w.book(nil)} {
		if c, err := b.open(gone.key(), e.Value); err != nil || c.Node != "call1" || c.Controller == "evil" {
			t.Errorf("a sealed record is read as %+v, %v", c, err)
		}
	}
	// A true one of another controller, which fell silent.
	forge("call9.e5", text(good, "call9.e5", Crash{Node: "call9", Epoch: "e5", SIP: "udp:192.0.2.99:5080", Controller: "other"}))
	if legs := w.crash(r, "call9", "e5"); legs["sip-d.1"].Result != ResultRecovered {
		t.Errorf("a crash of another controller: %+v", legs)
	}
}

// book is the bucket of crashes as a controller with a key sees it.
func (w *world) book(key []byte) *book {
	w.t.Helper()
	return &book{Bucket: w.bucket(BucketCrashes), key: key, forged: func(string) {}}
}
