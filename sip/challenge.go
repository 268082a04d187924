package sip

import (
	"rtcedge/sip/auth"
	"rtcedge/sip/message"
)

// who lets a request pass that has the address of a farm node or trunk, a signed Route of its dialog, or a right digest. It
// challenges everybody else: 401 for REGISTER, as we stand in for the registrar, 407 for the rest (RFC 3261 section 22). Of two
// questions that a stranger can ask it answers neither: if a user exists, and if one is banned.
func (p *Proxy) who(c *pass) bool {
	m := &c.msg
	if c.waited {
		c.proven = c.proven || c.vouched
		if c.auth > 0 {
			c.consumed = &m.Fields()[c.auth-1]
		}
		return true
	}
	if c.inside {
		return true
	}
	if callsPSTN(m.Target()) {
		if within(c.policy.pstn, c.from.Addr()) || p.provesDialog(c) {
			return true
		}
		p.refuse(c, 403, "PSTN Not Allowed", DropPSTN)
		return false
	}
	if p.nobodyProves(c) || m.Method() == message.Ack || m.Method() == message.Cancel || p.provesDialog(c) {
		return true
	}
	if t := p.trunk(c); t != nil {
		if t.Domain != "" && !below(m.Target().Host, t.Domain) {
			p.refuse(c, 403, "Not the Trunk's Domain", DropForbidden)
			return false
		}
		if !t.Digest {
			return true
		}
	}
	if p.cfg.Auth == nil {
		return true
	}
	if p.banned(c) {
		c.drop(DropBanned)
		return false
	}
	return p.digest(c)
}

// nobodyProves tells that no source has to prove anything: neither accounts nor trunks are given.
func (p *Proxy) nobodyProves(c *pass) bool { return p.cfg.Auth == nil && len(c.policy.trunks) == 0 }

// digest lets a request pass whose password is right, and challenges the others.
func (p *Proxy) digest(c *pass) bool {
	m := &c.msg
	source := p.sourceHash(c.from.Addr())
	kind, code, reason, name := message.ProxyAuthorization, 407, "Proxy Authentication Required", "Proxy-Authenticate: "
	if m.Method() == message.Register {
		kind, code, reason, name = message.Authorization, 401, "Unauthorized", "WWW-Authenticate: "
	}
	stale := false
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != kind {
			continue
		}
		if c.verdict != auth.OK {
			break // it was looked at before, and its answer waited
		}
		res := p.cfg.Auth.Check(auth.Request{Method: m.MethodName(), URI: m.URI(), Value: m.Value(f), Realm: p.realm, Tx: p.txOf(c), Source: source, Asked: c.asked}, c.now)
		stale = stale || res.Reason.Stale()
		if res.Reason == auth.Refused && res.Received && p.wrongPassword(c) {
			c.drop(DropBanned)
			return false
		}
		switch res.Reason {
		case auth.OK:
		case auth.Waiting:
			p.askFirst(c, m.Value(f))
			return false
		case auth.Refused, auth.Unavailable:
			if p.refuseLater(c, res.Reason) {
				return false
			}
			c.verdict = res.Reason
			continue
		default:
			continue
		}
		c.proven = true
		if !p.speaksFor(c, res.User) {
			p.refuse(c, 403, "Not Your Address", DropForbidden)
			return false
		}
		c.consumed, c.auth = f, i+1
		return true
	}
	if c.verdict == auth.Unavailable {
		c.extra = append(c.extra, "Retry-After: 5\r\n"...)
		p.refuse(c, 503, "Accounts Unavailable", DropAccounts)
		return false
	}
	// As many challenges as the bound on answers allows; the first is the one that every phone understands.
	for i, alg := range p.cfg.Auth.Algorithms() {
		n := len(c.extra)
		c.extra = append(p.cfg.Auth.ChallengeTo(append(c.extra, name...), p.realm, alg, stale, source, c.now), "\r\n"...)
		if i > 0 && !c.proven && p.replySize(c, code, reason) > len(c.raw) {
			c.extra = c.extra[:n]
			break
		}
	}
	p.refuse(c, code, reason, DropUnauthorised)
	return false
}

// txOf names what a retransmission repeats and a replay cannot: its source and its transaction.
func (p *Proxy) txOf(c *pass) uint64 {
	var b [32]byte
	h := p.key.hasher(hashAuth)
	h.part(appendAddr(b[:0], c.from))
	h.part(c.msg.Via().Branch)
	h.part(c.msg.CallID())
	h.word(uint64(c.msg.CSeq()))
	lo, _ := h.sum()
	return lo
}

// provesDialog finds a signed Route for this dialog: whoever has it took part in the call that was let pass.
func (p *Proxy) provesDialog(c *pass) bool {
	m := &c.msg
	f := m.First(message.Route)
	if f == nil || len(m.ToTag()) == 0 || m.Method() == message.Register {
		return false
	}
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.Route {
			continue
		}
		for rest := m.Value(f); len(rest) > 0; {
			value, next, ok := message.NextValue(rest)
			if !ok {
				return false
			}
			var a message.NameAddr
			var u message.URI
			var st routeState
			if _, ok := a.Parse(value); !ok || !u.Parse(a.URI) || p.ours(u.Host, u.Port) == nil {
				return false
			}
			if text, ok := u.Param(message.SignedParam); ok && p.key.readRoute(&st, text, m.CallID()) && st.flags&routePath == 0 {
				return true
			}
			rest = next
		}
	}
	return false
}

// speaksFor tells if a proven user may use the address of the request: To's for REGISTER, else From's. Otherwise one password would
// open every account.
func (p *Proxy) speaksFor(c *pass, user []byte) bool {
	m := &c.msg
	a := m.From()
	if m.Method() == message.Register {
		a = m.To()
	}
	var u message.URI
	return u.Parse(a.URI) && string(u.User) == string(user)
}

// replySize is the size of the answer with what c.extra holds now.
func (p *Proxy) replySize(c *pass, code int, reason string) int {
	b, ok := p.buildReply(c, code, reason, true)
	if !ok {
		return maxOut
	}
	return len(b)
}
