package sip

import (
	"net/netip"

	"rtcedge/sip/transport"
)

// Tap sees every message of every leg, in clear text. It runs on the packet path: it must not block, and b is borrowed.
type Tap interface {
	Message(out bool, l *transport.Listener, peer netip.AddrPort, b []byte)
}

func (p *Proxy) tapIn(c *pass) {
	if p.cfg.Tap != nil {
		p.cfg.Tap.Message(false, c.in.Listener, c.from, c.raw)
	}
}

func (p *Proxy) tapOut(to transport.Target, b []byte) {
	if p.cfg.Tap != nil {
		p.cfg.Tap.Message(true, to.Listener, to.Addr, b)
	}
}
