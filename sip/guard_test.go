package sip

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/auth"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// long makes a request so long that no answer is longer.
const long = "User-Agent: a phone, as long as phones are "

func longInvite() string { return invite(long + strings.Repeat("x", 300) + "\n") }

// TestB08Trunks: a trunk is known by its address, may be asked for a digest as well, and calls its own domain only.
func TestB08Trunks(t *testing.T) {
	r := newRig(t, Config{Auth: users(t), Trunks: []Trunk{
		{Name: "plain", Prefixes: prefixes("127.0.5.0/24"), Domain: "A.trunk.example.com"},
		{Name: "both", Prefixes: prefixes("::ffff:127.0.6.0/120"), Digest: true}}})
	call := strings.Replace(longInvite(), "INVITE sip:600@E0", "INVITE sip:600@a.TRUNK.example.com", 1)
	r.one(r.put("127.0.5.9:5060", call), node1)
	r.status(r.put("127.0.5.9:5060", longInvite()), 403)
	r.status(r.put("127.0.6.9:5060", longInvite()), 407)
	r.status(r.put("127.0.7.9:5060", call), 407)
	if _, err := newPolicy(&Reloadable{Trunks: []Trunk{{Name: "none"}}}, nil); err == nil {
		t.Error("a trunk without addresses was taken")
	}
}

// TestB08PSTN: the telephone network's domain is for listed addresses, also where nobody else is challenged.
func TestB08PSTN(t *testing.T) {
	call := strings.Replace(longInvite(), "INVITE sip:600@E0", "INVITE sip:+4930123@PSTN.example.com", 1)
	for _, cfg := range []Config{{}, {Auth: users(t)}} {
		cfg.PSTN = prefixes("127.0.5.1/32")
		r := newRig(t, cfg)
		r.one(r.put("127.0.5.1:5060", call), node1)
		r.status(r.put("127.0.5.2:5060", call), 403)
		if out := r.put("127.0.5.2:5060", strings.ReplaceAll(call, "INVITE", "ACK")); len(out) != 0 {
			t.Errorf("an ACK passed: %v", out)
		}
		if r.drops()["pstn"] != 2 {
			t.Errorf("drops %v", r.drops())
		}
	}
}

// TestB09RateLimit: a source above its rate is not served and not answered; others, exempt ones, trunks, farms and responses are.
func TestB09RateLimit(t *testing.T) {
	r := newRig(t, Config{RateLimit: auth.RateConfig{PerSecond: 10, Burst: 20}, Exempt: prefixes("127.0.8.0/24"),
		Trunks: []Trunk{{Prefixes: prefixes("127.0.9.0/24")}}})
	count := func(from string, n int) (served int) {
		for range n {
			served += len(r.put(from, invite("")))
		}
		return served
	}
	if n := count(phone, 100); n != 20 {
		t.Errorf("%d of 100 served at once, want the burst of 20", n)
	}
	if n := r.drops()["rate"]; n != 80 {
		t.Errorf("counted %d", n)
	}
	r.now = r.now.Add(time.Second)
	if n := count(phone, 100); n != 10 {
		t.Errorf("%d served a second later, want 10", n)
	}
	for _, from := range []string{"127.0.3.3:5060", "127.0.3.4:5060"} {
		if n := count(from, 5); n != 5 {
			t.Errorf("%s: %d of 5 served beside an offender", from, n)
		}
	}
	for _, from := range []string{"127.0.8.1:1", "127.0.9.1:1"} {
		if n := count(from, 100); n != 100 {
			t.Errorf("%s: %d of 100 served", from, n)
		}
	}
	req := r.one(r.put("127.0.3.5:5060", invite("")), node1)
	for range 50 {
		r.one(r.put(node1, strings.ReplaceAll(strings.Replace(invite(""), "INVITE sip:600@E0", "INVITE sip:1@127.0.2.2:5072", 1), "abc1", "q")), "127.0.2.2:5072")
		r.one(r.putOn(0, 0, node1, answer(req, 180, "t", "")), "127.0.3.5:5060")
	}
}

