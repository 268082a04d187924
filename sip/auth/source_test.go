package auth

import (
	"fmt"
	"testing"
	"time"
)

// TestF29NonceOfAnotherSource: a nonce that another address fetched is replaced whatever the password is, so that it neither
// helps to try passwords nor to have somebody banned.
func TestF29NonceOfAnotherSource(t *testing.T) {
	const realm = "example.com"
	v, err := New(Config{Provider: NewUsers(User{Name: "a", Realm: realm, Credential: NewCredential("a", realm, "right")})})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0)
	nonce := func(source uint64) string {
		s := v.scratch.Get().(*scratch)
		return string(s.appendNonce(nil, MD5, realm, source, now))
	}
	value := func(nonce, password string) []byte {
		cred := NewCredential("a", realm, password)
		h := header{nonce: []byte(nonce), uri: []byte("sip:b@x")}
		resp := newScratch(nil).response(MD5, &cred, []byte("INVITE"), &h)
		return fmt.Appendf(nil, `Digest username="a", realm="%s", nonce="%s", uri="sip:b@x", response="%s"`, realm, nonce, resp)
	}
	for _, c := range []struct {
		made, source uint64
		password     string
		want         Reason
		received     bool
	}{
		{7, 7, "right", OK, true},
		{7, 7, "wrong", Refused, true},
		{7, 8, "right", Moved, false},
		{7, 8, "wrong", Moved, false},
		{0, 8, "right", Moved, false},
		{7, 0, "right", OK, true},
		{1<<40 | 7, 1<<40 | 7, "right", OK, true},
	} {
		got := v.Check(Request{Method: []byte("INVITE"), Value: value(nonce(c.made), c.password), Source: c.source}, now)
		if got.Reason != c.want || got.Received != c.received {
			t.Errorf("%+v: %v, received %v", c, got.Reason, got.Received)
		}
	}
	if !Moved.Stale() {
		t.Error("a phone that has moved is not told to take the new nonce")
	}
}
