package media

import (
	"encoding/binary"
	"math"
	"time"
)

// injection is DTMF that takes the place of voice packets on their way to a party (RFC 4733 section 2.5). It needs no clock:
// where voice flows there is a packet for each report, and the numbering stays that of the stream. It belongs to the worker.
type injection struct {
	pt        uint8
	clock     uint32 // Hz, of the events
	volume    uint8
	tone, gap time.Duration
	through   bool    // the party has no events: the conversion on the way makes tones of them
	digits    []uint8 // event codes; the first is sounding or next

	begun bool
	on    bool
	stamp uint32 // RTP timestamp of the event
	ends  int
	next  uint32 // RTP timestamp before which voice passes
}

// Fixed by RFC 4733 section 2.3 and 2.5.1.4.
const (
	eventEndBit    = 0x80
	eventVolumeMax = 0x3f
	eventEnds      = 3
)

// Chosen by us: what the first report says of a digit that has just begun.
const firstReport = 20 * time.Millisecond

// replace says what takes the place of a voice packet with this timestamp, whose clock is given. ok false lets it pass; done
// says that it was the last time.
func (j *injection) replace(ts, clock uint32) (payload [eventLen]byte, stamp uint32, first, ok, done bool) {
	if clock == 0 || len(j.digits) == 0 {
		return payload, 0, false, false, true
	}
	if !j.on {
		if j.begun && int32(ts-j.next) < 0 {
			return payload, 0, false, false, false
		}
		j.begun, j.on, j.stamp, j.ends, first = true, true, ts, 0, true
	}
	elapsed := time.Duration(ts-j.stamp)*time.Second/time.Duration(clock) + firstReport
	payload[0], payload[1] = j.digits[0], j.volume&eventVolumeMax
	if elapsed >= j.tone {
		elapsed = j.tone
		payload[1] |= eventEndBit
		j.ends++
	}
	duration := uint64(elapsed) * uint64(j.clock) / uint64(time.Second)
	binary.BigEndian.PutUint16(payload[2:], uint16(min(duration, math.MaxUint16)))
	if j.ends == eventEnds || j.through && j.ends == 1 { // a conversion loses nothing: one end is enough
		j.on, j.digits = false, j.digits[1:]
		j.next = j.stamp + uint32(uint64(j.tone+j.gap)*uint64(clock)/uint64(time.Second))
	}
	return payload, j.stamp, first, true, len(j.digits) == 0
}

// injected writes the event that takes the place of a voice packet into the room at dst, and returns its timestamp and marker.
func (l *leg) injected(dst []byte, ts, clock uint32) (stamp uint32, marker byte, ok bool) {
	l.injectType = l.inject.pt
	payload, stamp, first, ok, done := l.inject.replace(ts, clock)
	if done {
		l.inject = nil
	}
	if !ok {
		return 0, 0, false
	}
	copy(dst[:eventLen], payload[:])
	if first {
		marker = markerBit
	}
	return stamp, marker, true
}

// holdBack does what the gates of leg l say; the packet may be another one then. False means that it ends here.
func (l *leg) holdBack(g gate, r *route, b []byte, hdr, n int) (int, bool) {
	f, pt := &r.flows[l.side], b[1]&typeMask
	switch {
	case g&gateAll != 0, g&gateMedia != 0 && !f.event[pt]:
		l.drop(dropBlocked)
		return 0, false
	case g&gateDTMF != 0 && f.event[pt]:
		if x := l.rare.Load(); x != nil {
			if m := x.mask.Load(); m != nil {
				if n, ok := l.disguise(m, r, b, hdr, n); ok {
					return n, true
				}
			}
		}
		l.drop(dropBlocked)
		return 0, false
	case g&gateSilence == 0 || f.event[pt] || f.cn[pt]:
		return n, true
	}
	for i := range f.heard {
		if f.heard[i].PT != pt {
			continue
		}
		if word, ok := quiet(f.heard[i].Name); ok {
			fillBytes(b[hdr:n], word)
			return n, true
		}
	}
	if _, ok := quiet(r.names[1-l.side]); ok && f.pipe != nil {
		return n, true // what leaves the pipe is silenced
	}
	l.drop(dropBlocked)
	return 0, false
}

// skip takes the number of a packet that was held back out of the stream of the other party, so that it is no loss there, and
// an SRTP receiver finds the rollover counter after any time (RFC 3711 section 3.3.1). hdr is the packet's header.
func (s *stream) skip(l, peer *leg, r *route, hdr []byte, now time.Time) {
	switch o := &peer.out; {
	case r.flows[l.side].pipe != nil:
		s.transcode(l, peer, r, hdr, len(hdr), now) // no payload: the pipe counts it and lets its time pass
	case !r.plain && o.started && o.source == binary.BigEndian.Uint32(hdr[8:]):
		o.seqOff--
	}
}

func fillBytes(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}