// TestF27SpoofedSources: a flood from very many addresses takes no memory beyond the table, and a good source stays served.
func TestF27SpoofedSources(t *testing.T) {
	r := newRig(t, Config{RateLimit: auth.RateConfig{PerSecond: 10, Burst: 20, Entries: 1 << 10}})
	in := []byte(r.text(invite("")))
	r.mute = true
	c := r.p.newPass()
	w := rigMessage(r, in)
	w.Worker.State = c
	c.send = r
	flood := func(n int) {
		for i := range n {
			w.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5060)
			r.p.begin(c, w)
		}
	}
	flood(1000)
	if raceEnabled {
		return
	}
	if n := testing.AllocsPerRun(1, func() { flood(20_000) }); n != 0 {
		t.Errorf("%v allocations in a flood from 20,000 sources", n)
	}
	r.mute = false
	r.one(r.put(phone, invite("")), node1)
}

// TestF28Scanner: a scanner gets nothing at all, whatever it asks.
func TestF28Scanner(t *testing.T) {
	r := newRig(t, Config{Exempt: prefixes("127.0.8.8/32")})
	options := strings.ReplaceAll(strings.Replace(invite(""), "sip:600@E0 SIP", "sip:E0 SIP", 1), "INVITE", "OPTIONS")
	r.status(r.put(phone, options), 200)
	for _, s := range []string{
		options + "User-Agent: friendly-scanner\n",
		options + "user-agent: SIPVicious 0.3\n",
		invite("User-Agent: pplsip\n"),
		strings.Replace(options, `"A"`, `"sipvicious"`, 1),
		strings.Replace(options, "Call-ID: call-1@phone\n", "User-Agent: sipcli/v1.8\n", 1), // malformed besides
	} {
		if out := r.put(phone, s); len(out) != 0 {
			t.Errorf("answered with %v:\n%s", out, s)
		}
	}
	if n := r.drops()["scanner"]; n != 5 {
		t.Errorf("counted %d", n)
	}
	r.status(r.put("127.0.8.8:5060", options+"User-Agent: friendly-scanner\n"), 200)
	r.one(r.put(node1, strings.Replace(invite("User-Agent: sipcli\n"), "INVITE sip:600@E0", "INVITE sip:1@127.0.2.2:5072", 1)), "127.0.2.2:5072")
}

var changing = regexp.MustCompile(`nonce="[^"]*"`)

// TestF28UserExists: for an unproven stranger existing and absent users look alike, as caller and as callee.
func TestF28UserExists(t *testing.T) {
	r := newRig(t, Config{Auth: users(t)})
	for _, method := range []string{"REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE"} {
		var answers []string
		for _, user := range []string{"1001", "9999"} {
			text := strings.ReplaceAll(strings.ReplaceAll(longInvite(), "INVITE", method), "sip:600@", "sip:"+user+"@")
			text = strings.ReplaceAll(text, "sip:1001@", "sip:"+user+"@")
			code, name := 407, "Proxy-Authorization: "
			if method == "REGISTER" {
				code, name = 401, "Authorization: "
			}
			first := r.status(r.put(phone, text), code)
			wrong := digest(t, first, user, method, "sip:"+user+"@"+r.edge(0), 1)
			wrong = wrong[:len(wrong)-3] + `zz"`
			second := r.status(r.put(phone, text+name+wrong+"\n"), code)
			answers = append(answers, strings.ReplaceAll(changing.ReplaceAllString(first+second, "nonce"), user, "USER"))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: existing\n%s\nabsent\n%s", method, answers[0], answers[1])
		}
	}
}

