//go:build e2e

package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// roles are an edge in processes of its own, on two addresses: what the outside sees and what farms see.
type roles struct {
	SIP, Admin, MediaAdmin netip.AddrPort
	inside                 netip.AddrPort
	sip, media             *process
}

// startRoles runs `rtcedge media` and `rtcedge sip` in front of a farm.
func startRoles(t *testing.T, farm netip.AddrPort, more ...string) *roles {
	t.Helper()
	outside, inside, local := newHost(), newHost(), netip.MustParseAddr("127.0.0.1")
	r := &roles{SIP: netip.AddrPortFrom(outside, 5060), inside: netip.AddrPortFrom(inside, 5060),
		Admin: freePort(t, local), MediaAdmin: freePort(t, local)}
	ng := freePort(t, local)
	program := edgeProgram.binary(t)
	r.media = launch(t, "rtcedge media", program, "media", "--listen-ng", ng.String(), "--admin", r.MediaAdmin.String(),
		"--interface", "pub/"+outside.String(), "--interface", "priv/"+inside.String(),
		"--port-min", "10000", "--port-max", "10999", "--drain-notice", "0s", "--drain-limit", "1s")
	listening(t, r.media, r.MediaAdmin)
	args := []string{"sip", "--listen", "udp:" + r.SIP.String(), "--listen", "tcp:" + r.SIP.String(),
		"--internal", "udp:" + r.inside.String(), "--farm", "call=udp:" + farm.String(), "--media", "ng:" + ng.String(),
		"--admin", r.Admin.String(), "--drain-notice", "0s", "--drain-limit", "1s"}
	r.sip = launch(t, "rtcedge sip", append(append([]string{program}, args...), more...)...)
	listening(t, r.sip, r.Admin)
	return r
}

// TestThreeProcesses runs sip, media and farm apart and lets the demo call through them.
func TestThreeProcesses(t *testing.T) {
	farm, local := netip.AddrPortFrom(newHost(), 5070), netip.MustParseAddr("127.0.0.1")
	accounts := filepath.Join(t.TempDir(), "accounts")
	users := []string{"1001", "1002", "1003", "1004", "1005"}
	var lines, args []string
	for _, u := range users {
		lines = append(lines, u+":rtcedge:password=secret-"+u)
		args = append(args, "--account", u+":secret-"+u)
	}
	if err := os.WriteFile(accounts, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := freePort(t, local)
	r := startRoles(t, farm)
	f := launch(t, "rtcedge farm", edgeProgram.binary(t), "farm", "--listen", "udp:"+farm.String(), "--auth", accounts,
		"--edge", r.inside.String(), "--admin", admin.String(), "--farm-port-min", "12000", "--farm-port-max", "13999")
	listening(t, f, admin)
	demo := launch(t, "demo", append([]string{demoProgram.binary(t), "--edge", r.SIP.String(), "--admin", r.MediaAdmin.String()}, args...)...)
	err := demo.wait(100 * time.Second)
	t.Logf("\n%s", demo.output())
	if err != nil {
		t.Errorf("demo: %v", err)
	}
	for _, p := range []*process{r.sip, r.media, f} {
		endsWell(t, p)
	}
}
