package sip

import (
	"errors"
	"fmt"
	"net/netip"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// Speak takes a message as if the farm node at from had sent it, though that is dead and cut off: who brings its calls back answers what waits for it, and ends
// what cannot be brought back. It takes the message's usual way. A message that names another edge is an error: in its top Via if it is a response, else in its top
// Route. A request without Route names at, the listener that the node spoke to.
func (p *Proxy) Speak(from, at netip.AddrPort, raw []byte) error {
	if p.farms.ByAddr(from) == nil && !p.split {
		return fmt.Errorf("speak: no farm node %s (allowed: IP:PORT of a node)", from)
	}
	c := p.spare.Get().(*pass)
	defer p.spare.Put(c)
	s, err := p.spokenTo(&c.msg, at, raw)
	if err != nil {
		return err
	}
	c.send, c.now = p.out, p.now()
	c.anew()
	c.spoken = true
	c.in = transport.Message{Bytes: raw, From: from, Listener: s.Listener}
	c.raw, c.from = raw, from
	p.handle(c)
	return nil
}

var errNotForUs = errors.New("speak: the message names no listener of this edge")

// spokenTo finds the listener that a message is for. A farm speaks over UDP to it: it has no connection.
func (p *Proxy) spokenTo(m *message.Message, at netip.AddrPort, raw []byte) (*side, error) {
	if fault := m.Check(m.Scan(raw)); fault != message.FaultNone {
		return nil, fmt.Errorf("speak: %v", fault)
	}
	var named *side
	if !m.Request() {
		named = p.ours(m.Via().Host, m.Via().Port)
	} else if f := m.First(message.Route); f != nil {
		var a message.NameAddr
		var u message.URI
		value, _, ok := message.NextValue(m.Value(f))
		if ok {
			_, ok = a.Parse(value)
		}
		if ok && u.Parse(a.URI) {
			named = p.ours(u.Host, u.Port)
		}
	} else {
		for _, s := range p.sides {
			if s.addr == at {
				named = s
			}
		}
	}
	if named == nil {
		return nil, errNotForUs
	}
	for _, s := range p.sides {
		if s.Proto() == transport.UDP && (!p.split || s.Internal()) && s.six == named.six {
			return s, nil
		}
	}
	return named, nil
}
