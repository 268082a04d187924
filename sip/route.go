package sip

import (
	"net/netip"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// where decides the next hop: the Route of a dialog or registration, else the rules. It answers what goes nowhere. It
// takes our own Route values off on the way.
func (p *Proxy) where(c *pass) bool {
	rest, strict := p.popRoutes(c)
	if c.inside {
		return p.fromFarm(c, rest, strict)
	}
	return p.fromOutside(c, rest)
}

// popRoutes takes the Route values that name us off the top and reads the cookie in them. It returns the first value that is
// left, nil if there is none. strict: the previous hop is a strict router of RFC 2543, which put our URI into the
// Request-URI and its target last into the Route (RFC 3261 section 16.4).
func (p *Proxy) popRoutes(c *pass) (rest []byte, strict bool) {
	m := &c.msg
	u := m.Target()
	twin := false
	if _, lr := u.Param("lr"); lr && u.Scheme != message.SchemeTel && p.ours(u.Host, u.Port) != nil {
		p.readCookie(c, u)
		strict = true
	}
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.Route {
			continue
		}
		list := m.Value(f)
		for len(list) > 0 {
			value, next, ok := message.NextValue(list)
			if !ok {
				return list, strict // not ours for sure: what cannot be read stays and is refused or not followed
			}
			var a message.NameAddr
			var ru message.URI
			_, read := a.Parse(value)
			read = read && ru.Parse(a.URI)
			if mine := read && (p.ours(ru.Host, ru.Port) != nil || twin && paired(&ru)); !mine {
				p.cutRoutes(c, f, list)
				return value, strict
			}
			p.readCookie(c, &ru)
			// The other half of a double Record-Route goes with its proven twin: its address may be that of another edge node.
			twin = !twin && c.routed && paired(&ru)
			list = next
		}
		c.splice.Cut(int(f.Start), int(f.End))
	}
	return nil, strict
}

// paired tells if a Route is half of a double Record-Route.
func paired(u *message.URI) bool {
	_, r2 := u.Param("r2")
	return r2
}

// cutRoutes takes the values before list off a field that keeps others.
func (p *Proxy) cutRoutes(c *pass, f *message.Field, list []byte) {
	if at := c.msg.At(list); at > int(f.Val) {
		c.splice.Cut(int(f.Val), at)
	}
}

// readCookie takes the first cookie that verifies. That of a Path serves the farm only: to a stranger it would be a way to phones
// that skips all rules.
func (p *Proxy) readCookie(c *pass, u *message.URI) {
	if c.routed {
		return
	}
	text, ok := u.Param(message.SignedParam)
	if !ok || !p.key.readRoute(&c.route, text, c.msg.CallID()) || int(c.route.listener) >= len(p.sides) {
		return
	}
	if c.route.flags&routePath != 0 {
		c.routed = c.inside
		return
	}
	c.routed = len(c.msg.ToTag()) > 0 || c.msg.Method() == message.Cancel
}

// fromOutside finds the farm node. Nothing that a stranger writes leads anywhere else.
func (p *Proxy) fromOutside(c *pass, rest []byte) bool {
	m := &c.msg
	if rest != nil && !p.farmRoute(c, rest) {
		p.refuse(c, 403, "Foreign Route", DropForeignRoute)
		return false
	}
	if c.next.node != nil {
		return true
	}
	u := m.Target()
	inDialog := len(m.ToTag()) > 0
	if inDialog && !c.routed && p.nobodyProves(c) && m.Method() != message.Ack && m.Method() != message.Cancel {
		// Nobody has a password here, and still a call belongs to its two ends: who speaks inside of it has our signed Route (F34).
		p.refuse(c, 481, "Call/Transaction Does Not Exist", DropNoDialog)
		return false
	}
	if inDialog || c.routed {
		// The Request-URI is the farm node's Contact. It counts more than the cookie, as the dialog may have moved to another
		// node; but only a farm node is a target.
		if n := p.nodeOf(u); n != nil {
			return p.toNode(c, n)
		}
		if c.routed && c.route.flags&routeFarm != 0 {
			if n := p.farms.ByAddr(c.route.farm); n != nil {
				return p.toNode(c, n)
			}
			return p.toAddr(c, c.route.farm)
		}
		if inDialog && m.Method() != message.Ack && m.Method() != message.Cancel {
			p.refuse(c, 481, "Call/Transaction Does Not Exist", DropNoDialog)
			return false
		}
	}
	if !p.served(c.policy, u) {
		p.refuse(c, 404, "Domain Not Served", DropUnknownDomain)
		return false
	}
	return p.byRules(c)
}

// farmRoute tells if the Route that is left names a farm node, and goes there.
func (p *Proxy) farmRoute(c *pass, value []byte) bool {
	var a message.NameAddr
	var u message.URI
	if _, ok := a.Parse(value); !ok || !u.Parse(a.URI) || !c.routed {
		return false
	}
	n := p.nodeOf(&u)
	return n != nil && p.toNode(c, n)
}

