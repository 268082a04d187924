package recovery

import (
	"testing"
	"time"

	"rtcedge/bridge"
)

// TestB18JoinIsNotLate: two are joined before the INVITE of either leaves, or not at all: behind the new node's answer a join would keep that node out.
func TestB18JoinIsNotLate(t *testing.T) {
	j := func(leg string) *job {
		return &job{call: bridge.Call{ID: "c", Legs: []bridge.Leg{{State: bridge.LegUp}, {State: bridge.LegUp}}}, leg: bridge.Leg{ID: leg, SIPCallID: "sip-" + leg}}
	}
	p := newPairs()
	p.expect([]job{*j("1"), *j("2")})
	began := make(chan struct{})
	done := make(chan struct{})
	go func() { close(began); p.wait(t.Context(), j("1")); close(done) }()
	<-began
	if p.settle("c", true, "sip-1", "sip-2") {
		t.Error("a join before the INVITEs is late")
	}
	<-done
	if !p.invite("sip-1") || !p.invite("sip-2") {
		t.Error("they are not joined")
	}

	p = newPairs()
	p.expect([]job{*j("1"), *j("2")})
	start := time.Now()
	p.wait(t.Context(), j("1")) // media does not answer
	if d := time.Since(start); d < joinWait {
		t.Errorf("the INVITE left after %v, and the join was under way", d)
	}
	if p.invite("sip-1") {
		t.Error("joined already")
	}
	if !p.settle("c", true, "sip-1", "sip-2") {
		t.Error("a join behind an INVITE is to be undone")
	}
	if p.invite("sip-2") {
		t.Error("it counts as joined")
	}
	p.wait(t.Context(), j("2")) // is over at once
	if p.settle("c", false, "sip-1", "sip-2") {
		t.Error("a join that failed is to be undone")
	}
	held := j("3")
	held.leg.Held = true
	if p.expect([]job{*held}); len(p.open) > 0 {
		t.Error("who is on hold is waited for")
	}
}
