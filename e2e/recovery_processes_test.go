//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/internal/testrun"
	"rtcedge/sip/siptest"
)

// TestB55CrashesFromOutside: everything in a process of its own, without an Asterisk: two embedded farms, a bridge, an edge, a recovery whose store serves
// the bridge. A farm is killed with three calls on it; they live on, and `rtcedge crashes` tells what was done for each.
func TestB55CrashesFromOutside(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	program := edgeProgram.binary(t)
	outside, inside := netip.AddrPortFrom(newHost(), 5060), netip.AddrPortFrom(newHost(), 5060)
	storeAt, capture, api, edgeAdmin, admin := freePort(t, local), freePort(t, local), freePort(t, local), freePort(t, local), freePort(t, local)
	role := func(name string, at netip.AddrPort, args ...string) *process {
		p := launch(t, "rtcedge "+name, append([]string{program, name, "--admin", at.String(), "--drain-notice", "0s", "--drain-limit", "1s"}, args...)...)
		listening(t, p, at)
		return p
	}
	farms := map[string]*process{}
	var sip, controlled, watched []string
	for i, id := range []string{"call1", "call2"} {
		at, ari := netip.AddrPortFrom(newHost(), 5070), freePort(t, local)
		first := 20000 + 1000*i
		farms[id] = role("farm", freePort(t, local), "--listen", "udp:"+at.String(), "--roles", "call,conference", "--ari", ari.String(), "--ari-password", "secret",
			"--node-id", id, "--edge", inside.String(), "--farm-port-min", fmt.Sprint(first), "--farm-port-max", fmt.Sprint(first+999))
		url := "http://rtcedge:secret@" + ari.String()
		sip, controlled, watched = append(sip, "udp:"+at.String()), append(controlled, "--ari", url), append(watched, "--farm", url)
	}
	role("recovery", admin, append(watched, "--store-listen", storeAt.String(), "--capture", "tcp:"+capture.String(), "--edge-admin", "http://"+edgeAdmin.String())...)
	role("bridge", freePort(t, local), append(controlled, "--api", api.String(), "--store", "nats://"+storeAt.String())...)
	role("sip", edgeAdmin, "--listen", "udp:"+outside.String(), "--internal", "udp:"+inside.String(), "--farm", "call="+strings.Join(sip, ","),
		"--media", "none", "--hep", "tcp:"+capture.String())
	ctl := newControl(t, api, nil)
	ctl.Ready(2)

	phone, err := siptest.New(siptest.Config{User: "alice", Domain: outside.String(), Proxy: outside, Local: freePort(t, newHost())})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, phone.Run)
	offer := []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=sendrecv\r\n")
	const victim, other = "call1", "call2"
	on := func(node string, list []bridgetest.Call) (n int) {
		for _, c := range list {
			for _, l := range c.Legs {
				if c.Node == node && l.State == "up" {
					n++
				}
			}
		}
		return n
	}
	var calls []*siptest.Call
	before := 0
	for len(calls) < 20 && before < 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		c, err := phone.Invite(ctx, "601", offer, siptest.InviteOptions{})
		cancel()
		if err != nil {
			t.Fatalf("call %d: %v; the bridge has %+v", len(calls)+1, err, ctl.Calls())
		}
		calls = append(calls, c)
		list := ctl.Until("the call is up", func(list []bridgetest.Call) bool { return on(victim, list)+on(other, list) == len(calls) })
		before = on(victim, list)
	}
	if before < 3 {
		t.Fatalf("%d of %d calls are on %s", before, len(calls), victim)
	}
	time.Sleep(300 * time.Millisecond) // the ACK reaches the capture
	if err := farms[victim].cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctl.Until("all calls are on the other node", func(list []bridgetest.Call) bool { return on(other, list) == len(calls) })

	var out string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		p := launch(t, "rtcedge crashes", program, "crashes", victim, "--admin", admin.String())
		if err := p.wait(10 * time.Second); err != nil {
			t.Fatalf("%v: %s", err, p.output())
		}
		if out = p.output(); strings.Count(out, " recovered ") >= before || time.Now().After(end) {
			break
		}
	}
	line := regexp.MustCompile(`(?m)^call1\.\S+\s+\S+ \S+\s+\S+s\s+(recovering|done|closed)\s+(up|down)\s+\S+\s+` + fmt.Sprintf(`%d\s+%d\s+-\s+recovery-[0-9a-f]{8}\s+\S`, before, before))
	steps := regexp.MustCompile(`(?m)\s` + other + `\s+recovered\s+-\s+found \d+, dialog \d+ \(own capture\), turn \d+, claimed \d+, invite \d+ \(` + other +
		`\), answered \d+ \(200\), goes on \d+ \([^)]+\), recovered \d+`)
	if !line.MatchString(out) || len(steps.FindAllString(out, -1)) != before {
		t.Errorf("%d legs were on the dead node; rtcedge crashes says\n%s", before, out)
	}
	t.Logf("\n%s", out)
	for _, c := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := c.Hangup(ctx); err != nil {
			t.Errorf("BYE after the recovery: %v", err)
		}
		cancel()
	}
}
