//go:build e2e

package e2e

import (
	"testing"
)

// TestB56RecoversDialog kills the Asterisk that held the calls. Another one has each of them, as if it had always been its own, and
// after a second crash the first one has it again.
func TestB56RecoversDialog(t *testing.T) {
	a, b := startPatched(t), startPatched(t)
	var lines []*line
	for _, r := range bothRoles {
		for hops := range 4 {
			l := newLine(t, a.SIP, hops)
			l.call(t, a, r)
			lines = append(lines, l)
		}
	}
	a.kill(t)
	for _, l := range lines {
		l.recovered(t, b)
		l.echoes(t)
	}
	_ = b
}
