//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// stranger is a UDP socket that nobody gave a reason to write to. It counts what comes nevertheless.
type stranger struct {
	*net.UDPConn
	addr         netip.AddrPort
	count, bytes atomic.Int64
}

func newStranger(t *testing.T, at netip.AddrPort, heard func(b []byte)) *stranger {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadBuffer(8 << 20) // best effort: a lost answer would make the figures look better than they are
	s := &stranger{UDPConn: c, addr: c.LocalAddr().(*net.UDPAddr).AddrPort()}
	var group sync.WaitGroup
	group.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, _, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			s.count.Add(1)
			s.bytes.Add(int64(n))
			if heard != nil {
				heard(buf[:n])
			}
		}
	})
	t.Cleanup(func() { c.Close(); group.Wait() })
	return s
}

// attackPackets is how many mutations are sent: 100,000 in CI; the figures of bench/results are of a million.
func attackPackets(t *testing.T) int {
	t.Helper()
	text := os.Getenv("RTCEDGE_ATTACK_PACKETS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("RTCEDGE_ATTACK_PACKETS %q: allowed is a number above 0", text)
	}
	return n
}

// paced calls send n times, evenly at so many a second.
func paced(n, perSecond int, send func(i int)) {
	start := time.Now()
	for i := range n {
		if perSecond < 1000 || i%8 == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		}
		send(i)
	}
}

// samples reads the metrics: the sample with its labels, and its value.
func (e *edge) samples(t *testing.T) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, line := range strings.Split(e.page(t, "/metrics"), "\n") {
		at := strings.LastIndexByte(line, ' ') // labels have spaces too
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			out[strings.TrimPrefix(line[:at], "rtcedge_")] = v
		}
	}
	return out
}

func (e *edge) page(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + e.Admin.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// growth is by how much the samples of a family grew, and by which of them.
func growth(before, after map[string]float64, family string) (sum float64, which string) {
	for name, v := range after {
		if d := v - before[name]; strings.HasPrefix(name, family) && d != 0 {
			sum += d
			which += fmt.Sprintf(" %s=%.0f", strings.TrimPrefix(name, family), d)
		}
	}
	return sum, which
}

// memory is the resident memory of a program, in KiB.
func memory(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(line)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// survived fails where the edge ended, wrote of a panic, or grew by more than so many KiB.
func survived(t *testing.T, p *process, before, most int) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s ended: %s", p.name, tail(p.output(), 4000))
	default:
	}
	panics := strings.Count(p.output(), "panic")
	after := memory(t, p)
	t.Logf("%s lives: %d panics, resident memory %d -> %d KiB (%+d)", p.name, panics, before, after, after-before)
	if panics > 0 || after-before > most {
		t.Errorf("%d panics, memory grew by %d KiB; want none and at most %d", panics, after-before, most)
	}
}

// goodCall is a call of an honest phone to the echo.
type goodCall struct {
	*siptest.UA
	*siptest.Call
	peer  *mediatest.Peer
	watch *pulse // on the machine while the call lasts
	end   func()
}

// newPhone is a registered phone on an address of its own.
func newPhone(t *testing.T, e *edge, u user, transport string) *siptest.UA {
	t.Helper()
	ua, err := siptest.New(siptest.Config{User: u.User, Password: u.Password, Proxy: e.SIP, Transport: transport, Local: netip.AddrPortFrom(newHost(), 0)})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, "phone "+u.User, ua.Run)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := ua.Register(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	return ua
}

func goodCallOf(t *testing.T, e *edge, u user, suites ...string) *goodCall {
	t.Helper()
	g := &goodCall{UA: newPhone(t, e, u, "udp"), watch: feel(t, e.proc)}
	var err error
	if g.peer, err = mediatest.New(mediatest.Config{Addr: g.Local().Addr(), Suites: suites, Loop: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	offer, err := g.peer.Offer()
	if err == nil {
		g.Call, err = g.Invite(ctx, "600", offer, siptest.InviteOptions{})
	}
	if err == nil {
		err = g.peer.SetAnswer(g.RemoteSDP())
	}
	if err != nil {
		t.Fatal(err)
	}
	pctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = g.peer.Run(pctx) })
	g.end = func() { stop(); group.Wait() }
	t.Cleanup(g.end)
	return g
}

// goodCalls start before an attack, and judge it with unharmed.
func goodCalls(t *testing.T, e *edge, n int) []*goodCall {
	t.Helper()
	var out []*goodCall
	for i := range n {
		out = append(out, goodCallOf(t, e, e.Accounts[i]))
	}
	time.Sleep(300 * time.Millisecond) // all are past their start
	return out
}

// unharmed fails where an honest call lost a packet, heard something else than its echo, or cannot hang up.
// Loss is not judged where the machine itself stood still: then the phones and the kernel's buffers lose packets, too.
func unharmed(t *testing.T, calls []*goodCall) {
	t.Helper()
	for _, g := range calls {
		g.peer.Pause(true)
	}
	time.Sleep(250 * time.Millisecond) // what is on its way arrives
	var sent, received, lost, late int
	var gap time.Duration
	for _, g := range calls {
		g.end()
		r := g.peer.Report()
		sent, received, lost, late = sent+r.Sent, received+r.Received, lost+r.Lost, late+r.Reordered
		gap = max(gap, r.MaxGap)
		if len(r.Sources) != 1 || len(r.SSRCs) != 1 || r.OtherPT+r.Undecodable+r.Duplicates > 0 {
			t.Errorf("an honest phone heard %v, SSRCs %v, %d of other payload types, %d undecodable, %d twice", r.Sources, r.SSRCs,
				r.OtherPT, r.Undecodable, r.Duplicates)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := g.Hangup(ctx); err != nil || g.EndedByPeer() {
			t.Errorf("hang up: %v, ended by the edge: %v", err, g.EndedByPeer())
		}
		cancel()
	}
	t.Logf("%d honest calls: sent %d, echoed %d, lost %d, reordered %d, longest gap %v", len(calls), sent, received, lost, late, gap.Round(time.Millisecond))
	if lost == 0 && received == sent {
		return
	}
	for _, g := range calls {
		if g.watch.stoodStill() {
			t.Logf("loss is NOT JUDGED: %s", g.watch)
			return
		}
	}
	t.Errorf("honest calls: %d packets lost on the way back, %d of %d echoed (%s)", lost, received, sent, calls[0].watch)
}

var mediaLines = regexp.MustCompile(`(?s)c=IN IP4 (\S+).*m=audio (\d+) `)

// mediaAddr is where an answer wants RTP.
func mediaAddr(t *testing.T, body []byte) netip.AddrPort {
	t.Helper()
	if m := mediaLines.FindSubmatch(body); m != nil {
		if a, err := netip.ParseAddrPort(string(m[1]) + ":" + string(m[2])); err == nil {
			return a
		}
	}
	t.Fatalf("answer without audio: %s", body)
	return netip.AddrPort{}
}

// farmPort is the port of a call that its farm's media must come to.
func farmPort(t *testing.T, e *edge, callID string) netip.AddrPort {
	t.Helper()
	var calls []struct {
		CallID string `json:"call_id"`
		Legs   []struct {
			Side      string `json:"side"`
			LocalPort uint16 `json:"local_port"`
		} `json:"legs"`
	}
	if err := json.Unmarshal([]byte(e.page(t, "/calls")), &calls); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		for _, l := range c.Legs {
			if c.CallID == callID && l.Side == "priv" {
				return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.LocalPort)
			}
		}
	}
	t.Fatalf("no call %s: %+v", callID, calls)
	return netip.AddrPort{}
}
