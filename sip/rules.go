package sip

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
)

// Rule sends new dialogs to a farm. Empty fields fit everything; all that are given must fit. Domain and User take these forms:
//
//	example.com     exactly this
//	conference.*    what starts with it
//	*.example.com   what ends with it
//	*.trunk.*       what contains it
//	7000-7999       User only: numbers of this length and range
//	~^00[1-9]\d+$   what the RE2 expression behind the tilde finds
//
// A star stands for any number of characters, also none.
type Rule struct {
	// Method is a request method. CANCEL and ACK go by their INVITE. Default: every method.
	Method string `yaml:"method,omitempty" json:"method,omitempty"`
	// Domain is the Request-URI's host; case does not count. Default: every host.
	Domain string `yaml:"domain,omitempty" json:"domain,omitempty"`
	// User is the Request-URI's user without parameters, or the number of a tel: URI. Default: every user.
	User string `yaml:"user,omitempty" json:"user,omitempty"`
	// Farm is where it goes: call, conference or registrar.
	Farm dispatch.Farm `yaml:"farm" json:"farm"`

	domain, user pattern
}

// DefaultRules send REGISTER to the registrar, the users 7000 to 7999 and the domains conference.* to the conference farm, what else is about
// a user and not about a call (presence, message waiting, messages) to the registrar, which knows the users, and the rest to the call farm.
func DefaultRules() []Rule {
	return []Rule{
		{Method: "REGISTER", Farm: dispatch.Registrar},
		{User: "7000-7999", Farm: dispatch.Conference},
		{Domain: "conference.*", Farm: dispatch.Conference},
		{Method: "SUBSCRIBE", Farm: dispatch.Registrar},
		{Method: "NOTIFY", Farm: dispatch.Registrar},
		{Method: "PUBLISH", Farm: dispatch.Registrar},
		{Method: "MESSAGE", Farm: dispatch.Registrar},
		{Farm: dispatch.Call},
	}
}

func (r *Rule) validate() (err error) {
	if r.Farm >= dispatch.NumFarms {
		return errors.New("unknown farm")
	}
	if r.domain, err = newPattern(r.Domain, true); err != nil {
		return fmt.Errorf("domain %q: %w", r.Domain, err)
	}
	if r.user, err = newPattern(r.User, false); err != nil {
		return fmt.Errorf("user %q: %w", r.User, err)
	}
	return nil
}

// fits compares without allocating.
func (r *Rule) fits(method, user, host []byte) bool {
	return (r.Method == "" || r.Method == string(method)) && r.domain.fits(host) && r.user.fits(user)
}

// pattern is a compiled Rule.Domain or Rule.User.
type pattern struct {
	kind   patternKind
	fold   bool // host names: case does not count, the texts are in lower case
	lo, hi string
	expr   *regexp.Regexp
}

type patternKind uint8

const (
	patternAny patternKind = iota
	patternExact
	patternPrefix
	patternSuffix
	patternInner
	patternRange
	patternExpr
)

func newPattern(text string, host bool) (p pattern, err error) {
	p.fold = host
	if expr, ok := strings.CutPrefix(text, "~"); ok {
		if host {
			expr = "(?i:" + expr + ")"
		}
		p.kind = patternExpr
		p.expr, err = regexp.Compile(expr)
		return p, err
	}
	if host {
		text = strings.ToLower(text)
	} else if lo, hi, ok := numbers(text); ok {
		if len(lo) != len(hi) || lo > hi {
			return p, errors.New("a range needs two numbers of equal length, the lower first")
		}
		p.kind, p.lo, p.hi = patternRange, lo, hi
		return p, nil
	}
	rest, start := strings.CutPrefix(text, "*")
	rest, end := strings.CutSuffix(rest, "*")
	if strings.Contains(rest, "*") || rest == "" && text != "" {
		return p, errors.New("a star may stand at the ends of a text only")
	}
	p.lo = rest
	switch {
	case start && end:
		p.kind = patternInner
	case start:
		p.kind = patternSuffix
	case end:
		p.kind = patternPrefix
	case text != "":
		p.kind = patternExact
	}
	return p, nil
}

// numbers splits a range.
func numbers(text string) (lo, hi string, ok bool) {
	if lo, hi, ok = strings.Cut(text, "-"); !ok {
		return "", "", false
	}
	if _, err := strconv.ParseUint(lo, 10, 64); err != nil {
		return "", "", false
	}
	_, err := strconv.ParseUint(hi, 10, 64)
	return lo, hi, err == nil
}

func (p *pattern) fits(b []byte) bool {
	n := len(p.lo)
	switch p.kind {
	case patternAny:
		return true
	case patternExact:
		return p.same(b)
	case patternPrefix:
		return len(b) >= n && p.same(b[:n])
	case patternSuffix:
		return len(b) >= n && p.same(b[len(b)-n:])
	case patternInner:
		for i := 0; i+n <= len(b); i++ {
			if p.same(b[i : i+n]) {
				return true
			}
		}
		return false
	case patternRange:
		return len(b) == n && string(b) >= p.lo && string(b) <= p.hi && digits(b)
	}
	return p.expr.Match(b)
}

func (p *pattern) same(b []byte) bool {
	if p.fold {
		return message.EqualFold(b, p.lo)
	}
	return string(b) == p.lo
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// farmOf applies the rules. CANCEL and ACK are INVITEs to them, as they must go where their INVITE went.
func (pol *policy) farmOf(m *message.Message) (dispatch.Farm, bool) {
	method := m.MethodName()
	if m.Method() == message.Cancel || m.Method() == message.Ack {
		method = []byte("INVITE")
	}
	u := m.Target()
	user := u.User
	if i := bytes.IndexByte(user, ';'); i >= 0 { // parameters of a telephone number, RFC 3966
		user = user[:i]
	}
	for i := range pol.rules {
		if r := &pol.rules[i]; r.fits(method, user, u.Host) {
			return r.Farm, true
		}
	}
	return 0, false
}
