//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// flood sends from as many addresses as it likes: all of 127.0.0.0/8 are this machine's, so the sender chooses the source of each datagram, and
// what comes back to any of them comes to its one socket.
type flood struct {
	t     *testing.T
	conn  *ipv4.PacketConn
	edge  netip.AddrPort
	port  uint16
	sent  atomic.Int64
	bytes atomic.Int64

	answers, answerBytes atomic.Int64
	burst                atomic.Int64 // unix nanoseconds of the answer that used up the burst
}

// A source may send perSource requests a second, and burst at once: --rate-limit and its default for --rate-burst.
const (
	perSource = 100
	burst     = 5 * perSource
)

func newFlood(t *testing.T, edge netip.AddrPort) *flood {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadBuffer(8 << 20)
	f := &flood{t: t, conn: ipv4.NewPacketConn(c), edge: edge, port: c.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	var group sync.WaitGroup
	group.Go(func() {
		in := make([]ipv4.Message, 64)
		for i := range in {
			in[i].Buffers = [][]byte{make([]byte, 2048)}
		}
		for {
			n, err := f.conn.ReadBatch(in, 0)
			if err != nil {
				return
			}
			for _, m := range in[:n] {
				f.answerBytes.Add(int64(m.N))
			}
			if before := f.answers.Add(int64(n)) - int64(n); before < burst && before+int64(n) >= burst {
				f.burst.Store(time.Now().UnixNano())
			}
		}
	})
	t.Cleanup(func() { c.Close(); group.Wait() })
	return f
}

// source is the i-th address, from 127.128.0.1 on: no other peer of this run has one there.
func source(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 127<<24|1<<23+uint32(i)+1)
	return netip.AddrFrom4(b)
}

// run sends n requests at so many a second, in turn from so many sources, and returns how long it took.
func (f *flood) run(n, perSecond, sources int) time.Duration {
	const batch = 32
	out := make([]ipv4.Message, batch)
	to := net.UDPAddrFromAddrPort(f.edge)
	start := time.Now()
	for i := 0; i < n; i += batch {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		for k := range out {
			a := source((i + k) % sources)
			msg := []byte(request([]string{"INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE"}[k%4], "sip:600@edge.example", "1001", fmt.Sprint("flood", i+k), netip.AddrPortFrom(a, f.port)))
			out[k] = ipv4.Message{Buffers: [][]byte{msg}, OOB: (&ipv4.ControlMessage{Src: a.AsSlice()}).Marshal(), Addr: to}
			f.bytes.Add(int64(len(msg)))
		}
		for rest := out; len(rest) > 0; {
			k, err := f.conn.WriteBatch(rest, 0)
			if err != nil {
				f.t.Error(err)
				return time.Since(start)
			}
			rest = rest[k:]
		}
		f.sent.Add(batch)
	}
	return time.Since(start)
}

// TestF27Flood: 20,000 requests a second from one source and from 10,000, while honest phones talk and new ones register and call. The one source is
// blocked by the rate limit; of the many each stays below it, and what the edge cannot serve it refuses.
func TestF27Flood(t *testing.T) {
	for _, sources := range []int{1, 10_000} {
		t.Run(fmt.Sprint(sources, " sources"), func(t *testing.T) {
			e := startUp(t, "--rate-limit", fmt.Sprint(perSource))
			calls := goodCalls(t, e, 3)
			f := newFlood(t, e.SIP)
			before, rss := e.samples(t), memory(t, e.proc)
			start := time.Now()
			done := make(chan time.Duration)
			go func() { done <- f.run(100_000, 20_000, sources) }()
			var setup time.Duration
			for i := range 4 { // all within the flood's 5 s
				time.Sleep(time.Until(start.Add(time.Duration(i+1) * 900 * time.Millisecond)))
				g := goodCallOf(t, e, e.Accounts[3+i])
				setup = max(setup, g.SetupTime())
				calls = append(calls, g)
			}
			took := <-done
			time.Sleep(300 * time.Millisecond)
			after := e.samples(t)
			lost, _ := growth(before, after, "sip_listener_kernel_dropped_total")
			_, dropped := growth(before, after, "sip_dropped_total")
			blocked := time.Unix(0, f.burst.Load()).Sub(start)
			t.Logf("%d requests from %d sources in %v (%.0f/s): %d answers, bytes out/in %.2f, lost in the kernel %.0f; dropped:%s", f.sent.Load(), sources,
				took.Round(time.Millisecond), float64(f.sent.Load())/took.Seconds(), f.answers.Load(), float64(f.answerBytes.Load())/float64(f.bytes.Load()), lost, dropped)
			t.Logf("4 calls placed in the flood: all came up, the slowest in %v", setup.Round(time.Millisecond))
			if f.answerBytes.Load() > f.bytes.Load() || setup > 2*time.Second {
				t.Error("want no more bytes out than in, and a set-up below 2 s")
			}
			if sources == 1 {
				t.Logf("the source was blocked after %v, then had %d answers a second: %.2f %% of its flood passed", blocked.Round(time.Millisecond), perSource,
					100*float64(f.answers.Load())/float64(f.sent.Load()))
				if most := int64(burst + perSource*(took.Seconds()+1)); blocked < 0 || blocked > 2*time.Second || f.answers.Load() > most {
					t.Errorf("blocked after %v with %d answers; want below 2 s, and %d at most", blocked, f.answers.Load(), most)
				}
			}
			unharmed(t, calls)
			survived(t, e.proc, rss, 48<<10)
			endsWell(t, e.proc)
		})
	}
}

// TestF27MillionSources: a million forged sources, one request each; what the edge knows of sources is bounded.
func TestF27MillionSources(t *testing.T) {
	e := startUp(t, "--rate-limit", fmt.Sprint(perSource))
	f := newFlood(t, e.SIP)
	f.run(100_000, 40_000, 100_000) // buffers, tables and the heap have their size
	time.Sleep(200 * time.Millisecond)
	rss, before := memory(t, e.proc), e.samples(t)
	const million = 1_000_000
	f.sent.Store(0)
	took := f.run(million, 60_000, million)
	time.Sleep(300 * time.Millisecond)
	after := e.samples(t)
	lost, _ := growth(before, after, "sip_listener_kernel_dropped_total")
	handled, methods := growth(before, after, "sip_requests_total")
	_, dropped := growth(before, after, "sip_dropped_total")
	t.Logf("%d sources in %v (%.0f/s): %.0f requests handled, %.0f lost in the kernel; resident memory %d -> %d KiB;%s; dropped:%s", f.sent.Load(), took.Round(time.Millisecond),
		float64(f.sent.Load())/took.Seconds(), handled, lost, rss, memory(t, e.proc), strings.TrimSpace(methods), dropped)
	if handled < million*0.6 {
		t.Errorf("%.0f requests were handled: too few to show anything", handled)
	}
	survived(t, e.proc, rss, 16<<10)
	endsWell(t, e.proc)
}
