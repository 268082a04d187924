package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/testrun"
	"rtcedge/recovery"
)

// TestB54HealthyNodes: a node that is drained, fenced, or in the hands of no bridge process takes no calls, whatever it answers.
func TestB54HealthyNodes(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ari/asterisk/info", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"system":{"entity_id":"call1"},"status":{"startup_time":"2026-11-26T20:00:00.123+0100"}}`)
	})
	mux.HandleFunc("/ari/asterisk/ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	mux.HandleFunc("/ari/asterisk/variable", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"value":%q}`, map[string]string{"RTCEDGE_ROLES": bridge.RoleCall}[r.URL.Query().Get("variable")])
	})
	node := httptest.NewServer(mux)
	defer node.Close()
	s, err := recovery.NewSentinel(recovery.SentinelConfig{Nodes: []recovery.Target{{ARI: node.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, s.Run)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if st := s.Nodes()[0]; st.Lives() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", s.Nodes())
		}
	}
	const same, other = "2026-11-26T19:00:00.123Z", "2026-11-26T19:00:00.124Z"
	for _, tt := range []struct {
		record bridge.Node
		takes  bool
	}{
		{bridge.Node{}, false},
		{bridge.Node{State: bridge.NodeUp, Epoch: same}, true},
		{bridge.Node{State: bridge.NodeUp, Epoch: other}, false}, // the bridge role has the process of before
		{bridge.Node{State: bridge.NodeDrain, Epoch: same}, false},
		{bridge.Node{State: bridge.NodeDown, Epoch: same}, false},
		{bridge.Node{State: bridge.NodeUp, Epoch: same, Fenced: true}, false},
	} {
		f := &ariFarm{sentinel: s, records: map[bridge.NodeID]bridge.Node{"call1": tt.record}}
		takes := func() bool { return slices.Contains(f.Healthy(bridge.RoleCall), "call1") }
		for end := time.Now().Add(10 * time.Second); tt.takes && !takes() && time.Now().Before(end); time.Sleep(time.Millisecond) {
			// A machine that stands still makes it doubtful for a moment.
		}
		if got := takes(); got != tt.takes || len(f.Healthy(bridge.RoleConference)) > 0 {
			t.Errorf("%+v: takes calls: %v", tt.record, got)
		}
	}
}

// TestB54AdminEdge: an edge is waited for as long as the caller says. One that has no such node has no fence for it, but cannot put one up either.
func TestB54AdminEdge(t *testing.T) {
	var path string
	stuck := make(chan struct{})
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path = r.URL.Path; r.FormValue("node") {
		case "udp:192.0.2.1:1":
			w.WriteHeader(http.StatusConflict)
		case "udp:192.0.2.1:2":
			<-stuck
		}
	}))
	defer edge.Close()
	defer close(stuck)
	a := adminEdge(netip.MustParseAddrPort(edge.Listener.Addr().String()))
	if err := a.Fence(t.Context(), "udp:192.0.2.1:5060"); err != nil || path != "/farm/fence" {
		t.Errorf("%s: %v", path, err)
	}
	if err := a.Unfence(t.Context(), "udp:192.0.2.1:5060"); err != nil || path != "/farm/unfence" {
		t.Errorf("%s: %v", path, err)
	}
	if err := a.Fence(t.Context(), "udp:192.0.2.1:1"); !errors.Is(err, errRefused) {
		t.Errorf("fence of an unknown node: %v", err)
	}
	if err := a.Unfence(t.Context(), "udp:192.0.2.1:1"); err != nil {
		t.Errorf("unfence of an unknown node: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Fence(ctx, "udp:192.0.2.1:2"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an edge that does not answer: %v", err)
	}
}
