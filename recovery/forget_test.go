package recovery

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"rtcedge/bridge"
)

// putCrash writes a crash as its controller left it, with one leg.
func (w *world) putCrash(c Crash) string {
	w.t.Helper()
	key := crashKey(c.Node, c.Epoch, c.Number)
	value, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.bucket(BucketCrashes).Put(w.t.Context(), key, value); err != nil {
		w.t.Fatal(err)
	}
	leg, err := json.Marshal(LegReport{Call: "c", Leg: "l", SIPCallID: "x", Result: ResultRecovered})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range []string{legKey(key, 0, 0), stepsKey(key, 0)} {
		if k == stepsKey(key, 0) {
			leg = []byte(`[]`)
		}
		if _, err := w.bucket(BucketCrashLegs).Put(w.t.Context(), k, leg); err != nil {
			w.t.Fatal(err)
		}
	}
	return key
}

// left are the crashes that are still there, and the number of records about their legs.
func (w *world) left(r *Recoverer) (ids []string, legs int) {
	w.t.Helper()
	all, err := r.Crashes(w.t.Context(), Query{Limit: MaxCrashes})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range all {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	entries, err := w.bucket(BucketCrashLegs).List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	return ids, len(entries)
}

// TestB55OldCrashesGo: what is over is forgotten by age and by number, with its legs. What is open or keeps a node fenced stays, however old, and so does the
// last death of a process that runs: its next death has the number behind it.
func TestB55OldCrashesGo(t *testing.T) {
	w := newWorld(t)
	r, err := New(Config{Store: w.store, History: w, Farm: w})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	crash := func(node, epoch string, number int, age time.Duration, over bool) string {
		c := Crash{Node: bridge.NodeID(node), Epoch: epoch, Number: number, Since: now.Add(-age), Detected: now.Add(-age), Done: now.Add(-age)}
		if over {
			c.Closed, c.Settled = now.Add(-age), now.Add(-age)
		}
		if epoch == "fenced" {
			c.Settled = time.Time{}
		}
		return w.putCrash(c)
	}
	nodes := w.bucket(bridge.BucketNodes)
	node, err := json.Marshal(bridge.Node{ID: "n1", Epoch: "runs"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nodes.Put(t.Context(), "n1", node); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	open := crash("n1", "open", 0, 90*day, false)
	fenced := crash("n1", "fenced", 0, 90*day, true)
	crash("n1", "runs", 0, 80*day, true)
	last := crash("n1", "runs", 1, 70*day, true)
	crash("n1", "old", 0, 31*day, true)
	young := crash("n1", "young", 0, 29*day, true)
	b, err := r.buckets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := forget(t.Context(), b, nodes, now.Add(-30*day), 100); err != nil {
		t.Fatal(err)
	}
	want := []string{open, fenced, last, young}
	slices.Sort(want)
	if ids, legs := w.left(r); !slices.Equal(ids, want) || legs != 2*len(want) {
		t.Errorf("left %v with %d records of legs, want %v with 2 each", ids, legs, want)
	}

	for i := range 10 {
		crash("n2", fmt.Sprintf("e%d", i), 0, time.Duration(10-i)*time.Hour, true)
	}
	if err := forget(t.Context(), b, nodes, now.Add(-30*day), 3); err != nil {
		t.Fatal(err)
	}
	want = []string{open, fenced, last, "n2.e7", "n2.e8", "n2.e9"}
	slices.Sort(want)
	if ids, legs := w.left(r); !slices.Equal(ids, want) || legs != 2*len(want) {
		t.Errorf("left %v with %d records of legs, want %v with 2 each", ids, legs, want)
	}
}

// TestB55CrashesAreBounded: a question gets the newest, those of a node, or one; without legs it still says what became of them.
func TestB55CrashesAreBounded(t *testing.T) {
	w := newWorld(t)
	r, err := New(Config{Store: w.store, History: w, Farm: w})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range 60 {
		w.putCrash(Crash{Node: bridge.NodeID(fmt.Sprint("n", i%2)), Epoch: fmt.Sprintf("e%02d", i), Detected: now.Add(time.Duration(i) * time.Second)})
	}
	for _, q := range []struct {
		Query
		n    int
		last string
	}{{Query{}, defaultCrashes, "n1.e59"}, {Query{Limit: 7}, 7, "n1.e59"}, {Query{Node: "n0", Limit: 100}, 30, "n0.e58"}, {Query{ID: "n1.e03"}, 1, "n1.e03"},
		{Query{ID: "n1.e99"}, 0, ""}, {Query{Call: "x"}, defaultCrashes, "n1.e59"}, {Query{Call: "y"}, 0, ""}, {Query{Limit: MaxCrashes + 1, Brief: true}, 60, "n1.e59"}} {
		got, err := r.Crashes(t.Context(), q.Query)
		if err != nil || len(got) != q.n {
			t.Errorf("%+v: %d crashes, %v, want %d", q.Query, len(got), err, q.n)
			continue
		}
		if q.n == 0 {
			continue
		}
		c := got[len(got)-1]
		if c.ID != q.last || c.Results[ResultRecovered] != 1 || (len(c.Legs) == 0) != q.Brief {
			t.Errorf("%+v: the last one is %+v, want %s", q.Query, c, q.last)
		}
	}
}
