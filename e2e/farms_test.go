//go:build e2e

package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"rtcedge/e2e/farms"
)

// startFarms runs real Asterisks, edge, media and, if cfg.Bridge is not nil, the bridge, on addresses that no other test has. It is all
// gone when the test ends; what it logged is shown if the test failed.
func startFarms(t *testing.T, cfg farms.Config) *farms.System {
	t.Helper()
	if cfg.Root == "" {
		cfg.Root = root(t)
	}
	if cfg.Binary == "" {
		cfg.Binary = edgeProgram.binary(t)
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if !cfg.Inside.IsValid() {
		// A net of its own for each system: the nodes' addresses follow the edge's.
		a := newHost().As4()
		cfg.Inside = netip.AddrFrom4([4]byte{a[0], a[1], 100 + a[3]%150, 1})
	}
	if !cfg.Public.IsValid() {
		cfg.Public = newHost()
	}
	s, err := farms.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			for _, p := range s.Processes() {
				t.Logf("output of %s:\n%s", p.Name, p.Output())
			}
			for _, n := range s.Nodes {
				t.Logf("log of %s:\n%s", n.ID, tail(n.Messages(), 6000))
			}
		}
	})
	for _, n := range s.Nodes {
		t.Logf("%s: Asterisk %s at %s, pid %d", n.ID, n.Version, n.SIP, n.PID())
	}
	return s
}

// TestFarmsByThemselves starts the three farms with no bridge: every module of the configurations loads, each node says who it is, and a
// registered phone with Opus hears the echo of the call farm (B1, B17).
func TestFarmsByThemselves(t *testing.T) {
	s := startFarms(t, farms.Config{})
	for _, n := range s.Nodes {
		for _, line := range strings.Split(n.Messages()+n.Output(), "\n") {
			if strings.Contains(line, "ERROR") || strings.Contains(line, "WARNING") {
				t.Errorf("%s: %s", n.ID, line)
			}
		}
		for name, want := range map[string]string{"RTCEDGE_NODE": n.ID, "RTCEDGE_ROLES": n.Role, "RTCEDGE_SIP": "udp:" + n.SIP.String(), "RTCEDGE_EDGE": s.Internal().String()} {
			var v struct{ Value string }
			if err := n.Get("/asterisk/variable?variable="+name, &v); err != nil || v.Value != want {
				t.Errorf("%s: %s is %q, %v, want %q", n.ID, name, v.Value, err, want)
			}
		}
	}
	ph := phone{server: s.SIP(), transport: "tcp", user: s.Accounts[0].User, password: s.Accounts[0].Password, register: true, codec: opus, seconds: 4}
	heard, _ := ph.call(t, "600", nil)
	echoed(t, "600 of a call node without bridge", heard, 20)
}
