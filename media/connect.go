package media

import (
	"net/netip"
	"time"

	"rtcedge/media/udp"
	"rtcedge/nat"
)

// The way of the packets that carry no media: STUN, which finds the way to a party, and DTLS, which brings its keys. Functions occur
// in the order in which a packet meets them; then what the clock does. All run on the worker's goroutine.
//
// Before the answer such packets are dropped as all are. An agent that answered them without the party's fingerprint would only make
// the party begin a handshake that cannot be, whose pauses double: its checks come again within a blink, its ClientHellos do not.

// receiveSTUN takes a connectivity check.
func (p *port) receiveSTUN(r *route, pkt *udp.Packet) {
	l := p.leg
	ice := r.flows[l.side].ice
	if p.rtcp {
		ice = r.flows[l.side].iceRTCP
	}
	if ice == nil {
		l.drop(dropSTUN)
		return
	}
	answer, ev := ice.Handle(pkt.Data, pkt.From, pkt.Time, l.stream.worker.tx[:0])
	if answer != nil {
		l.sendControl(p, answer, pkt.From)
	}
	if ev < nat.ICERefreshed {
		l.drop(dropSTUN)
		return
	}
	l.connect()
	if ev == nat.ICENominated {
		l.stream.touched()
	}
}

// receiveDTLS takes a record of the handshake, from a source that ICE has validated or the latch has learnt (behaviour 35).
func (p *port) receiveDTLS(r *route, pkt *udp.Packet) {
	l := p.leg
	f := &r.flows[l.side]
	d, latch := f.dtls, &l.latch
	if p.rtcp {
		d, latch = f.dtlsRTCP, &l.latchRTCP
	}
	if d == nil {
		l.drop(dropDTLS)
		return
	}
	if l.accepts(latch, false, pkt) && !d.link.receive(pkt.Data, pkt.From) {
		l.drop(dropDTLS)
	}
}

// sendControl sends an answer or a record; it is no media, so it is not counted as such.
func (l *leg) sendControl(p *port, b []byte, to netip.AddrPort) {
	if !p.write(b, to) {
		l.drop(dropSend)
	}
}

// connect follows what ICE and latch have decided: where media goes, and that a handshake may begin there.
func (l *leg) connect() {
	f := l.flow
	if f.ice != nil {
		if to := f.ice.Selected(); to != l.to && to.IsValid() {
			l.latched.Store(&to)
		}
		l.to = f.ice.Selected()
		if l.toRTCP = l.to; f.iceRTCP != nil {
			l.toRTCP = f.iceRTCP.Selected()
		}
	}
	f.dtls.open(l.to)
	f.dtlsRTCP.open(l.toRTCP)
}

// opens returns what opens the party's packets, nil for plain ones. False is DTLS-SRTP without keys: nothing passes.
func (f *flow) opens(rtcpPort bool) (*srtpContext, bool) {
	if f.dtls == nil {
		return f.rx, true
	}
	rx, _ := f.keys(rtcpPort)
	return rx, rx != nil
}

// seals returns what seals packets to the party, as opens does.
func (f *flow) seals(rtcpPort bool) (*srtpContext, bool) {
	if f.dtls == nil {
		return f.tx, true
	}
	_, tx := f.keys(rtcpPort)
	return tx, tx != nil
}

// keys are those of the port's association. Under rtcp-mux there is one (RFC 5764 section 4.1.2 allows it by RFC 5761).
func (f *flow) keys(rtcpPort bool) (rx, tx *srtpContext) {
	if rtcpPort && f.dtlsRTCP != nil {
		return f.dtlsRTCP.contexts()
	}
	return f.dtls.contexts()
}

// established tells if a route has what receives a tick.
func (r *route) established() bool {
	for i := range r.flows {
		if f := &r.flows[i]; f.ice != nil || f.dtls != nil {
			return true
		}
	}
	return false
}

// begin takes the route over without waiting for a packet: a handshake of ours begins, and the ticks too.
func (s *stream) begin() {
	r := s.route.Load()
	if r == nil || s.closed {
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	if !s.watched {
		s.watched = true
		s.worker.watched = append(s.worker.watched, s)
	}
}

// watch ticks the streams that have ICE or DTLS and forgets the others.
func (w *worker) watch(now time.Time) {
	kept := w.watched[:0]
	for _, s := range w.watched {
		if s.closed || s.cur == nil || !s.cur.established() {
			s.watched = false
			continue
		}
		kept = append(kept, s)
		for i := range s.legs {
			s.legs[i].tick(&s.cur.flows[i], now)
		}
	}
	clear(w.watched[len(kept):])
	w.watched = kept
}

// tick is called about every 100 ms.
func (l *leg) tick(f *flow, now time.Time) {
	f.dtls.tick()
	f.dtlsRTCP.tick()
	if f.ice == nil {
		return
	}
	if n := l.in.packets.Load(); n != l.refreshed {
		l.refreshed = n
		if rx, ok := f.opens(false); ok && rx != nil {
			f.ice.Refresh(now) // its packets were authenticated
		}
	}
	// RFC 7675 section 5.1: nothing is sent to who may not be there any more. The next check brings it back.
	if !f.ice.Consent(now) {
		l.to = netip.AddrPort{}
	}
	if f.iceRTCP == nil {
		l.toRTCP = l.to
	} else if !f.iceRTCP.Consent(now) {
		l.toRTCP = netip.AddrPort{}
	}
}

// pierce sends each party a packet that means nothing, a STUN indication (RFC 6263 section 4.5), so that a NAT on our side lets theirs in.
func (s *stream) pierce() {
	r := s.route.Load()
	if r == nil || s.closed {
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	indication := [20]byte{0: 0x00, 1: 0x11, 4: 0x21, 5: 0x12, 6: 0xa4, 7: 0x42} // RFC 8489 section 5
	for i := range s.legs {
		if l := &s.legs[i]; validTarget(l.to) {
			l.sendControl(l.rtp, indication[:], l.to)
		}
	}
}
