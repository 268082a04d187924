//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/siptest"
)

// processorTime is what a program has used, by its threads' schedstat.
func processorTime(t *testing.T, p *process) (used time.Duration) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if fields := strings.Fields(string(b)); len(fields) == 3 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			used += time.Duration(ns)
		}
	}
	return used
}

// TestF35TranscoderAbuse: a phone of an Opus call sends 2,000 packets of 120 ms a second, with another SSRC and payload type in each: forty times what there
// is in 120 ms of voice. The processor time that this costs is bounded, beside what the packets cost that are dropped; the honest calls lose nothing, and
// afterwards the call itself is as it was.
func TestF35TranscoderAbuse(t *testing.T) {
	const perSecond, seconds = 2000, 5
	e := startUp(t)
	calls := goodCalls(t, e, 3)
	ua := newPhone(t, e, e.Accounts[3], "udp")
	echoes := make(chan struct{}, 10000)
	s := newStranger(t, netip.AddrPortFrom(ua.Local().Addr(), 0), func(b []byte) {
		if len(b) > 12 && b[1]&0x7f == 96 {
			select {
			case echoes <- struct{}{}:
			default:
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	call, err := ua.Invite(ctx, "600", offerOf(s.addr, "96 9 8", "a=rtpmap:96 opus/48000/2", "a=rtpmap:9 G722/8000"), siptest.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port := mediaAddr(t, call.RemoteSDP())
	packet := func(n int, pt byte, ssrc, stamp uint32, payload []byte) {
		b := make([]byte, 12, 12+len(payload))
		b[0], b[1] = 0x80, pt
		binary.BigEndian.PutUint16(b[2:], uint16(n))
		binary.BigEndian.PutUint32(b[4:], stamp)
		binary.BigEndian.PutUint32(b[8:], ssrc)
		_, _ = s.WriteToUDPAddrPort(append(b, payload...), port)
	}
	short := []byte{0xfc, 0xff, 0xfe}                                                                       // a frame of 20 ms of Opus, RFC 6716
	long := append([]byte{0xff, 6}, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe) // six of them
	voice := func(from int) (heard int) {
		for len(echoes) > 0 {
			<-echoes
		}
		paced(100, 50, func(i int) { packet(from+i, 96, 5, uint32(960*(from+i)), short) })
		time.Sleep(200 * time.Millisecond)
		return len(echoes)
	}
	begin, start := processorTime(t, e.proc), time.Now()
	first := voice(0)
	quiet, spent := processorTime(t, e.proc)-begin, time.Since(start)
	before := e.samples(t)
	begin, start = processorTime(t, e.proc), time.Now()
	paced(perSecond*seconds, perSecond, func(i int) {
		packet(i, []byte{96, 96, 9, 8}[i%4], uint32(100+i), uint32(i*7919*960), long)
	})
	busy, took := processorTime(t, e.proc)-begin, time.Since(start)
	dropped, which := growth(before, e.samples(t), "media_dropped_total")
	time.Sleep(1500 * time.Millisecond) // what it may have comes back
	last := voice(20000)
	share := func(used, of time.Duration) float64 { return 100 * float64(used) / float64(of) }
	t.Logf("four calls: %.1f %% of a core; with %d packets of 120 ms in %v: %.1f %%, %.0f us a packet more; dropped %.0f:%s; the call itself: %d of 100 echoed before, %d after",
		share(quiet, spent), perSecond*seconds, took.Round(time.Millisecond), share(busy, took), (float64(busy)-float64(quiet)*float64(took)/float64(spent))/1e3/perSecond/seconds, dropped, which, first, last)
	switch {
	case calls[0].watch.stoodStill():
		t.Logf("NOT JUDGED: %s", calls[0].watch)
	case share(busy, took)-share(quiet, spent) > 35:
		// Twice a call's audio, decoded and encoded both ways, the echo's encoder included, is some percent of a core; the rest is what it costs to drop a packet.
		t.Errorf("%.1f %% of a core more", share(busy, took)-share(quiet, spent))
	case last < 90 || first < 90:
		t.Errorf("the call died: %d of 100 packets echoed, %d before", last, first)
	}
	if dropped < perSecond*seconds/2 {
		t.Error("most of these packets ask for more than a call may have")
	}
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	unharmed(t, calls)
	endsWell(t, e.proc)
}
