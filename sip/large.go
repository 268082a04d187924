package sip

import (
	"net/netip"
	"sync"
	"time"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// maxUDP is the largest request that goes over UDP where the next hop takes TCP: RFC 3261 section 18.1.1.
const maxUDP = 1300

// Chosen by us.
const (
	viaRoom      = 120              // what our Via's branch and parameter add, and Max-Forwards
	refusedPeers = 1024             // peers that are remembered
	refusedLife  = 10 * time.Minute // how long
)

// enlarge changes a large request from UDP to TCP. The Record-Route stays with UDP: the dialog's other requests are small.
func (p *Proxy) enlarge(c *pass) {
	n := &c.next
	if n.side.Proto() != transport.UDP {
		return
	}
	if c.splice.Size(&c.msg)+len(n.side.via)+viaRoom <= maxUDP {
		return
	}
	c.count.oversize.Add(1)
	if n.tcp == nil || n.flow != 0 || p.refused.has(n.addr, c.now) {
		return
	}
	c.count.largeTCP.Add(1)
	c.large, n.side = true, n.tcp
}

// fallBack sends the request over UDP after all, as the connection could not even be tried.
func (p *Proxy) fallBack(c *pass) {
	if out, ok := c.splice.Append(c.out[:0], &c.msg); !ok || !p.Undelivered(c.next.side.Listener, c.next.addr, out) {
		p.refuse(c, 503, "Service Unavailable", DropSend)
	}
}

// Undelivered is called by the transport with a message whose connection could not be opened. A request that went over TCP for its size only
// is sent over UDP: RFC 3261 section 18.1.1. Its branch stays, so that whatever comes of both is one transaction.
func (p *Proxy) Undelivered(l *transport.Listener, peer netip.AddrPort, b []byte) bool {
	c := p.spare.Get().(*pass)
	defer p.spare.Put(c)
	m := &c.msg
	if c.msg.Parse(b) != message.FaultNone || !m.Request() {
		return false
	}
	var st viaState
	v := m.Via()
	if !p.key.readVia(&st, v) || st.flags&viaLarge == 0 {
		return false
	}
	p.refused.add(peer, p.now())
	from := p.sideFor(transport.UDP, peer.Addr(), l.Internal(), nil)
	if from == nil {
		return false
	}
	f := m.First(message.ViaField)
	c.splice.Reset()
	c.splice.Cut(int(f.Start), m.At(v.Branch))
	c.splice.Str(from.via)
	out, ok := c.splice.Append(c.out[:0], m)
	to := transport.Target{Listener: from.Listener, Addr: peer}
	if !ok || p.out.Send(out, to) != nil {
		return false
	}
	p.tapOut(to, out)
	return true
}

// refused remembers peers that took no TCP connection, so that a large request to them loses no time again.
type refused struct {
	mu    sync.Mutex
	peers map[netip.AddrPort]time.Time
}

func (r *refused) has(a netip.AddrPort, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.peers[a]
	return ok && now.Before(until)
}

func (r *refused) add(a netip.AddrPort, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers == nil || len(r.peers) >= refusedPeers {
		r.peers = map[netip.AddrPort]time.Time{}
	}
	r.peers[a] = now.Add(refusedLife)
}
