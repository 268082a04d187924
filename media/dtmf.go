package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// Telephone-events on their way: what takes the place of those that are blocked (rtpengine's DTMF-security), and who is told of them.

// mask is what a blocked event becomes. It is constant once published.
type mask struct {
	mode   maskMode
	digit  uint8
	volume uint8     // of events, and of tones in -dB; maskVolume where the request has none
	given  bool      // the volume is the request's
	hz     []float64 // one tone for each event, in turn
}

type maskMode uint8

const (
	maskDrop maskMode = iota
	maskSilence
	maskTone
	maskRandom
	maskDigit // zero is one of 0
)

// Chosen by rtpengine.
const (
	maskVolume = 10 // -dB
	maskHz     = 400
)

// masked is the event that is being replaced by audio; it belongs to the worker.
type masked struct {
	stamp uint32 // of the event
	done  uint32 // samples that stand in its place so far
	count int    // of events
}

// newMask reads the keys of block DTMF.
func newMask(req *ng.Request) (*mask, error) {
	m := &mask{volume: maskVolume}
	if req.Volume != 0 {
		m.volume, m.given = uint8(min(max(req.Volume, -req.Volume), eventVolumeMax)), true
	}
	switch req.DTMFSecurity {
	case "", "drop":
		return nil, nil
	case "silence":
		m.mode = maskSilence
	case "tone":
		m.mode = maskTone
		for _, hz := range req.Frequencies {
			m.hz = append(m.hz, float64(hz))
		}
		if len(m.hz) == 0 {
			m.hz = []float64{maskHz}
		}
	case "random":
		m.mode = maskRandom
	case "zero":
		m.mode = maskDigit
	case "dtmf":
		m.mode = maskDigit
		digits, err := readDigits(req.Code)
		if err != nil || len(digits) != 1 {
			return nil, fmt.Errorf("block DTMF: DTMF-security=DTMF needs one key in digit, got %q", req.Code)
		}
		m.digit = digits[0]
	}
	return m, nil
}

// BlockDTMF holds events back, or puts something else in their place.
func (e *Engine) BlockDTMF(req *ng.Request) (*ng.Response, error) {
	if req.DTMFSecurity == "off" {
		return e.setGate(req, gateDTMF, false)
	}
	m, err := newMask(req)
	if err != nil {
		return nil, err
	}
	return e.withCall(req, func(c *call) error {
		legs, err := c.legsOf(req)
		if err != nil {
			return err
		}
		if m != nil && (m.mode == maskSilence || m.mode == maskTone) {
			for _, l := range legs {
				r := l.stream.route.Load()
				if r == nil || r.raw || r.plain {
					continue
				}
				if _, ok := quiet(r.names[l.side]); !ok {
					return fmt.Errorf("block DTMF: audio in place of events can be made where the party sends PCMU or PCMA, it sends %s; "+
						"use DTMF-security=zero, random, DTMF or drop", r.names[l.side])
				}
			}
		}
		for _, l := range legs {
			l.rarely().mask.Store(m)
			l.gate.Or(gateDTMF)
		}
		return nil
	})
}

// disguise puts something else in the place of an event packet b[:n]. It returns the new length, false for nothing.
func (l *leg) disguise(m *mask, r *route, b []byte, hdr, n int) (int, bool) {
	if n < hdr+eventLen {
		return 0, false
	}
	stamp := binary.BigEndian.Uint32(b[4:])
	switch m.mode {
	case maskRandom:
		// One event keeps its disguise; the SSRC is random, and nobody outside knows both it and the timestamps.
		h := (stamp ^ l.ssrc) * 2654435761
		b[hdr] = (b[hdr]&15 + 1 + uint8(h>>20)%15) & 15
	case maskDigit:
		b[hdr] = m.digit
	default:
		return l.sound(m, r, b, hdr, stamp)
	}
	if m.given {
		b[hdr+1] = b[hdr+1]&^eventVolumeMax | m.volume
	}
	return n, true
}

