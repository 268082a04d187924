package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is a buffer that a role writes to while the test reads.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func noEnv(string) string { return "" }

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// freeUp is `up` on ports of its own.
func freeUp(t *testing.T, more ...string) (args []string, state string) {
	state = filepath.Join(t.TempDir(), "up.json")
	// Steering takes a port's packets from whoever has it, other tests of this machine included (bridge/farm's are on 20000 to 29999, phones between
	// 32768 and 60999), so the range is where nobody else is, and another one in each process.
	low := 61000 + 400*(os.Getpid()%7)
	args = []string{"up", "--state-file", state, "--admin", "127.0.0.1:0", "--listen-ng", "127.0.0.1:0", "--api", "127.0.0.1:0", "--port-min", strconv.Itoa(low), "--port-max", strconv.Itoa(low + 399),
		"--farm-port-min", "10000", "--farm-port-max", "11999"}
	for _, p := range []string{"sip", "tls", "ws", "wss", "farm", "internal"} {
		args = append(args, "--"+p+"-port", "0")
	}
	return append(args, more...), state
}

// start runs a role until the test ends and wants exit code 0 then.
func start(t *testing.T, args ...string) *output {
	t.Helper()
	out := new(output)
	startInto(t, out, args...)
	return out
}

// startUntil runs one that may be ended earlier.
func startUntil(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	return startInto(t, new(output), args...)
}

func startInto(t *testing.T, out *output, args ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, out, out, noEnv) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case c := <-code:
				if c != exitOK {
					t.Errorf("%s ended with %d:\n%s", args[0], c, out)
				}
			case <-time.After(15 * time.Second):
				t.Fatalf("%s did not end within 15 s of the signal:\n%s", args[0], out)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func readState(t *testing.T, path string, out *output) upState {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var s upState
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &s) == nil {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("no state file after 10 s:\n%s", out)
		}
	}
}

func waitReady(t *testing.T, admin string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("not ready after 10 s: %v", err)
		}
	}
}

