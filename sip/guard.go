package sip

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"rtcedge/sip/message"
)

// DefaultScanners are names under which widespread scanners of SIP servers introduce themselves.
func DefaultScanners() []string {
	return []string{"friendly-scanner", "friendly-request", "sipvicious", "sipcli", "pplsip", "sip-scan", "sundayddr", "siparmyknife", "vaxsipuseragent"}
}

// pstnLabel starts the domain of the telephone network.
const pstnLabel = "pstn."

// flooded tells if a source sends more requests than it may. It runs before the message is read: what is refused here must cost
// next to nothing. Responses are not counted: those that nobody asked for go nowhere anyway.
func (p *Proxy) flooded(c *pass) bool {
	pol := c.policy
	if pol.rate == nil || c.inside || bytes.HasPrefix(c.raw, []byte("SIP/2.0 ")) {
		return false
	}
	a := c.from.Addr()
	if within(pol.exempt, a) {
		return false
	}
	if t := p.trunk(c); t != nil && !t.Digest {
		return false
	}
	return !pol.rate.Allow(a, c.now)
}

// scans tells if the sender introduces itself as a scanner. It gets no answer at all: an answer is what it looks for.
func (p *Proxy) scans(c *pass) bool {
	if c.inside || c.again || len(c.policy.scanners) == 0 {
		return false
	}
	f := c.msg.First(message.UserAgent)
	found := f != nil && c.policy.scanner(c.msg.Value(f)) || c.policy.scanner(c.msg.From().Display)
	return found && !within(c.policy.exempt, c.from.Addr())
}

func (pol *policy) scanner(name []byte) bool {
	var room [128]byte
	name = name[:min(len(name), len(room))]
	if !pol.suspects.may(name) {
		return false
	}
	low := appendLower(room[:0], name)
	for _, s := range pol.scanners {
		if bytes.Contains(low, s) {
			return true
		}
	}
	return false
}

// suspects is a set of the first four letters of names: one look at a text says of nearly all that none of the names is in it.
type suspects struct {
	set [16]uint64
	all bool // a name is shorter
}

func (s *suspects) add(name []byte) {
	if len(name) < 4 {
		s.all = true
		return
	}
	h := suspect(binary.BigEndian.Uint32(name) | 0x20202020)
	s.set[h/64] |= 1 << (h % 64)
}

func (s *suspects) may(text []byte) bool {
	if s.all {
		return true
	}
	var four uint32
	for _, c := range text {
		four = four<<8 | uint32(c|0x20)
		if h := suspect(four); s.set[h/64]&(1<<(h%64)) != 0 {
			return true
		}
	}
	return false
}

// suspect hashes the last four letters to 10 bits.
func suspect(four uint32) uint32 { return four * 0x9e3779b1 >> 22 }

// banned tells if the source has failed too often. Only requests that need a proof are held against it: the calls that run
// behind the same NAT go on.
func (p *Proxy) banned(c *pass) bool {
	a := c.from.Addr()
	return c.policy.ban.Banned(a, c.now) && !within(c.policy.exempt, a)
}

// wrongPassword counts a wrong password, and tells if the source is banned now. A right one forgives nothing: whoever has an account
// could try those of others for ever.
func (p *Proxy) wrongPassword(c *pass) (banned bool) {
	a := c.from.Addr()
	return !within(c.policy.exempt, a) && c.policy.ban.Fail(a, c.now)
}

// sourceHash names an address for the nonces: an IPv6 one by its /64, which one customer owns.
func (p *Proxy) sourceHash(a netip.Addr) uint64 {
	if a.Is6() && !a.Is4In6() {
		if net, err := a.WithZone("").Prefix(64); err == nil {
			a = net.Addr()
		}
	}
	b := a.As16()
	h := p.key.hasher(hashSource)
	h.part(b[:])
	lo, _ := h.sum()
	return lo | 1
}

// stays refuses what would lead a farm node out of the domains: with its rights a stranger could call anywhere (F30). A transfer
// may name a farm node too: after an INVITE a phone knows its peer by that Contact.
func (p *Proxy) stays(c *pass) bool {
	m := &c.msg
	if c.inside || c.again {
		return true
	}
	if m.Count(message.ReferTo) > 0 && !p.refersWithin(c) {
		p.refuse(c, 403, "Refer-To Out of Domain", DropForbidden)
		return false
	}
	if m.Count(message.Replaces) > 0 && len(m.ToTag()) == 0 && !p.served(c.policy, m.Target()) {
		p.refuse(c, 403, "Replaces Out of Domain", DropForbidden)
		return false
	}
	return true
}

func (p *Proxy) refersWithin(c *pass) bool {
	m := &c.msg
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.ReferTo {
			continue
		}
		var a message.NameAddr
		var u message.URI
		rest, ok := a.Parse(m.Value(f))
		if !ok || len(rest) > 0 || !u.Parse(a.URI) {
			return false
		}
		switch u.Scheme {
		case message.SchemeTel: // a number is the farm's to judge
			continue
		case message.SchemeOther:
			return false
		}
		if _, maddr := u.Param("maddr"); maddr || steers(u.Headers) {
			return false
		}
		if !p.served(c.policy, &u) && p.nodeOf(&u) == nil {
			return false
		}
	}
	return true
}

// steers tells if the headers of a URI name one that decides where a request goes, which RFC 3261 section 19.1.5 warns of. A name
// with an escaped character counts as one: no client needs that.
func steers(headers []byte) bool {
	for len(headers) > 0 {
		var h []byte
		h, headers, _ = bytes.Cut(headers, []byte("&"))
		name, _, _ := bytes.Cut(h, []byte("="))
		if bytes.IndexByte(name, '%') >= 0 {
			return true
		}
		for _, bad := range [...]string{"route", "record-route", "via", "v", "path"} {
			if message.EqualFold(name, bad) {
				return true
			}
		}
	}
	return false
}

// callsPSTN tells if a request is for the domain of the telephone network.
func callsPSTN(u *message.URI) bool {
	return len(u.Host) > len(pstnLabel) && message.EqualFold(u.Host[:len(pstnLabel)], pstnLabel)
}
