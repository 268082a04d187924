//go:build e2e

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
)

// TestB37OutboundWebSocket: real Asterisks open ARI's WebSocket to the bridge (websocket_client.conf), and events and REST go over that one
// connection: calls, a third party, mute, a conference on another node, contacts of a registrar. A bridge that dies and comes back finds the
// call again (B41).
func TestB37OutboundWebSocket(t *testing.T) {
	system := startFarms(t, farms.Config{Outbound: true})
	alice, bob, carol := newPerson(t, system, "alice", 500, nil), newPerson(t, system, "bob", 800, nil), newPerson(t, system, "carol", 1200, nil)
	api := startBridge(t, system, bob, carol)
	call := alice.mustDial("bob")
	<-bob.calls
	alice.hearsSoon([]float64{800}, []float64{500})
	bob.hearsSoon([]float64{500}, []float64{800})
	one := api.Until("a call of two", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 2 })[0]
	path := "/v1/calls/" + one.ID
	api.Must("POST", path+"/participants", map[string]string{"to": "carol"})
	<-carol.calls
	carol.hearsSoon([]float64{500, 800}, []float64{1200})
	api.Must("POST", path+"/participants/"+one.Legs[1].ID+"/mute", map[string]bool{"on": true})
	carol.hearsSoon([]float64{500}, []float64{800})

	system.BridgeP.Kill()
	start := time.Now()
	p, err := system.StartBridge()
	if err != nil {
		t.Fatal(err)
	}
	system.BridgeP = p
	api.Ready(len(system.Nodes))
	t.Logf("all nodes are back %v after the bridge's start", time.Since(start).Round(time.Millisecond))
	carol.hearsSoon([]float64{500}, []float64{800}) // nobody was cut
	_ = call.Hangup(t.Context())

	// A registered phone is found over the registrar's connection, and meets another in a conference.
	phone := softphones(t, system, softphoneConfig{Tone: 1700})[0]
	dave := newPerson(t, system, "dave", 2100, nil)
	mark := phone.mark()
	call = dave.mustDial(phone.user)
	phone.until(mark, "CALL_ESTABLISHED", 10*time.Second)
	dave.hearsSoon([]float64{1700}, []float64{2100})
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	phone.until(mark, "CALL_CLOSED", 5*time.Second)
	phone.until(phone.do("dial", "7003"), "CALL_ESTABLISHED", 10*time.Second)
	dave.mustDial("7003")
	dave.hearsSoon([]float64{1700}, []float64{2100})
	phone.hears([]float64{2100}, []float64{1700})

	// Files do not pass the WebSocket: Asterisk itself refuses them (ari_websocket_requests.c), and the API says that there is none.
	var rec bridgetest.Call
	for _, c := range api.Calls() {
		if c.Conference == "7003" {
			_ = json.Unmarshal(api.Must("POST", "/v1/calls/"+c.ID+"/record", nil), &rec)
			time.Sleep(500 * time.Millisecond)
			api.Must("POST", "/v1/calls/"+c.ID+"/record", map[string]bool{"on": false})
		}
	}
	for _, name := range rec.Recordings {
		if text, status := api.Do("GET", "/v1/recordings/"+name, nil); status != 404 {
			t.Errorf("download over the WebSocket: %d, %d bytes: docs say it does not work", status, len(text))
		}
	}
}
