package farms

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program of the system. What it prints lies in a file.
type Process struct {
	Name string
	Log  string // path

	argv []string
	cmd  *exec.Cmd
	done chan struct{}
}

func start(dir, name string, argv ...string) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log"), argv: argv}
	return p, p.start()
}

func (p *Process) start() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd, p.done = exec.Command(p.argv[0], p.argv[1:]...), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// Of a group of its own, so that Ctrl-C at a terminal reaches the starter alone, which ends the parts in order; and not
	// longer than the starter, however that ends.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(p.cmd, p.done)
	return nil
}

// PID is the process id: peers.sh and chroot replace themselves, so it is Asterisk's own.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends any signal: SIGKILL, SIGSTOP, SIGCONT.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill is SIGKILL; it returns when the process is gone.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop is SIGTERM, and SIGKILL for what stays.
func (p *Process) Stop() {
	_ = p.Signal(syscall.SIGCONT) // one that a test has stopped cannot end
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.Kill()
	}
}

// Output is what it printed, or the end of it.
func (p *Process) Output() string {
	b, _ := os.ReadFile(p.Log)
	if len(b) > 6000 {
		b = append([]byte("..."), b[len(b)-6000:]...)
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}

// until asks for something until it is there. The end of the process is an error.
func (p *Process) until(what string, limit time.Duration, ready func() bool) error {
	for end := time.Now().Add(limit); ; {
		if ready() {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before %s:\n%s", p.Name, what, strings.TrimSpace(p.Output()))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: no %s after %s:\n%s", p.Name, what, limit, strings.TrimSpace(p.Output()))
		}
	}
}

// Hang is SIGSTOP.
func (p *Process) Hang() error { return p.Signal(syscall.SIGSTOP) }
