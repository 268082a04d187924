package media

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

// The way of a packet between two joined streams, in the order in which it meets the functions.

// junction is two streams of two calls that are joined. Whoever sees the reason ends it; the workers notice with the next packet.
type junction struct {
	calls  [2]string // Call-IDs
	joints [2]*joint
	ended  atomic.Bool
}

// end may be called with nil.
func (j *junction) end() {
	if j != nil {
		j.ended.Store(true)
	}
}

func (j *junction) lives() bool { return j != nil && !j.ended.Load() }

// joint is the end of a junction at one stream: what would go to legs[away] goes into the other stream.
type joint struct {
	// Constant.
	*junction
	stream, other   *stream
	away, otherAway int
	route           *route // of stream when it was joined

	// Owned by the worker of stream.
	was netip.AddrPort // source of the party that is away

	// Owned by the worker of the other stream.
	cross crossing
}

// begin makes the joint known to the stream, on its worker.
func (x *joint) begin() {
	if s := x.stream; !s.closed && x.lives() {
		x.was = x.source()
		s.joint = x
	}
}

// passes tells if a packet that leg l has accepted goes on. The party that was away ends the junction when it sends after a new
// answer; what its former address still sends is too late.
func (x *joint) passes(l *leg, from netip.AddrPort) bool {
	s := x.stream
	if l.side == x.away && x.lives() {
		if s.cur == x.route || from == x.was && s.cur.flows[x.away].source.Expected != x.was {
			return false
		}
		x.end()
	}
	if !x.lives() {
		s.joint = nil
	}
	return true
}

// take gets what the stream would send to the party of l. False means that it is sent there, too or only. A party that was away and has a new answer gets it as
// well: a farm that bridges the two speaks to one only what the other one says, and each would wait for the other.
func (x *joint) take(l *leg, b []byte, n int, now time.Time) bool {
	if l.side != x.away {
		return false
	}
	if !x.lives() {
		x.stream.joint = nil
		return false
	}
	back, same := x.stream.cur != x.route, x.other.worker == x.stream.worker
	if same && !back {
		x.enter(b, n, now)
		return true
	}
	// A copy. Where there are two workers it is handed over; the buffers are few, as a packet does not wait long.
	h := x.stream.worker.engine.handovers.Get().(*handover)
	h.joint, h.n, h.at = x, copy(h.data[:txBufferSize], b[:n]), now
	switch {
	case n > txBufferSize:
		x.stream.worker.engine.handovers.Put(h)
	case same:
		h.run()
	case !x.other.worker.loop.Do(h.run):
		x.stream.worker.engine.handovers.Put(h)
	}
	return !back
}

// handover is a packet on its way to another worker.
type handover struct {
	joint *joint
	n     int
	at    time.Time
	run   func()
	data  [txBufferSize + srtpRoom]byte
}

func newHandovers() *sync.Pool {
	pool := new(sync.Pool)
	pool.New = func() any {
		h := new(handover)
		h.run = func() {
			h.joint.enter(h.data[:], h.n, h.at)
			h.joint = nil
			pool.Put(h)
		}
		return h
	}
	return pool
}

