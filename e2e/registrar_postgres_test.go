//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/sip/siptest"
)

// ask returns what a query says, a line per row, fields with a bar between them.
func (p *postgres) ask(t *testing.T, sql string) []string {
	t.Helper()
	out, err := exec.Command(filepath.Join(p.bin, "psql"), "-At", "-v", "ON_ERROR_STOP=1", "-c", sql, p.url()).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	return strings.Fields(strings.TrimSpace(string(out)))
}

// TestB32RegistrarsShareADatabase: two real registrars on one PostgreSQL. The edge spreads users by hash, each knows the contacts of both;
// when one dies, a call to a user that it registered still finds him, and he registers with the other one.
func TestB32RegistrarsShareADatabase(t *testing.T) {
	pg := startPostgres(t)
	// The table, as an operator makes it: from the file that asterisk-config writes.
	dir := t.TempDir()
	database := strings.TrimSuffix(pg.url(), "?sslmode=disable")
	out, err := exec.Command(edgeProgram.binary(t), "asterisk-config", "--role", "registrar", "--ip", "127.0.0.1", "--edge", "127.0.0.1:5060", "--out", dir,
		"--accounts", accountsFile(t), "--database", database).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(filepath.Join(pg.bin, "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", filepath.Join(dir, "ps_contacts.sql"), pg.url()).CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	system := startFarms(t, farms.Config{Registrar: 2, Database: database})
	api := startBridge(t, system)
	alice := newPerson(t, system, "alice", 500, nil)
	var users []*person
	for _, acc := range system.Accounts[:6] {
		p := newPersonWith(t, system, siptest.Config{User: acc.User, Password: acc.Password}, 800, nil)
		if _, err := p.ua.Register(t.Context(), 10*time.Minute); err != nil {
			t.Fatalf("%s: %v", acc.User, err)
		}
		users = append(users, p)
	}
	// server is the registrar that took a user's last REGISTER.
	server := func(user string) string {
		t.Helper()
		rows := pg.ask(t, fmt.Sprintf("SELECT reg_server FROM ps_contacts WHERE endpoint = '%s'", user))
		if len(rows) != 1 {
			t.Fatalf("%s has the contacts %v, want one", user, rows)
		}
		return rows[0]
	}
	by := map[string][]*person{}
	for _, p := range users {
		by[server(p.name)] = append(by[server(p.name)], p)
	}
	t.Logf("6 users: %d at registrar1, %d at registrar2", len(by["registrar1"]), len(by["registrar2"]))
	if len(by) != 2 {
		t.Fatalf("the edge sends all users to one registrar: %v", by)
	}
	for name, list := range by { // the same one again: its nonce is no other's
		if _, err := list[0].ua.Register(t.Context(), 10*time.Minute); err != nil {
			t.Error(err)
		}
		if got := server(list[0].name); got != name {
			t.Errorf("%s went to %s, then to %s", list[0].name, name, got)
		}
	}
	for _, node := range system.Farm("registrar") {
		for _, p := range users {
			var aor []struct{ Attribute, Value string }
			if err := node.Get("/asterisk/config/dynamic/res_pjsip/aor/"+p.name, &aor); err != nil {
				t.Fatal(err)
			}
			found := false
			for _, a := range aor {
				found = found || a.Attribute == "contact" && strings.Contains(a.Value, p.name+"@")
			}
			if !found {
				t.Errorf("%s does not know the contact of %s: %v", node.ID, p.name, aor)
			}
		}
	}

	dead := system.Farm("registrar")[0]
	lost := by[dead.ID][0]
	dead.Kill()
	call, delay, err := alice.ringDial(lost.name)
	if err != nil {
		t.Fatalf("a call to %s, whose registrar is dead: %v", lost.name, err)
	}
	<-lost.calls
	alice.hears(900*time.Millisecond, []float64{800}, []float64{500})
	lost.hears(0, []float64{500}, []float64{800})
	start := time.Now()
	for {
		if _, err = lost.ua.Register(t.Context(), 10*time.Minute); err == nil {
			break
		}
		if time.Since(start) > 40*time.Second {
			t.Fatalf("%s cannot register with the other registrar: %v", lost.name, err)
		}
	}
	if got := server(lost.name); got == dead.ID {
		t.Errorf("the contact is still of %s", got)
	}
	t.Logf("registrar killed: a call to its user rings after %v; he is registered with the other one after %v", delay.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.Until("no call", func(c []bridgetest.Call) bool { return len(c) == 0 })
	if rest := pg.ask(t, "SELECT count(*) FROM ps_contacts"); rest[0] != "6" {
		t.Errorf("%s contacts in the table, want 6", rest[0])
	}
}

// accountsFile is one account, where only the form is of interest.
func accountsFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "accounts")
	if err := os.WriteFile(name, []byte("1001:rtcedge:password=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
