//go:build e2e

package e2e

import (
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/sip/siptest"
)

// TestB32CallToARegisteredUser: a phone registers through the edge at a real Asterisk, a call finds it there and goes back to it by its Path
// as Route.
func TestB32CallToARegisteredUser(t *testing.T) {
	system := startFarms(t, farms.Config{})
	api := startBridge(t, system)
	alice := newPerson(t, system, "alice", 500, nil)
	acc := system.Accounts[1]
	callee := newPersonWith(t, system, siptest.Config{User: acc.User, Password: acc.Password}, 800, nil)
	granted, err := callee.ua.Register(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s registered for %v", acc.User, granted)
	call := alice.mustDial(acc.User)
	<-callee.calls
	alice.hears(900*time.Millisecond, []float64{800}, []float64{500})
	callee.hears(0, []float64{500}, []float64{800})
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })
}