// TestBadInputEndsWithOneLine: each ends with exit code 2 and a line that names what, where and what is allowed.
func TestBadInputEndsWithOneLine(t *testing.T) {
	busy, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.LocalAddr().String()
	_, takenPort, _ := strings.Cut(taken, ":")
	up := func(more ...string) []string {
		args, _ := freeUp(t, more...)
		return args
	}
	sipArgs := func(more ...string) []string {
		return append([]string{"sip", "--listen", "udp:127.0.0.1:0", "--farm", "call=udp:127.0.0.1:9", "--media", "none"}, more...)
	}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"unknown key", []string{"sip", "--config", writeFile(t, "sip.yaml", "farm: call=udp:127.0.0.1:9\nlisen: udp:127.0.0.1:5060\n")},
			[]string{"sip.yaml:2: lisen: unknown key", `did you mean "listen"`, "allowed: listen"}},
		{"bad value in a file", []string{"media", "--config", writeFile(t, "media.yaml", "port-min: low\n")}, []string{"media.yaml:1: port-min", `"low"`, "allowed: 1024 to 65535"}},
		{"no such file", []string{"up", "--config", "no/such.yaml"}, []string{"no/such.yaml", "allowed: a readable YAML file"}},
		{"SIP port in use", up("--sip-port", takenPort), []string{"udp:" + taken, "address already in use"}},
		{"NG port in use", up("--listen-ng", taken), []string{taken, "address already in use"}},
		{"farm port in use", up("--farm-port", takenPort), []string{"farm: listen udp:" + taken, "address already in use"}},
		{"port range too small", up("--port-min", "42000", "--port-max", "42002"), []string{"port-min", "42000", "42002", "allowed: at least 4 ports"}},
		{"port ranges that overlap", up("--port-min", "20000", "--port-max", "29999", "--farm-port-min", "25000", "--farm-port-max", "26999"), []string{"farm-port-min", "20000-29999", "allowed: ranges apart"}},
		{"port range upside down", []string{"media", "--port-min", "40000", "--port-max", "30000"}, []string{"port-min", "40000", "30000", "allowed:"}},
		{"address of nobody here", up("--listen-ip", "192.0.2.77"), []string{"192.0.2.77"}},
		{"address that is none", up("--listen-ip", "300.1.2.3"), []string{"--listen-ip", `"300.1.2.3"`, "allowed: an IPv4 or IPv6 address"}},
		{"every address", up("--listen-ip", "0.0.0.0"), []string{"--listen-ip", "0.0.0.0", "allowed: one address"}},
		{"unreadable accounts", up("--auth", "no/accounts"), []string{"--auth", "no/accounts", "allowed: lines of user:realm:hash"}},
		{"bad accounts", up("--auth", writeFile(t, "accounts", "alice\n")), []string{"--auth", "accounts", "line 1"}},
		{"unreadable certificate", sipArgs("--listen", "tls:127.0.0.1:0", "--tls-cert", "no.pem", "--tls-key", "no.key"), []string{"no.pem"}},
		{"certificate without key", sipArgs("--listen", "tls:127.0.0.1:0", "--tls-cert", "no.pem"), []string{"--tls-cert and --tls-key", "allowed: both"}},
		{"asterisk without a folder", []string{"asterisk-config", "--role", "call"}, []string{"asterisk-config: --out", "allowed: a folder"}},
		{"asterisk of no role", []string{"asterisk-config", "--role", "sbc", "--out", "x"}, []string{"--role", `unknown role "sbc"`, "allowed: call, conference, registrar"}},
		{"registrar's accounts", []string{"asterisk-config", "--role", "registrar", "--out", "x", "--accounts", "no/accounts"}, []string{"--accounts", "no/accounts"}},
		{"certificates and keys do not pair", sipArgs("--listen", "tls:127.0.0.1:0", "--tls-cert", "a.pem", "--tls-cert", "b.pem", "--tls-key", "a.key"), []string{"2 certificates and 1 keys", "allowed: both, in pairs"}},
		{"certificate of a trunk without authorities", sipArgs("--trunk", "cert=carrier.example"), []string{"carrier.example", "authorities"}},
		{"trunk of nobody", sipArgs("--trunk", "digest"), []string{"--trunk", "allowed: CIDR", "cert=NAME"}},
		{"accounts of an unknown scheme", sipArgs("--auth", "ldap://x/y"), []string{"--auth", `"ldap"`, "allowed: a file, http://"}},
		{"accounts of a URL where none can wait", up("--auth", "https://x/y"), []string{"--auth", "allowed here: a file"}},
		{"bad farm", []string{"sip", "--farm", "calls=udp:127.0.0.1:1"}, []string{"--farm", `unknown farm "calls"`, "allowed: call|conference|registrar"}},
		{"no farm", []string{"sip"}, []string{"--farm", "allowed: at least call="}},
		{"bad media", []string{"sip", "--farm", "call=udp:127.0.0.1:1", "--media", "ng:here"}, []string{"--media", "allowed: ng:IP:PORT"}},
		{"bad secret", sipArgs("--secret", writeFile(t, "secret", "1234")), []string{"--secret", "allowed: 64 hex digits"}},
		{"bad transport", []string{"sip", "--listen", "sctp:127.0.0.1:5060"}, []string{"--listen", `"sctp:127.0.0.1:5060"`, "allowed: udp|tcp|tls|ws|wss:IP:PORT"}},
		{"rule without farm", sipArgs("--rule", "domain=pstn.*"), []string{"--rule", "no farm=NAME", "allowed: farm=call|conference|registrar"}},
		{"rule with a bad pattern", sipArgs("--rule", "farm=call,user=~("), []string{"rule 1", "user"}},
		{"bad trunk", sipArgs("--trunk", "192.0.2.0/40"), []string{"--trunk", "192.0.2.0/40", "allowed: CIDR"}},
		{"node that is no listener", sipArgs("--node", "tcp:127.0.0.1:1"), []string{"--node", "allowed: udp:IP:PORT"}},
		{"no directory for recordings", []string{"media", "--listen-ng", "127.0.0.1:0", "--recording-dir", "no/such/dir"}, []string{"no/such/dir"}},
		{"no kernel path", []string{"media", "--xdp", "eth0"}, []string{"--xdp", "eth0", "allowed: auto, off"}},
		{"bad interface", []string{"media", "--interface", "pub/somewhere"}, []string{"--interface", "allowed: NAME/IP"}},
		{"bad role of the farm", []string{"farm", "--roles", "call,queue"}, []string{"--roles", "allowed: call, conference, registrar"}},
		{"unknown command", []string{"proxy"}, []string{`unknown command "proxy"`, "allowed: up sip media farm"}},
		{"admin port in use", []string{"farm", "--listen", "udp:127.0.0.1:0", "--admin", takenTCP(t)}, []string{"admin: listen on", "allowed: a free IP:PORT"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errOut output
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if code := run(ctx, tt.args, &out, &errOut, noEnv); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			text := strings.TrimSuffix(errOut.String(), "\n")
			for _, w := range tt.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q does not contain %q", text, w)
				}
			}
			if strings.Contains(text, "\n") {
				t.Errorf("more than one line: %q", text)
			}
		})
	}
}

func takenTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// TestUpServesAndEnds starts everything, asks the admin port, and ends with exit code 0, with no state file left.
func TestUpServesAndEnds(t *testing.T) {
	args, state := freeUp(t)
	var s upState
	t.Run("up", func(t *testing.T) {
		out := start(t, args...)
		s = readState(t, state, out)
		if len(s.Accounts) != 9 || s.Accounts[0].User != "1001" || len(s.Accounts[0].Password) < 8 {
			t.Errorf("accounts %+v", s.Accounts)
		}
		if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("state file: %v %v, want mode 0600", info, err)
		}
		text := out.String()
		for _, w := range []string{"udp:" + s.SIP, "600", "601", "7000-7999", "1001 " + s.Accounts[0].Password, "make demo", s.Admin} {
			if !strings.Contains(text, w) {
				t.Errorf("the greeting lacks %q:\n%s", w, text)
			}
		}
		waitReady(t, s.Admin)
		var status, calls output
		if code := run(t.Context(), []string{"status", "--admin", s.Admin}, &status, &status, noEnv); code != 0 {
			t.Errorf("status ended with %d: %s", code, status.String())
		}
		if !regexp.MustCompile(`up .*ready true`).MatchString(status.String()) || !strings.Contains(status.String(), "udp:"+s.SIP) {
			t.Errorf("status:\n%s", status.String())
		}
		if code := run(t.Context(), []string{"calls", "--admin", s.Admin}, &calls, &calls, noEnv); code != 0 || !strings.Contains(calls.String(), "CALL-ID") {
			t.Errorf("calls ended with %d: %s", code, calls.String())
		}
	})
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("the state file is still there: %v", err)
	}
	var status output
	if code := run(t.Context(), []string{"status", "--admin", s.Admin}, &status, &status, noEnv); code != exitError || !strings.Contains(status.String(), "allowed: --admin") {
		t.Errorf("status of nobody ended with %d: %s", code, status.String())
	}
}

// TestB10DrainCommand: `rtcedge drain` ends an idle process with exit code 0.
func TestB10DrainCommand(t *testing.T) {
	args, state := freeUp(t)
	out := new(output)
	code := make(chan int, 1)
	go func() { code <- run(context.Background(), args, out, out, noEnv) }()
	s := readState(t, state, out)
	var drain output
	if c := run(t.Context(), []string{"drain", "--admin", s.Admin}, &drain, &drain, noEnv); c != 0 {
		t.Fatalf("drain ended with %d: %s", c, drain.String())
	}
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("up ended with %d", c)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("up did not end after the drain")
	}
}

func TestCheck(t *testing.T) {
	good := writeFile(t, "edge.yaml", "listen: [udp:127.0.0.1:5060]\nfarm:\n  call: udp:127.0.0.1:5070\nmedia: none\n")
	bad := writeFile(t, "bad.yaml", "role: media\nport-min: 7\n")
	var out output
	if code := run(t.Context(), []string{"check", "--config", good}, &out, &out, noEnv); code != 0 || !strings.Contains(out.String(), "role sip") {
		t.Errorf("check of a good file ended with %d: %s", code, out.String())
	}
	out = output{}
	if code := run(t.Context(), []string{"check", "--config=" + bad}, &out, &out, noEnv); code != 2 || !strings.Contains(out.String(), "bad.yaml:2: port-min") {
		t.Errorf("check of a bad file ended with %d: %s", code, out.String())
	}
}

func TestHelpOfEveryRole(t *testing.T) {
	for role, knobs := range map[string][]string{
		"up":    {"--listen-ip", "--admin", "--port-min", "--farm-port", "--api", "--flows"},
		"sip":   {"--listen", "--advertise", "--farm", "--media", "--internal", "--workers", "--auth", "--admin"},
		"media": {"--listen-ng", "--listen-tcp-ng", "--listen-http", "--interface", "--port-min", "--port-max", "--num-threads", "--timeout", "--silent-timeout", "--delete-delay", "--tos", "--recording-dir", "--log-level", "--xdp", "--admin"},
		"farm":  {"--listen", "--roles", "--ari", "--admin"},
	} {
		var out output
		if code := run(t.Context(), []string{role, "--help"}, &out, &out, noEnv); code != 0 {
			t.Errorf("%s --help ended with %d", role, code)
		}
		for _, k := range knobs {
			if !strings.Contains(out.String(), "\n  "+k+" ") {
				t.Errorf("%s --help lacks %s", role, k)
			}
		}
	}
}
