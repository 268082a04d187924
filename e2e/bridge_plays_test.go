//go:build e2e

package e2e

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
)

// TestB37toB43OnRealAsterisk runs the plays that cmd/rtcedge runs over the embedded farm: here three real Asterisks are the farms, and a
// wire that can be cut lies between each of them and the bridge.
func TestB37toB43OnRealAsterisk(t *testing.T) {
	system := startFarms(t, farms.Config{Call: 2, Conference: 2})
	var wires []*bridgetest.Wire
	for _, n := range system.Nodes {
		account, host, _ := strings.Cut(strings.TrimPrefix(n.ARI, "http://"), "@")
		wire, err := bridgetest.NewWire(netip.MustParseAddrPort(host))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(wire.Close)
		wires = append(wires, wire)
		n.ARI = "http://" + account + "@" + wire.Addr().String()
	}
	startBridge(t, system)
	w := bridgetest.World{SIP: system.SIP(), API: system.API()}
	for _, a := range system.Accounts {
		w.Accounts = append(w.Accounts, bridgetest.Account{User: a.User, Password: a.Password})
	}
	w.Cut = func() func() {
		var restore []func()
		for _, wire := range wires {
			restore = append(restore, wire.Cut())
		}
		return func() {
			for _, r := range restore {
				r()
			}
		}
	}
	w.CallNodes = 2
	w.Conferences = []string{"conference1", "conference2"}
	w.Freeze = func(id string) func() {
		for _, n := range system.Nodes {
			if n.ID == id {
				if err := n.Signal(syscall.SIGSTOP); err != nil {
					t.Error(err)
				}
				return func() { _ = n.Signal(syscall.SIGCONT) }
			}
		}
		t.Fatalf("no node %s", id)
		return nil
	}
	bridgetest.Run(t, w)
}
