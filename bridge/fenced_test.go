package bridge

import (
	"encoding/json"
	"log/slog"
	"testing"

	"rtcedge/internal/store"
	"rtcedge/internal/testrun"
)

// TestB54FencedNode: what recovery wrote about a node's process outlasts what the bridge role writes about it, and its drain outlasts the fence. New calls go to
// neither; a new process has no fence.
func TestB54FencedNode(t *testing.T) {
	st, err := store.New(store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, st.Run)
	b := &Bridge{cfg: Config{Logger: slog.New(slog.DiscardHandler)}, known: map[NodeID]Node{}}
	if b.buckets.nodes, err = st.Bucket(t.Context(), BucketNodes); err != nil {
		t.Fatal(err)
	}
	n := &node{b: b, ours: true, info: Node{ID: "call1", Roles: []string{RoleCall}, Epoch: "e1", State: NodeUp}}
	b.nodes = []*node{n}
	read := func() (rec Node) {
		t.Helper()
		e, err := b.buckets.nodes.Get(t.Context(), "call1")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(e.Value, &rec); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	flag := func(on bool) {
		t.Helper()
		rec := read()
		rec.Fenced = on
		value, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.buckets.nodes.Put(t.Context(), "call1", value); err != nil {
			t.Fatal(err)
		}
		n.fenced(&rec) // as the watch does
	}
	n.publish(t.Context(), NodeUp)
	if b.pick("x", RoleCall) != n {
		t.Fatal("a node that is up gets no calls")
	}
	flag(true)
	if b.pick("x", RoleCall) != nil {
		t.Error("a fenced node gets a new call")
	}
	n.publish(t.Context(), NodeDown) // the stream breaks, and comes back
	n.publish(t.Context(), NodeUp)
	if rec := read(); !rec.Fenced || rec.State != NodeUp {
		t.Errorf("after its stream came back: %+v", rec)
	}
	if !n.controlled() {
		t.Error("the calls that stayed at a fenced node are nobody's")
	}
	n.drain(t.Context(), true)
	if rec := read(); !rec.Fenced || rec.State != NodeDrain {
		t.Errorf("fenced, and drained: %+v", rec)
	}
	flag(false)
	if rec := read(); rec.Fenced || rec.State != NodeDrain || b.pick("x", RoleCall) != nil {
		t.Errorf("the end of the fence ended the drain: %+v", rec)
	}
	n.drain(t.Context(), false)
	flag(true)
	n.mu.Lock()
	n.info.Epoch, n.info.Fenced = "e2", false // ask
	n.mu.Unlock()
	n.publish(t.Context(), NodeUp)
	if rec := read(); rec.Fenced || rec.Epoch != "e2" || b.pick("x", RoleCall) != n {
		t.Errorf("a new process is behind the fence of the old one: %+v", rec)
	}
}
