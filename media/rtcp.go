package media

import (
	"encoding/binary"
	"net/netip"
	"time"

	"rtcedge/media/udp"
)

// The way of RTCP, in the order in which a packet meets the functions; at the end, the reports of our own.

// Fixed by specification.
const (
	rtcpSR   = 200 // RFC 3550 section 6.4.1
	rtcpRR   = 201
	rtcpSDES = 202
	rtcpBYE  = 203
	rtcpAPP  = 204
	rtcpRTPF = 205 // RFC 4585 section 6.1: transport layer feedback
	rtcpPSF  = 206 // payload specific feedback

	reportBlock   = 24
	senderInfo    = 20
	cnameItem     = 1
	ntpEpoch      = 2208988800 // seconds from 1900 to 1970 (RFC 5905 section 6)
	cnameLen      = 16
	rtcpMinimum   = 8
	rtcpSRMinimum = 8 + senderInfo
)

// receiveRTCP takes a compound packet from the party of p.
func (s *stream) receiveRTCP(p *port, r *route, pkt *udp.Packet) {
	l := p.leg
	f, peer := &r.flows[l.side], &s.legs[1-l.side]
	b, n := pkt.Data[:cap(pkt.Data)], len(pkt.Data)
	rx, ok := f.opens(p.rtcp)
	if !ok {
		l.drop(dropNoKey)
		return
	}
	if rx != nil {
		var fault srtpFault
		if n, fault = rx.unprotectRTCP(b, n); fault != faultNone {
			l.drop(dropOf(fault))
			return
		}
	}
	latch := &l.latch
	if p.rtcp {
		latch = &l.latchRTCP
	}
	if !wellFormed(b[:n]) {
		l.drop(dropRTCP)
		return
	}
	if !l.accepts(latch, rx != nil, pkt) {
		return
	}
	l.inRTCP.add(n)
	s.worker.count(n)
	if r.plain {
		peer.sendRTCP(&r.flows[peer.side], b, n)
		return
	}
	l.readReports(b[:n], pkt.Time)
	if r.reports() {
		return // it speaks of a stream that the other party never sees; report makes the ones that they do
	}
	t := s.worker.tx[:]
	if n = s.rewriteRTCP(t, b[:n], l, peer, &r.flows[peer.side], pkt.Time); n > 0 {
		peer.sendRTCP(&r.flows[peer.side], t, n)
	}
}

// wellFormed checks the lengths of a compound packet (RFC 3550 appendix A.2), so that the functions below may trust them.
func wellFormed(b []byte) bool {
	if len(b) < rtcpMinimum {
		return false
	}
	for len(b) > 0 {
		if len(b) < 4 || b[0]>>6 != 2 {
			return false
		}
		size := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
		blocks := reportBlock * int(b[0]&0x1f)
		switch {
		case size > len(b),
			b[1] == rtcpSR && size < rtcpSRMinimum+blocks,
			b[1] == rtcpRR && size < rtcpMinimum+blocks,
			b[1] >= rtcpAPP && b[1] <= rtcpPSF && size < 12:
			return false
		}
		b = b[size:]
	}
	return true
}

// next cuts the first packet off a checked compound.
func nextRTCP(b []byte) (one, rest []byte) {
	size := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
	return b[:size], b[size:]
}

// blocksOf is the report blocks of a checked SR or RR.
func blocksOf(one []byte) []byte {
	start := rtcpMinimum
	if one[1] == rtcpSR {
		start += senderInfo
	}
	return one[start : start+reportBlock*int(one[0]&0x1f)]
}

