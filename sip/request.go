package sip

import (
	"net/netip"
	"strconv"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// The functions in this file occur in the order in which a request meets them. An error becomes a SIP status here and
// nowhere else: p.refuse answers and counts.

// request takes a request's way, see the package's description.
func (p *Proxy) request(c *pass, fault message.Fault) {
	m := &c.msg
	p.relayed(c)
	if c.node != nil && c.node.Fenced() && !c.spoken { // relayed by an edge node that has not been told yet
		c.drop(DropFenced)
		return
	}
	p.nat(c)
	c.hash = p.callHash(m.CallID())
	if p.scans(c) {
		c.drop(DropScanner)
		return
	}
	if !p.sane(c, fault) || !p.open(c) || !p.who(c) || !p.stays(c) {
		return
	}
	if !c.waited && p.mustWait(c) {
		p.enqueue(c)
		return
	}
	if !p.where(c) {
		return
	}
	if c.relay {
		p.relay(c)
		return
	}
	if !p.media(c) {
		return
	}
	p.record(c)
	p.forward(c)
}

// nat finds where the response to this request goes: RFC 3261 section 18.2.2 and RFC 3581 section 4. It runs first, as a
// refusal needs it too.
func (p *Proxy) nat(c *pass) {
	c.dest = c.from
	if v := c.msg.Via(); c.in.Flow == 0 && !v.HasRPort && c.origin == c.from {
		port := v.Port
		if port == 0 {
			port = 5060
		}
		c.dest = netip.AddrPortFrom(c.from.Addr(), port)
	}
}

// sane refuses what must not go further.
func (p *Proxy) sane(c *pass, fault message.Fault) bool {
	m := &c.msg
	if fault != message.FaultNone {
		c.count.faults[fault].Add(1)
		if !m.Answerable() {
			c.drop(DropMalformed)
			return false
		}
		switch fault {
		case message.FaultVersion:
			p.refuse(c, 505, "Version Not Supported", DropMalformed)
		case message.FaultScheme:
			p.refuse(c, 416, "Unsupported URI Scheme", DropMalformed)
		default:
			p.refuse(c, 400, fault.String(), DropMalformed)
		}
		return false
	}
	if m.Method() == message.Ack && p.ownTag(m, m.ToTag()) {
		c.drop(DropAbsorbed)
		return false
	}
	if m.Method() == message.Options && p.forUs(c) {
		p.reply(c, 200, "OK")
		return false
	}
	if m.MaxForwards() == 0 {
		p.refuse(c, 483, "Too Many Hops", DropLoop)
		return false
	}
	if f := m.First(message.ProxyRequire); f != nil && m.Method() != message.Cancel && m.Method() != message.Ack {
		c.extra = append(append(append(c.extra, "Unsupported: "...), m.Value(f)...), "\r\n"...)
		p.refuse(c, 420, "Bad Extension", DropForbidden)
		return false
	}
	if p.loops(c) {
		p.refuse(c, 482, "Loop Detected", DropLoop)
		return false
	}
	return true
}

// forUs tells if the Request-URI is this proxy itself: one of its addresses or domains, and no user.
func (p *Proxy) forUs(c *pass) bool {
	m := &c.msg
	u := m.Target()
	return u.Scheme != message.SchemeTel && len(u.User) == 0 && m.First(message.Route) == nil &&
		(p.ours(u.Host, u.Port) != nil || c.policy.domain(u.Host))
}

// loops finds a Via of ours that was made for the same request on the same way (RFC 3261 section 16.3 item 4). Addresses say
// nothing: a user agent may share ours.
func (p *Proxy) loops(c *pass) bool {
	m := &c.msg
	known, loop := false, uint32(0)
	var room message.Via
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.ViaField {
			continue
		}
		for rest := m.Value(f); len(rest) > 0; {
			value, next, ok := message.NextValue(rest)
			if !ok {
				break
			}
			v, top := &room, m.Via()
			if len(rest) > 0 && len(top.Raw) > 0 && &value[0] == &top.Raw[0] { // read already
				v = top
			} else if !v.Parse(value) {
				v.Signed = nil
			}
			rest = next
			var s viaState
			if len(v.Signed) == 0 || p.ours(v.Host, v.Port) == nil || !p.key.readVia(&s, v) {
				continue
			}
			if !known {
				known, loop = true, p.key.loopOf(m, c.inside)
			}
			if s.loop == loop {
				return true
			}
		}
	}
	return false
}

