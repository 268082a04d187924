package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account is one user that may register.
type account struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// upState is the file that a running `rtcedge up` leaves for us.
type upState struct {
	PID      int       `json:"pid"`
	SIP      string    `json:"sip"`
	Admin    string    `json:"admin"`
	Opus     *bool     `json:"opus"` // nil: it does not say
	Accounts []account `json:"accounts"`
}

// edge is what the phones call through.
type edge struct {
	sip      netip.AddrPort
	admins   []string // none: the farm's codec cannot be told
	accounts []account
	opus     bool // the edge transcodes Opus
	own      *ownEdge
}

// close ends an edge that the demo started.
func (e *edge) close() error {
	if e.own == nil {
		return nil
	}
	return e.own.stop()
}

func defaultStateFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "rtcedge", "up.json")
}

// findEdge takes the edge that the options name, else the one that runs, else it starts one.
func findEdge(ctx context.Context, o options, out io.Writer) (*edge, error) {
	if o.edge != "" {
		return namedEdge(o)
	}
	if st, err := readState(o.state); err == nil && alive(st.PID) {
		fmt.Fprintf(out, "edge: the running `rtcedge up` (process %d) at %s\n\n", st.PID, st.SIP)
		return st.edge()
	}
	own, st, err := startEdge(ctx, o.program)
	if err != nil {
		return nil, err
	}
	e, err := st.edge()
	if err != nil {
		return nil, errors.Join(err, own.stop())
	}
	e.own = own
	fmt.Fprintf(out, "edge: started %s (process %d) at %s\n\n", o.program, st.PID, st.SIP)
	return e, nil
}

func namedEdge(o options) (*edge, error) {
	addr, err := netip.ParseAddrPort(o.edge)
	if err != nil {
		return nil, fmt.Errorf("--edge: %w", err)
	}
	e := &edge{sip: addr, opus: true}
	if o.admin != "" {
		e.admins = strings.Split(o.admin, ",")
	}
	if o.user != "" {
		e.accounts = append(e.accounts, account{User: o.user, Password: o.password})
	}
	for _, s := range o.accounts {
		a, err := splitAccount(s)
		if err != nil {
			return nil, err
		}
		e.accounts = append(e.accounts, a)
	}
	if len(e.accounts) == 0 {
		return nil, errors.New("--edge needs an account: --user and --password, or --account USER:PASSWORD")
	}
	return e, nil
}

func readState(path string) (upState, error) {
	var st upState
	data, err := os.ReadFile(path)
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("state file %s: %w", path, err)
	}
	return st, nil
}

// alive reports whether a process exists. One that belongs to another user does, too.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func (st upState) edge() (*edge, error) {
	addr, err := netip.ParseAddrPort(st.SIP)
	if err != nil {
		return nil, fmt.Errorf("state file: sip: %w", err)
	}
	if len(st.Accounts) == 0 {
		return nil, errors.New("state file: no accounts")
	}
	e := &edge{sip: addr, accounts: st.Accounts, opus: st.Opus == nil || *st.Opus}
	if st.Admin != "" {
		e.admins = []string{st.Admin}
	}
	return e, nil
}

// ownEdge is an `rtcedge up` of our own.
type ownEdge struct {
	cmd  *exec.Cmd
	done chan error
	dir  string
	out  *bytes.Buffer // read after done only
}

// Media ports of an edge that the demo starts, away from the defaults of one that runs and from those of the phones.
const (
	edgePorts, edgePortsEnd = 16000, 17999
	farmPorts, farmPortsEnd = 18000, 19999
)

// startEdge runs `up` on free ports and returns when it is ready.
func startEdge(ctx context.Context, program string) (*ownEdge, upState, error) {
	if _, err := os.Stat(program); err != nil {
		return nil, upState{}, fmt.Errorf("no edge runs, and %s is not there: run `make build`, or `make run` in another terminal", program)
	}
	dir, err := os.MkdirTemp("", "rtcedge-demo-")
	if err != nil {
		return nil, upState{}, err
	}
	state := filepath.Join(dir, "up.json")
	args := []string{"up", "--listen-ip", "127.0.0.1", "--state-file", state, "--drain-notice", "0s", "--drain-limit", "2s",
		"--port-min", strconv.Itoa(edgePorts), "--port-max", strconv.Itoa(edgePortsEnd),
		"--farm-port-min", strconv.Itoa(farmPorts), "--farm-port-max", strconv.Itoa(farmPortsEnd),
		"--admin", "127.0.0.1:0", "--listen-ng", "127.0.0.1:0", "--api", "127.0.0.1:0"}
	for _, name := range []string{"--sip-port", "--tls-port", "--ws-port", "--wss-port", "--farm-port", "--internal-port"} {
		args = append(args, name, "0")
	}
	o := &ownEdge{cmd: exec.Command(program, args...), done: make(chan error, 1), dir: dir, out: new(bytes.Buffer)}
	o.cmd.Stdout, o.cmd.Stderr = o.out, o.out
	o.cmd.WaitDelay = time.Second
	// Ctrl-C reaches the demo, which then ends its edge in order.
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := o.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, upState{}, fmt.Errorf("start %s: %w", program, err)
	}
	go func() { o.done <- o.cmd.Wait() }()
	st, err := o.ready(ctx, state)
	if err != nil {
		return nil, upState{}, err
	}
	return o, st, nil
}

// ready waits for the state file and for /readyz.
func (o *ownEdge) ready(ctx context.Context, state string) (upState, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, err := readState(state); err == nil && isReady(ctx, st.Admin) {
			return st, nil
		}
		select {
		case err := <-o.done:
			os.RemoveAll(o.dir)
			return upState{}, errors.Join(fmt.Errorf("%s ended at once:\n%s", o.cmd.Path, o.out), err)
		case <-ctx.Done():
			return upState{}, errors.Join(errors.New("the edge was not ready in 15 s"), o.stop())
		case <-tick.C:
		}
	}
}

func isReady(ctx context.Context, admin string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stop ends the edge with SIGTERM, as an operator does, and expects exit code 0.
func (o *ownEdge) stop() error {
	defer os.RemoveAll(o.dir)
	_ = o.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-o.done:
		if err != nil {
			return fmt.Errorf("the edge did not end with exit code 0: %w\n%s", err, o.out)
		}
		return nil
	case <-time.After(15 * time.Second):
		_ = o.cmd.Process.Kill()
		<-o.done
		return errors.New("the edge did not end within 15 s of SIGTERM")
	}
}
