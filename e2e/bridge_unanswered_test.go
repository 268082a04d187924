//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	"rtcedge/e2e/farms"
	"rtcedge/sip/siptest"
)

// TestB39HowCallsEndUnanswered: what the caller gets when the called phone is busy, declines, does not answer, sends it on (302), or is
// not there. The ringback comes before (B39).
func TestB39HowCallsEndUnanswered(t *testing.T) {
	system := startFarms(t, farms.Config{})
	rejects := func(name string, code int) *person {
		return newPerson(t, system, name, 300, func(in *siptest.Incoming) bool { _ = in.Reject(code, "No"); return false })
	}
	carol := newPerson(t, system, "carol", 1200, nil)
	silent := newPerson(t, system, "silent", 300, func(in *siptest.Incoming) bool { <-in.Canceled(); return false })
	forward := newPerson(t, system, "forward", 300, func(in *siptest.Incoming) bool { _ = in.Redirect("carol"); return false })
	circle := newPerson(t, system, "circle", 300, func(in *siptest.Incoming) bool { _ = in.Redirect("circle"); return false })
	abroad := newPerson(t, system, "abroad", 300, func(in *siptest.Incoming) bool { _ = in.Redirect("sip:00900123@192.0.2.1"); return false })
	people := []*person{carol, silent, forward, circle, abroad, rejects("busy", 486), rejects("declines", 603), rejects("everywhere", 600)}
	api := startBridge(t, system, people...)
	restartBridge(t, system, "--ring-timeout", "2s")
	api.Ready(len(system.Nodes))
	alice := newPerson(t, system, "alice", 500, nil)
	for _, tc := range []struct {
		number string
		codes  []int
	}{
		{"busy", []int{486}}, {"declines", []int{603, 403}}, {"everywhere", []int{486, 600}}, {"silent", []int{480, 408}}, {"nobody", []int{404}},
		{"circle", []int{486}}, {"abroad", []int{404}},
	} {
		start := time.Now()
		call, ring, err := alice.ringDial(tc.number)
		if err == nil {
			t.Errorf("%s answered", tc.number)
			_ = call.Hangup(t.Context())
		} else if !slices.Contains(tc.codes, statusOf(err)) {
			t.Errorf("%s: %v, want one of %v", tc.number, err, tc.codes)
		}
		if tc.number == "silent" && ring == 0 {
			t.Error("no 180 from a phone that rings")
		}
		answered := time.Since(start)
		api.settled()
		t.Logf("%s: %v after %v, no call left after %v", tc.number, err, answered.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	}
	call := alice.mustDial("forward")
	<-carol.calls
	alice.hearsSoon([]float64{1200}, []float64{500})
	carol.hearsSoon([]float64{500}, []float64{1200})
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.settled()
}
