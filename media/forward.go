package media

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"rtcedge/media/udp"
	"rtcedge/nat"
	"rtcedge/transcode"
)

// The way of an RTP packet. Functions occur in the order in which a packet meets them. Packets are changed in place; the
// bytes belong to the loop and are lent until Receive returns.

// Fixed by specification.
const (
	rtpHeaderMin = 12 // RFC 3550 section 5.1
	markerBit    = 0x80
	paddingBit   = 0x20
	typeMask     = 0x7f
	eventLen     = 4 // RFC 4733 section 2.3
)

// Receive takes a packet of this socket. It runs on the worker's goroutine, as all below.
func (p *port) Receive(pkt *udp.Packet) {
	s := p.leg.stream
	r := s.route.Load()
	if r == nil {
		p.leg.drop(dropNoRoute)
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	if r.raw {
		s.forwardRaw(p, r, pkt)
		return
	}
	b := pkt.Data
	if len(b) < 2 {
		p.leg.drop(dropShort)
		return
	}
	switch kind := nat.Classify(b); kind {
	case nat.RTP, nat.RTCP: // RTCP also where rtcp-mux was not agreed
		if p.rtcp || kind == nat.RTCP {
			s.receiveRTCP(p, r, pkt)
			return
		}
		s.forwardRTP(p.leg, r, pkt)
	case nat.STUN:
		p.receiveSTUN(r, pkt)
	case nat.DTLS:
		p.receiveDTLS(r, pkt)
	default:
		p.leg.drop(dropClass)
	}
}

// forwardRTP carries one RTP packet from leg l to the other one.
func (s *stream) forwardRTP(l *leg, r *route, pkt *udp.Packet) {
	f := &r.flows[l.side]
	b, n := pkt.Data[:cap(pkt.Data)], len(pkt.Data)
	hdr := srtpHeaderLen(pkt.Data)
	if hdr == 0 {
		l.drop(dropShort)
		return
	}
	rx, ok := f.opens(false)
	if !ok {
		l.drop(dropNoKey)
		return
	}
	if rx != nil {
		var fault srtpFault
		if n, fault = rx.unprotectRTP(b, n); fault != faultNone {
			l.drop(dropOf(fault))
			return
		}
	}
	if !l.accepts(&l.latch, rx != nil, pkt) {
		return
	}
	if s.joint != nil && !s.joint.passes(l, pkt.From) {
		l.drop(dropJoined)
		return
	}
	pt := b[1] & typeMask
	if f.types[pt] == noType {
		l.drop(dropPayloadType)
		return
	}
	seq, ts, ssrc := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	clock := f.clock
	if f.event[pt] {
		clock = 0
	}
	l.in.packet(ssrc, seq, ts, n, pkt.Time, clock)
	s.worker.count(n)
	if s.worker.tells {
		switch {
		case f.event[pt]:
			l.hears(b[hdr:n], ts, f.eventClock(pt), false, pkt.Time)
		case f.listener != nil && !f.cn[pt]:
			l.listen(f.listener, b[:n], hdr, pkt.Time)
		}
	}
	if g := l.gate.Load(); g != 0 {
		changed, ok := l.holdBack(g, r, b, hdr, n)
		if !ok {
			s.skip(l, &s.legs[1-l.side], r, b[:hdr], pkt.Time)
			return
		}
		n = changed
	}
	if t := s.tap.Load(); t != nil {
		t.packet(l, r, b[:n], hdr, pkt)
	}
	if x := l.rare.Load(); x != nil {
		if x.forward != nil && !r.plain {
			x.forward.packet(l, b[:n], hdr)
		}
		if to := x.copies.Load(); to != nil {
			l.copyTo(*to, b, hdr, n, pkt.Time)
		}
	}
	s.carry(l, r, b, hdr, n, pkt.Time)
}

// carry takes b[:n], a packet that leg l accepted, to the other leg. Its payload type is one of the route's.
func (s *stream) carry(l *leg, r *route, b []byte, hdr, n int, now time.Time) {
	f, peer := &r.flows[l.side], &s.legs[1-l.side]
	if peer.playing != nil {
		l.drop(dropBlocked)
		return
	}
	if f.pipe != nil {
		s.transcode(l, peer, r, b[:n], hdr, now)
		return
	}
	pt := b[1] & typeMask
	out := f.types[pt]
	if f.event[pt] && f.eventClocks[0] != 0 && n >= hdr+eventLen {
		scaleEvent(b[hdr:], f.eventClocks)
	}
	if !r.plain {
		seq, ts, ssrc := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		o := &peer.out
		if !o.started || o.source != ssrc || o.pipe != nil {
			o.continueAt(seq, ts, now, f.clock)
			o.source, o.pipe = ssrc, nil
			b[1] |= markerBit // RFC 3551 section 4.1: let the receiver adjust its play-out here
		}
		seq, ts = seq+o.seqOff, ts+o.tsOff
		o.sentOne(seq, ts, now)
		o.packets++
		o.octets += uint32(n - hdr)
		binary.BigEndian.PutUint16(b[2:], seq)
		binary.BigEndian.PutUint32(b[4:], ts)
		binary.BigEndian.PutUint32(b[8:], peer.ssrc)
		if peer.inject != nil && !peer.inject.through && !f.event[pt] && !f.cn[pt] {
			if stamp, marker, ok := peer.injected(b[hdr:hdr], ts, f.clock); ok {
				n, out = hdr+eventLen, peer.injectType
				b[0] &^= paddingBit
				b[1] = marker
				binary.BigEndian.PutUint32(b[4:], stamp)
			}
		}
	}
	b[1] = b[1]&markerBit | out
	s.deliver(peer, r, b, n, now)
}

// deliver sends b[:n] to the party of peer, or to the stream that is joined with this one while that party is away.
func (s *stream) deliver(peer *leg, r *route, b []byte, n int, now time.Time) {
	if s.joint != nil && s.joint.take(peer, b, n, now) {
		return
	}
	peer.sendRTP(&r.flows[peer.side], b, n)
}

// scaleEvent converts the duration of an event, which counts in the clock of its payload type (RFC 4733 section 2.3.5). What does
// not fit saturates.
func scaleEvent(payload []byte, clocks [2]uint32) {
	duration := uint64(binary.BigEndian.Uint16(payload[2:])) * uint64(clocks[1]) / uint64(clocks[0])
	binary.BigEndian.PutUint16(payload[2:], uint16(min(duration, math.MaxUint16)))
}

// accepts asks ICE or the latch about the packet's source.
func (l *leg) accepts(latch *nat.Latch, authenticated bool, pkt *udp.Packet) bool {
	if ice := l.flow.ice; ice != nil {
		if latch == &l.latchRTCP {
			ice = l.flow.iceRTCP
		}
		if authenticated || ice != nil && ice.Validated(pkt.From) {
			return true
		}
		l.drop(dropSource)
		return false
	}
	switch latch.Packet(pkt.From, authenticated, pkt.Time) {
	case nat.Drop:
		l.drop(dropSource)
		return false
	case nat.Learn:
		l.learnt()
		l.stream.touched()
	}
	return true
}

// transcode gives the payload to the pipe and sends what comes out of it; b is the opened packet.
func (s *stream) transcode(l, peer *leg, r *route, b []byte, hdr int, now time.Time) {
	f, o, w := &r.flows[l.side], &peer.out, s.worker
	if !l.pace.allows(now) {
		l.drop(dropPace)
		return
	}
	pt, ssrc := b[1]&typeMask, binary.BigEndian.Uint32(b[8:])
	payload := unpadded(b, hdr)
	if o.pipe != f.pipe || o.source != ssrc {
		if o.pipe == f.pipe {
			f.pipe.Resync()
		}
		o.source, o.pipe, o.splice = ssrc, f.pipe, true
	}
	in := transcode.Packet{
		Event: f.event[pt], Noise: f.cn[pt],
		Seq: binary.BigEndian.Uint16(b[2:]), Timestamp: binary.BigEndian.Uint32(b[4:]), Marker: b[1]&markerBit != 0,
		Payload: payload,
	}
	if peer.inject != nil && peer.inject.through && !in.Event && !in.Noise && len(payload) >= eventLen {
		if stamp, marker, ok := peer.injected(payload[:0], in.Timestamp, f.clock); ok {
			in.Event, in.Timestamp, in.Marker, in.Payload = true, stamp, marker != 0, payload[:eventLen]
		}
	}
	f.pipe.Push(in)
	made := time.Duration(0)
	for {
		out, ok := f.pipe.Next()
		if !ok {
			l.pace.add(made)
			return
		}
		made += f.pipe.FrameTime()
		if rtpHeaderMin+len(out.Payload) > txBufferSize {
			l.drop(dropPayload)
			continue
		}
		if o.splice {
			o.continueAt(out.Seq, out.Timestamp, now, f.toClock)
			o.splice, out.Marker = false, true
		}
		seq, ts := out.Seq+o.seqOff, out.Timestamp+o.tsOff
		o.sentOne(seq, ts, now)
		t := w.tx[:]
		t[0], t[1] = 0x80, f.voice
		switch {
		case out.Event:
			t[1] = f.events
		case out.Noise:
			t[1] = f.noise
		}
		if out.Marker {
			t[1] |= markerBit
		}
		n := rtpHeaderMin + copy(t[rtpHeaderMin:], out.Payload)
		if g := l.gate.Load(); g&gateSilence != 0 && !out.Event && !out.Noise {
			if word, ok := quiet(r.names[peer.side]); ok {
				fillBytes(t[rtpHeaderMin:n], word)
			}
		}
		if peer.inject != nil && !peer.inject.through && !out.Event && !out.Noise {
			if stamp, marker, ok := peer.injected(t[rtpHeaderMin:rtpHeaderMin], ts, f.toClock); ok {
				ts, n = stamp, rtpHeaderMin+eventLen
				t[1] = marker | peer.injectType
			}
		}
		binary.BigEndian.PutUint16(t[2:], seq)
		binary.BigEndian.PutUint32(t[4:], ts)
		binary.BigEndian.PutUint32(t[8:], peer.ssrc)
		o.packets++
		o.octets += uint32(len(out.Payload))
		s.deliver(peer, r, t, n, now)
	}
}

// eventClock is the clock in which an event's duration counts, that of its payload type (RFC 4733 section 2.1).
func (f *flow) eventClock(pt uint8) uint32 {
	for i := range f.heard {
		if f.heard[i].PT == pt {
			return uint32(f.heard[i].Rate)
		}
	}
	return f.clock
}

// unpadded is the payload of a checked packet without its padding (RFC 3550 section 5.1).
func unpadded(b []byte, hdr int) []byte {
	payload := b[hdr:]
	if b[0]&paddingBit != 0 && len(payload) > 0 {
		if pad := int(payload[len(payload)-1]); pad > 0 && pad <= len(payload) {
			return payload[:len(payload)-pad]
		}
	}
	return payload
}

// forwardRaw passes a datagram as it is: UDPTL and everything that is no RTP.
func (s *stream) forwardRaw(p *port, r *route, pkt *udp.Packet) {
	l, peer := p.leg, &s.legs[1-p.leg.side]
	if p.rtcp {
		l.drop(dropClass)
		return
	}
	if !l.accepts(&l.latch, false, pkt) {
		return
	}
	l.in.datagram(len(pkt.Data), pkt.Time)
	s.worker.count(len(pkt.Data))
	if r.flows[peer.side].hold || !validTarget(peer.to) {
		peer.drop(dropHold)
		return
	}
	peer.send(peer.rtp, pkt.Data, peer.to)
}

// sendRTP seals b[:n], which has srtpRoom behind it, and sends it to the party of this leg. f is what the route says of
// that party.
func (l *leg) sendRTP(f *flow, b []byte, n int) {
	if f.hold || !validTarget(l.to) {
		l.drop(dropHold)
		return
	}
	tx, ok := f.seals(false)
	if !ok {
		l.drop(dropNoKey)
		return
	}
	if tx != nil {
		if n, ok = tx.protectRTP(b, n); !ok {
			l.drop(dropSeal)
			return
		}
	}
	l.send(l.rtp, b[:n], l.to)
}

// send is the last step, of RTP and RTCP.
func (l *leg) send(p *port, b []byte, to netip.AddrPort) {
	if !p.write(b, to) {
		l.drop(dropSend)
		return
	}
	l.sent.add(len(b))
	w := l.stream.worker
	w.packetsOut.Add(1)
	w.bytesOut.Add(uint64(len(b)))
}

// Failed counts a packet that left in a batch and came no further. It was counted as sent before.
func (p *port) Failed() { p.leg.drop(dropSend) }

// count adds to the worker's totals what was accepted.
func (w *worker) count(n int) {
	w.packets.Add(1)
	w.bytes.Add(uint64(n))
}

// drop counts a packet that ended at this leg.
func (l *leg) drop(r dropReason) {
	l.drops.count(r)
	l.stream.worker.drops.count(r)
}

// dropOf names the fault of SRTP.
func dropOf(f srtpFault) dropReason {
	switch f {
	case faultShort:
		return dropShort
	case faultReplay, faultOld:
		return dropReplay
	}
	return dropAuth
}
