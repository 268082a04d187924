package siptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// challenger is a far end that demands digests: enough of a registrar and of a proxy to test the client's side. Each
// nonce is good for one use, so a replay shows.
type challenger struct {
	addr       netip.AddrPort
	algorithms []string

	mu     sync.Mutex
	nonces map[string]bool
	seen   []string // algorithm of each accepted request
	bound  map[string]string
	stale  bool // the next good answer is refused once as stale
	serial int
}

func newChallenger(t *testing.T, transport string, algorithms ...string) *challenger {
	t.Helper()
	ch := &challenger{algorithms: algorithms, nonces: map[string]bool{}, bound: map[string]string{}}
	ua, err := sipgo.NewUA()
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sipgo.NewServer(ua)
	if err != nil {
		t.Fatal(err)
	}
	srv.OnRegister(ch.register)
	srv.OnInvite(ch.invite)
	srv.OnAck(func(*sipmsg.Request, sipmsg.ServerTransaction) {})
	done := make(chan struct{})
	var closer func() error
	if transport == "udp" {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ch.addr, closer = pc.LocalAddr().(*net.UDPAddr).AddrPort(), pc.Close
		go func() { defer close(done); _ = srv.ServeUDP(pc) }()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ch.addr, closer = l.Addr().(*net.TCPAddr).AddrPort(), l.Close
		go func() { defer close(done); _ = srv.ServeTCP(l) }()
	}
	t.Cleanup(func() { ua.Close(); closer(); <-done })
	return ch
}

// check returns true for good credentials; otherwise it sends the challenges.
func (ch *challenger) check(req *sipmsg.Request, tx sipmsg.ServerTransaction, code int, ask, give string) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	stale := false
	if h := req.GetHeader(give); h != nil {
		cred, err := digest.ParseCredentials(h.Value())
		if err == nil && ch.nonces[cred.Nonce] {
			delete(ch.nonces, cred.Nonce)
			want, err := digest.Digest(
				&digest.Challenge{Realm: "test", Nonce: cred.Nonce, Algorithm: cred.Algorithm, QOP: []string{"auth"}},
				digest.Options{
					Method: string(req.Method), URI: req.Recipient.String(), Count: cred.Nc, Cnonce: cred.Cnonce,
					Username: "1001", Password: "secret",
				})
			switch good := err == nil && want.Response == cred.Response && cred.URI == req.Recipient.String(); {
			case good && !ch.stale:
				ch.seen = append(ch.seen, cred.Algorithm)
				return true
			case good:
				ch.stale, stale = false, true
			}
		}
	}
	res := sipmsg.NewResponseFromRequest(req, code, "Who", nil)
	for _, a := range ch.algorithms {
		ch.serial++
		nonce := fmt.Sprintf("n%d", ch.serial)
		ch.nonces[nonce] = true
		v := fmt.Sprintf(`Digest realm="test", nonce="%s", algorithm=%s, qop="auth"`, nonce, a)
		if stale {
			v += ", stale=true"
		}
		res.AppendHeader(sipmsg.NewHeader(ask, v))
	}
	_ = tx.Respond(res)
	return false
}

func (ch *challenger) register(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if !ch.check(req, tx, 401, "WWW-Authenticate", "Authorization") {
		return
	}
	ch.mu.Lock()
	contact, expires := req.GetHeader("Contact").Value(), req.GetHeader("Expires").Value()
	if expires == "0" {
		delete(ch.bound, req.To().Address.User)
	} else {
		ch.bound[req.To().Address.User] = contact
	}
	ch.mu.Unlock()
	res := sipmsg.NewResponseFromRequest(req, 200, "OK", nil)
	if expires != "0" {
		res.AppendHeader(sipmsg.NewHeader("Contact", contact+";expires=77"))
	}
	_ = tx.Respond(res)
}

func (ch *challenger) invite(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if !ch.check(req, tx, 407, "Proxy-Authenticate", "Proxy-Authorization") {
		return
	}
	_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 404, "Not Found", nil))
}

func TestRegister(t *testing.T) {
	for _, tc := range []struct {
		transport, limit, want string
		algorithms             []string
	}{
		{"udp", "", "MD5", []string{"MD5"}},
		{"tcp", "", "SHA-256", []string{"SHA-256", "MD5"}},
		{"udp", "MD5", "MD5", []string{"SHA-256", "MD5"}},
		{"udp", "", "MD5", []string{"AKAv1-MD5", "MD5"}},
	} {
		t.Run(tc.transport+" "+strings.Join(tc.algorithms, ","), func(t *testing.T) {
			ch := newChallenger(t, tc.transport, tc.algorithms...)
			u := start(t, Config{User: "1001", Password: "secret", Proxy: ch.addr, Transport: tc.transport, Algorithm: tc.limit})
			got, err := u.Register(within(t, 5*time.Second), time.Hour)
			if err != nil || got != 77*time.Second {
				t.Fatalf("granted %v, %v", got, err)
			}
			ch.mu.Lock()
			if ch.bound["1001"] != "<"+u.Contact()+">" {
				t.Errorf("bound %q", ch.bound["1001"])
			}
			if ch.seen[0] != tc.want {
				t.Errorf("answered with %s, want %s", ch.seen[0], tc.want)
			}
			ch.stale = true
			ch.mu.Unlock()
			if _, err := u.Register(within(t, 5*time.Second), time.Hour); err != nil {
				t.Errorf("after a stale nonce: %v", err)
			}
			err = u.Unregister(within(t, 5*time.Second))
			ch.mu.Lock()
			defer ch.mu.Unlock()
			if err != nil || len(ch.bound) != 0 || ch.stale {
				t.Errorf("unregister: %v, bound %v, stale %v", err, ch.bound, ch.stale)
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	ch := newChallenger(t, "udp", "SHA-256")
	for _, password := range []string{"wrong", ""} {
		u := start(t, Config{User: "1001", Password: password, Proxy: ch.addr})
		_, err := u.Register(within(t, 5*time.Second), time.Hour)
		var status *StatusError
		if !errors.As(err, &status) || status.Code != 401 {
			t.Errorf("password %q: %v", password, err)
		}
		_, err = u.Invite(context.Background(), "600", []byte(offerSDP), InviteOptions{})
		if !errors.As(err, &status) || status.Code != 407 {
			t.Errorf("password %q: %v", password, err)
		}
	}
	u := start(t, Config{User: "1001", Password: "secret", Proxy: ch.addr})
	_, err := u.Invite(within(t, 5*time.Second), "600", []byte(offerSDP), InviteOptions{})
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 404 {
		t.Errorf("good password: %v", err)
	}
}
