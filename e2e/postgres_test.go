//go:build e2e

package e2e

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// postgres is a server of its own in a temporary folder, run by an unprivileged user; it is gone when the test ends.
type postgres struct {
	proc *process
	addr netip.AddrPort
	bin  string
}

const postgresPassword = "only-for-this-run"

// unprivileged puts a command under the account that Debian's package brings: PostgreSQL refuses root.
func unprivileged(command ...string) []string {
	if os.Getuid() != 0 {
		return command
	}
	return append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"}, command...)
}

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: run e2e/peers.sh install")
	}
	// Below /tmp, as a socket's path is short and another account must get there.
	dir, err := os.MkdirTemp("/tmp", "rtcedge-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if out, err := exec.Command("chown", "postgres:", dir).CombinedOutput(); os.Getuid() == 0 && err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := &postgres{bin: found[len(found)-1], addr: freePort(t, newHost())}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(postgresPassword), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	argv := unprivileged(filepath.Join(p.bin, "initdb"), "-D", data, "-U", "edge", "-A", "scram-sha-256", "--pwfile="+secret, "-N", "-E", "UTF8", "--no-locale")
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	argv = unprivileged(filepath.Join(p.bin, "postgres"), "-D", data, "-h", p.addr.Addr().String(), "-p", strconv.Itoa(int(p.addr.Port())), "-k", dir,
		"-c", "fsync=off", "-c", "max_connections=12")
	p.proc = launch(t, "postgres", argv...)
	if err := p.proc.says("ready to accept connections", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postgres) url() string {
	return fmt.Sprintf("postgres://edge:%s@%s/postgres?sslmode=disable", postgresPassword, p.addr)
}

func (p *postgres) do(t *testing.T, sql string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, "psql"), "-q", "-v", "ON_ERROR_STOP=1", p.url())
	cmd.Stdin = bytes.NewBufferString(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
}

// signal reaches the server and the processes of its connections.
func (p *postgres) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	pid := p.proc.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(strings.Fields(string(children)), strconv.Itoa(pid)) {
		if n, err := strconv.Atoi(text); err == nil {
			_ = syscall.Kill(n, sig)
		}
	}
}

func ha1(user, password string) string {
	return fmt.Sprintf("%x", md5.Sum([]byte(user+":rtcedge:"+password)))
}