// enter brings b[:n] into the other stream as if its absent party had sent it. It runs on the other stream's worker and changes b,
// which may be that worker's own buffer: what the packet is made into is put there only after all of it was read.
func (x *joint) enter(b []byte, n int, now time.Time) {
	s := x.other
	r, from := s.route.Load(), x.stream.route.Load()
	if r == nil || from == nil || s.closed {
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	l, c := &s.legs[x.otherAway], &x.cross
	if c.from != from || c.to != r {
		if c.make(from, x.away, r, x.otherAway, s.worker.engine.cfg.OpusComplexity) != nil {
			l.drop(dropPayload)
			return
		}
	}
	hdr := srtpHeaderLen(b[:n])
	if hdr == 0 {
		l.drop(dropShort)
		return
	}
	pt := b[1] & typeMask
	if c.pipe == nil {
		if c.types[pt] == noType {
			l.drop(dropPayloadType)
			return
		}
		b[1] = b[1]&markerBit | c.types[pt]
		s.enters(l, r, b, hdr, n, now)
		return
	}
	c.pipe.Push(transcode.Packet{
		Event: pt == c.pair.event[0].PT, Noise: pt == c.pair.noise[0].PT, Seq: binary.BigEndian.Uint16(b[2:]),
		Timestamp: binary.BigEndian.Uint32(b[4:]), Marker: b[1]&markerBit != 0, Payload: unpadded(b[:n], hdr),
	})
	ssrc := binary.BigEndian.Uint32(b[8:])
	for out, ok := c.pipe.Next(); ok; out, ok = c.pipe.Next() {
		t := s.worker.tx[:]
		t[0], t[1] = 0x80, c.pair.voice[1].PT
		switch {
		case out.Event:
			t[1] = c.pair.event[1].PT
		case out.Noise:
			t[1] = c.pair.noise[1].PT
		}
		if out.Marker {
			t[1] |= markerBit
		}
		binary.BigEndian.PutUint16(t[2:], out.Seq)
		binary.BigEndian.PutUint32(t[4:], out.Timestamp)
		binary.BigEndian.PutUint32(t[8:], ssrc)
		if rtpHeaderMin+len(out.Payload) <= txBufferSize {
			s.enters(l, r, t, rtpHeaderMin, rtpHeaderMin+copy(t[rtpHeaderMin:], out.Payload), now)
		}
	}
}

// enters carries a packet in the payload types of leg l, whose party did not send it. A recording of the call has it all the same.
func (s *stream) enters(l *leg, r *route, b []byte, hdr, n int, now time.Time) {
	if r.flows[l.side].types[b[1]&typeMask] == noType {
		l.drop(dropPayloadType)
		return
	}
	if t := s.tap.Load(); t != nil {
		t.copy(l, r, b[:n], hdr, l.latch.Source(), now)
	}
	s.carry(l, r, b, hdr, n, now)
}

// crossing says how the packets to the absent party of one stream become those from the absent party of another one.
type crossing struct {
	from, to *route // that it was made for
	types    [128]uint8
	pair     pair
	pipe     *transcode.Pipe // where the two parties had different codecs
}

// make compares what the absent party of a was sent with what that of b may send.
func (c *crossing) make(a *route, aSide int, b *route, bSide int, complexity int) error {
	*c = crossing{from: a, to: b}
	in, out := a.flows[aSide].heard, slices.Clone(b.flows[bSide].heard)
	out = slices.DeleteFunc(out, func(o sdp.Codec) bool { return b.flows[bSide].types[o.PT&typeMask] == noType })
	for i := range c.types {
		c.types[i] = noType
	}
	for _, from := range in {
		if i := slices.IndexFunc(out, func(to sdp.Codec) bool { return sameCodec(from, to) }); i >= 0 {
			c.types[from.PT&typeMask] = out[i].PT & typeMask
		}
	}
	from, to := spoken(in, a.names[aSide]), spoken(out, b.names[bSide])
	if from.PT == noType || to.PT == noType {
		return fmt.Errorf("%w: a call has no voice", errNoCodec)
	}
	if c.types[from.PT&typeMask] != noType {
		return nil
	}
	if !connects(from, to) {
		return fmt.Errorf("%w: %s and %s are relayed as they are and cannot be converted", errNoCodec, from.Name, to.Name)
	}
	c.pair = pair{
		voice: [2]sdp.Codec{from, to}, event: [2]sdp.Codec{eventOf(in, from.Rate), eventOf(out, to.Rate)},
		noise: [2]sdp.Codec{noiseOf(in), noiseOf(out)},
	}
	var err error
	c.pipe, err = transcode.NewPipe(pipeConfig(&c.pair, 0, 0, &Config{OpusComplexity: complexity}))
	return err
}

// spoken is the voice of a list that has the name, else its first one.
func spoken(list []sdp.Codec, name string) sdp.Codec {
	if i := slices.IndexFunc(list, func(c sdp.Codec) bool { return isVoice(c) && name != "" && c.Is(name) }); i >= 0 {
		return list[i]
	}
	return firstVoice(list)
}
