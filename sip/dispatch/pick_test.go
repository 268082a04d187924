package dispatch

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestEqualWeightsChooseAlike: the way without logarithms picks the nodes that the weighted one picks.
func TestEqualWeightsChooseAlike(t *testing.T) {
	var cfg Config
	for i := range 7 {
		cfg.Farms[Call] = append(cfg.Farms[Call], NodeConfig{Addr: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.%d:5060", i+1)), Weight: 3})
	}
	s, err := New(cfg, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	members := s.table.Load().farms[Call]
	// A member that is never chosen makes the weights unequal.
	uneven := append(append([]member(nil), members...), member{&Node{seed: 1}, 1e-300})
	for i := range uint64(20000) {
		if a, b := choose(members, mix(i)), choose(uneven, mix(i)); a != b {
			t.Fatalf("%d: %v and %v", i, a.Addr(), b.Addr())
		}
	}
}
