package auth

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// client answers challenges as a phone does, with code of its own.
type client struct {
	user, realm, password, uri string
	method                     string
	alg                        Algorithm
	legacy                     bool // no qop, RFC 2069
}

func (c client) hash(s string) string {
	if c.alg == SHA256 {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

func (c client) answer(challenge string, count int) string {
	_, rest, _ := strings.Cut(challenge, `nonce="`)
	nonce, _, _ := strings.Cut(rest, `"`)
	a1, a2 := c.hash(c.user+":"+c.realm+":"+c.password), c.hash(c.method+":"+c.uri)
	head := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", algorithm=%s`, c.user, c.realm, nonce, c.uri, c.alg)
	if c.legacy {
		return fmt.Sprintf(`%s, response="%s"`, head, c.hash(a1+":"+nonce+":"+a2))
	}
	nc := fmt.Sprintf("%08x", count)
	return fmt.Sprintf(`%s, response="%s", cnonce="0a4f113b", qop=auth, nc=%s`, head, c.hash(a1+":"+nonce+":"+nc+":0a4f113b:auth:"+a2), nc)
}

var alice = client{user: "alice", realm: "example.com", password: "secret", uri: "sip:example.com", method: "REGISTER"}

func verifier(t testing.TB, change func(*Config)) *Verifier {
	t.Helper()
	cfg := Config{
		Provider:   NewUsers(User{"alice", "example.com", NewCredential("alice", "example.com", "secret")}),
		Secret:     []byte("0123456789abcdef"),
		Algorithms: []Algorithm{SHA256, MD5},
	}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func request(c client, value string, tx uint64) Request {
	return Request{Method: []byte(c.method), URI: []byte(c.uri), Value: []byte(value), Realm: c.realm, Tx: tx}
}

// TestVectors checks the computation against the worked examples of RFC 2617 section 3.5, RFC 7616 section 3.9.1 (MD5 and
// SHA-256) and the one without qop, whose nonces are not ours.
func TestVectors(t *testing.T) {
	const rfc7616 = `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=%s, ` +
		`nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", ` +
		`qop=auth, response="%s", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	tests := []struct{ name, value, user, realm, password string }{
		{"RFC 2617", `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html",
			qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"`,
			"Mufasa", "testrealm@host.com", "Circle Of Life"},
		{"RFC 2069", `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html",
			response="670fd8c2df070c60b045671b8b24ff02"`, "Mufasa", "testrealm@host.com", "Circle Of Life"},
		{"RFC 7616 MD5", fmt.Sprintf(rfc7616, "MD5", "8ca523f5e9506fed4657c9700eebdbec"), "Mufasa", "http-auth@example.org", "Circle of Life"},
		{"RFC 7616 SHA-256", fmt.Sprintf(rfc7616, "SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
			"Mufasa", "http-auth@example.org", "Circle of Life"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var h header
			if !h.parse([]byte(test.value)) {
				t.Fatal("not parsed")
			}
			alg, ok := h.algorithmOf()
			if !ok {
				t.Fatal("algorithm not known")
			}
			c := NewCredential(test.user, test.realm, test.password)
			got := newScratch([]byte("x")).response(alg, &c, []byte("GET"), &h)
			if string(got) != string(h.response) {
				t.Errorf("response %s, want %s", got, h.response)
			}
		})
	}
}

// TestB08AnyNodeChecksAnyNodesChallenge: the nonce proves itself, for both algorithms and for phones without qop.
func TestB08AnyNodeChecksAnyNodesChallenge(t *testing.T) {
	one, two := verifier(t, nil), verifier(t, nil)
	for _, alg := range []Algorithm{MD5, SHA256} {
		for _, legacy := range []bool{false, true} {
			c := alice
			c.alg, c.legacy = alg, legacy
			value := c.answer(string(one.Challenge(nil, c.realm, alg, false, noon)), 1)
			res := two.Check(request(c, value, 7), noon.Add(time.Second))
			if res.Reason != OK || string(res.User) != "alice" || string(res.Realm) != "example.com" || !res.Received {
				t.Errorf("%v legacy=%v: %v %q %q", alg, legacy, res.Reason, res.User, res.Realm)
			}
		}
	}
}

// TestF29Refusals: what is wrong is refused for the right reason.
func TestF29Refusals(t *testing.T) {
	v := verifier(t, nil)
	challenge := string(v.Challenge(nil, "example.com", MD5, false, noon))
	other := verifier(t, func(c *Config) { c.Secret = []byte("another secret of a stranger") })
	change := func(f func(*client)) client { c := alice; f(&c); return c }
	sha := alice
	sha.alg = SHA256
	tests := []struct {
		name    string
		value   string
		request func(*Request)
		at      time.Duration
		want    Reason
	}{
		{name: "right", value: alice.answer(challenge, 1), want: OK},
		{name: "wrong password", value: change(func(c *client) { c.password = "guess" }).answer(challenge, 1), want: Refused},
		{name: "no such user", value: change(func(c *client) { c.user = "eve" }).answer(challenge, 1), want: Refused},
		{name: "other method", value: change(func(c *client) { c.method = "INVITE" }).answer(challenge, 1), want: Refused},
		{name: "stranger's nonce", value: alice.answer(string(other.Challenge(nil, "example.com", MD5, false, noon)), 1), want: Forged},
		{name: "nonce of another realm", value: alice.answer(string(v.Challenge(nil, "example.org", MD5, false, noon)), 1), want: Forged},
		{name: "nonce of another algorithm", value: sha.answer(challenge, 1), want: Forged},
		{name: "other realm", value: change(func(c *client) { c.realm = "example.org" }).answer(challenge, 1), want: OtherRealm},
		{name: "no callee named, as by SIPp", value: alice.answer(challenge, 1), request: func(r *Request) { r.URI = []byte("sip:600@example.com:5060") }, want: OK},
		{name: "other host", value: alice.answer(challenge, 1), request: func(r *Request) { r.URI = []byte("sip:600@example.org") }, want: URIMismatch},
		{name: "other callee", value: change(func(c *client) { c.uri = "sip:bob@example.com" }).answer(challenge, 1), request: func(r *Request) { r.URI = []byte("sip:premium@example.com") }, want: URIMismatch},
		{name: "parameters and port differ", value: alice.answer(challenge, 1), request: func(r *Request) { r.URI = []byte("sips:EXAMPLE.com:5061;transport=tcp") }, want: OK},
		{name: "too old", value: alice.answer(challenge, 1), at: 6 * time.Minute, want: Stale},
		{name: "too old and wrong", value: change(func(c *client) { c.password = "guess" }).answer(challenge, 1), at: 6 * time.Minute, want: Refused},
		{name: "from the future", value: alice.answer(challenge, 1), at: -time.Hour, want: Stale},
		{name: "auth-int", value: strings.Replace(alice.answer(challenge, 1), "qop=auth", "qop=auth-int", 1), want: Unsupported},
		{name: "MD5-sess", value: strings.Replace(alice.answer(challenge, 1), "algorithm=MD5", "algorithm=MD5-sess", 1), want: Unsupported},
		{name: "twice the response", value: alice.answer(challenge, 1) + `, response="00"`, want: Malformed},
		{name: "qop without nc", value: strings.Replace(alice.answer(challenge, 1), "nc=00000001", "x=1", 1), want: Malformed},
		{name: "basic", value: "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", want: Malformed},
		{name: "empty", want: Malformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request(alice, test.value, 0)
			if test.request != nil {
				test.request(&r)
			}
			if got := v.Check(r, noon.Add(test.at)).Reason; got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// TestF29Replay: a nonce-count is good for one request; its retransmissions pass, and messages may overtake each other.
func TestF29Replay(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		v := verifier(t, nil)
		c := alice
		c.legacy = legacy
		challenge := string(v.Challenge(nil, c.realm, MD5, false, noon))
		steps := []struct {
			count int
			tx    uint64
			want  Reason
		}{{1, 10, OK}, {1, 10, OK}, {1, 66, Replayed}, {3, 30, OK}, {2, 20, OK}, {2, 66, Replayed}, {3, 30, OK}, {200, 40, OK}, {1, 66, Replayed}, {3, 66, Replayed}}
		if legacy { // there is one response per method and URI
			steps = steps[:3]
		}
		for i, s := range steps {
			if got := v.Check(request(c, c.answer(challenge, s.count), s.tx), noon).Reason; got != s.want {
				t.Errorf("legacy=%v step %d: %v, want %v", legacy, i, got, s.want)
			}
		}
		fresh := string(v.Challenge(nil, c.realm, MD5, true, noon))
		if !strings.Contains(fresh, "stale=true") {
			t.Error("no stale in", fresh)
		}
		if got := v.Check(request(c, c.answer(fresh, 1), 66), noon).Reason; got != OK {
			t.Errorf("after renewal: %v", got)
		}
	}
}

// TestReplayIsBounded: the table forgets, and never grows.
func TestReplayIsBounded(t *testing.T) {
	r := newReplay(256)
	nonce := func(i uint64) uint64 { return i*0x9e3779b97f4a7c15 + 1 }
	for i := range uint64(100_000) {
		if !r.accept(nonce(i), 1, 1, noon.Add(time.Duration(i)*time.Second)) {
			t.Fatal("a new nonce was refused")
		}
	}
	if r.accept(nonce(99_999), 1, 2, noon) {
		t.Error("the newest was forgotten")
	}
}

// TestF28NoOracle: an unknown user costs what a known one with a wrong password costs, and the answers are equal. The bound is wide:
// a missing hash would be a factor of two.
func TestF28NoOracle(t *testing.T) {
	if raceEnabled {
		t.Skip("times mean nothing under the race detector")
	}
	v := verifier(t, nil)
	challenge := string(v.Challenge(nil, "example.com", SHA256, false, noon))
	measure := func(user string) time.Duration {
		c := client{user: user, realm: "example.com", password: "guess", uri: "sip:example.com", method: "REGISTER", alg: SHA256}
		r := request(c, c.answer(challenge, 1), 1)
		start := time.Now()
		for range 200 {
			if v.Check(r, noon).Reason != Refused {
				t.Fatal("not refused")
			}
		}
		return time.Since(start)
	}
	// In turns, until the quietest of both are alike: another process may take the core at any time.
	known, unknown := time.Hour, time.Hour
	var ratio float64
	for i := range 500 {
		known, unknown = min(known, measure("alice")), min(unknown, measure("alicf"))
		if ratio = float64(known) / float64(unknown); i > 20 && ratio > 0.75 && ratio < 1.33 {
			return
		}
	}
	t.Errorf("known %v, unknown %v, ratio %.2f", known, unknown, ratio)
}

func TestCheckDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	v := verifier(t, nil)
	for _, alg := range []Algorithm{MD5, SHA256} {
		c := alice
		c.alg = alg
		r := request(c, c.answer(string(v.Challenge(nil, c.realm, alg, false, noon)), 1), 1)
		if n := testing.AllocsPerRun(200, func() { v.Check(r, noon) }); n != 0 {
			t.Errorf("%v: %v allocations", alg, n)
		}
	}
	buf := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(200, func() { v.Challenge(buf, "example.com", MD5, true, noon) }); n != 0 {
		t.Errorf("challenge: %v allocations", n)
	}
}

// TestSpellings: forms that real phones send.
func TestSpellings(t *testing.T) {
	v := verifier(t, nil)
	value := alice.answer(string(v.Challenge(nil, "example.com", MD5, false, noon)), 1)
	for _, s := range []string{
		value,
		"  digest " + value[len("Digest "):] + " ,",
		strings.ReplaceAll(value, ", ", ",\r\n\t"),
		strings.Replace(value, `uri="sip:example.com"`, `uri=sip:example.com`, 1),
		strings.Replace(value, "qop=auth", `QOP = "auth"`, 1),
		strings.Replace(value, `username="alice"`, `username="al\ice"`, 1),
		strings.Replace(value, "algorithm=MD5", `algorithm="md5", opaque="x,y=\"z\"", auth-param=1`, 1),
	} {
		if got := v.Check(request(alice, s, 0), noon).Reason; got != OK {
			t.Errorf("%v: %s", got, s)
		}
	}
}

func TestParseUsers(t *testing.T) {
	c := NewCredential("alice", "example.com", "secret")
	u, err := ParseUsers(fmt.Appendf(nil, "# comment\n\nalice:example.com:%s\nbob:example.com:%s:%s\ncarol:example.com::%s\ndave:example.com:password=a:b=c\n",
		c.md5, strings.ToUpper(string(c.md5[:])), c.sha256, c.sha256))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Credential{
		"alice": {md5: c.md5, has: [algorithms]bool{MD5: true}}, "bob": c,
		"carol": {sha256: c.sha256, has: [algorithms]bool{SHA256: true}}, "dave": NewCredential("dave", "example.com", "a:b=c"),
	} {
		if got, ok := u.Lookup([]byte(name), []byte("example.com")); !ok || got != want {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
	for _, bad := range []string{"alice", "alice:realm", ":r:password=x", "a:r:password=", "a:r:12", "a:r:" + string(c.sha256[:]), "a:r::", "a:r:zz" + string(c.md5[2:])} {
		_, err := ParseUsers([]byte("# first\n" + bad))
		if err == nil || !strings.HasPrefix(err.Error(), "line 2: ") || strings.Contains(err.Error(), "zz") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestB08FileReload: a changed file is taken over, a broken one is not.
func TestB08FileReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "users")
		write := func(s string, age time.Duration) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, noon.Add(age), noon.Add(age)); err != nil {
				t.Fatal(err)
			}
		}
		write("alice:r:password=1\n", 0)
		f, err := OpenFile(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx, time.Second) }()
		for _, step := range []struct {
			text string
			want int
		}{{"alice:r:password=1\nbob:r:password=2\n", 2}, {"broken\n", 2}, {"bob:r:password=2\n", 1}} {
			synctest.Wait()
			write(step.text, time.Duration(len(step.text))*time.Hour)
			time.Sleep(2 * time.Second)
			if f.Len() != step.want {
				t.Errorf("%q: %d users, want %d", step.text, f.Len(), step.want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	users := NewUsers()
	for name, cfg := range map[string]Config{
		"no provider": {}, "secret has 3 bytes": {Provider: users, Secret: []byte("abc")}, "unknown algorithm": {Provider: users, Algorithms: []Algorithm{9}},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenFile(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a missing file was read")
	}
}

func FuzzHeader(f *testing.F) {
	v := verifier(f, nil)
	f.Add([]byte(alice.answer(string(v.Challenge(nil, "example.com", MD5, false, noon)), 1)))
	f.Add([]byte(`Digest username="a\"b", realm=x, nonce="", uri=sip:a, response=,,`))
	f.Add([]byte("Digest \\\"=\"\\"))
	f.Fuzz(func(t *testing.T, value []byte) {
		before := string(value)
		res := v.Check(Request{Method: []byte("INVITE"), URI: []byte("sip:a@b"), Value: value}, noon)
		if res.Reason == OK {
			t.Fatal("accepted")
		}
		if string(value) != before {
			t.Fatal("value was changed")
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	v := verifier(b, nil)
	for _, alg := range []Algorithm{MD5, SHA256} {
		b.Run(alg.String(), func(b *testing.B) {
			c := alice
			c.alg = alg
			r := request(c, c.answer(string(v.Challenge(nil, c.realm, alg, false, noon)), 1), 1)
			b.ReportAllocs()
			for b.Loop() {
				if v.Check(r, noon).Reason != OK {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkChallenge(b *testing.B) {
	v := verifier(b, nil)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		v.Challenge(buf, "example.com", MD5, false, noon)
	}
}
