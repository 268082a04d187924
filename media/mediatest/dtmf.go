package mediatest

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/pion/rtp"
)

const (
	digitTime = 100 * time.Millisecond
	digitGap  = 60 * time.Millisecond
	// RFC 4733 section 2.5.1.4: the last packet is sent three times.
	digitEnds   = 3
	eventDigits = "0123456789*#ABCD" // RFC 4733 section 3.2, in the order of the codes
)

func eventOf(digit byte) (byte, bool) {
	i := strings.IndexByte(eventDigits, digit)
	return byte(i), i >= 0
}

// eventSender sends one digit.
type eventSender struct {
	code  byte
	clock int
	began bool
	base  uint32
	since time.Duration
	ends  int
	gap   time.Duration
	done  bool
}

func newEventSender(digit byte, clock int) *eventSender {
	code, _ := eventOf(digit)
	return &eventSender{code: code, clock: clock}
}

// send is called once per packet time instead of audio.
func (e *eventSender) send(p *Peer, s *session, timestamp uint32, step time.Duration) {
	if e.ends == digitEnds {
		e.gap += step
		e.done = e.gap >= digitGap
		return
	}
	if !e.began {
		// The timestamp of all packets is that of the beginning (RFC 4733 section 2.2.1).
		e.base = timestamp
	}
	e.since += step
	over := e.since >= digitTime
	var b [4]byte
	b[0], b[1] = e.code, 10 // -10 dBm0
	if over {
		b[1] |= 0x80
		e.ends++
	}
	binary.BigEndian.PutUint16(b[2:], uint16(min(e.since, digitTime)*time.Duration(e.clock)/time.Second))
	p.sendRTP(s, rtp.Header{Marker: !e.began, PayloadType: s.eventPT, Timestamp: e.base}, b[:])
	e.began = true
	if over && e.ends == 1 {
		p.out.events++
	}
}

// Digit is a DTMF event that came in.
type Digit struct {
	Key      byte
	Duration time.Duration
	Ended    bool
	Packets  int

	timestamp uint32
}

// event takes the payload of a telephone-event packet; mu is held.
func (r *receiver) event(timestamp uint32, payload []byte, clock int) {
	if len(payload) < 4 || int(payload[0]) >= len(eventDigits) || clock == 0 {
		r.undecodable++
		return
	}
	n := len(r.digits)
	if n == 0 || r.digits[n-1].timestamp != timestamp {
		r.digits = append(r.digits, Digit{Key: eventDigits[payload[0]], timestamp: timestamp})
		n++
	}
	d := &r.digits[n-1]
	d.Packets++
	d.Ended = d.Ended || payload[1]&0x80 != 0
	ticks := binary.BigEndian.Uint16(payload[2:])
	d.Duration = max(d.Duration, time.Duration(ticks)*time.Second/time.Duration(clock))
}
