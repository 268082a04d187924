//go:build e2e

package e2e

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/aritest"
)

var update = flag.Bool("update", false, "record what a real peer does into testdata")

// TestARIScenario drives a real Asterisk through the scenario that the embedded farm is held to (bridge/farm, TestB37Conformance): what
// it does is what was recorded.
func TestARIScenario(t *testing.T) {
	node, edge := newHost(), netip.AddrPortFrom(newHost(), 5060)
	dir, script := t.TempDir(), filepath.Join(root(t), "e2e", "peers.sh")
	out := launch(t, "asterisk-config", edgeProgram.binary(t), "asterisk-config", "--role", "call", "--name", "call1", "--ip", node.String(),
		"--edge", edge.String(), "--out", dir, "--dir", "/mnt", "--ari-password", "pw")
	if err := out.wait(10 * time.Second); err != nil {
		t.Fatalf("%v: %s", err, out.output())
	}
	ast := launch(t, "asterisk", script, "run", "--bind", dir, "asterisk", "-f", "-q", "-C", "/mnt/asterisk.conf")
	listening(t, ast, netip.AddrPortFrom(node, 8088))
	// The port is open before the modules of ARI are loaded.
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		cli, _ := exec.Command(script, "run", "--bind", dir, "asterisk", "-C", "/mnt/asterisk.conf", "-rx", "core waitfullybooted").CombinedOutput()
		if strings.Contains(string(cli), "fully booted") {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("Asterisk is not ready after 20 s: %s", cli)
		}
	}
	got, err := aritest.Run(t.Context(), aritest.Node{URL: "http://rtcedge:pw@" + node.String() + ":8088", SIP: netip.AddrPortFrom(node, 5080), Edge: edge})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root(t), "bridge", "aritest", "asterisk.txt"), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(aritest.Recorded, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || line != want[i] {
			t.Fatalf("line %d: Asterisk does\n%s\nand did\n%s", i+1, line, strings.Join(want[min(i, len(want)):min(i+1, len(want))], ""))
		}
	}
}