// TestF29LockOut: fewer than 20 wrong passwords of one source are looked at; after that it gets no answer, even with the right one. Calls that
// run, other sources and the exempt go on, and the ban ends.
func TestF29LockOut(t *testing.T) {
	r := newRig(t, Config{Auth: users(t), Exempt: prefixes("127.0.8.8/32")})
	uri := "sip:600@" + r.edge(0)
	try := func(from, user, end string) []sentMessage {
		challenge := r.put(from, longInvite())
		if len(challenge) == 0 {
			return nil
		}
		d := digest(t, challenge[0].text, user, "INVITE", uri, 1)
		return r.put(from, longInvite()+"Proxy-Authorization: "+d[:len(d)-len(end)]+end+"\n")
	}
	running := r.one(try(phone, "1001", ""), node1)
	tries := 0
	for ; tries < 30; tries++ {
		if out := try(phone, fmt.Sprint(1000+tries), `zz"`); len(out) == 0 {
			break
		}
	}
	if tries >= 20 {
		t.Fatalf("not locked out after %d tries", tries)
	}
	if out := try(phone, "1001", ""); len(out) != 0 {
		t.Errorf("a banned source got %v", out)
	}
	bye := "BYE sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKx\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 BYE\nRoute: " + lines(running, "Record-Route")[0] + "\n"
	r.one(r.put(phone, bye), node1)
	r.one(try("127.0.3.3:5060", "1001", ""), node1)
	for range 40 {
		r.status(try("127.0.8.8:5060", "1001", `zz"`), 407)
	}
	r.now = r.now.Add(16 * time.Minute)
	r.one(try(phone, "1001", ""), node1)

	// Somebody else's nonce locks nobody out: the wrong passwords come from a forged address.
	victim := "127.0.4.4:5060"
	nonce := r.status(r.put("127.0.6.6:6666", longInvite()), 407)
	for range 40 {
		d := digest(t, nonce, "1001", "INVITE", uri, 1)
		r.status(r.put(victim, longInvite()+"Proxy-Authorization: "+d[:len(d)-3]+"zz\"\n"), 407)
	}
	r.one(try(victim, "1001", ""), node1)
	if r.drops()["banned"] == 0 {
		t.Error("bans are not counted")
	}
}

// TestF30TollFraud: nothing that a stranger writes leads a request or a farm node out of the domains.
func TestF30TollFraud(t *testing.T) {
	r := newRig(t, Config{Domains: []string{"example.com"}})
	refer := strings.ReplaceAll(longInvite(), "INVITE", "REFER")
	for _, to := range []string{"<sip:600@example.com>", "sip:600@E0", "<sip:x@" + node1 + "?Replaces=a%3Bto-tag%3Db>", "tel:+4930", "<sip:1@sub.example.com>;method=INVITE"} {
		r.one(r.put(phone, refer+"Refer-To: "+to+"\n"), node1)
	}
	for _, to := range []string{"<sip:900@evil.org>", "sip:900@192.0.2.1", "<sip:1@example.com;maddr=192.0.2.1>", "<sip:1@example.com?Route=%3Csip:evil.org%3E>",
		"<sip:1@example.com?%52oute=x>", "<sip:1@example.com>, <sip:1@evil.org>", "<http://evil.org>", "nonsense"} {
		r.status(r.put(phone, refer+"Refer-To: "+to+"\n"), 403)
		r.status(r.put(phone, refer+"r: "+to+"\n"), 403)
	}
	out := strings.Replace(longInvite(), "INVITE sip:600@E0", "INVITE sip:600@evil.org", 1)
	r.status(r.put(phone, out+"Replaces: a;to-tag=b;from-tag=c\n"), 403)
	r.status(r.put(phone, out), 404)
	r.one(r.put(phone, longInvite()+"Replaces: a;to-tag=b;from-tag=c\n"), node1)
	for _, route := range []string{"<sip:evil.org;lr>", "<sip:E0;lr>,<sip:evil.org;lr>", "<sip:" + node1 + ";lr>", "sip:evil.org", "<sip:E0;lr;vb=AAAA>, <sip:192.0.2.1>"} {
		r.status(r.put(phone, longInvite()+"Route: "+route+"\n"), 403)
	}
}

// TestF29Suspects: the quick look never clears a text that holds a scanner's name.
func TestF29Suspects(t *testing.T) {
	pol := policy{}
	for _, s := range DefaultScanners() {
		pol.scanners = append(pol.scanners, []byte(s))
		pol.suspects.add([]byte(s))
	}
	for _, s := range DefaultScanners() {
		for _, text := range []string{s, strings.ToUpper(s), "x" + s + "/1.0", "a long name before it " + strings.ToUpper(s)} {
			if !pol.scanner([]byte(text)) {
				t.Errorf("%s passes", text)
			}
		}
	}
	for _, text := range []string{"", "si", "Linphone/5.0.0 (belle-sip/5.0.0)", "Z 5.6.4 v2.10.20.4_1", "baresip v1.1.0 (x86_64/Linux)", "JsSIP 3.10.1", "Grandstream GXP2170 1.0.11.64"} {
		if pol.scanner([]byte(text)) {
			t.Errorf("%s is taken for a scanner", text)
		}
	}
	pol.scanners = append(pol.scanners, []byte("zz"))
	pol.suspects.add([]byte("zz"))
	if !pol.scanner([]byte("buzz")) {
		t.Error("a name of two letters is not found")
	}
}
