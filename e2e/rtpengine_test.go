//go:build e2e

package e2e

import (
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rtpengine is the real one of the chroot, with two interfaces named as the sip role names them.
type rtpengine struct {
	ng   netip.AddrPort
	cli  netip.AddrPort
	proc *process
}

// startRTPEngine runs rtpengine in user space (table -1). It is ready when this returns.
func startRTPEngine(t *testing.T, outside, inside netip.Addr) *rtpengine {
	t.Helper()
	local := netip.MustParseAddr("127.0.0.1")
	r := &rtpengine{ng: freePort(t, local), cli: freePort(t, local)}
	r.proc = launch(t, "rtpengine", filepath.Join(root(t), "e2e", "peers.sh"), "run", "rtpengine", "--foreground", "--log-stderr",
		"--log-level=5", "--config-file=none", "--table=-1", "--num-threads=2", "--interface=pub/"+outside.String(),
		"--interface=priv/"+inside.String(), "--listen-ng="+r.ng.String(), "--listen-cli="+r.cli.String(),
		"--port-min=20000", "--port-max=20999", "--delete-delay=0", "--pidfile=/tmp/rtpengine.pid")
	listening(t, r.proc, r.cli)
	return r
}

// ask sends a command to rtpengine's command line port and returns what it prints.
func (r *rtpengine) ask(t *testing.T, command string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", r.cli.String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second)) // a write or read that fails tells
	if _, err := c.Write([]byte(command + "\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite() // rtpengine answers and hangs up
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("rtpengine: %s: %v", command, err)
	}
	return strings.TrimSpace(string(out))
}

// complaints are the lines of its log that are no mere information.
func (r *rtpengine) complaints() []string {
	var lines []string
	for line := range strings.Lines(r.proc.output()) {
		for _, level := range []string{"WARN", "ERR:", "CRIT"} {
			if strings.Contains(line, level) {
				lines = append(lines, strings.TrimSpace(line))
				break
			}
		}
	}
	return lines
}

// startSIPRole runs `rtcedge sip` between a farm and a media node that speaks NG.
func startSIPRole(t *testing.T, ng, outside, inside, farm netip.AddrPort) *process {
	t.Helper()
	admin := freePort(t, netip.MustParseAddr("127.0.0.1"))
	p := launch(t, "rtcedge sip", edgeProgram.binary(t), "sip", "--listen", "udp:"+outside.String(), "--listen", "tcp:"+outside.String(),
		"--internal", "udp:"+inside.String(), "--farm", "call=udp:"+farm.String(), "--media", "ng:"+ng.String(),
		"--admin", admin.String(), "--drain-notice", "0s", "--drain-limit", "1s")
	listening(t, p, admin)
	return p
}

// TestRealRTPEngine lets the sip role drive rtpengine 26 over NG/UDP while the demo's phones call: all codecs, SRTP, a
// conference, user to user (B22).
func TestRealRTPEngine(t *testing.T) {
	outside, inside := netip.AddrPortFrom(newHost(), 5060), netip.AddrPortFrom(newHost(), 5060)
	farm, local := netip.AddrPortFrom(newHost(), 5070), netip.MustParseAddr("127.0.0.1")
	engine := startRTPEngine(t, outside.Addr(), inside.Addr())
	accounts := filepath.Join(t.TempDir(), "accounts")
	var lines, args []string
	for _, u := range []string{"1001", "1002", "1003", "1004", "1005"} {
		lines = append(lines, u+":rtcedge:password=secret-"+u)
		args = append(args, "--account", u+":secret-"+u)
	}
	if err := os.WriteFile(accounts, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := freePort(t, local)
	f := launch(t, "rtcedge farm", edgeProgram.binary(t), "farm", "--listen", "udp:"+farm.String(), "--auth", accounts,
		"--edge", inside.String(), "--admin", admin.String(), "--farm-port-min", "12000", "--farm-port-max", "13999")
	listening(t, f, admin)
	s := startSIPRole(t, engine.ng, outside, inside, farm)
	demo := launch(t, "demo", append([]string{demoProgram.binary(t), "--edge", outside.String()}, args...)...)
	seen := map[string]bool{} // conversions at any time: what the farm is spared
	for running := true; running; {
		select {
		case <-demo.done:
			running = false
		case <-time.After(500 * time.Millisecond):
			for line := range strings.Lines(engine.ask(t, "list transcoders")) {
				if pair, _, ok := strings.Cut(line, ":"); ok && strings.Contains(pair, "->") {
					seen[strings.TrimSpace(pair)] = true
				}
			}
		}
	}
	err := demo.wait(time.Second)
	t.Logf("\n%s", demo.output())
	if err != nil {
		t.Errorf("demo: %v", err)
	}
	conversions := slices.Sorted(maps.Keys(seen))
	t.Logf("rtpengine converted: %s", strings.Join(conversions, ", "))
	for _, codec := range []string{"PCMA/8000", "G722/8000", "opus/48000"} {
		for _, want := range []string{codec + " -> PCMU/8000", "PCMU/8000 -> " + codec} {
			if !slices.ContainsFunc(conversions, func(c string) bool { return strings.ReplaceAll(c, "/48000/2", "/48000") == want }) {
				t.Errorf("rtpengine was never seen to convert %s", want)
			}
		}
	}
	left := engine.ask(t, "list numsessions")
	t.Logf("after all calls:\n%s", left)
	if !strings.Contains(left, "Current sessions total: 0") {
		t.Errorf("rtpengine still has calls:\n%s", left)
	}
	if lines := engine.complaints(); len(lines) > 0 {
		t.Logf("rtpengine complains %d times, first: %s", len(lines), lines[0])
	}
	for _, p := range []*process{s, f} {
		endsWell(t, p)
	}
}