// mustWait tells if the request belongs into a queue: it has a body or an end for the media node, or an earlier message of
// its queue has not left yet.
func (p *Proxy) mustWait(c *pass) bool {
	if p.queueOf(c.hash).pending.Load() > 0 {
		return true
	}
	if p.cfg.Media == nil {
		return false
	}
	m := &c.msg
	switch m.Method() {
	case message.Invite, message.Update, message.Ack, message.Prack:
		return hasSDP(m)
	case message.Info:
		return hasCandidates(m)
	case message.Bye:
		return true
	}
	return false
}

// record adds Record-Route and Path, and what only the farm may see.
func (p *Proxy) record(c *pass) {
	m := &c.msg
	s := &c.splice
	top := m.HeaderAt()
	if p.dialog(m) {
		st := p.routeOf(c)
		if c.side != c.next.side {
			s.Cut(top, top)
			s.Str("Record-Route: ")
			s.Str(c.next.side.uri)
			s.Str(";r2>\r\n")
		}
		p.putRoute(c, "Record-Route: ", c.side, &st)
	}
	if m.Method() == message.Register && c.next.node != nil && !c.inside {
		st := routeState{flags: routePath, listener: uint8(c.side.index)}
		p.setClient(c, &st)
		// One Path, of the side that the farm sees: the cookie holds the way on to the client.
		p.putRoute(c, "Path: ", c.next.side, &st)
		if !hasOption(m, "path") {
			s.Str("Supported: path\r\n")
		}
	}
	if !c.inside || c.next.node == nil {
		p.private(c)
	}
	if c.next.node != nil && !c.inside {
		end := m.HeaderEnd()
		s.Cut(end, end)
		s.Str("VB-Source: ")
		p.putAddr(c, c.from)
		s.Str("\r\nVB-Transport: ")
		s.Str(c.side.Proto().String())
		s.Str("\r\nVB-Domain: ")
		s.Put(m.Target().Host)
		s.Str("\r\n")
	}
	if c.consumed != nil {
		s.Cut(int(c.consumed.Start), int(c.consumed.End))
	}
}

// dialog tells if the request may start a dialog, so that we must stay in its way.
func (p *Proxy) dialog(m *message.Message) bool {
	switch m.Method() {
	case message.Invite, message.Subscribe, message.Refer:
		return len(m.ToTag()) == 0
	}
	return false
}

// routeOf makes the cookie of the Record-Route.
func (p *Proxy) routeOf(c *pass) routeState {
	var st routeState
	if c.msg.Method() == message.Invite && !hasSDP(&c.msg) {
		st.flags |= routeNoOffer
	}
	if !c.inside {
		st.listener = uint8(c.side.index)
		p.setClient(c, &st)
		if c.next.node != nil {
			st.flags |= routeFarm
			st.farm = c.next.node.Addr()
		}
		return st
	}
	st.listener = uint8(c.next.side.index)
	if c.next.client {
		st.flags |= routeClient
		st.client, st.flow = c.next.addr, c.next.flow
		if st.flow != 0 {
			st.flags |= routeFlow
			p.setNode(&st)
		}
	}
	// On the internal side also a node that is not configured may call.
	st.flags |= routeFarm
	st.farm = c.origin
	return st
}

// setClient remembers where the phone really is, if its Contact does not say so.
func (p *Proxy) setClient(c *pass, st *routeState) {
	if c.in.Flow != 0 {
		st.flags |= routeClient | routeFlow
		st.client, st.flow = c.from, c.in.Flow
		p.setNode(st)
		return
	}
	if p.hidden(c) {
		st.flags |= routeClient
		st.client = c.from
	}
}

