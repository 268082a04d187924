package config

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type knobs struct {
	listen  []string
	admin   netip.AddrPort
	ip      netip.Addr
	timeout time.Duration
	workers int
	level   string
	quiet   bool
	auth    string
}

func newSet(k *knobs, env map[string]string) *Set {
	s := New("sip", func(name string) string { return env[name] })
	s.List(&k.listen, "listen", []string{"udp:127.0.0.1:5060"}, "PROTO:IP:PORT", "listener", "udp:IP:PORT", func(t string) error {
		if !strings.HasPrefix(t, "udp:") {
			return errors.New("unknown transport")
		}
		return nil
	})
	s.Addr(&k.admin, "admin", netip.MustParseAddrPort("127.0.0.1:8080"), "admin port")
	s.IP(&k.ip, "advertise", netip.Addr{}, "public address")
	s.Duration(&k.timeout, "timeout", time.Minute, time.Second, "media timeout")
	s.Int(&k.workers, "workers", 2, 1, 64, "N", "workers")
	s.Enum(&k.level, "log-level", "info", "log level", "debug", "info", "warn", "error")
	s.Bool(&k.quiet, "quiet", false, "print less")
	s.String(&k.auth, "auth", "", "FILE", "accounts")
	return s
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedenceFlagEnvironmentFileDefault(t *testing.T) {
	path := write(t, "# edge\nrole: sip\nlisten:\n  - udp:127.0.0.1:1\n  - udp:127.0.0.1:2\ntimeout: 30\nworkers: 3\nlog-level: warn\n")
	var k knobs
	s := newSet(&k, map[string]string{"RTCEDGE_WORKERS": "4", "RTCEDGE_LOG_LEVEL": "debug"})
	if err := s.Parse([]string{"--config", path, "--log-level=error", "--quiet", "--admin", "[::1]:9"}, nil); err != nil {
		t.Fatal(err)
	}
	want := knobs{listen: []string{"udp:127.0.0.1:1", "udp:127.0.0.1:2"}, admin: netip.MustParseAddrPort("[::1]:9"),
		timeout: 30 * time.Second, workers: 4, level: "error", quiet: true}
	eq := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	eqp := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if d := cmp.Diff(want, k, cmp.AllowUnexported(knobs{}), eq, eqp); d != "" {
		t.Errorf("values (-want +got):\n%s", d)
	}
}

func TestFlagReplacesTheListOfTheFile(t *testing.T) {
	path := write(t, "listen: [udp:127.0.0.1:1, udp:127.0.0.1:2]\n")
	var k knobs
	s := newSet(&k, map[string]string{"RTCEDGE_LISTEN": "udp:127.0.0.1:3 udp:127.0.0.1:4"})
	if err := s.Parse([]string{"--config=" + path}, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"udp:127.0.0.1:3", "udp:127.0.0.1:4"}, k.listen); d != "" {
		t.Error(d)
	}
	if err := s.Parse([]string{"--config=" + path, "--listen", "udp:127.0.0.1:5"}, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"udp:127.0.0.1:5"}, k.listen); d != "" {
		t.Error(d)
	}
}

// Each error names where the value stood, which knob it is and what is allowed.
func TestErrorsNameWhereWhatAndWhatIsAllowed(t *testing.T) {
	file := func(text string) func(*testing.T) []string {
		return func(t *testing.T) []string { return []string{"--config", write(t, text)} }
	}
	args := func(a ...string) func(*testing.T) []string { return func(*testing.T) []string { return a } }
	tests := []struct {
		name string
		args func(*testing.T) []string
		env  map[string]string
		want []string
	}{
		{"unknown key", file("listen: [udp:1]\ntimeuot: 5\n"), nil, []string{"edge.yaml:2: timeuot: unknown key", `did you mean "timeout"`, "allowed: listen, admin"}},
		{"bad value in file", file("\n\ntimeout: soon\n"), nil, []string{"edge.yaml:3: timeout", `"soon"`, "allowed: seconds like 60"}},
		{"key twice", file("timeout: 5\ntimeout: 6\n"), nil, []string{"edge.yaml:2: timeout: stands already in line 1"}},
		{"other role", file("role: media\n"), nil, []string{"edge.yaml:1: role", "allowed: sip"}},
		{"no mapping", file("- a\n"), nil, []string{"edge.yaml:1: not a mapping"}},
		{"broken yaml", file("a: [\n"), nil, []string{"edge.yaml: ", "allowed: YAML"}},
		{"nested list", file("listen: [[a]]\n"), nil, []string{"edge.yaml:1: listen", "allowed: a list of plain values"}},
		{"no file", args("--config", "does-not-exist.yaml"), nil, []string{"does-not-exist.yaml", "allowed: a readable YAML file"}},
		{"environment", args(), map[string]string{"RTCEDGE_WORKERS": "many"}, []string{"RTCEDGE_WORKERS", `"many"`, "allowed: 1 to 64"}},
		{"flag range", args("--workers", "65"), nil, []string{"sip: --workers", `"65": out of range`, "allowed: 1 to 64"}},
		{"flag word", args("--log-level", "loud"), nil, []string{"--log-level", "allowed: debug, info, warn, error"}},
		{"flag address", args("--admin", "localhost"), nil, []string{"--admin", "allowed: IP:PORT"}},
		{"flag ip", args("--advertise", "300.1.1.1"), nil, []string{"--advertise", "allowed: an IPv4 or IPv6 address"}},
		{"list item", args("--listen", "sctp:1"), nil, []string{"--listen", `"sctp:1"`, "allowed: udp:IP:PORT"}},
		{"bool", args("--quiet=perhaps"), nil, []string{"--quiet", "allowed: true, false"}},
		{"too short", args("--timeout", "10ms"), nil, []string{"--timeout", "at least 1s"}},
		{"unknown flag", args("--nope"), nil, []string{"--nope", "allowed: the flags of `rtcedge sip --help`"}},
		{"argument", args("extra"), nil, []string{`"extra"`, "allowed: flags only"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var k knobs
			err := newSet(&k, tt.env).Parse(tt.args(t), nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not contain %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

func TestHelpListsEveryKnobWithUnitAndDefault(t *testing.T) {
	var k knobs
	var out bytes.Buffer
	if err := newSet(&k, nil).Parse([]string{"--help"}, &out); !errors.Is(err, ErrHelp) {
		t.Fatalf("error %v, want ErrHelp", err)
	}
	for _, w := range []string{"--listen PROTO:IP:PORT (repeatable)", "default udp:127.0.0.1:5060", "--timeout SECONDS|DURATION", "default 1m0s",
		"--log-level debug|info|warn|error", "--config FILE"} {
		if !strings.Contains(out.String(), w) {
			t.Errorf("help lacks %q:\n%s", w, out.String())
		}
	}
}

func TestMappingIsNameEqualsValue(t *testing.T) {
	path := write(t, "role: sip\nfarm:\n  call: [udp:127.0.0.1:1, udp:127.0.0.1:2]\n  registrar: udp:127.0.0.1:3\n")
	var farms []string
	s := New("sip", func(string) string { return "" })
	s.List(&farms, "farm", nil, "NAME=NODE,...", "farms", "any", func(string) error { return nil })
	if err := s.Parse([]string{"--config", path}, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"call=udp:127.0.0.1:1,udp:127.0.0.1:2", "registrar=udp:127.0.0.1:3"}, farms); d != "" {
		t.Error(d)
	}
	keys, role, err := Keys(path)
	if err != nil || role != "sip" || len(keys) != 1 || keys[0] != "farm" {
		t.Errorf("Keys: %v %q %v", keys, role, err)
	}
}
