package asterisk

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rtcedge/transcode/g711"
)

func good(roles ...string) Config {
	c := Config{Roles: roles, IP: netip.MustParseAddr("127.0.0.11"), Edges: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5069")},
		ARIPassword: "secret", Dir: "/srv/call1", ModuleDir: "/usr/lib/asterisk/modules"}
	if c.Is(RoleRegistrar) {
		c.Accounts = []Account{{"1001", "0123456789abcdef0123456789abcdef"}}
	}
	return c
}

func node(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func files(t *testing.T, c Config) map[string][]byte {
	t.Helper()
	f, err := node(t, c).Files()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestErrorsSayWhatIsAllowed(t *testing.T) {
	for what, spoil := range map[string]func(*Config){
		"role: none":          func(c *Config) { c.Roles = nil },
		"role: \"sbc\"":       func(c *Config) { c.Roles = []string{"sbc"} },
		"role: call stands":   func(c *Config) { c.Roles = []string{"call", "call"} },
		"registrar beside":    func(c *Config) { c.Roles = []string{"call", "registrar"} },
		"ip:":                 func(c *Config) { c.IP = netip.IPv4Unspecified() },
		"edge:":               func(c *Config) { c.Edges = nil },
		"less than 4 ports":   func(c *Config) { c.PortMin, c.PortMax = 5000, 5001 },
		"name:":               func(c *Config) { c.Name = "a]b" },
		"ari-password:":       func(c *Config) { c.ARIPassword = "a;b" },
		"accounts, database":  func(c *Config) { c.Database = "postgres://u@h/d" },
		"dir:":                func(c *Config) { c.Dir = "relative" },
		"control socket":      func(c *Config) { c.Dir = "/" + strings.Repeat("x", 100) },
		"ari-connect:":        func(c *Config) { c.Outbound = "http://x" },
		"accounts: none":      func(c *Config) { c.Roles = []string{"registrar"} },
		"accounts: user":      func(c *Config) { *c = good("registrar"); c.Accounts[0].User = "a b" },
		"database: not of":    func(c *Config) { *c = good("registrar"); c.Database = "mysql://u@h/d" },
		"database: user, pas": func(c *Config) { *c = good("registrar"); c.Database = "postgres://u:a%3Bb@h/d" },
		"qualify:":            func(c *Config) { *c = good("registrar"); c.Qualify = -1 },
	} {
		c := good("call")
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestNodeTellsAboutItself(t *testing.T) {
	c := good("call", "conference")
	c.Name = "call1"
	f := files(t, c)
	for name, want := range map[string][]string{
		"asterisk.conf":   {"[directories]\n", "systemname = call1\n", "astetcdir => /srv/call1\n"},
		"extensions.conf": {"RTCEDGE_NODE=call1\n", "RTCEDGE_ROLES=call,conference\n", "RTCEDGE_SIP=udp:127.0.0.11:5080\n", "RTCEDGE_EDGE=127.0.0.1:5069\n", "Stasis(rtcedge,in,${EXTEN})"},
		"pjsip.conf":      {"outbound_proxy=sip:127.0.0.1:5069\\;lr\n", "match=127.0.0.1\n", "bind_rtp_to_media_address=yes\n", "allow=ulaw\n"},
		"hep.conf":        {"enabled=no\n"},
	} {
		for _, w := range want {
			if !strings.Contains(string(f[name]), w) {
				t.Errorf("%s lacks %q:\n%s", name, w, f[name])
			}
		}
	}
	for name, text := range f {
		if strings.HasSuffix(name, ".conf") && (strings.Contains(string(text), "{{") || strings.Contains(string(text), "<no value>")) {
			t.Errorf("%s is not rendered", name)
		}
	}
}

// TestRegistrarHasNoIdentify: with one, every REGISTER would be the edge's own and no digest would be asked for.
// TestCallNodeKnowsTheSentinel: recovery's OPTIONS find an endpoint without rights, and nobody is the edge by the name in a From.
func TestCallNodeKnowsTheSentinel(t *testing.T) {
	f := files(t, good("call"))
	if p := string(f["pjsip.conf"]); !strings.Contains(p, "[sentinel]\ntype=endpoint\ntransport=udp\ncontext=nobody\n") || !strings.Contains(p, "[edge]\ntype=endpoint\nidentify_by=ip\n") {
		t.Errorf("pjsip.conf:\n%s", p)
	}
}

func TestRegistrarHasNoIdentify(t *testing.T) {
	c := good("registrar")
	f := files(t, c)
	if p := string(f["pjsip.conf"]); strings.Contains(p, "type=identify") || !strings.Contains(p, "md5_cred=0123") || !strings.Contains(p, "support_path=yes") {
		t.Errorf("pjsip.conf:\n%s", p)
	}
	if _, there := f["ps_contacts.sql"]; there {
		t.Error("a table without a database")
	}
	c.Database = "postgres://ast:pw@10.0.0.5/calls"
	f = files(t, c)
	for name, want := range map[string]string{"sorcery.conf": "contact=realtime,ps_contacts", "extconfig.conf": "pgsql,calls,ps_contacts",
		"res_pgsql.conf": "dbport=5432\ndbname=calls\ndbuser=ast\ndbpass=pw\n", "modules.conf": "preload=res_config_pgsql.so", "ps_contacts.sql": "ps_contacts"} {
		if !strings.Contains(string(f[name]), want) {
			t.Errorf("%s lacks %q:\n%s", name, want, f[name])
		}
	}
	c.Trust = true
	if p := string(files(t, c)["pjsip.conf"]); strings.Contains(p, "md5_cred") || !strings.Contains(p, "permit=127.0.0.1\n") {
		t.Errorf("an edge that is trusted:\n%s", p)
	}
}

func TestWriteKeepsWhatIsNotItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "call1")
	n := node(t, good("call"))
	for range 2 { // its own files it may write again
		if _, err := n.Write(dir, false); err != nil {
			t.Fatal(err)
		}
	}
	c := good("call")
	c.ARIPort = 9099
	if _, err := node(t, c).Write(dir, false); err != nil {
		t.Fatalf("its own files, other content: %v", err)
	}
	mine := filepath.Join(dir, "pjsip.conf")
	if err := os.WriteFile(mine, []byte("[mine]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Write(dir, false); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "pjsip.conf") {
		t.Fatalf("a changed file: %v", err)
	}
	if http, _ := os.ReadFile(filepath.Join(dir, "http.conf")); !strings.Contains(string(http), "9099") {
		t.Error("something was written before the refusal")
	}
	over, err := n.Write(dir, true)
	if err != nil || len(over) != 1 || over[0] != "pjsip.conf" {
		t.Errorf("force: %v, %v", over, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "data", "documentation")); err != nil || target != "/usr/share/asterisk/documentation" {
		t.Errorf("documentation: %q, %v", target, err)
	}
}

// TestSoundsAreFiniteAndHeard: each ends, none is silent but the silences, and the digits' pairs are those of Q.23.
func TestSoundsAreFiniteAndHeard(t *testing.T) {
	f := files(t, good("call"))
	for name, b := range f {
		if !strings.HasSuffix(name, ".ulaw") {
			continue
		}
		pcm := make([]int16, len(b))
		g711.DecodeULaw(pcm, b)
		sum := 0.0
		for _, s := range pcm {
			sum += float64(s) * float64(s)
		}
		rms := math.Sqrt(sum / float64(len(pcm)))
		if silent := strings.Contains(name, "silence/"); silent != (rms < 10) || len(b) > 10*rate {
			t.Errorf("%s: %d samples, rms %.0f", name, len(b), rms)
		}
	}
	b := f["data/sounds/rtcedge/tone-9.ulaw"]
	pcm := make([]int16, len(b))
	g711.DecodeULaw(pcm, b)
	for freq, want := range map[float64]bool{852: true, 1477: true, 697: false, 1209: false, 941: false} {
		re, im := 0.0, 0.0
		for i := range 1200 {
			turn := 2 * math.Pi * freq * float64(i) / rate
			re, im = re+float64(pcm[i])*math.Cos(turn), im+float64(pcm[i])*math.Sin(turn)
		}
		if amplitude := 2 * math.Hypot(re, im) / 1200; (amplitude > 2000) != want {
			t.Errorf("digit 9 at %.0f Hz: amplitude %.0f, want a tone: %v", freq, amplitude, want)
		}
	}
}