// hidden tells if the phone's Contact does not lead to it: it names another address than the request came from. A public
// address in the Contact of a phone whose Via is right is what the phone wants (another device), not a NAT's doing.
func (p *Proxy) hidden(c *pass) bool {
	f := c.msg.First(message.Contact)
	if f == nil {
		return true
	}
	var a message.NameAddr
	var u message.URI
	if _, ok := a.Parse(c.msg.Value(f)); !ok || !u.Parse(a.URI) {
		return true
	}
	addr, numeric := message.ParseAddr(u.Host)
	port := u.Port
	if port == 0 {
		port = 5060
	}
	if numeric && addr.Unmap() == c.from.Addr() && port == c.from.Port() {
		return false
	}
	v := c.msg.Via()
	host, ok := message.ParseAddr(v.Host)
	direct := ok && host.Unmap() == c.from.Addr() && (v.Port == c.from.Port() || v.Port == 0 && c.from.Port() == 5060)
	return !direct || numeric && addr.Unmap() == c.from.Addr()
}

// putRoute writes one Record-Route or Path field at the top, with the cookie.
func (p *Proxy) putRoute(c *pass, name string, s *side, st *routeState) {
	top := c.msg.HeaderAt()
	c.splice.Cut(top, top)
	c.splice.Str(name)
	c.splice.Str(s.uri)
	if s != c.next.side && st.flags&routePath == 0 {
		c.splice.Str(";r2")
	}
	c.splice.Str(";" + message.SignedParam + "=")
	var b [112]byte
	c.splice.Put(p.key.appendRoute(b[:0], st, c.msg.CallID()))
	c.splice.Str(">\r\n")
}

func (p *Proxy) putAddr(c *pass, a netip.AddrPort) {
	var b [64]byte
	c.splice.Put(a.AppendTo(b[:0]))
}

// private takes out what only edge and farm say to each other, in every spelling.
func (p *Proxy) private(c *pass) {
	m := &c.msg
	if m.Count(message.Internal) == 0 {
		return
	}
	for i := range m.Fields() {
		if f := &m.Fields()[i]; f.Kind == message.Internal {
			c.splice.Cut(int(f.Start), int(f.End))
		}
	}
}

// hasOption tells if the Supported fields name an option tag.
func hasOption(m *message.Message, lower string) bool {
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.Supported {
			continue
		}
		for rest := m.Value(f); len(rest) > 0; {
			value, next, ok := message.NextValue(rest)
			if !ok {
				break
			}
			if message.EqualFold(value, lower) {
				return true
			}
			rest = next
		}
	}
	return false
}

// forward writes Max-Forwards and both Vias, and sends.
func (p *Proxy) forward(c *pass) {
	m := &c.msg
	s := &c.splice
	if f := m.First(message.MaxForwards); f != nil {
		s.Cut(int(f.Val), int(f.ValEnd))
		s.Num(m.MaxForwards() - 1)
	}
	p.enlarge(c)
	top := m.HeaderAt()
	s.Cut(top, top)
	p.putVia(c)
	if m.First(message.MaxForwards) == nil {
		s.Str("Max-Forwards: 70\r\n")
	}
	p.putReceived(c)
	out, ok := s.Append(c.out[:0], m)
	if !ok {
		p.refuse(c, 513, "Message Too Large", DropTooLarge)
		return
	}
	p.sendRequest(c, out)
}