// nodeOf is the farm node that a URI names, nil if none.
func (p *Proxy) nodeOf(u *message.URI) *dispatch.Node {
	if u.Scheme != message.SchemeSIP && u.Scheme != message.SchemeSIPS {
		return nil
	}
	a, ok := message.ParseAddr(u.Host)
	if !ok {
		return nil
	}
	port := u.Port
	if port == 0 {
		port = 5060
		if u.Scheme == message.SchemeSIPS {
			port = 5061
		}
	}
	return p.farms.ByAddr(netip.AddrPortFrom(a.Unmap(), port))
}

// byRules chooses a farm, and a node by the Call-ID. In the registrar farm it goes by the user: all of a user's contacts, presence and
// messages meet at one node, and CANCEL and ACK have their INVITE's user too.
func (p *Proxy) byRules(c *pass) bool {
	m := &c.msg
	farm, ok := c.policy.farmOf(m)
	if !ok || !p.farms.Served(farm) {
		p.refuse(c, 404, "Not Found", DropNoRoute)
		return false
	}
	h := c.hash
	if farm == dispatch.Registrar || m.Method() == message.Register {
		h = p.recordHash(m)
	}
	var n *dispatch.Node
	if m.Method() == message.Ack || m.Method() == message.Cancel {
		n = p.farms.PickSame(farm, h, c.now)
	} else {
		n = p.farms.Pick(farm, h, c.now)
	}
	if n == nil {
		c.extra = append(c.extra, "Retry-After: 2\r\n"...)
		p.refuse(c, 503, "No Farm Node", DropNoNode)
		return false
	}
	if n == c.node {
		p.refuse(c, 404, "Not Found", DropLoop)
		return false
	}
	return p.toNode(c, n)
}

// callHash is the dispatch key of a dialog: what INVITE, CANCEL and ACK have in common.
func (p *Proxy) callHash(callID []byte) uint64 {
	h := p.key.hasher(hashDispatch)
	h.part(callID)
	lo, _ := h.sum()
	return lo
}

// recordHash is the dispatch key of a user: who registers stands in To, who is subscribed, published, written to or called in the
// Request-URI. A host's case does not count.
func (p *Proxy) recordHash(m *message.Message) uint64 {
	h := p.key.hasher(hashDispatch)
	u := *m.Target()
	if m.Method() != message.Register || u.Parse(m.To().URI) {
		var room [128]byte
		h.part(u.User)
		h.part(appendLower(room[:0], u.Host))
	}
	lo, _ := h.sum()
	return lo
}

func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// fromFarm follows Route and Request-URI, as the farm is trusted.
func (p *Proxy) fromFarm(c *pass, rest []byte, strict bool) bool {
	m := &c.msg
	target := *m.Target()
	if n := c.route.node; c.routed && c.route.flags&routeNode != 0 && n != p.cfg.NodeAddr {
		return p.toEdge(c, n)
	}
	if strict && rest != nil {
		return p.fromStrict(c)
	}
	if rest != nil {
		var a message.NameAddr
		if _, ok := a.Parse(rest); !ok || !target.Parse(a.URI) || target.Scheme == message.SchemeTel || target.Scheme == message.SchemeOther {
			p.refuse(c, 400, "Bad Route", DropForeignRoute)
			return false
		}
		if _, lr := target.Param("lr"); !lr {
			p.toStrict(c, rest, a.URI)
		}
		return p.toURI(c, &target)
	}
	if c.routed && c.route.flags&routeClient != 0 {
		c.next = hop{side: p.sides[c.route.listener], addr: c.route.client, flow: c.route.flow, client: true}
		return true
	}
	if n := p.nodeOf(&target); n != nil {
		return p.toNode(c, n)
	}
	if target.Scheme == message.SchemeTel || p.ours(target.Host, target.Port) != nil || c.policy.domain(target.Host) {
		return p.byRules(c)
	}
	return p.toURI(c, &target)
}

// fromStrict undoes what a strict router did: the last Route value becomes the Request-URI (RFC 3261 section 16.4).
func (p *Proxy) fromStrict(c *pass) bool {
	m := &c.msg
	var last []byte
	var field *message.Field
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.Route {
			continue
		}
		for list := m.Value(f); len(list) > 0; {
			value, next, ok := message.NextValue(list)
			if !ok {
				break
			}
			last, field, list = value, f, next
		}
	}
	var a message.NameAddr
	var u message.URI
	if _, ok := a.Parse(last); !ok || !u.Parse(a.URI) || u.Scheme != message.SchemeSIP && u.Scheme != message.SchemeSIPS {
		p.refuse(c, 400, "Bad Route", DropForeignRoute)
		return false
	}
	at := m.At(last)
	if from := commaBefore(m, at, int(field.Val)); from > int(field.Val) {
		c.splice.Cut(from, at+len(last))
	} else {
		c.splice.Cut(int(field.Start), int(field.End))
	}
	uri := m.At(m.URI())
	c.splice.Cut(uri, uri+len(m.URI()))
	c.splice.Put(a.URI)
	if c.routed && c.route.flags&routeClient != 0 {
		c.next = hop{side: p.sides[c.route.listener], addr: c.route.client, flow: c.route.flow, client: true}
		return true
	}
	return p.toURI(c, &u)
}

