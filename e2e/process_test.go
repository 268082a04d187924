//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test started; it is gone when the test ends.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	out  bytes.Buffer
	wake chan struct{} // closed and replaced at each write
	err  error         // of Wait, after done
}

// launch starts a program and keeps its output. At the end of the test it gets SIGTERM and, if it does not go, SIGKILL.
func launch(t *testing.T, name string, argv ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{}), wake: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// A peer must not outlive a test binary that is killed by its time limit.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 2 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.stop(5 * time.Second)
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(p.output(), 6000))
		}
	})
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.wake)
	p.wake = make(chan struct{})
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// wait returns when the program has ended, with its exit as an error where that was not 0.
func (p *process) wait(d time.Duration) error {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-time.After(d):
		return errors.New(p.name + ": does not end")
	}
}

// stop sends SIGTERM and waits; a program that stays is killed, which is an error.
func (p *process) stop(d time.Duration) error {
	select {
	case <-p.done:
		return p.wait(0)
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	err := p.wait(d)
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return err
}

// says waits until the output holds text. The end of the program or of the time is an error.
func (p *process) says(text string, d time.Duration) error {
	limit := time.After(d)
	for {
		p.mu.Lock()
		found, wake := strings.Contains(p.out.String(), text), p.wake
		p.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-wake:
		case <-p.done:
			if strings.Contains(p.output(), text) {
				return nil
			}
			return errors.New(p.name + ": ended without saying " + text)
		case <-limit:
			return errors.New(p.name + ": did not say " + text + " in " + d.String())
		}
	}
}

func tail(s string, n int) string {
	s = strings.ReplaceAll(s, "\r", "\n")
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// need fails the test where a program is missing.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is not installed: run e2e/peers.sh install", program)
	}
	return path
}

var lastHost atomic.Uint32

// newHost returns a loopback address that no other peer of this run has; runs side by side differ too.
func newHost() netip.Addr {
	n := lastHost.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(1 + os.Getpid()%250), byte(60 + n/250), byte(1 + n%250)})
}

// freePort returns a port that is free for UDP and TCP at this moment.
func freePort(t *testing.T, host netip.Addr) netip.AddrPort {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", netip.AddrPortFrom(host, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		pc, err := net.ListenPacket("udp", addr.String())
		l.Close()
		if err == nil {
			pc.Close()
			return addr
		}
	}
	t.Fatalf("no free port on %s", host)
	return netip.AddrPort{}
}

// listening returns when a program accepts connections at its admin port.
func listening(t *testing.T, p *process, addr netip.AddrPort) {
	t.Helper()
	for limit := time.Now().Add(15 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if c, err := net.DialTimeout("tcp", addr.String(), time.Second); err == nil {
			c.Close()
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended: %s", p.name, p.output())
		default:
		}
	}
	t.Fatalf("%s does not listen on %s", p.name, addr)
}

// root is the top folder of the module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// build compiles one of our programs once per run of the tests.
type build struct {
	pkg, env string
	once     sync.Once
	path     string
	err      error
}

var (
	edgeProgram = &build{pkg: "./cmd/rtcedge", env: "RTCEDGE_BIN"}
	demoProgram = &build{pkg: "./bench/demo", env: "RTCEDGE_DEMO_BIN"}
)

func (b *build) binary(t *testing.T) string {
	t.Helper()
	b.once.Do(func() {
		if b.path = os.Getenv(b.env); b.path != "" {
			b.path, b.err = filepath.Abs(filepath.Join("..", b.path))
			if filepath.IsAbs(os.Getenv(b.env)) {
				b.path = os.Getenv(b.env)
			}
			return
		}
		var dir string
		if dir, b.err = os.MkdirTemp("", "rtcedge-e2e-"); b.err != nil {
			return
		}
		built = append(built, dir)
		b.path = filepath.Join(dir, filepath.Base(b.pkg))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", "nolibopusfile", "-o", b.path, b.pkg)
		cmd.Dir = root(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = errors.New("go build " + b.pkg + ": " + err.Error() + "\n" + string(out))
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// built are the folders that TestMain removes.
var built []string

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range built {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}
