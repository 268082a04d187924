//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestAsteriskBehindTheEdge is the mission in small: a phone with Opus calls the Echo of a real Asterisk, which sees
// PCMU and the edge's internal address, and nothing else (B17).
func TestAsteriskBehindTheEdge(t *testing.T) {
	a := startAsterisk(t, "ulaw")
	r := startRoles(t, a.SIP)
	for _, tc := range []struct {
		codec           codec
		transport, srtp string
		minSNR          float64
	}{{opus, "udp", "", 20}, {g722, "tcp", "srtp-mand", 30}} {
		t.Run(tc.codec.name, func(t *testing.T) {
			ph := phone{server: r.SIP, transport: tc.transport, user: "1001", codec: tc.codec, srtp: tc.srtp, seconds: 5}
			heard, _ := ph.call(t, "600", func() {
				stats := a.cli("pjsip show channelstats")
				t.Logf("Asterisk:\n%s", stats)
				if !strings.Contains(stats, "ulaw") {
					t.Error("Asterisk's channel is not ulaw")
				}
			})
			echoed(t, tc.codec.name, heard, tc.minSNR)
		})
	}
	// The log has a line that begins with an arrow before each message, and the message ends at the next one.
	offers := 0
	for _, entry := range strings.Split(a.log(t), "<--- ") {
		head, body, ok := strings.Cut(entry, "v=0")
		if !ok || !strings.Contains(head, "Received SIP request") || !strings.Contains(head, "INVITE sip:") {
			continue
		}
		offers++
		// The body's lines come without the log's brackets.
		body, _, _ = strings.Cut(body, "\n[")
		for _, bad := range []string{"opus", "G722", "PCMA", "crypto", "SAVP", r.SIP.Addr().String()} {
			if strings.Contains(body, bad) {
				t.Errorf("Asterisk was offered %q:\n%s", bad, body)
			}
		}
	}
	if offers == 0 {
		t.Fatal("Asterisk's log holds no INVITE with an offer")
	}
	t.Logf("%d INVITEs at Asterisk, PCMU only, from %s only", offers, r.inside.Addr())
	endsWell(t, r.sip)
	endsWell(t, r.media)
}