// commaBefore is the offset of the comma before a list's value, or start.
func commaBefore(m *message.Message, at, start int) int {
	b := m.Bytes()
	for i := at - 1; i > start; i-- {
		if b[i] == ',' {
			return i
		}
	}
	return start
}

// toStrict hands over to a strict router: its URI becomes the Request-URI, which goes last into the Route (RFC 3261 section 16.6
// item 6).
func (p *Proxy) toStrict(c *pass, value, uri []byte) {
	m := &c.msg
	s := &c.splice
	at := m.At(value)
	var last *message.Field
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.Route {
			continue
		}
		last = f
		if at < int(f.Val) || at >= int(f.ValEnd) {
			continue
		}
		if _, next, ok := message.NextValue(m.Bytes()[at:f.ValEnd]); ok && next != nil {
			s.Cut(at, m.At(next))
		} else {
			s.Cut(int(f.Start), int(f.End))
		}
	}
	s.Cut(int(last.End), int(last.End))
	s.Str("Route: <")
	s.Put(m.URI())
	s.Str(">\r\n")
	u := m.At(m.URI())
	s.Cut(u, u+len(m.URI()))
	s.Put(uri)
}

// toNode sets the next hop to a farm node. What belongs to a fenced one gets 503, which ends no dialog (RFC 3261 section 12.2.1.2 names 408 and
// 481): the client may ask again when the dialog has moved.
func (p *Proxy) toNode(c *pass, n *dispatch.Node) bool {
	if n.Fenced() {
		c.extra = append(c.extra, "Retry-After: 2\r\n"...)
		p.refuse(c, 503, "Farm Node Fenced", DropFenced)
		return false
	}
	c.next = p.hopTo(n, c.side)
	return p.leaves(c)
}

// hopTo is the hop to a farm node; its side is nil if no listener reaches it.
func (p *Proxy) hopTo(n *dispatch.Node, prefer *side) hop {
	proto := transport.UDP
	switch n.Proto() {
	case "tcp":
		proto = transport.TCP
	case "tls":
		proto = transport.TLS
	}
	next := hop{side: p.sideFor(proto, n.Addr().Addr(), true, prefer), addr: n.Addr(), node: n}
	if n.TCP() {
		next.tcp = p.sideFor(transport.TCP, n.Addr().Addr(), true, nil)
	}
	return next
}

// toAddr sets the next hop to the address of a farm node that is no longer configured, but still has the dialog.
func (p *Proxy) toAddr(c *pass, a netip.AddrPort) bool {
	c.next = hop{side: p.sideFor(transport.UDP, a.Addr(), true, c.side), addr: a}
	return p.leaves(c)
}

// toURI sets the next hop to what a URI says: RFC 3263, with A and AAAA records only.
func (p *Proxy) toURI(c *pass, u *message.URI) bool {
	if n := p.nodeOf(u); n != nil {
		return p.toNode(c, n)
	}
	proto := transport.UDP
	if u.Scheme == message.SchemeSIPS {
		proto = transport.TLS
	}
	t, given := u.Param("transport")
	if given {
		switch {
		case message.EqualFold(t, "tcp"):
			proto = transport.TCP
		case message.EqualFold(t, "tls"):
			proto = transport.TLS
		case message.EqualFold(t, "ws"):
			proto = transport.WS
		case message.EqualFold(t, "wss"):
			proto = transport.WSS
		}
		if u.Scheme == message.SchemeSIPS && proto == transport.TCP { // RFC 3261 section 26.2.2
			proto = transport.TLS
		}
	}
	host := u.Host
	if maddr, ok := u.Param("maddr"); ok && len(maddr) > 0 {
		host = maddr
	}
	port := u.Port
	if port == 0 {
		port = defaultPort(proto)
	}
	addr, ok := message.ParseAddr(host)
	if !ok {
		addr, ok = p.names.cached(host)
		if !ok && !c.waited {
			p.enqueue(c)
			return false
		}
		if !ok {
			if addr, ok = p.names.find(c.ctx, string(host)); !ok {
				p.refuse(c, 404, "Host Not Found", DropNoRoute)
				return false
			}
		}
	}
	addr = addr.Unmap()
	if addr.IsMulticast() || addr.IsUnspecified() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		p.refuse(c, 404, "Not a Host", DropNoRoute)
		return false
	}
	c.next = hop{side: p.sideFor(proto, addr, false, c.side), addr: netip.AddrPortFrom(addr, port)}
	if proto == transport.UDP && !given {
		c.next.tcp = p.sideFor(transport.TCP, addr, false, nil)
	}
	if proto == transport.TLS {
		c.next.host = string(host)
	}
	return p.leaves(c)
}

// leaves refuses a next hop that no listener can reach.
func (p *Proxy) leaves(c *pass) bool {
	if c.next.side == nil {
		p.refuse(c, 503, "No Listener for the Next Hop", DropNoRoute)
		return false
	}
	return true
}