// putVia writes our Via with the computed branch and the signed parameter.
func (p *Proxy) putVia(c *pass) {
	m := &c.msg
	var branch, param [96]byte
	lo, hi := p.key.branchOf(m)
	b := appendBranch(branch[:0], lo, hi)
	st := viaState{listener: uint8(c.side.index), loop: p.key.loopOf(m, c.inside), dest: c.dest, flow: c.in.Flow, node: p.cfg.NodeAddr}
	if c.relay {
		st.loop = ^st.loop // the same request comes to the next edge node: no loop
	}
	if hasSDP(m) {
		st.flags |= viaOffer
	}
	if len(m.ToTag()) > 0 {
		st.flags |= viaInDialog
	}
	if !c.inside {
		st.flags |= viaOutside
	}
	if p.cfg.Media != nil && p.crosses(c) && !c.relay {
		st.flags |= viaMedia
	}
	if c.large {
		st.flags |= viaLarge
	}
	s := &c.splice
	s.Str(c.next.side.via)
	s.Put(b)
	s.Str(";" + message.SignedParam + "=")
	s.Put(p.key.appendVia(param[:0], &st, b))
	s.Str("\r\n")
}

// putReceived completes the sender's Via: RFC 3261 section 18.2.1 and RFC 3581 section 4. What it claimed itself goes.
func (p *Proxy) putReceived(c *pass) {
	var b [512]byte
	v := c.msg.Via()
	at := c.msg.At(v.Raw)
	if value := appendReceived(b[:0], v, &c.msg, c.from); len(value) > 0 {
		c.splice.Cut(at, at+len(v.Raw))
		c.splice.Put(value)
	}
}

// appendReceived writes the Via value as it must be forwarded or answered, and nothing if it stays as it is.
func appendReceived(dst []byte, v *message.Via, m *message.Message, from netip.AddrPort) []byte {
	host, numeric := message.ParseAddr(v.Host)
	same := numeric && host.Unmap() == from.Addr()
	if same && !v.HasRPort && v.Received == nil {
		return dst
	}
	raw := v.Raw
	base := m.At(raw)
	recvAt, recvEnd := len(raw), len(raw)
	if v.Received != nil {
		recvAt = m.At(v.Received) - base
		recvEnd = recvAt + len(v.Received)
	}
	pos, portAt, portEnd := 0, len(raw)+1, 0
	if v.HasRPort {
		portAt = m.At(v.RPortName) + len(v.RPortName) - base
		portEnd = portAt
		if v.RPort != nil {
			portEnd = m.At(v.RPort) + len(v.RPort) - base
		}
	}
	if portAt <= recvAt {
		dst = appendPort(append(dst, raw[:portAt]...), from)
		pos = portEnd
	}
	dst = append(dst, raw[pos:recvAt]...)
	if v.Received == nil {
		dst = append(dst, ";received="...)
	}
	dst = from.Addr().AppendTo(dst)
	pos = recvEnd
	if v.HasRPort && portAt > recvAt {
		dst = appendPort(append(dst, raw[pos:portAt]...), from)
		pos = portEnd
	}
	return append(dst, raw[pos:]...)
}

func appendPort(dst []byte, from netip.AddrPort) []byte {
	return strconv.AppendUint(append(dst, '='), uint64(from.Port()), 10)
}

// sendRequest sends, notes it at the farm node, and refuses with 503 or 430 what cannot leave.
func (p *Proxy) sendRequest(c *pass, out []byte) {
	to := transport.Target{Listener: c.next.side.Listener, Addr: c.next.addr, Flow: c.next.flow, Host: c.next.host}
	err := c.send.Send(out, to)
	if err != nil && to.Flow != 0 {
		// The connection is gone; a new one of the same phone may have come from the same port.
		to.Flow = 0
		err = c.send.Send(out, to)
	}
	if err != nil && c.large {
		p.fallBack(c)
		return
	}
	if err != nil {
		if c.next.node != nil {
			c.next.node.Unreachable()
			p.refuse(c, 503, "Service Unavailable", DropSend)
			return
		}
		p.refuse(c, 430, "Flow Failed", DropSend) // RFC 5626 section 5.3.1
		return
	}
	m := &c.msg
	c.count.forwarded[m.Method()].Add(1)
	if n := c.next.node; n != nil && m.Method() != message.Ack {
		n.Sent(c.now)
		if m.Method() == message.Invite && len(m.ToTag()) == 0 {
			n.Invited(c.hash, c.now)
		}
	}
	p.tapOut(to, out)
	if c.ending {
		p.forget(c)
	}
}
