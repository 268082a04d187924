package farm

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// binding is one contact of a user.
type binding struct {
	uri     string   // the Contact's URI as it came, without the angle brackets
	key     string   // what makes it the same contact (RFC 3261, section 10.2.4, or RFC 5626, section 6)
	q       float64  // preference, 0 to 1
	path    []string // route to it, each with angle brackets as it came (RFC 3327)
	callID  string
	seq     uint32
	expires time.Time
	reach   reach
}

// Reachability is what the last OPTIONS to a contact came to.
type Reachability uint8

// States of a contact. It is called in all of them.
const (
	ReachUnknown Reachability = iota // not asked since it has registered from where it is now
	Reachable                        // it answered
	Unreachable                      // it did not
)

// String is the state's name.
func (r Reachability) String() string { return [...]string{"unknown", "reachable", "unreachable"}[r] }

// reach is what qualifying has found out about a contact.
type reach struct {
	state  Reachability
	rtt    time.Duration // of the last answer; 0 if there was none to the last question
	missed int           // questions without an answer since the last answer
}

// contactWish is one Contact of a REGISTER.
type contactWish struct {
	uri, key string
	q        float64
	expires  time.Duration // its expires parameter; negative: none given
}

// registration is what a REGISTER asks for. Without contacts and star it only asks.
type registration struct {
	user     string
	callID   string
	seq      uint32
	star     bool          // Contact: *
	expires  time.Duration // the Expires header; negative: none given
	contacts []contactWish
	path     []string
}

// refusal is a final answer in place of an effect; status 0 is none.
type refusal struct {
	status     int
	reason     string
	minExpires time.Duration // of a 423
}

// locations is the registrar's table: pure but for its lock. Time comes in by argument.
type locations struct {
	// Constant.
	defaultExpires, minExpires, maxExpires time.Duration
	maxContacts, maxUsers                  int

	mu    sync.Mutex // guards users
	users map[string][]binding
}

// register does all that the request asks for, or nothing (RFC 3261, section 10.3, steps 6 to 8), and returns the user's
// contacts.
func (t *locations) register(r registration, now time.Time) ([]binding, refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	current := t.liveLocked(r.user, now)
	if r.star {
		if r.expires != 0 || len(r.contacts) > 0 {
			return nil, refusal{status: 400, reason: "Contact * Needs Expires 0"}
		}
		for _, b := range current {
			if b.stale(r) {
				return nil, outOfOrder()
			}
		}
		delete(t.users, r.user)
		return nil, refusal{}
	}

	next := slices.Clone(current)
	for _, c := range r.contacts {
		span := t.defaultExpires
		if c.expires >= 0 {
			span = c.expires
		} else if r.expires >= 0 {
			span = r.expires
		}
		if span > 0 && span < t.minExpires {
			return nil, refusal{status: 423, reason: "Interval Too Brief", minExpires: t.minExpires}
		}
		at := slices.IndexFunc(next, func(b binding) bool { return b.key == c.key })
		if at >= 0 && next[at].stale(r) {
			return nil, outOfOrder()
		}
		switch {
		case span == 0 && at >= 0:
			next = slices.Delete(next, at, at+1)
			continue
		case span == 0:
			continue
		case at < 0:
			next = append(next, binding{})
			at = len(next) - 1
		}
		b := binding{
			uri: c.uri, key: c.key, q: c.q, path: r.path, callID: r.callID, seq: r.seq,
			expires: now.Add(min(span, t.maxExpires)),
		}
		if b.sameWay(next[at]) {
			b.reach = next[at].reach
		}
		next[at] = b
	}
	if len(next) > t.maxContacts && len(next) > len(current) {
		return nil, refusal{status: 403, reason: "Too Many Contacts"}
	}
	if len(current) == 0 && len(next) > 0 && len(t.users) >= t.maxUsers {
		return nil, refusal{status: 503, reason: "Registrar Full"}
	}
	if len(next) == 0 {
		delete(t.users, r.user)
	} else {
		t.users[r.user] = next
	}
	return slices.Clone(next), refusal{}
}

// stale tells that the request is older than the binding, or the one that made it come again.
func (b *binding) stale(r registration) bool { return b.callID == r.callID && r.seq <= b.seq }

// sameWay tells if requests to both take the same way.
func (b *binding) sameWay(o binding) bool { return b.uri == o.uri && slices.Equal(b.path, o.path) }

func outOfOrder() refusal { return refusal{status: 500, reason: "CSeq Out Of Order"} }

// contacts are a user's live contacts, the preferred ones first.
func (t *locations) contacts(user string, now time.Time) []binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	live := slices.Clone(t.liveLocked(user, now))
	slices.SortStableFunc(live, func(a, b binding) int { return cmp.Compare(b.q, a.q) })
	return live
}

// find is one live contact.
func (t *locations) find(id contactID, now time.Time) (binding, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	live := t.liveLocked(id.user, now)
	at := slices.IndexFunc(live, func(b binding) bool { return b.key == id.key })
	if at < 0 {
		return binding{}, false
	}
	return live[at], true
}

// mark notes what became of a question to a contact, unless the contact has moved since.
func (t *locations) mark(id contactID, asked binding, answered bool, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.users[id.user] // nobody else reads the slice without the lock
	at := slices.IndexFunc(all, func(b binding) bool { return b.key == id.key })
	switch {
	case at < 0 || !all[at].sameWay(asked):
	case answered:
		all[at].reach = reach{state: Reachable, rtt: rtt}
	default:
		all[at].reach = reach{state: Unreachable, missed: all[at].reach.missed + 1}
	}
}

// walk visits the live contacts of all users, in no order, with the lock held.
func (t *locations) walk(now time.Time, visit func(user string, b binding)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user := range t.users {
		for _, b := range t.liveLocked(user, now) {
			visit(user, b)
		}
	}
}

// count is the number of live contacts of all users.
func (t *locations) count(now time.Time) int {
	n := 0
	t.walk(now, func(string, binding) { n++ })
	return n
}

// sweep forgets what has expired.
func (t *locations) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user := range t.users {
		if live := t.liveLocked(user, now); len(live) > 0 {
			t.users[user] = live
		} else {
			delete(t.users, user)
		}
	}
}

func (t *locations) liveLocked(user string, now time.Time) []binding {
	all := t.users[user]
	expired := func(b binding) bool { return !b.expires.After(now) }
	if !slices.ContainsFunc(all, expired) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), expired)
}

// splitList cuts a header value at its commas, outside of quotes and angle brackets (RFC 3261, section 7.3.1).
func splitList(value string) []string {
	var out []string
	start, quoted, bracket := 0, false, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !bracket:
			quoted = !quoted
		case quoted:
		case c == '<':
			bracket = true
		case c == '>':
			bracket = false
		case c == ',' && !bracket:
			out = appendTrimmed(out, value[start:i])
			start = i + 1
		}
	}
	return appendTrimmed(out, value[start:])
}

func appendTrimmed(out []string, s string) []string {
	if s = strings.TrimSpace(s); s != "" {
		out = append(out, s)
	}
	return out
}