// sound makes a voice packet of an event packet: as many samples as the event has become longer by.
func (l *leg) sound(m *mask, r *route, b []byte, hdr int, stamp uint32) (int, bool) {
	word, ok := quiet(r.names[l.side])
	pt, known := r.flows[l.side].typeOf(r.names[l.side])
	if !ok || !known {
		return 0, false
	}
	d := &l.rare.Load().masked
	if d.stamp != stamp || d.count == 0 {
		*d = masked{stamp: stamp, count: d.count + 1}
	}
	duration := uint32(binary.BigEndian.Uint16(b[hdr+2:]))
	if duration <= d.done || int(duration-d.done) > len(b)-hdr-srtpRoom {
		return 0, false // said already: the end comes three times
	}
	samples := b[hdr : hdr+int(duration-d.done)]
	if m.mode == maskTone {
		hz := m.hz[(d.count-1)%len(m.hz)]
		amplitude := math.Pow(10, -float64(m.volume)/20) * math.MaxInt16
		law := g711.EncodeULaw
		if word == 0xd5 {
			law = g711.EncodeALaw
		}
		for i := range samples {
			pcm := [1]int16{int16(amplitude * math.Sin(2*math.Pi*hz*float64(d.done+uint32(i))/8000))}
			law(samples[i:i+1], pcm[:])
		}
	} else {
		fillBytes(samples, word)
	}
	b[0] &^= paddingBit
	b[1] = pt
	binary.BigEndian.PutUint32(b[4:], stamp+d.done)
	d.done = duration
	return hdr + len(samples), true
}

// typeOf finds the payload type by which the party sends a codec.
func (f *flow) typeOf(name string) (uint8, bool) {
	for i := range f.heard {
		if c := &f.heard[i]; strings.EqualFold(c.Name, name) && f.types[c.PT&typeMask] != noType {
			return c.PT, true
		}
	}
	return 0, false
}

// Digit is a key that a party has pressed, when it is over.
type Digit struct {
	CallID    string
	Tag       string         // of the party
	Tags      []string       // of all parties of the call
	Source    netip.AddrPort // of its media
	At        time.Time
	Event     uint8 // RFC 4733 section 3.2
	Duration  time.Duration
	Volume    uint8 // -dBm0
	FromTones bool  // heard in the voice, by detect-DTMF
}

// digitWatch is what a worker knows of a leg's keys.
type digitWatch struct {
	told  uint32 // timestamp of the last event that was told
	begun bool
}

// hears tells of an event packet that ends its event, once.
func (l *leg) hears(payload []byte, stamp, clock uint32, tones bool, now time.Time) {
	if len(payload) < eventLen || payload[1]&eventEndBit == 0 || payload[0] > 15 || clock == 0 {
		return
	}
	x := l.rare.Load()
	if x == nil {
		return
	}
	d := &x.digits[0]
	if tones {
		d = &x.digits[1]
	}
	if d.begun && d.told == stamp {
		return
	}
	*d = digitWatch{told: stamp, begun: true}
	s := l.stream
	digit := Digit{CallID: s.callID, Source: l.latch.Source(), At: now, Event: payload[0], Volume: payload[1] & eventVolumeMax, FromTones: tones,
		Duration: time.Duration(binary.BigEndian.Uint16(payload[2:])) * time.Second / time.Duration(clock)}
	if who := x.who.Load(); who != nil {
		digit.Tag, digit.Tags = who.tag, who.tags
	}
	s.worker.engine.cfg.Digit(digit)
}

// who names a leg's party for those who are told of its keys; it is constant.
type who struct {
	tag  string
	tags []string
}

// name lets the legs of the dialog know their tags; c.mu is held.
func (d *dialog) name() {
	if !d.worker.tells {
		return
	}
	tags := []string{d.parties[0].tag(), d.parties[1].tag()}
	for _, s := range d.streams {
		for side := range tags {
			if s != nil {
				s.legs[side].rarely().who.Store(&who{tag: tags[side], tags: tags})
			}
		}
	}
}

// listen gives a packet of voice to the detector of tones, where detect-DTMF wants one.
func (l *leg) listen(p *transcode.Pipe, b []byte, hdr int, now time.Time) {
	p.Push(transcode.Packet{Seq: binary.BigEndian.Uint16(b[2:]), Timestamp: binary.BigEndian.Uint32(b[4:]), Payload: unpadded(b, hdr)})
	for {
		out, ok := p.Next()
		if !ok {
			return
		}
		if out.Event {
			l.hears(out.Payload, out.Timestamp, 8000, true, now)
		}
	}
}

// detector makes the pipe that listens to a codec; its audio goes nowhere.
func detector(p *pair, side int) (*transcode.Pipe, error) {
	return transcode.NewPipe(transcode.PipeConfig{From: p.format(side), ToEvents: 8000,
		To: transcode.Format{Codec: transcode.L16, Rate: wavRate, Channels: 1}})
}

// errNoInject says how digits reach a party without telephone-event.
var errNoInject = errors.New("play DTMF: the other party did not negotiate telephone-event; with the flag inject-DTMF in the offer tones are sent")
