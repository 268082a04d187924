package sip

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/auth"
)

func md5hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// users has 1001 and 1002, whose passwords are "secret".
func users(t *testing.T) *auth.Verifier {
	t.Helper()
	v, err := auth.New(auth.Config{Secret: []byte("0123456789abcdef"), Algorithms: []auth.Algorithm{auth.MD5, auth.SHA256},
		Provider: auth.NewUsers(
			auth.User{Name: "1001", Realm: "127.0.0.1", Credential: auth.NewCredential("1001", "127.0.0.1", "secret")},
			auth.User{Name: "1002", Realm: "127.0.0.1", Credential: auth.NewCredential("1002", "127.0.0.1", "secret")})})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var nonceOf = regexp.MustCompile(`nonce="([^"]*)", algorithm=MD5`)

// digest answers the challenge in a response.
func digest(t *testing.T, challenge, user, method, uri string, count int) string {
	t.Helper()
	m := nonceOf.FindStringSubmatch(challenge)
	if m == nil {
		t.Fatalf("no challenge:\n%s", challenge)
	}
	nc := fmt.Sprintf("%08x", count)
	ha1, ha2 := md5hex(user+":127.0.0.1:secret"), md5hex(method+":"+uri)
	return fmt.Sprintf(`Digest username="%s", realm="127.0.0.1", nonce="%s", uri="%s", qop=auth, nc=%s, cnonce="x", response="%s"`,
		user, m[1], uri, nc, md5hex(ha1+":"+m[1]+":"+nc+":x:auth:"+ha2))
}

// TestB08Challenge: strangers are challenged, farms and dialogs are not; the consumed proof goes (B3).
func TestB08Challenge(t *testing.T) {
	r := newRig(t, Config{Auth: users(t)})
	inv := invite("User-Agent: something that makes this request as long as a phone's usually is, " + strings.Repeat("x", 300) + "\n")
	reg := strings.ReplaceAll(inv, "INVITE", "REGISTER")
	uri := "sip:600@" + r.edge(0)
	got := r.status(r.put(phone, reg), 401)
	if len(lines(got, "WWW-Authenticate")) != 2 {
		t.Errorf("401:\n%s", got)
	}
	// The REGISTER's To is 600: the right password of 1001 opens nothing.
	r.status(r.put(phone, reg+"Authorization: "+digest(t, got, "1001", "REGISTER", uri, 1)+"\n"), 403)
	own := strings.Replace(reg, "To: <sip:600@", "To: <sip:1001@", 1) + "Authorization: " + digest(t, got, "1001", "REGISTER", uri, 2) + "\n"
	if got := r.one(r.put(phone, own), node1); len(lines(got, "Authorization")) != 0 {
		t.Errorf("the proof is still there:\n%s", got)
	}

	challenge := r.status(r.put(phone, inv), 407)
	if len(lines(challenge, "Proxy-Authenticate")) != 2 {
		t.Errorf("407:\n%s", challenge)
	}
	proof := func(user string, count int) string {
		return "Proxy-Authorization: " + digest(t, challenge, user, "INVITE", uri, count) + "\n"
	}
	r.status(r.put(phone, inv+strings.Replace(proof("1001", 1), "Proxy-", "", 1)), 407)
	r.status(r.put(phone, inv+proof("1002", 1)), 403)
	got = r.one(r.put(phone, inv+"Proxy-Authorization: Other x\n"+proof("1001", 2)), node1)
	if v := lines(got, "Proxy-Authorization"); len(v) != 1 || v[0] != "Other x" {
		t.Errorf("Proxy-Authorization %q", v)
	}
	// A retransmission passes, the same proof in another transaction does not, nor one that is too old.
	r.one(r.put(phone, inv+proof("1001", 2)), node1)
	if got := r.status(r.put(phone, strings.Replace(inv, "z9hG4bKabc1", "z9hG4bKabc2", 1)+proof("1001", 2)), 407); !strings.Contains(got, "stale=true") {
		t.Errorf("replay:\n%s", got)
	}
	r.now = r.now.Add(time.Hour)
	if got := r.status(r.put(phone, inv+proof("1001", 3)), 407); !strings.Contains(got, "stale=true") {
		t.Errorf("old nonce:\n%s", got)
	}

	r.one(r.put(phone, strings.ReplaceAll(inv, "INVITE", "ACK")), node1)
	r.one(r.put(phone, strings.ReplaceAll(inv, "INVITE", "CANCEL")), node1)
	rr := lines(got, "Record-Route")[0]
	bye := "BYE sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKx\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 BYE\nUser-Agent: " + strings.Repeat("x", 300) + "\nRoute: "
	r.one(r.put(phone, bye+rr+"\n"), node1)
	r.status(r.put(phone, bye+"<sip:E0;lr>\n"), 407)
	r.status(r.put(phone, strings.Replace(bye+rr+"\n", "call-1@phone", "call-2@phone", 1)), 407)
	r.status(r.put(phone, strings.Replace(bye+rr+"\n", ";tag=tt", "", 1)), 407)
	r.one(r.put(node1, strings.Replace(strings.ReplaceAll(inv, "127.0.2.1:5070;branch", node1+";branch"), "INVITE sip:600@E0", "INVITE sip:1002@127.0.2.2:5072", 1)), "127.0.2.2:5072")
}

// TestAuthInQueue: a proof that was seen before the queue is not asked for again behind it, and goes.
func TestAuthInQueue(t *testing.T) {
	r := newRig(t, Config{Auth: users(t), Media: &fakeMedia{}})
	filler := "User-Agent: " + strings.Repeat("x", 300) + "\n"
	challenge := r.status(r.put(phone, invite(filler+sdp)), 407)
	got := r.one(r.put(phone, invite(filler+"Proxy-Authorization: "+digest(t, challenge, "1001", "INVITE", "sip:600@"+r.edge(0), 1)+"\n"+sdp)), node1)
	if len(lines(got, "Proxy-Authorization")) != 0 || !strings.HasSuffix(got, changed) {
		t.Errorf("behind the queue:\n%s", got)
	}
}
