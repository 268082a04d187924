//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestF14HalfDeadFarmNode: one of two farm nodes answers OPTIONS and nothing else, as a hung Asterisk may. New calls stop going there, and the phones'
// own retransmissions bring those that went there to the other node.
func TestF14HalfDeadFarmNode(t *testing.T) {
	bad := newFakeFarm(t)
	good, local := netip.AddrPortFrom(newHost(), 5070), netip.MustParseAddr("127.0.0.1")
	admin := freePort(t, local)
	f := launch(t, "rtcedge farm", edgeProgram.binary(t), "farm", "--listen", "udp:"+good.String(), "--admin", admin.String(), "--farm-port-min", "12000", "--farm-port-max", "13999")
	listening(t, f, admin)
	edge, edgeAdmin := freePort(t, newHost()), freePort(t, local)
	p := launch(t, "rtcedge sip", edgeProgram.binary(t), "sip", "--listen", "udp:"+edge.String(), "--farm", "call=udp:"+good.String()+",udp:"+bad.addr.String(), "--media", "none",
		"--admin", edgeAdmin.String(), "--drain-notice", "0s", "--drain-limit", "1s")
	listening(t, p, edgeAdmin)
	a := newAsker(t, edge)
	const calls = 200 // 25 a second, 8 s: longer than a node's time out
	start := time.Now()
	stuck, repaired, lost := 0, 0, 0
	var last, longest time.Duration
	for i := range calls {
		time.Sleep(time.Until(start.Add(time.Duration(i) * 40 * time.Millisecond)))
		msg := request("INVITE", "sip:600@edge.example", "1001", fmt.Sprint("sick", i), a.addr)
		begun, answered := time.Now(), false
		for try := range 4 { // 0.5, 1, 2, 4 s: RFC 3261 section 17.1.1.2
			if answered = answeredCall(a, msg, fmt.Sprintf("Call-ID: sick%d\r\n", i), time.Duration(500<<try)*time.Millisecond); answered {
				break
			}
			if try == 0 {
				stuck++
				last = begun.Sub(start)
			}
		}
		if took := time.Since(begun); !answered {
			lost++
		} else if took > 450*time.Millisecond {
			repaired++
			longest = max(longest, took)
		}
	}
	t.Logf("%d calls: %d went to the half-dead node first, the last after %v; %d of them came through by their own retransmission, the slowest in %v; %d lost", calls, stuck,
		last.Round(time.Millisecond), repaired, longest.Round(time.Millisecond), lost)
	t.Logf("the node got %d INVITEs", len(bad.take()))
	if lost > 0 || stuck > 8 {
		t.Errorf("%d calls lost, %d at the half-dead node", lost, stuck)
	}
	endsWell(t, p)
}

// answeredCall sends and waits for a final answer of this call; the farm repeats those of others, which got no ACK.
func answeredCall(a *asker, msg, callID string, limit time.Duration) bool {
	_, _ = a.WriteToUDPAddrPort([]byte(msg), a.edge)
	_ = a.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 65536)
	for {
		n, err := a.Read(buf)
		if err != nil {
			return false
		}
		if s := string(buf[:n]); strings.Contains(s, callID) && !strings.HasPrefix(s, "SIP/2.0 1") {
			return true
		}
	}
}
