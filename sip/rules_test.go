package sip

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"rtcedge/sip/dispatch"
)

func threeFarms() (c dispatch.Config) {
	for f, a := range []string{node1, node2, node3} {
		c.Farms[f] = []dispatch.NodeConfig{{Addr: netip.MustParseAddrPort(a)}}
	}
	return c
}

// domainRules are those of a site that tells its services by the domain: conference.example.com is a conference,
// NAME.registrar.example.com an office with its phones, NAME.trunk.example.com a provider, pstn.example.com the telephone network
// and sip.example.com the users. Any other domain gets 404.
func domainRules() []Rule {
	return []Rule{
		{Domain: "conference.*", Farm: dispatch.Conference},
		{Domain: "*.registrar.*", Farm: dispatch.Registrar},
		{Domain: "sip.*", Method: "REGISTER", Farm: dispatch.Registrar},
		{Domain: "sip.*", Method: "SUBSCRIBE", Farm: dispatch.Registrar},
		{Domain: "sip.*", Method: "NOTIFY", Farm: dispatch.Registrar},
		{Domain: "sip.*", Method: "PUBLISH", Farm: dispatch.Registrar},
		{Domain: "sip.*", Method: "MESSAGE", Farm: dispatch.Registrar},
		{Domain: "*.trunk.*", Farm: dispatch.Call},
		{Domain: "pstn.*", Farm: dispatch.Call},
		{Domain: "sip.*", Farm: dispatch.Call},
	}
}

// TestB01DomainRules: the documented example, as a configuration file would hold it.
func TestB01DomainRules(t *testing.T) {
	text, err := json.Marshal(domainRules())
	if err != nil {
		t.Fatal(err)
	}
	var rules []Rule
	if err := json.Unmarshal(text, &rules); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	r := newRig(t, Config{Farms: threeFarms(), Rules: rules, Domains: []string{"example.com"}, PSTN: prefixes("127.0.2.0/24")})
	for _, c := range []struct{ method, uri, want string }{
		{"INVITE", "sip:7000@conference.example.com", node2},
		{"INVITE", "sip:7000@Conference.Example.COM;transport=tcp", node2},
		{"REGISTER", "sip:acme.registrar.example.com", node3},
		{"INVITE", "sip:1001@acme.registrar.example.com", node3},
		{"INVITE", "sip:+4930123@carrier.trunk.example.com", node1},
		{"INVITE", "sip:+4930123@pstn.example.com", node1},
		{"INVITE", "sip:1001@sip.example.com", node1},
		{"REGISTER", "sip:sip.example.com", node3},
		{"SUBSCRIBE", "sip:1001@sip.example.com", node3},
		{"PUBLISH", "sip:1001@sip.example.com", node3},
		{"MESSAGE", "sip:1001@sip.example.com", node3},
		{"CANCEL", "sip:7000@conference.example.com", node2},
		{"ACK", "sip:1001@acme.registrar.example.com", node3},
		{"INVITE", "sip:1001@example.com", "404"},
		{"INVITE", "sip:1001@other.example.com", "404"},
		{"INVITE", "sip:1001@conference.example.org", "404"},
	} {
		text := strings.ReplaceAll(strings.Replace(invite(""), "sip:600@E0", c.uri, 1), "INVITE", c.method)
		if out := r.put(phone, text); c.want == "404" {
			r.status(out, 404)
		} else {
			r.one(out, c.want)
		}
	}
}

// TestB01Patterns: every form of a rule.
func TestB01Patterns(t *testing.T) {
	for _, c := range []struct {
		rule       Rule
		user, host string
		want       bool
	}{
		{Rule{}, "any", "any", true},
		{Rule{Domain: "a.example"}, "", "A.EXAMPLE", true},
		{Rule{Domain: "a.example"}, "", "b.a.example", false},
		{Rule{Domain: "*.example"}, "", "a.Example", true},
		{Rule{Domain: "*.example"}, "", "a.example.org", false},
		{Rule{Domain: "*.trunk.*"}, "", "x.Trunk.y", true},
		{Rule{Domain: "*.trunk.*"}, "", "trunk.y", false},
		{Rule{Domain: "~^(a|b)\\.example$"}, "", "B.EXAMPLE", true},
		{Rule{Domain: "~^(a|b)\\.example$"}, "", "c.example", false},
		{Rule{User: "600"}, "600", "", true},
		{Rule{User: "600"}, "6000", "", false},
		{Rule{User: "00*"}, "004930", "", true},
		{Rule{User: "00*"}, "04930", "", false},
		{Rule{User: "*99"}, "1199", "", true},
		{Rule{User: "*99"}, "1198", "", false},
		{Rule{User: "*-x-*"}, "a-x-b", "", true},
		{Rule{User: "7000-7999"}, "7500", "", true},
		{Rule{User: "7000-7999"}, "75000", "", false},
		{Rule{User: "7000-7999"}, "7ab0", "", false},
		{Rule{User: `~^\+?49\d{3,}$`}, "+4930123", "", true},
		{Rule{User: `~^\+?49\d{3,}$`}, "4930x", "", false},
		{Rule{User: "~^Alice$"}, "alice", "", false},
		{Rule{Method: "REGISTER"}, "", "", false},
	} {
		r := c.rule
		if err := r.validate(); err != nil {
			t.Fatalf("%+v: %v", c.rule, err)
		}
		if got := r.fits([]byte("INVITE"), []byte(c.user), []byte(c.host)); got != c.want {
			t.Errorf("%+v: %q @ %q: %v", c.rule, c.user, c.host, got)
		}
	}
	for _, bad := range []Rule{{Farm: 9}, {User: "8000-7000"}, {User: "70-7000"}, {User: "7*0"}, {Domain: "a.*.b"}, {User: "~("}, {Domain: "~["}, {User: "*"}} {
		if bad.validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestB01NumbersUntouched: numbers and aliases reach the farm letter by letter, in Request-URI, To and From.
func TestB01NumbersUntouched(t *testing.T) {
	r := newRig(t, Config{})
	for _, uri := range []string{"sip:+4930123456@E0;user=phone", "tel:+49-30-123456;phone-context=example.com", "sip:0049%2030@E0", "sip:support.desk@E0",
		"sip:+4930123456;npdi;rn=+4940@E0;user=phone"} {
		text := r.text(strings.Replace(invite(""), "sip:600@E0", uri, 2))
		got := r.one(r.putOn(0, 0, phone, text), node1)
		start, _, _ := strings.Cut(text, "\r\n")
		if !strings.HasPrefix(got, start+"\r\n") || lines(got, "To")[0] != lines(text, "To")[0] || lines(got, "From")[0] != lines(text, "From")[0] {
			t.Errorf("%s became\n%s", start, got)
		}
	}
}

// TestRulesAllocateNothing: also expressions are matched without garbage.
func TestRulesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	pol, err := newPolicy(&Reloadable{Rules: []Rule{{User: `~^\+49\d+x$`}, {Domain: "~^nobody"}, {Farm: dispatch.Call}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, newRig(t, Config{}).text(invite("")))
	if n := testing.AllocsPerRun(100, func() { pol.farmOf(m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
