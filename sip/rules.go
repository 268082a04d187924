package sip

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
)

// Rule sends new dialogs to a farm. Empty fields fit everything; all that are given must fit.
type Rule struct {
	// Method is a request method. CANCEL and ACK go by their INVITE.
	Method string
	// Domain is the Request-URI's host: exact, "prefix.*" or "*.suffix".
	Domain string
	// User is the Request-URI's user: exact, "prefix*", or a range of numbers of equal length, "7000-7999".
	User string
	// Farm is where it goes.
	Farm dispatch.Farm
}

// DefaultRules send REGISTER to the registrar, the users 7000 to 7999 and the domains conference.* to the conference
// farm and everything else to the call farm.
func DefaultRules() []Rule {
	return []Rule{
		{Method: "REGISTER", Farm: dispatch.Registrar},
		{User: "7000-7999", Farm: dispatch.Conference},
		{Domain: "conference.*", Farm: dispatch.Conference},
		{Farm: dispatch.Call},
	}
}

func (r *Rule) validate() error {
	if r.Farm >= dispatch.NumFarms {
		return errors.New("unknown farm")
	}
	r.Domain = strings.ToLower(r.Domain)
	if i := strings.IndexByte(r.Domain, '*'); i >= 0 && i != len(r.Domain)-1 && i != 0 || strings.Count(r.Domain, "*") > 1 {
		return fmt.Errorf("domain %q: a star may stand at one end only", r.Domain)
	}
	if i := strings.IndexByte(r.User, '*'); i >= 0 && i != len(r.User)-1 {
		return fmt.Errorf("user %q: a star may stand at the end only", r.User)
	}
	if lo, hi, ok := r.userRange(); ok && (len(lo) != len(hi) || lo > hi) {
		return fmt.Errorf("user %q: a range needs two numbers of equal length, the lower first", r.User)
	}
	return nil
}

// userRange splits a range of numbers.
func (r *Rule) userRange() (lo, hi string, ok bool) {
	lo, hi, ok = strings.Cut(r.User, "-")
	if !ok {
		return "", "", false
	}
	if _, err := strconv.ParseUint(lo, 10, 64); err != nil {
		return "", "", false
	}
	_, err := strconv.ParseUint(hi, 10, 64)
	return lo, hi, err == nil
}

// fits compares without allocating.
func (r *Rule) fits(method, user, host []byte) bool {
	if r.Method != "" && r.Method != string(method) {
		return false
	}
	if r.Domain != "" && !fitsDomain(r.Domain, host) {
		return false
	}
	if r.User == "" {
		return true
	}
	if lo, hi, ok := r.userRange(); ok {
		return len(user) == len(lo) && string(user) >= lo && string(user) <= hi && digits(user)
	}
	if prefix, star := strings.CutSuffix(r.User, "*"); star {
		return len(user) >= len(prefix) && string(user[:len(prefix)]) == prefix
	}
	return string(user) == r.User
}

func fitsDomain(pattern string, host []byte) bool {
	if prefix, star := strings.CutSuffix(pattern, "*"); star {
		return len(host) > len(prefix) && message.EqualFold(host[:len(prefix)], prefix)
	}
	if suffix, star := strings.CutPrefix(pattern, "*"); star {
		return len(host) > len(suffix) && message.EqualFold(host[len(host)-len(suffix):], suffix)
	}
	return message.EqualFold(host, pattern)
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
func (p *Proxy) farmOf(m *message.Message) (dispatch.Farm, bool) {
	method := m.MethodName()
	if m.Method() == message.Cancel || m.Method() == message.Ack {
		method = []byte("INVITE")
	}
	u := m.Target()
	user := u.User
	if i := bytes.IndexByte(user, ';'); i >= 0 { // parameters of a telephone number, RFC 3966
		user = user[:i]
	}
	for i := range p.cfg.Rules {
		if r := &p.cfg.Rules[i]; r.fits(method, user, u.Host) {
			return r.Farm, true
		}
	}
	return 0, false
}