// readReports notes what the party says: its clock, for our answer, and how long our report took to it and back.
func (l *leg) readReports(b []byte, now time.Time) {
	for len(b) > 0 {
		var one []byte
		one, b = nextRTCP(b)
		switch one[1] {
		case rtcpSR:
			l.in.srID, l.in.srAt = binary.BigEndian.Uint32(one[10:]), now
		case rtcpRR:
		default:
			continue
		}
		for blocks := blocksOf(one); len(blocks) > 0; blocks = blocks[reportBlock:] {
			if binary.BigEndian.Uint32(blocks) != l.ssrc {
				continue
			}
			l.reportedLoss(blocks[4])
			lsr, dlsr := binary.BigEndian.Uint32(blocks[16:]), binary.BigEndian.Uint32(blocks[20:])
			if lsr == 0 || lsr != l.out.srID {
				continue
			}
			// RFC 3550 section 6.4.1: DLSR counts 1/65536 s.
			trip := now.Sub(l.out.srAt) - time.Duration(uint64(dlsr)*uint64(time.Second)>>16)
			if trip >= 0 && trip < time.Minute {
				l.trip.Store(int64(trip))
			}
		}
	}
}

// reportedLoss takes the fraction lost of a report, in 1/256, to the encoder of what we send there. One good report after bad ones halves it:
// losses come in bursts.
func (l *leg) reportedLoss(fraction uint8) {
	l.loss = max(uint8((int(fraction)*100+255)>>8), l.loss/2)
	if r := l.stream.cur; r != nil {
		if p := r.flows[1-l.side].pipe; p != nil {
			p.SetLoss(int(l.loss))
		}
	}
}

// rewriteRTCP copies a compound packet from leg l into t as the party of peer must see it: our SSRC, numbers of our stream, our
// CNAME. It returns the length, 0 for nothing to send. Goodbyes end here: a source that changes is no end of our stream.
func (s *stream) rewriteRTCP(t, b []byte, l, peer *leg, to *flow, now time.Time) int {
	n := 0
	for len(b) > 0 {
		var one []byte
		one, b = nextRTCP(b)
		if n+len(one) > txBufferSize-64 {
			break
		}
		out := t[n : n+len(one)]
		switch one[1] {
		case rtcpSR, rtcpRR:
			copy(out, one)
			if one[1] == rtcpSR {
				if binary.BigEndian.Uint32(one[4:]) == peer.out.source {
					binary.BigEndian.PutUint32(out[16:], binary.BigEndian.Uint32(one[16:])+peer.out.tsOff)
				}
				peer.out.srID, peer.out.srAt = binary.BigEndian.Uint32(one[10:]), now
			}
			for blocks := blocksOf(out); len(blocks) > 0; blocks = blocks[reportBlock:] {
				l.translateBlock(blocks)
			}
		case rtcpAPP:
			copy(out, one)
		case rtcpRTPF, rtcpPSF:
			if !to.feedback {
				continue // RFC 4585 section 3.1: not to one who did not negotiate it
			}
			copy(out, one)
			if binary.BigEndian.Uint32(out[8:]) == l.ssrc {
				binary.BigEndian.PutUint32(out[8:], l.out.source)
			}
		default:
			continue
		}
		binary.BigEndian.PutUint32(out[4:], peer.ssrc)
		n += len(one)
	}
	if n == 0 {
		return 0
	}
	return n + s.putCNAME(t[n:], peer.ssrc)
}

// translateBlock makes of a report about our stream one about the stream of the other party that it was made from.
func (l *leg) translateBlock(block []byte) {
	if binary.BigEndian.Uint32(block) != l.ssrc {
		return
	}
	binary.BigEndian.PutUint32(block, l.out.source)
	highest := binary.BigEndian.Uint32(block[8:])
	seq := uint16(highest) - l.out.seqOff
	cycles := highest &^ 0xffff
	if seq > uint16(highest) && cycles > 0 {
		cycles -= seqMod
	}
	binary.BigEndian.PutUint32(block[8:], cycles|uint32(seq))
}

