package transcode

import "math"

// RFC 4733 section 2.3: event, end bit and volume, duration.
const (
	eventSize   = 4
	eventEnd    = 0x80
	eventVolume = 0x3f

	// Volume of events that stand for detected tones, in -dBm0, and how often their end is sent (section 2.5.1.4).
	reportVolume = 10
	reportEnds   = 3
)

// incomingEvent is the event that the source sent last.
type incomingEvent struct {
	known    bool
	ended    bool
	tone     bool   // it is rendered in band
	stamp    uint32 // its timestamp at the source
	outgoing uint32 // its timestamp as it leaves
	begin    uint32 // where it begins on the source's voice clock
	end      uint32 // where the last news put its end
	wave     tone
}

// covers tells if voice of the given timestamp is replaced by the event's tone. An event whose end got lost ends by itself
// when there was no news for slack.
func (e *incomingEvent) covers(stamp, slack uint32) bool {
	if !e.tone || int32(stamp-e.begin) < 0 {
		return false
	}
	end := e.end
	if !e.ended {
		end += slack
	}
	return int32(stamp-end) < 0
}

// pass ends the tone when voice goes on behind it: what still comes of the event is repetition.
func (e *incomingEvent) pass(stamp uint32) {
	if int32(stamp-e.begin) >= 0 {
		e.tone = false
	}
}

// event handles a telephone-event packet.
func (p *Pipe) event(pkt *Packet) {
	if len(pkt.Payload) < eventSize || p.cfg.FromEvents == 0 {
		p.stats.Malformed++
		return
	}
	e := &p.incoming
	if !e.known || e.stamp != pkt.Timestamp {
		p.beginEvent(pkt)
	}
	duration := uint32(pkt.Payload[2])<<8 | uint32(pkt.Payload[3])
	if p.cfg.ToEvents == 0 {
		p.renderEvent(pkt.Payload, duration)
		return
	}
	// Section 2.3.5: the duration counts in the event's own clock, whatever the voice's is; what does not fit saturates.
	scaled := min(uint64(duration)*uint64(p.cfg.ToEvents)/uint64(p.cfg.FromEvents), math.MaxUint16)
	payload := p.keep(pkt.Payload[:eventSize])
	if payload != nil {
		payload[2], payload[3] = byte(scaled>>8), byte(scaled)
	}
	p.send(Packet{Event: true, Timestamp: e.outgoing, Marker: pkt.Marker, Payload: payload})
}

// beginEvent places a new event on the voice's timeline. Its retransmissions keep the place.
func (p *Pipe) beginEvent(pkt *Packet) {
	offset := int64(int32(pkt.Timestamp - p.clock))
	rate := p.cfg.From.Rate
	if offset < -int64(span(maxOverlap, rate))*5 || offset > int64(span(maxSilence, rate)) {
		offset = 0 // a clock of its own: the event is now
	}
	moved := offset * int64(p.cfg.To.Rate) / int64(rate)
	p.incoming = incomingEvent{
		known:    true,
		stamp:    pkt.Timestamp,
		outgoing: p.position() + uint32(moved),
		begin:    p.clock + uint32(offset),
		end:      p.clock + uint32(offset),
	}
	if digit := pkt.Payload[0]; p.cfg.ToEvents == 0 && digit <= dtmfLast {
		p.incoming.tone = true
		p.incoming.wave.start(digit, pkt.Payload[1]&eventVolume, p.decRate)
	}
}

// renderEvent makes the tone that an event's news adds: from where the audio ends to where the event ends by now.
func (p *Pipe) renderEvent(payload []byte, duration uint32) {
	e := &p.incoming
	if !e.tone {
		return
	}
	rate := p.cfg.From.Rate
	end := e.begin + uint32(uint64(duration)*uint64(rate)/uint64(p.cfg.FromEvents))
	e.ended = e.ended || payload[1]&eventEnd != 0
	if int32(end-e.end) > 0 {
		e.end = end
	}
	if before := int32(e.begin - p.clock); before > 0 {
		p.silence(uint32(before))
	}
	news := int32(e.end - p.clock)
	if news <= 0 {
		return
	}
	n := min(int(news)*p.decRate/rate, len(p.pcm)) &^ 1
	p.wave(n)
}

// wave sends n samples of the event's tone.
func (p *Pipe) wave(n int) {
	pcm := p.pcm[:n]
	p.incoming.wave.fill(pcm)
	p.clock += uint32(n * p.cfg.From.Rate / p.decRate)
	p.plc.lost = 0
	p.emit(pcm)
}

// outgoingEvent is a detected digit on its way.
type outgoingEvent struct {
	on       bool
	digit    uint8
	stamp    uint32
	duration uint32 // in ToEvents
}

// reportDigit sends news of the digit that the listener hears and tells if it stands for the frame.
func (p *Pipe) reportDigit() bool {
	o, digit := &p.outgoing, p.listener.digit
	if o.on && digit != o.digit {
		for range reportEnds {
			p.sendReport(eventEnd, false)
		}
		o.on = false
	}
	if digit == noDigit {
		return false
	}
	first := !o.on
	if first {
		*o = outgoingEvent{on: true, digit: digit, stamp: p.stamp}
	}
	o.duration = min(o.duration+uint32(span(p.cfg.To.PTime, p.cfg.ToEvents)), math.MaxUint16)
	p.sendReport(0, first)
	return true
}

func (p *Pipe) sendReport(flags byte, marker bool) {
	o := &p.outgoing
	payload := p.keep([]byte{o.digit, flags | reportVolume, byte(o.duration >> 8), byte(o.duration)})
	p.send(Packet{Event: true, Timestamp: o.stamp, Marker: marker, Payload: payload})
}
