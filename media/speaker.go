package media

import (
	"encoding/binary"
	"fmt"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode"
)

// What this node says itself to a party. A speaker continues the one stream that the party sees: its SSRC, its numbering, its keys. The
// metronome of the worker drives all speakers of its streams.

// Chosen by us.
const (
	comfortAfter = 100 * time.Millisecond // of silence comfort noise begins: more than jitter, less than a listener notices
	comfortLevel = 60                     // -dBov, a quiet room
	speakerFrame = 20 * time.Millisecond
	speakerBurst = 3 // frames at most at one time, after the worker was late
)

// speaker is one of our own towards the party of a leg.
type speaker struct {
	// Constant.
	leg        *leg
	complexity int       // of Opus
	play       *playback // nil: comfort noise

	// Owned by the worker.
	ended bool
	route *route          // that the next three were made for
	pipe  *transcode.Pipe // nil: the party's codec cannot be made
	pt    uint8
	clock uint32
	begun bool
	next  time.Time // of the next frame
	seq   uint16    // highest that was sent when we looked last
	quiet time.Time // since when nobody else sends
}

// Comfort turns comfort noise on or off towards the party of from-tag, else that on the outer interface or heard last.
func (e *Engine) Comfort(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		d, side, err := c.staying(req.FromTag)
		if err != nil {
			return fmt.Errorf("comfort: %w; give from-tag", err)
		}
		heard := false
		for _, s := range d.streams {
			if s == nil {
				continue
			}
			l := &s.legs[side]
			if req.Comfort == "off" {
				c.worker.loop.Do(func() { c.worker.hush(l) })
				heard = true
				continue
			}
			r := s.route.Load()
			if r == nil || r.raw || r.plain {
				continue
			}
			if name := spoken(r.flows[side].heard, r.names[side]).Name; !makes(name) {
				return fmt.Errorf("comfort: the party hears %s, which is relayed as it is; offer it one that this node can encode", name)
			}
			v := &speaker{leg: l, complexity: e.cfg.OpusComplexity}
			c.worker.loop.Do(func() { c.worker.comfort(v) })
			heard = true
		}
		if !heard {
			return fmt.Errorf("comfort: call %q has no audio that was answered", c.id)
		}
		return nil
	})
}

// makes tells if a voice can be made in the codec.
func makes(name string) bool {
	rate, channels := defaultsOf(name, 0, 0)
	f, ok := transcode.Lookup(name, rate, channels, "")
	return ok && transcode.CanEncode(f.Codec)
}

// comfort adds a speaker, one per leg.
func (w *worker) comfort(v *speaker) {
	if v.leg.stream.closed {
		return
	}
	for _, other := range w.speakers {
		if other.leg == v.leg && other.play == nil && !other.ended {
			return
		}
	}
	v.quiet = w.now()
	v.seq = v.leg.out.seq
	v.next = v.quiet.Add(comfortAfter)
	w.speakers = append(w.speakers, v)
	w.beats.add()
}

// hush ends the comfort noise of a leg.
func (w *worker) hush(l *leg) {
	for _, v := range w.speakers {
		if v.leg == l && v.play == nil {
			v.ended = true
		}
	}
}

// speak is a beat.
func (w *worker) speak(now time.Time) {
	kept := w.speakers[:0]
	for _, v := range w.speakers {
		if v.ended || v.leg.stream.closed {
			w.beats.done()
			continue
		}
		kept = append(kept, v)
		v.tick(now)
	}
	clear(w.speakers[len(kept):])
	w.speakers = kept
}

// tick says what is due.
func (v *speaker) tick(now time.Time) {
	s, o := v.leg.stream, &v.leg.out
	r := s.route.Load()
	if r == nil {
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	if v.play == nil {
		if o.started && o.seq != v.seq {
			v.seq, v.quiet = o.seq, o.at
			v.next = v.quiet.Add(comfortAfter)
		}
		if now.Sub(v.quiet) < comfortAfter {
			return
		}
	}
	if r != v.route {
		v.tune(r)
	}
	if v.pipe == nil {
		return
	}
	for range speakerBurst {
		if now.Before(v.next) {
			return
		}
		if !v.utter(r, now) {
			v.stop()
			return
		}
		v.next = v.next.Add(speakerFrame)
	}
	v.next = now.Add(speakerFrame)
}

// tune opens the codec that the party hears. It happens once per answer.
func (v *speaker) tune(r *route) {
	v.route, v.pipe, v.begun = r, nil, false
	f := &r.flows[v.leg.side]
	c := spoken(f.heard, r.names[v.leg.side])
	to, ok := transcode.Lookup(c.Name, c.Rate, c.Channels, c.Params)
	if !ok {
		return
	}
	to.PTime = speakerFrame
	from := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
	if v.play != nil {
		from = transcode.Format{Codec: transcode.L16, Rate: v.play.clip.rate, Channels: 1}
	}
	if p, err := transcode.NewPipe(transcode.PipeConfig{From: from, To: to, OpusComplexity: v.complexity}); err == nil {
		v.pipe, v.pt, v.clock = p, c.PT, uint32(c.Rate)
	}
}

// utter makes one frame and sends it; false when there is no more.
func (v *speaker) utter(r *route, now time.Time) bool {
	switch {
	case v.play != nil:
		if !v.play.push(v.pipe, now) {
			return false
		}
	case v.begun:
		v.pipe.Noise()
	default:
		v.begun = true
		v.pipe.Push(transcode.Packet{Noise: true, Payload: []byte{comfortLevel}})
	}
	l, t := v.leg, v.leg.stream.worker.tx[:]
	o := &l.out
	for out, ok := v.pipe.Next(); ok; out, ok = v.pipe.Next() {
		if o.pipe != v.pipe {
			// A source of its own for who renumbers: the next packet of the other party splices itself in again.
			o.continueAt(out.Seq, out.Timestamp, now, v.clock)
			o.source, o.pipe, out.Marker = 0, v.pipe, true
		}
		seq, ts := out.Seq+o.seqOff, out.Timestamp+o.tsOff
		o.sentOne(seq, ts, now)
		t[0], t[1] = 0x80, v.pt
		if out.Marker {
			t[1] |= markerBit
		}
		binary.BigEndian.PutUint16(t[2:], seq)
		binary.BigEndian.PutUint32(t[4:], ts)
		binary.BigEndian.PutUint32(t[8:], l.ssrc)
		if r.transcodes() {
			o.packets++
			o.octets += uint32(len(out.Payload))
		}
		l.sendRTP(&r.flows[l.side], t, rtpHeaderMin+copy(t[rtpHeaderMin:], out.Payload))
	}
	v.seq = o.seq
	return true
}
