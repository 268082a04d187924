package sip

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/auth"
)

// elsewhere is a users' database with 1001, whose password is "secret".
type elsewhere struct {
	asked int
	err   error
}

func (e *elsewhere) Find(_ context.Context, user, realm string) (auth.Credential, bool, error) {
	e.asked++
	return auth.NewCredential(user, realm, "secret"), user == "1001", e.err
}

func elsewhereRig(t *testing.T, length int) (*rig, *elsewhere) {
	t.Helper()
	db := &elsewhere{}
	cache, err := auth.NewCache(auth.CacheConfig{Source: db})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Config{Provider: cache, Secret: []byte("0123456789abcdef"), Algorithms: []auth.Algorithm{auth.MD5, auth.SHA256}})
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, Config{Auth: v, ProofLength: length}), db
}

// ask does what an asker's goroutine would do, and returns what was sent.
func (r *rig) ask() []sentMessage {
	r.sent = nil
	for len(r.p.proofs) > 0 {
		r.p.prove(context.Background(), r.p.newPass(), <-r.p.proofs)
	}
	r.work()
	return r.sent
}

// refusals does what the goroutine of the refusals would do when their time has come.
func (r *rig) refusals() []sentMessage {
	r.sent = nil
	r.now = r.now.Add(r.p.cfg.Auth.Patience())
	for len(r.p.late) > 0 {
		r.p.resume(r.p.newPass(), <-r.p.late)
	}
	return r.sent
}

// TestB08AccountsElsewhere: a request whose user must be asked for waits aside, once; the workers go on.
func TestB08AccountsElsewhere(t *testing.T) {
	r, db := elsewhereRig(t, 0)
	inv := invite("User-Agent: " + strings.Repeat("x", 400) + "\n")
	challenge := r.status(r.put(phone, inv), 407)
	uri := "sip:600@" + r.edge(0)
	with := func(user string, count int) string {
		return strings.ReplaceAll(inv, "<sip:1001@E0>", "<sip:"+user+"@E0>") + "Proxy-Authorization: " + digest(t, challenge, user, "INVITE", uri, count) + "\n"
	}
	if out := r.put(phone, with("1001", 1)); len(out) != 0 || db.asked != 0 {
		t.Fatalf("the worker asked or answered: %d questions, %v", db.asked, out)
	}
	r.one(r.put(phone, strings.Replace(inv, "INVITE", "ACK", 2)), node1) // others pass meanwhile
	if got := r.one(r.ask(), node1); len(lines(got, "Proxy-Authorization")) != 0 {
		t.Errorf("the proof is still there:\n%s", got)
	}
	r.one(r.put(phone, with("1001", 2)), node1) // now it is known: no waiting
	if db.asked != 1 || r.p.Stats().Requests[0]+r.p.Stats().Requests[1] == 0 {
		t.Errorf("%d questions, want 1", db.asked)
	}
	if got := r.p.Stats().Queued; got != 1 {
		t.Errorf("%d messages waited, want 1", got)
	}
}

// TestF28AccountsElsewhere: a wrong password of a user who exists, who does not, who was asked for before or was not: the answer comes at the same
// time and is the same.
func TestF28AccountsElsewhere(t *testing.T) {
	r, db := elsewhereRig(t, 0)
	inv := invite("User-Agent: " + strings.Repeat("x", 400) + "\n")
	challenge := r.status(r.put(phone, inv), 407)
	guess := func(user string) string {
		return inv + "Proxy-Authorization: " + strings.Replace(digest(t, challenge, user, "INVITE", "sip:600@"+r.edge(0), 1), `response="`, `response="0`, 1) + "\n"
	}
	for _, user := range []string{"1001", "9999", "1001", "9999"} {
		out := r.put(phone, guess(user))
		out = append(out, r.ask()...)
		r.now = r.now.Add(r.p.cfg.Auth.Patience() / 2)
		if out = append(out, r.ask()...); len(out) != 0 {
			t.Fatalf("%s: refused before its time: %v", user, out)
		}
		r.status(r.refusals(), 407)
	}
	if db.asked != 2 {
		t.Errorf("%d questions, want 2", db.asked)
	}
	db.err = errors.New("gone")
	for _, user := range []string{"1003", "1001", "9999"} {
		r.put(phone, guess(user))
		r.ask()
		if got := r.status(r.refusals(), 503); len(lines(got, "Retry-After")) != 1 {
			t.Errorf("%s: %s", user, got)
		}
	}
	if r.drops()["accounts"] != 3 {
		t.Errorf("drops %v", r.drops())
	}
}

// TestF29AccountsElsewhere: wrong passwords are counted once each, though they wait.
func TestF29AccountsElsewhere(t *testing.T) {
	r, _ := elsewhereRig(t, 0)
	inv := invite("User-Agent: " + strings.Repeat("x", 400) + "\n")
	challenge := r.status(r.put(phone, inv), 407)
	n := 0
	for ; n < 30 && r.drops()["banned"] == 0; n++ {
		r.put(phone, inv+"Proxy-Authorization: "+strings.Replace(digest(t, challenge, "1001", "INVITE", "sip:600@"+r.edge(0), n+1), `response="`, `response="0`, 1)+"\n")
		r.ask()
		r.refusals()
	}
	if n != 15 {
		t.Errorf("banned after %d wrong passwords, want 15", n)
	}
}

// TestF16ProofsAreBounded: a flood of requests that must wait is dropped beyond the bound, and a database that hangs stops nobody else.
func TestF16ProofsAreBounded(t *testing.T) {
	r, _ := elsewhereRig(t, 8)
	inv := invite("User-Agent: " + strings.Repeat("x", 400) + "\n")
	challenge := r.status(r.put(phone, inv), 407)
	for i := range 20 {
		r.put(phone, inv+"Proxy-Authorization: "+digest(t, challenge, "1001", "INVITE", "sip:600@"+r.edge(0), i+1)+"\n")
	}
	if d := r.drops()["queue_full"]; d != 12 || len(r.p.proofs) != 8 {
		t.Errorf("%d dropped, %d wait", d, len(r.p.proofs))
	}
	r.one(r.put(phone, strings.Replace(inv, "INVITE", "ACK", 2)), node1)
	// Those that waited too long go by what is known: nothing.
	r.now = r.now.Add(time.Second)
	for _, m := range r.ask() {
		if !strings.HasPrefix(m.text, "SIP/2.0 503 ") {
			t.Errorf("%s", m.text)
		}
	}
}
