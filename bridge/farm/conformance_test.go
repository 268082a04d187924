package farm

import (
	"net/netip"
	"strings"
	"testing"

	"rtcedge/bridge/aritest"
)

// TestB37Conformance: the embedded farm does what a real Asterisk 22 did (e2e, TestARIScenario): commands, statuses, messages,
// keys, events and their order.
func TestB37Conformance(t *testing.T) {
	t.Parallel()
	edge := addrPort(newPhoneSocket(t))
	edge = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 77}), edge.Port())
	f := runFarm(t, Config{ARI: netip.MustParseAddrPort("127.0.0.1:0"), ARIPassword: "pw", NodeID: "call1", Roles: []Role{RoleCall}, RecordingDir: t.TempDir(), Edge: edge})
	got, err := aritest.Run(t.Context(), aritest.Node{URL: "http://rtcedge:pw@" + f.ARIAddr().String(), SIP: sipAddr(t, f), Edge: edge})
	if err != nil {
		t.Error(err)
	}
	want := strings.Split(aritest.Recorded, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || line != want[i] {
			other := "(nothing)"
			if i < len(want) {
				other = want[i]
			}
			t.Errorf("line %d: the farm does\n%s\nand Asterisk\n%s", i+1, line, other)
		}
	}
}
