package sip

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// A connection belongs to one edge node, and the load balancer may bring a message for it to another one (RFC 5626 section 5.3). That one
// finds the owner's address in the signed cookie of the Route or Via, and relays: a request with its Routes as they came, a response with the
// owner's Via still on top. The owner does all the rest, as if the farm had sent it.
//
// A relayed request carries its farm node in a field that is signed for this request; the owner takes the field off. A message that was relayed
// is never relayed again.

// relayName is the field; like every VB- field it never crosses the outer side, in no direction.
const relayName = "VB-Relay"

// setNode names this edge node beside its connection.
func (p *Proxy) setNode(st *routeState) {
	if p.cfg.NodeAddr.IsValid() {
		st.flags |= routeNode
		st.node = p.cfg.NodeAddr
	}
}

// toEdge sets the next hop to the edge node that has the connection. What popRoutes has cut stays in.
func (p *Proxy) toEdge(c *pass, n netip.AddrPort) bool {
	if c.origin != c.from || !p.cfg.NodeAddr.IsValid() {
		p.refuse(c, 430, "Flow Failed", DropLoop)
		return false
	}
	c.splice.Reset()
	c.relay = true
	c.next = hop{side: p.sideFor(transport.UDP, n.Addr(), true, nil), addr: n}
	return p.leaves(c)
}

// relay sends the request to the edge node that has the connection.
func (p *Proxy) relay(c *pass) {
	s, end := &c.splice, c.msg.HeaderEnd()
	var b, text [64]byte
	proof := appendNode(b[:0], c.from)
	proof = binary.LittleEndian.AppendUint64(proof, p.relaySign(&c.msg, proof))
	s.Cut(end, end)
	s.Str(relayName + ": ")
	s.Put(base64.RawURLEncoding.AppendEncode(text[:0], proof))
	s.Str("\r\n")
	c.count.relayed.Add(1)
	p.forward(c)
}

// relaySign binds the proof to one request.
func (p *Proxy) relaySign(m *message.Message, proof []byte) uint64 {
	h := p.key.hasher(hashRelay)
	h.part(proof)
	h.part(m.CallID())
	h.part(m.FromTag())
	h.part(m.URI())
	h.part(m.MethodName())
	h.word(uint64(m.CSeq()))
	lo, _ := h.sum()
	return lo
}

// relayed finds the proof that another edge node had the request from a farm node, and believes it.
func (p *Proxy) relayed(c *pass) {
	m := &c.msg
	if m.Count(message.Internal) == 0 || !p.cfg.NodeAddr.IsValid() || c.in.Flow != 0 {
		return
	}
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if f.Kind != message.Internal || string(m.Bytes()[f.Start:f.NameEnd]) != relayName {
			continue
		}
		var buf [64]byte
		b, ok := decode(buf[:], m.Value(f))
		if !ok || len(b) < 1+2+4+8 {
			return
		}
		b, sig := b[:len(b)-8], binary.LittleEndian.Uint64(b[len(b)-8:])
		origin, _, ok := cutNode(b)
		if !ok || sig != p.relaySign(m, b) || origin == c.from {
			return
		}
		c.origin, c.inside, c.proven = origin, true, true
		c.node = p.farms.ByAddr(origin)
		return
	}
}

// relayResponse sends a response on to the edge node whose Via is on top.
func (p *Proxy) relayResponse(c *pass, n netip.AddrPort) {
	from := p.sideFor(transport.UDP, n.Addr(), true, nil)
	if from == nil || c.from == n || !p.cfg.NodeAddr.IsValid() {
		c.drop(DropNoRoute)
		return
	}
	to := transport.Target{Listener: from.Listener, Addr: n}
	if c.send.Send(c.msg.Bytes(), to) != nil {
		c.drop(DropSend)
		return
	}
	c.count.relayed.Add(1)
	p.tapOut(to, c.msg.Bytes())
}
