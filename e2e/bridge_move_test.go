//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
)

// TestB42BridgeKilledWhileAConferenceMoves: kill -9 of the process that moves a conference of 16 between two real Asterisks, at several moments.
// Another one stands by: nobody is hung up, and it ends as one conference on one node.
func TestB42BridgeKilledWhileAConferenceMoves(t *testing.T) {
	system := startFarms(t, farms.Config{Conference: 2})
	system.Bridge = []string{"--store", sharedStore(t)}
	apis := [2]netip.AddrPort{system.API(), netip.AddrPortFrom(system.Inside, 8191)}
	var processes [2]*farms.Process
	rounds := 0
	start := func(i int) {
		var more []string
		if i == 1 {
			more = []string{"--api", apis[1].String(), "--admin", netip.AddrPortFrom(system.Inside, 8193).String()}
		}
		p, err := system.StartBridge(more...)
		if err != nil {
			t.Fatal(err)
		}
		processes[i] = p
		t.Cleanup(func() {
			p.Stop()
			if t.Failed() {
				t.Logf("bridge %d: %s", i+1, tail(p.Output(), 4000))
			}
		})
	}
	start(0)
	newControl(t, apis[0], nil).Ready(len(system.Nodes))
	start(1)
	w := bridgetest.World{SIP: system.SIP(), API: apis[0], Conferences: []string{"conference1", "conference2"}}
	for _, a := range system.Accounts {
		w.Accounts = append(w.Accounts, bridgetest.Account{User: a.User, Password: a.Password})
	}
	w.Explain = func() string {
		var out strings.Builder
		for _, n := range system.Farm("conference") {
			var bridges []struct {
				ID, Technology string
				Channels       []string
			}
			_ = n.Get("/bridges", &bridges)
			fmt.Fprintf(&out, "%s: %+v\n", n.ID, bridges)
		}
		return out.String()
	}
	bridgetest.Interrupted{Members: 16, Delays: []time.Duration{30 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond},
		Kill: func(api netip.AddrPort) netip.AddrPort {
			i := 0
			if api == apis[1] {
				i = 1
			}
			for dead, p := range processes { // the one that was killed last
				if p == nil {
					start(dead)
				}
			}
			processes[i].Kill()
			processes[i] = nil
			if rounds++; rounds%2 == 0 { // it comes back at once, before anybody else has its nodes
				start(i)
			}
			return apis[1-i]
		}}.Run(t, w)
}