// putCNAME writes an SDES packet with our name, which every compound packet must have (RFC 3550 section 6.1). The name is
// random (RFC 7022): those of user agents tell private addresses.
func (s *stream) putCNAME(t []byte, ssrc uint32) int {
	const size = 8 + 2 + cnameLen + 2 // chunk ends with at least one zero octet, on a word boundary
	t[0], t[1] = 0x81, rtcpSDES
	binary.BigEndian.PutUint16(t[2:], size/4-1)
	binary.BigEndian.PutUint32(t[4:], ssrc)
	t[8], t[9] = cnameItem, cnameLen
	copy(t[10:], s.cname[:])
	t[10+cnameLen], t[11+cnameLen] = 0, 0
	return size
}

// sendRTCP seals b[:n], which has srtpRoom behind it, and sends it to the party of this leg.
func (l *leg) sendRTCP(f *flow, b []byte, n int) {
	p, to := l.rtcp, l.toRTCP
	if f.mux {
		p, to = l.rtp, l.to
	}
	if f.hold || !validTarget(to) {
		l.drop(dropHold)
		return
	}
	tx, ok := f.seals(p.rtcp)
	if !ok {
		l.drop(dropNoKey)
		return
	}
	if tx != nil {
		if n, ok = tx.protectRTCP(b, n); !ok {
			l.drop(dropSeal)
			return
		}
	}
	l.send(p, b[:n], to)
}

// validTarget tells if packets can be sent there.
func validTarget(to netip.AddrPort) bool {
	return to.IsValid() && to.Port() != 0 && !to.Addr().IsUnspecified()
}

// report sends our own reports to both parties of a stream that is transcoded.
func (s *stream) report(now time.Time) {
	r := s.route.Load()
	if r == nil || r.raw || r.plain || !r.reports() {
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	for i := range s.legs {
		l, f := &s.legs[i], &r.flows[i]
		if f.hold || !l.in.started && !l.out.started {
			continue
		}
		n := l.putReport(s.worker.tx[:], now, r.flows[1-i].toClock)
		n += s.putCNAME(s.worker.tx[n:], l.ssrc)
		l.sendRTCP(f, s.worker.tx[:], n)
	}
}

// putReport writes a sender report if packets left since the last one, else a receiver report (RFC 3550 section 6.4).
func (l *leg) putReport(t []byte, now time.Time, clock uint32) int {
	n := rtcpMinimum
	t[0], t[1] = 0x80, rtcpRR
	binary.BigEndian.PutUint32(t[4:], l.ssrc)
	if o := &l.out; o.packets != o.reported {
		t[1] = rtcpSR
		ntp := ntpTime(now)
		binary.BigEndian.PutUint64(t[8:], ntp)
		ahead := uint64(max(now.Sub(o.at), 0)) * uint64(clock) / uint64(time.Second)
		binary.BigEndian.PutUint32(t[16:], o.ts+uint32(ahead))
		binary.BigEndian.PutUint32(t[20:], o.packets)
		binary.BigEndian.PutUint32(t[24:], o.octets)
		o.reported, o.srID, o.srAt = o.packets, uint32(ntp>>16), now
		n += senderInfo
	}
	if in := &l.in; in.started {
		t[0] |= 1
		block := t[n : n+reportBlock]
		lost := min(max(int32(in.extended()-in.baseSeq+1-in.received), -1<<23), 1<<23-1)
		binary.BigEndian.PutUint32(block, in.ssrc.Load())
		binary.BigEndian.PutUint32(block[4:], uint32(in.fraction())<<24|uint32(lost)&0xffffff)
		binary.BigEndian.PutUint32(block[8:], in.extended())
		binary.BigEndian.PutUint32(block[12:], uint32(in.jitter.Load()*int64(in.clock)/int64(time.Second)))
		binary.BigEndian.PutUint32(block[16:], in.srID)
		dlsr := uint32(0)
		if in.srID != 0 {
			dlsr = uint32(uint64(max(now.Sub(in.srAt), 0)) << 16 / uint64(time.Second))
		}
		binary.BigEndian.PutUint32(block[20:], dlsr)
		n += reportBlock
	}
	binary.BigEndian.PutUint16(t[2:], uint16(n/4-1))
	return n
}

// ntpTime is the 64 bit time of RFC 5905.
func ntpTime(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
