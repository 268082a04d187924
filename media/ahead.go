package media

import "rtcedge/media/udp"

// The calls of a node have more state than a processor's cache holds, so that nearly every packet finds that of its stream in main memory: a
// port, a leg, a route, the other leg and perhaps a pipe, each known by a pointer in the one before it, each a wait of its own. The packets of a
// batch belong to as many streams. Looked at one level after the other, for all of them, a level is one wait for the batch, since the
// processor has the loads of many packets on their way at a time.

// aheadMax is chosen by us: the longest batch of udp. Packets behind it wait one by one.
const aheadMax = 64

// cacheLine is in bytes, on the processors of servers.
const cacheLine = 64

// ahead belongs to the worker's goroutine.
type ahead struct {
	legs  [aheadMax]*leg
	flows [aheadMax]*flow // what the leg receives, and what its peer sends
	peers [aheadMax]*flow
	sum   uint64 // of what was read, so that the compiler leaves the reading in
}

// load reads what the receivers' next packets will need, a field of each cache line, and changes nothing.
func (a *ahead) load(batch []udp.Receiver) {
	n := 0
	for _, r := range batch[:min(len(batch), aheadMax)] {
		if p, ok := r.(*port); ok && !p.rtcp {
			a.legs[n] = p.leg
			n++
		}
	}
	legs, sum := a.legs[:n], uint64(0)
	for _, l := range legs {
		sum += uint64(l.side) + l.in.packets.Load() + uint64(l.in.transit) + uint64(l.gate.Load()) + l.sent.packets.Load()
		if l.latch.Locked() {
			sum++
		}
	}
	n = 0
	for _, l := range legs {
		s := l.stream
		peer := &s.legs[1-l.side]
		sum += uint64(peer.to.Port()) + uint64(peer.out.seq) + uint64(peer.out.octets) + uint64(peer.gate.Load()) + peer.sent.packets.Load()
		if r := s.route.Load(); r != nil {
			a.flows[n], a.peers[n], legs[n] = &r.flows[l.side], &r.flows[peer.side], peer
			n++
		}
	}
	for i, l := range legs[:n] {
		f, g := a.flows[i], a.peers[i]
		sum += uint64(f.types[0]) + uint64(f.types[127]) + uint64(f.clock) + uint64(f.toClock)
		if f.event[0] || f.cn[0] || f.hold || g.hold {
			sum++
		}
		if p := l.rtp; p != nil && p.conn != nil {
			sum += uint64(p.conn.LocalAddr().Port())
		}
	}
	for i := range legs[:n] {
		if p := a.flows[i].pipe; p != nil {
			sum += p.Ahead()
		}
		if c := a.flows[i].rx; c != nil {
			sum += c.ahead()
		}
		if c := a.peers[i].tx; c != nil {
			sum += c.ahead()
		}
	}
	a.sum += sum
}

// ahead reads what the next packet under the key will need.
func (c *srtpContext) ahead() uint64 {
	if c.cipher == nil {
		return c.clock // the first packet makes what it needs
	}
	s := &c.streams[0]
	return c.clock + uint64(c.rtcpMAC) + s.rtp.top + s.rtcp.top + c.cipher.ahead()
}

func (c *srtpCM) ahead() uint64 {
	k := &c.rtp
	return uint64(k.salt[0]) + uint64(k.inner[0]) + uint64(k.inner[cacheLine]) + uint64(k.outer[0]) + uint64(k.outer[cacheLine]) +
		uint64(c.tail[0]) + uint64(c.last[0]) + uint64(c.sum[0]) + uint64(c.ks[0]) + uint64(c.ks[cacheLine]) + uint64(c.ks[2*cacheLine])
}

func (c *srtpGCM) ahead() uint64 { return uint64(c.rtp.salt[0]) + uint64(c.none[0]) }
