//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace: a machine of its own, as far as addresses, routes and packet filters go.
type namespace struct {
	t    *testing.T
	name string
}

const namespacePrefix = "rtcedge-"

var (
	lastNamespace atomic.Uint32
	lastLink      atomic.Uint32
)

// needNamespaces skips where namespaces cannot be made, and says so. A missing program is a failure, as everywhere here.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: network namespaces need root; run the peer tests as root")
	}
	for _, program := range []string{"ip", "nft", "sysctl"} {
		need(t, program)
	}
	sweepNamespaces(t)
	name := fmt.Sprintf("%s%d-try", namespacePrefix, os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: this machine does not permit network namespaces: %s", out)
	}
	_ = exec.Command("ip", "netns", "del", name).Run()
}

// sweepNamespaces removes what test binaries left behind that were killed before their cleanup.
func sweepNamespaces(t *testing.T) {
	t.Helper()
	left, _ := filepath.Glob("/run/netns/" + namespacePrefix + "*")
	for _, path := range left {
		name := filepath.Base(path)
		pid, err := strconv.Atoi(strings.SplitN(strings.TrimPrefix(name, namespacePrefix), "-", 2)[0])
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		t.Logf("removing the namespace %s of a test that was killed", name)
		_ = exec.Command("ip", "netns", "del", name).Run()
	}
}

// newNamespace makes a namespace that is gone when the test ends, after all that was started in it.
func newNamespace(t *testing.T, role string) *namespace {
	t.Helper()
	n := &namespace{t: t, name: fmt.Sprintf("%s%d-%d-%s", namespacePrefix, os.Getpid(), lastNamespace.Add(1), role)}
	if out, err := exec.Command("ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		t.Fatalf("namespace %s: %v: %s", role, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", n.name).CombinedOutput(); err != nil {
			t.Errorf("namespace %s is left behind: %v: %s", n.name, err, out)
		}
	})
	n.run("ip", "link", "set", "lo", "up")
	return n
}

func (n *namespace) argv(command ...string) []string {
	return append([]string{"ip", "netns", "exec", n.name}, command...)
}

// run runs a command inside, which must succeed, and returns its output.
func (n *namespace) run(command ...string) string {
	n.t.Helper()
	argv := n.argv(command...)
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %s: %v\n%s", n.name, strings.Join(command, " "), err, out)
	}
	return string(out)
}

// start launches a program inside: `ip netns exec` becomes the program, so that its process id is the program's.
func (n *namespace) start(t *testing.T, name string, command ...string) *process {
	t.Helper()
	return launch(t, name, n.argv(command...)...)
}

// startRole launches a role of rtcedge and returns when its admin port, which is added here, answers.
func (n *namespace) startRole(t *testing.T, admin netip.AddrPort, role string, flags ...string) *process {
	t.Helper()
	argv := append([]string{edgeProgram.binary(t), role, "--admin", admin.String(), "--drain-notice", "0s", "--drain-limit", "1s"}, flags...)
	p := n.start(t, "rtcedge "+role+" in "+n.name, argv...)
	n.inside(func() { listening(t, p, admin) })
	return p
}

// filter loads nftables rules.
func (n *namespace) filter(rules string) {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "rules.nft")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.run("nft", "-f", file)
}

// router lets the namespace forward packets between its links.
func (n *namespace) router() {
	n.t.Helper()
	n.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
}

// inside runs f on a thread that is in the namespace. A socket stays in the namespace that it was made in, so agents and
// RTP peers that are made by f may be used from everywhere afterwards. f must not start goroutines that open sockets.
func (n *namespace) inside(f func()) {
	n.t.Helper()
	if err := n.enter(f); err != nil {
		n.t.Fatalf("enter %s: %v", n.name, err)
	}
	if n.t.Failed() {
		n.t.FailNow()
	}
}

// enter is inside for goroutines that are not the test's.
func (n *namespace) enter(f func()) error {
	there, err := os.Open("/run/netns/" + n.name)
	if err != nil {
		return err
	}
	defer there.Close()
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			failed = err
			return
		}
		defer home.Close()
		if failed = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); failed != nil {
			return
		}
		// The thread goes home and lives on: if it ended, all programs that were started from it would get the signal that
		// launch asks for (PR_SET_PDEATHSIG is the death of the parent's thread). Deferred, as f may end in t.Fatal.
		defer func() {
			if failed = unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); failed == nil {
				runtime.UnlockOSThread()
			}
		}()
		f()
	}()
	<-done
	return failed
}

// dial opens a connection from inside.
func (n *namespace) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	var d net.Dialer
	if failed := n.enter(func() { conn, err = d.DialContext(ctx, network, addr) }); failed != nil {
		return nil, failed
	}
	return conn, err
}

// segment is a network: a bridge in a namespace of its own.
type segment struct{ *namespace }

func newSegment(t *testing.T, role string) segment {
	t.Helper()
	s := segment{newNamespace(t, role)}
	s.run("ip", "link", "add", "bridge", "type", "bridge")
	s.run("ip", "link", "set", "bridge", "up")
	return s
}

// attach gives a namespace a link to the segment with an address, and a default route where gateway is not empty.
func (s segment) attach(n *namespace, link, prefix, gateway string) {
	s.t.Helper()
	port := fmt.Sprintf("port%d", lastLink.Add(1))
	s.run("ip", "link", "add", port, "type", "veth", "peer", "name", link, "netns", n.name)
	s.run("ip", "link", "set", port, "master", "bridge", "up")
	n.run("ip", "address", "add", prefix, "dev", link)
	n.run("ip", "link", "set", link, "up")
	if gateway != "" {
		n.run("ip", "route", "add", "default", "via", gateway)
	}
}

// eventually waits for a condition, and fails after the limit.
func eventually(t *testing.T, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}
