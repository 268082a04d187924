//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
)

// TestB40RelayedCalls: with --relay-calls Asterisk itself tells that it relays the packets of a call of two. Keys reach the other end; mute, a recording
// and a third one still work, since Asterisk takes the packets into its core then, and back out of it. Without the flag a call of two stays in the core,
// which is what tells of keys (the plays of B40).
func TestB40RelayedCalls(t *testing.T) {
	system := startFarms(t, farms.Config{})
	alice, bob, carol := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil), newPerson(t, system, "carol", 1200, nil)
	technology := func(want string) {
		t.Helper()
		eventually(t, "a bridge of "+want, 3*time.Second, func() bool {
			type bridge struct {
				Technology string
				Channels   []string
			}
			var bridges []bridge
			return system.Farm("call")[0].Get("/bridges", &bridges) == nil && slices.ContainsFunc(bridges, func(b bridge) bool {
				return b.Technology == want && len(b.Channels) > 1
			})
		})
	}
	dial := func(relayed bool) (api *control, path string) {
		api = startBridge(t, system, bob, carol)
		if relayed {
			system.BridgeP.Stop()
			p, err := system.StartBridge("--relay-calls")
			if err != nil {
				t.Fatal(err)
			}
			system.BridgeP = p
			api.Ready(len(system.Nodes))
		}
		alice.mustDial("bob")
		<-bob.calls
		alice.hearsSoon([]float64{800}, []float64{500})
		bob.hearsSoon([]float64{500}, []float64{800})
		return api, "/v1/calls/" + api.One(2).ID
	}
	api, path := dial(false)
	technology("simple_bridge")
	api.Must("DELETE", path, nil)
	api.None()
	system.BridgeP.Stop()

	api, path = dial(true)
	technology("native_rtp")
	if err := alice.media.SendDTMF("4"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key at bob's phone", 5*time.Second, func() bool { return strings.Contains(bob.report().DTMF(), "4") })
	legs := api.One(2).Legs
	mute := path + "/participants/" + legs[slices.IndexFunc(legs, func(l bridgetest.Leg) bool { return l.Number == "alice" })].ID + "/mute"
	api.Must("POST", mute, map[string]bool{"on": true})
	eventually(t, "nothing of alice", 5*time.Second, func() bool { // who is muted sends nothing on, in a call of two
		before := bob.report().Received
		time.Sleep(300 * time.Millisecond)
		return bob.report().Received == before
	})
	api.Must("POST", mute, map[string]bool{"on": false})
	bob.hearsSoon([]float64{500}, []float64{800})
	api.Must("POST", path+"/record", nil)
	technology("softmix")
	api.Must("POST", path+"/record", map[string]bool{"on": false})
	technology("native_rtp")
	api.Must("POST", path+"/participants", map[string]string{"to": "carol"})
	<-carol.calls
	carol.hearsSoon([]float64{500, 800}, []float64{1200})
}
