//go:build e2e

package e2e

import (
	"embed"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed testdata/asterisk testdata/dialogs
var asteriskFiles embed.FS

// asterisk is a real Asterisk of the chroot, alone on its address.
type asterisk struct {
	SIP      netip.AddrPort
	RTPFirst int
	RTPLast  int
	Codecs   string // as allow= wants them

	ModuleDir string // inside the chroot; its name holds the machine's architecture

	script string
	dir    string // its files on the host; /mnt inside
	proc   *process
}

// startAsterisk runs an Asterisk that answers every number with Echo. It is ready when this returns.
func startAsterisk(t *testing.T, codecs string) *asterisk {
	t.Helper()
	a := newAsterisk(t, codecs)
	a.ModuleDir = a.find(t)
	a.configure(t, "testdata/asterisk")
	a.start(t)
	t.Logf("%s at %s", strings.TrimSpace(strings.SplitN(a.cli("core show version"), " built", 2)[0]), a.SIP)
	return a
}

// newAsterisk gives an Asterisk its address and its folders.
func newAsterisk(t *testing.T, codecs string) *asterisk {
	t.Helper()
	host := newHost()
	a := &asterisk{
		SIP: netip.AddrPortFrom(host, 5080), RTPFirst: 33000, RTPLast: 33999, Codecs: codecs,
		script: filepath.Join(root(t), "e2e", "peers.sh"), dir: t.TempDir(),
	}
	for _, d := range []string{"etc", "run", "log", "spool", "db", "lib"} {
		if err := os.Mkdir(filepath.Join(a.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// start runs it and returns when it is ready. env is put before its command.
func (a *asterisk) start(t *testing.T, env ...string) {
	t.Helper()
	argv := append([]string{a.script, "run", "--bind", a.dir, "env"}, env...)
	a.proc = launch(t, "asterisk", append(argv, "asterisk", "-f", "-q", "-C", "/mnt/etc/asterisk.conf")...)
	limit := time.Now().Add(15 * time.Second)
	for !strings.Contains(a.cli("core waitfullybooted"), "fully booted") {
		select {
		case <-a.proc.done:
			t.Fatalf("asterisk ended: %s", a.proc.output())
		default:
		}
		if time.Now().After(limit) {
			t.Fatal("asterisk is not ready after 15 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// find returns the folder of Asterisk's modules.
func (a *asterisk) find(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(a.script, "run", "sh", "-c", "ls -d /usr/lib/*/asterisk/modules").CombinedOutput()
	if err != nil {
		t.Fatalf("the chroot with Asterisk is missing: run e2e/peers.sh install (%v: %s)", err, out)
	}
	return strings.TrimSpace(string(out))
}

// configure writes every file of a folder of testdata, and an empty one for each that Asterisk only misses with an error.
func (a *asterisk) configure(t *testing.T, files string) {
	t.Helper()
	tmpl, err := template.ParseFS(asteriskFiles, files+"/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tmpl.Templates() {
		w, err := os.Create(filepath.Join(a.dir, "etc", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Execute(w, a); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range strings.Fields("cdr cel features acl udptl pjproject ccss manager") {
		if err := os.WriteFile(filepath.Join(a.dir, "etc", name+".conf"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// cli runs a command of Asterisk's console and returns what it prints.
func (a *asterisk) cli(command string) string {
	out, _ := exec.Command(a.script, "run", "--bind", a.dir, "asterisk", "-C", "/mnt/etc/asterisk.conf", "-rx", command).CombinedOutput()
	return string(out)
}

// log is what Asterisk wrote so far: with its SIP logger on, every message it sent and got.
func (a *asterisk) log(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(a.dir, "log", "messages"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
