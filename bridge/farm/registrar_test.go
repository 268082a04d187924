package farm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newLocations() *locations {
	return &locations{
		defaultExpires: time.Hour, minExpires: time.Minute, maxExpires: 2 * time.Hour,
		maxContacts: 2, maxUsers: 2, users: make(map[string][]binding),
	}
}

func wish(uri string, expires int) contactWish {
	return contactWish{uri: uri, key: uri, q: 1, expires: time.Duration(expires) * time.Second}
}

// TestB32LocationTable plays REGISTERs against the pure table: RFC 3261, section 10.3.
func TestB32LocationTable(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	table := newLocations()
	steps := []struct {
		name   string
		at     int // seconds after the start
		r      registration
		status int
		left   []string // uri=remaining seconds
	}{
		{"a query of nobody", 0, registration{user: "a", callID: "1", seq: 1, expires: -1}, 0, nil},
		{"default expiry", 0, registration{user: "a", callID: "1", seq: 2, expires: -1, contacts: []contactWish{wish("x", -1)}}, 0, []string{"x=3600"}},
		{"the header's", 10, registration{user: "a", callID: "1", seq: 3, expires: 120 * time.Second, contacts: []contactWish{wish("x", -1)}}, 0, []string{"x=120"}},
		{"the contact's wins", 20, registration{user: "a", callID: "1", seq: 4, expires: 120 * time.Second, contacts: []contactWish{wish("x", 300)}}, 0, []string{"x=300"}},
		{"the same CSeq again", 21, registration{user: "a", callID: "1", seq: 4, expires: 60 * time.Second, contacts: []contactWish{wish("x", -1)}}, 500, []string{"x=299"}},
		{"an older CSeq removes nothing", 21, registration{user: "a", callID: "1", seq: 2, expires: 0, star: true}, 500, []string{"x=299"}},
		{"another Call-ID is a restarted phone", 22, registration{user: "a", callID: "2", seq: 1, expires: -1, contacts: []contactWish{wish("x", 100)}}, 0, []string{"x=100"}},
		{"too brief", 22, registration{user: "a", callID: "2", seq: 2, expires: -1, contacts: []contactWish{wish("y", 59)}}, 423, []string{"x=100"}},
		{"too long is shortened", 22, registration{user: "a", callID: "2", seq: 3, expires: -1, contacts: []contactWish{wish("y", 99999)}}, 0, []string{"x=100", "y=7200"}},
		{"one too many", 22, registration{user: "a", callID: "2", seq: 4, expires: -1, contacts: []contactWish{wish("z", -1)}}, 403, []string{"x=100", "y=7200"}},
		{"one for another", 22, registration{user: "a", callID: "2", seq: 5, expires: -1, contacts: []contactWish{wish("x", 0), wish("z", 60)}}, 0, []string{"y=7200", "z=60"}},
		{"all or nothing", 22, registration{user: "a", callID: "2", seq: 6, expires: -1, contacts: []contactWish{wish("z", 0), wish("y", 1)}}, 423, []string{"y=7200", "z=60"}},
		{"expired", 82, registration{user: "a", callID: "2", seq: 7, expires: -1}, 0, []string{"y=7140"}},
		{"star without Expires 0", 83, registration{user: "a", callID: "2", seq: 8, expires: 10, star: true}, 400, []string{"y=7139"}},
		{"star with another contact", 83, registration{user: "a", callID: "2", seq: 9, expires: 0, star: true, contacts: []contactWish{wish("x", 0)}}, 400, []string{"y=7139"}},
		{"star", 83, registration{user: "a", callID: "2", seq: 10, expires: 0, star: true}, 0, nil},
		{"removal of what is not there", 84, registration{user: "a", callID: "2", seq: 11, expires: 0, contacts: []contactWish{wish("x", -1)}}, 0, nil},
		{"first of two users", 85, registration{user: "a", callID: "2", seq: 12, expires: -1, contacts: []contactWish{wish("x", -1)}}, 0, []string{"x=3600"}},
		{"second of two users", 85, registration{user: "b", callID: "2", seq: 12, expires: -1, contacts: []contactWish{wish("x", 60)}}, 0, []string{"x=60"}},
		{"third of two users", 85, registration{user: "c", callID: "2", seq: 12, expires: -1, contacts: []contactWish{wish("x", -1)}}, 503, nil},
	}
	for _, s := range steps {
		now := start.Add(time.Duration(s.at) * time.Second)
		got, no := table.register(s.r, now)
		if no.status != s.status {
			t.Fatalf("%s: %+v, want %d", s.name, no, s.status)
		}
		if no.status == 423 && no.minExpires != time.Minute {
			t.Errorf("%s: Min-Expires %v", s.name, no.minExpires)
		}
		stored := table.contacts(s.r.user, now)
		if no.status == 0 && len(got) != len(stored) {
			t.Errorf("%s: %d contacts in the answer, %d in the table", s.name, len(got), len(stored))
		}
		var left []string
		for _, b := range stored {
			left = append(left, b.uri+"="+seconds(b.expires.Sub(now)))
		}
		if diff := cmp.Diff(s.left, left); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
	later := start.Add(150 * time.Second)
	if n := table.count(later); n != 1 || len(table.contacts("a", later)) != 1 {
		t.Errorf("later there are %d, %d of a", n, len(table.contacts("a", later)))
	}
	table.sweep(later)
	if len(table.users) != 1 {
		t.Errorf("%d users after the sweep", len(table.users))
	}
}

// TestPreference: contacts come in the order of q.
func TestPreference(t *testing.T) {
	table, now := newLocations(), time.Now()
	low, high := wish("low", 60), wish("high", 60)
	low.q = 0.1
	table.register(registration{user: "a", callID: "1", seq: 1, expires: -1, contacts: []contactWish{low, high}}, now)
	if c := table.contacts("a", now); len(c) != 2 || c[0].uri != "high" {
		t.Errorf("contacts: %+v", c)
	}
}

// TestB32Register: a phone registers, asks, has two contacts, removes one, removes all.
func TestB32Register(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	p := newPhone(t, f, "1001")
	res := p.register(200, `Contact: "A, B" <sip:1001@192.0.2.1:5062;ob>;q=0.5;expires=90, <sip:1001@192.0.2.2>`, "Expires: 600",
		"Path: <sip:edge.example;lr;c=1>, <sip:10.0.0.1:5060;lr>", "k: path, outbound")
	want := []string{"<sip:1001@192.0.2.1:5062;ob>;expires=90;q=0.5", "<sip:1001@192.0.2.2>;expires=600"}
	if diff := cmp.Diff(want, values(res, "Contact")); diff != "" {
		t.Errorf("Contact (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"<sip:edge.example;lr;c=1>", "<sip:10.0.0.1:5060;lr>"}, values(res, "Path")); diff != "" {
		t.Errorf("Path (-want +got):\n%s", diff)
	}
	if res.GetHeader("Date") == nil {
		t.Error("no Date")
	}
	if f.Registrations() != 2 || f.Stats().Registers != 1 {
		t.Errorf("%d registrations, %+v", f.Registrations(), f.Stats())
	}
	if n := len(values(p.register(200, "Expires: 60"), "Contact")); n != 2 {
		t.Errorf("a query shows %d contacts", n)
	}
	if n := len(values(p.register(200, "Contact: <sip:1001@192.0.2.2>;expires=0"), "Contact")); n != 1 {
		t.Errorf("%d contacts after the removal of one", n)
	}
	p.register(400, "Contact: *")
	p.register(200, "m: *", "Expires: 0")
	if f.Registrations() != 0 {
		t.Errorf("%d registrations after Contact: *", f.Registrations())
	}
	brief := p.register(423, "Contact: <sip:1001@192.0.2.2>;expires=5")
	if h := brief.GetHeader("Min-Expires"); h == nil || h.Value() != "60" {
		t.Errorf("Min-Expires: %v", h)
	}
	if h := p.register(420, "Contact: <sip:1001@192.0.2.2>", "Path: <sip:e;lr>").GetHeader("Unsupported"); h == nil || h.Value() != "path" {
		t.Errorf("Unsupported: %v", h)
	}
	p.register(420, "Contact: <sip:1001@192.0.2.2>", "Require: gruu")
	p.register(400, "Contact: <mailto:a@b>")
	p.register(403, "Contact: <sip:1001@"+p.farm.String()+";transport=udp>") // a call to it would come back, again and again
	if f.Registrations() != 0 {
		t.Errorf("%d registrations after those that were refused", f.Registrations())
	}
}

// TestRolesAndDomains: a farm without the role, and a foreign domain.
func TestRolesAndDomains(t *testing.T) {
	t.Parallel()
	p := newPhone(t, runFarm(t, Config{Roles: []Role{RoleCall}}), "1001")
	p.register(405)
	q := newPhone(t, runFarm(t, Config{Roles: []Role{RoleRegistrar, RoleConference}, Domains: []string{"Example.org"}}), "1001")
	q.register(404)
	r := newPhone(t, runFarm(t, Config{Roles: []Role{RoleRegistrar}}), "1001")
	r.register(200)
	r.dial("600", r.sdp("sendrecv")).refused(404)
}

// TestSplitList: commas inside of quotes and angle brackets do not separate.
func TestSplitList(t *testing.T) {
	got := splitList(` "a, \"b" <sip:x,y@z>;q=1,<sip:1>, sip:2 ,, `)
	if diff := cmp.Diff([]string{`"a, \"b" <sip:x,y@z>;q=1`, "<sip:1>", "sip:2"}, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzSplitList: no input breaks it, and nothing but separators and blanks is lost.
func FuzzSplitList(f *testing.F) {
	for _, s := range []string{"", ",", `"`, `"\`, "<,>,<", "a,b", `"a" <b>, c`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for _, e := range splitList(s) {
			if e == "" || !strings.Contains(s, e) {
				t.Fatalf("%q is no element of %q", e, s)
			}
			n += len(e)
		}
		if n > len(s) {
			t.Fatalf("%q grew", s)
		}
	})
}
