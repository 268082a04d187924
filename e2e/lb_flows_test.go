//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Of the flows through the balancer.
const (
	flowCount = 10_000
	flowRate  = 2_500 // requests a second, so that each round takes 4 s
)

// flowRound is what became of one request of every flow.
type flowRound struct {
	name              string
	lost, again       int
	p50, p99, longest time.Duration
}

// TestF11FlowsOverNodeChanges: 10,000 phones, each with a socket of its own, ask through the balancer while a node is taken away (kill -9) and comes
// back. Each sends again as RFC 3261 section 17.1.2.2 says; none may be left without an answer.
func TestF11FlowsOverNodeChanges(t *testing.T) {
	for _, b := range balancers {
		t.Run(b.name, func(t *testing.T) {
			w, m := newLBWorld(t), watchMachine(t)
			_, environment := b.start(t, w)
			w.watch(t, b.name, environment)
			flows := make([]*net.UDPConn, flowCount)
			w.phones.inside(func() {
				for i := range flows {
					c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lbPhones, 0)))
					if err != nil {
						t.Fatal(err)
					}
					flows[i] = c
				}
			})
			t.Cleanup(func() {
				for _, c := range flows {
					c.Close()
				}
			})
			var rounds []flowRound
			round := func(name string, during func()) {
				took := make([]time.Duration, flowCount)
				sent := make([]int, flowCount)
				var group sync.WaitGroup
				start := time.Now()
				group.Go(func() { time.Sleep(time.Second); during() })
				for i := range flows {
					if i%25 == 0 {
						time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / flowRate)))
					}
					group.Go(func() { took[i], sent[i] = askFlow(flows[i], fmt.Sprintf("%s-%d", name, i)) })
				}
				group.Wait()
				r := flowRound{name: name}
				for i := range took {
					if took[i] == 0 {
						r.lost++
					} else if sent[i] > 1 {
						r.again++
					}
				}
				slices.Sort(took)
				r.p50, r.p99, r.longest = took[flowCount/2], took[flowCount*99/100], took[flowCount-1]
				rounds = append(rounds, r)
			}
			round("before", func() {})
			round("taken", func() { w.kill(t, 0) })
			round("without", func() {})
			round("back", func() { w.startNode(t, 0) })
			round("after", func() {})
			for _, r := range rounds {
				t.Logf("%-8s %d flows: %d lost, %d sent again; answered p50 %v, p99 %v, longest %v", r.name, flowCount, r.lost, r.again,
					r.p50.Round(time.Millisecond/10), r.p99.Round(time.Millisecond), r.longest.Round(time.Millisecond))
				if r.lost > 0 && m.stall() <= 250*time.Millisecond {
					t.Errorf("%s: %d flows lost", r.name, r.lost)
				}
			}
			t.Logf("node 1, started again, got %v; node 2 got %v; the machine stood still for %v", w.requests(t, 0), w.requests(t, 1), m.stall().Round(time.Millisecond))
			if w.requests(t, 0)["OPTIONS"] == 0 {
				t.Error("node 1 got nothing after it came back")
			}
		})
	}
}

// askFlow sends one request until it is answered, and tells how long that took and how often it was sent; 0: never.
func askFlow(c *net.UDPConn, id string) (took time.Duration, sent int) {
	local := c.LocalAddr().(*net.UDPAddr).AddrPort()
	msg := []byte(request("OPTIONS", "sip:600@192.0.2.1", "load", id, local))
	want := "Call-ID: " + id + "\r\n"
	buf := make([]byte, 4096)
	start := time.Now()
	for wait := 500 * time.Millisecond; sent < 7; wait = min(2*wait, 4*time.Second) {
		sent++
		_, _ = c.WriteToUDPAddrPort(msg, lbAddress)
		_ = c.SetReadDeadline(time.Now().Add(wait))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			if s := string(buf[:n]); strings.HasPrefix(s, "SIP/2.0 200 ") && strings.Contains(s, want) {
				return time.Since(start), sent
			}
		}
	}
	return 0, sent
}