// TestB08PostgreSQL: the edge takes HA1 from a real PostgreSQL, and no plain password. One that hangs stops neither other requests nor users who are
// known; and the time of a refusal does not tell who exists (F28).
func TestB08PostgreSQL(t *testing.T) {
	pg := startPostgres(t)
	pg.do(t, fmt.Sprintf(`CREATE TABLE subscriber (username text, domain text, ha1 text, ha1_sha256 text);
		INSERT INTO subscriber VALUES ('alice', 'rtcedge', '%s', NULL), ('plain', 'rtcedge', 'secret', NULL), ('empty', 'rtcedge', NULL, NULL), ('o''hara', 'rtcedge', '%s', NULL);
		INSERT INTO subscriber SELECT 'u' || n, 'rtcedge', md5('u' || n || ':rtcedge:secret'), NULL FROM generate_series(1, 400) n;`, ha1("alice", "secret"), ha1("o'hara", "secret")))
	farm := newFakeFarm(t)
	edge, admin := freePort(t, newHost()), freePort(t, netip.MustParseAddr("127.0.0.1"))
	proc := launch(t, "rtcedge sip", edgeProgram.binary(t), "sip", "--listen", "udp:"+edge.String(), "--farm", "call=udp:"+farm.addr.String(), "--media", "none",
		"--auth", pg.url(), "--auth-sql", "SELECT ha1, ha1_sha256 FROM subscriber WHERE username = $1 AND domain = $2", "--admin", admin.String(), "--drain-notice", "0s", "--drain-limit", "1s")
	listening(t, proc, admin)

	serial := 0
	// register gives the status of the second answer, "passed" if the farm got it, and how long that took.
	register := func(a *asker, name, password string) (string, time.Duration) {
		t.Helper()
		account := user{User: name, Password: password}
		serial++
		id := fmt.Sprint("pg", serial)
		first, _ := a.ask(request("REGISTER", "sip:rtcedge", name, id, a.addr), time.Second)
		auth := credentials(t, "Authorization", first, account, "REGISTER", "sip:rtcedge")
		start := time.Now()
		_, _ = a.WriteToUDPAddrPort([]byte(request("REGISTER", "sip:rtcedge", name, id+"b", a.addr, auth)), a.edge)
		_ = a.SetReadDeadline(start.Add(1500 * time.Millisecond))
		buf := make([]byte, 65536)
		for {
			n, err := a.Read(buf)
			if err != nil {
				for _, m := range farm.take() {
					if strings.Contains(m, "Call-ID: "+id+"b\r\n") {
						return "passed", 0
					}
				}
				return "silence", time.Since(start)
			}
			if s := string(buf[:n]); strings.Contains(s, id+"b") {
				return status(s), time.Since(start)
			}
		}
	}
	expect := func(what, user, password, want string) time.Duration {
		t.Helper()
		got, took := register(newAsker(t, edge), user, password)
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		return took
	}
	expect("a right password", "alice", "secret", "passed")
	expect("a quote in the name", "o'hara", "secret", "passed")
	expect("a plain password in the table", "plain", "secret", " 401 ")
	expect("no hash in the table", "empty", "secret", " 401 ")

	// A wrong password: of users who exist and do not, asked for before or not.
	times := map[string][]time.Duration{}
	for i := range 5 {
		times["exists, known"] = append(times["exists, known"], expect("wrong", "alice", "guess", " 401 "))
		times["exists, not known"] = append(times["exists, not known"], expect("wrong", fmt.Sprint("u", 1+i), "guess", " 401 "))
		times["absent, known"] = append(times["absent, known"], expect("wrong", "nobody", "guess", " 401 "))
		times["absent, not known"] = append(times["absent, not known"], expect("wrong", fmt.Sprint("nobody", i), "guess", " 401 "))
	}
	lo, hi := time.Hour, time.Duration(0)
	for what, list := range times {
		slices.Sort(list)
		lo, hi = min(lo, list[2]), max(hi, list[2])
		t.Logf("a wrong password, %s: refused after %v (median), %v..%v", what, list[2].Round(time.Millisecond), list[0].Round(time.Millisecond), list[4].Round(time.Millisecond))
	}
	if hi-lo > 60*time.Millisecond {
		t.Errorf("the medians differ by %v: the time tells who exists", hi-lo)
	}

	// The server hangs. Requests that need no account and users who are known are served as before.
	pg.signal(t, syscall.SIGSTOP)
	var sent atomic.Int64
	flood := newAsker(t, edge)
	first, _ := flood.ask(request("REGISTER", "sip:rtcedge", "u99", "flood", flood.addr), time.Second)
	auth := credentials(t, "Authorization", first, user{User: "u99", Password: "x"}, "REGISTER", "sip:rtcedge")
	done := make(chan struct{})
	go func() {
		defer close(done)
		paced(2000, 1000, func(i int) { // right nonces, users that must be asked for: all of them wait
			name := fmt.Sprint("u", 100+i%300)
			_, _ = flood.WriteToUDPAddrPort([]byte(request("REGISTER", "sip:rtcedge", name, fmt.Sprint("f", i), flood.addr, strings.Replace(auth, `"u99"`, `"`+name+`"`, 1))), edge)
			sent.Add(1)
		})
	}()
	var waits []time.Duration
	other := newAsker(t, edge)
	for i := range 200 {
		answer, took := other.ask(request("OPTIONS", "sip:"+edge.String(), "x", fmt.Sprint("o", i), other.addr), time.Second)
		if !strings.Contains(answer, " 200 ") {
			t.Fatalf("OPTIONS while the database hangs: %q", status(answer))
		}
		waits = append(waits, took)
		time.Sleep(5 * time.Millisecond)
	}
	expect("a known user while the database hangs", "alice", "secret", "passed")
	took := expect("an unknown one", "u77", "secret", " 503 ")
	slices.Sort(waits)
	t.Logf("the database hangs, %d requests wait for it: OPTIONS answered in %v (median), %v (99 %%); an unknown user gets 503 after %v", sent.Load(), waits[100], waits[198], took.Round(time.Millisecond))
	if waits[198] > 100*time.Millisecond {
		t.Error("a hanging database holds up other requests")
	}
	<-done
	pg.signal(t, syscall.SIGCONT)
	eventually(t, "the database serves again", 15*time.Second, func() bool {
		got, _ := register(newAsker(t, edge), "u200", "secret")
		return got == "passed"
	})
	endsWell(t, proc)
}
