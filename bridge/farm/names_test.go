package farm

import (
	"net/netip"
	"strings"
	"testing"
)

// TestB37ChannelsOfTwoFarms: one bridge knows the channels of all nodes by their names, so two farms never give the same, whenever they start.
func TestB37ChannelsOfTwoFarms(t *testing.T) {
	names := map[string]bool{}
	for _, id := range []string{"call1", "call2", "", ""} {
		f := runFarm(t, Config{ARI: netip.MustParseAddrPort("127.0.0.1:0"), ARIPassword: "pw", NodeID: id})
		name := f.newID()
		if names[name] || strings.ContainsAny(name, ":[]/ ") || !strings.HasPrefix(name, id) {
			t.Errorf("farm %q names a channel %q", id, name)
		}
		names[name] = true
	}
}
