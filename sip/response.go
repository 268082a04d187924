package sip

import (
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// The functions in this file occur in the order in which a response meets them.

// response takes a response's way, see the package's description. Only what our own Via says, signed, decides where it
// goes: a forged one goes nowhere.
func (p *Proxy) response(c *pass, fault message.Fault) {
	m := &c.msg
	if fault != message.FaultNone {
		c.fault(fault)
		return
	}
	v := m.Via()
	if len(v.Signed) == 0 || p.ours(v.Host, v.Port) == nil || !p.key.readVia(&c.via, v) || int(c.via.listener) >= len(p.sides) {
		c.drop(DropNotOurs)
		return
	}
	if c.via.flags&viaProbe != 0 {
		p.farms.Answered(c.via.dest, c.now)
		return
	}
	if n := c.via.node; n.IsValid() && n != p.cfg.NodeAddr {
		p.relayResponse(c, n)
		return
	}
	c.hash = p.callHash(m.CallID())
	if !c.waited && c.node != nil && m.Method() == message.Invite && c.via.flags&viaInDialog == 0 {
		c.node.Responded(c.hash)
	}
	if !c.waited && (p.queueOf(c.hash).pending.Load() > 0 || p.asksMedia(c)) {
		p.enqueue(c)
		return
	}
	if !p.cutVia(c) {
		c.drop(DropNoNextVia)
		return
	}
	if !p.mediaResponse(c) {
		return
	}
	if !c.inside || c.via.flags&viaOutside != 0 {
		p.private(c)
	}
	out, ok := c.splice.Append(c.out[:0], m)
	if !ok {
		c.drop(DropTooLarge)
		return
	}
	p.sendResponse(c, out)
}

// cutVia takes our Via off; false if no other one is left.
func (p *Proxy) cutVia(c *pass) bool {
	m := &c.msg
	f := m.First(message.ViaField)
	_, rest, ok := message.NextValue(m.Value(f))
	if !ok {
		return false
	}
	if len(rest) > 0 {
		c.splice.Cut(int(f.Val), m.At(rest))
		return true
	}
	c.splice.Cut(int(f.Start), int(f.End))
	return m.Count(message.ViaField) > 1
}

// sendResponse sends to where the request came from.
func (p *Proxy) sendResponse(c *pass, out []byte) {
	to := transport.Target{Listener: p.sides[c.via.listener].Listener, Addr: c.via.dest, Flow: c.via.flow}
	err := c.send.Send(out, to)
	if err != nil && to.Flow != 0 {
		// RFC 3261 section 18.2.2: if the connection is gone, the address is tried.
		to.Flow = 0
		err = c.send.Send(out, to)
	}
	if err != nil {
		c.drop(DropSend)
		return
	}
	c.count.responses[c.msg.Status()].Add(1)
	p.tapOut(to, out)
}
