package media

import (
	"encoding/binary"
	"errors"

	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

// Chosen by us, in samples.
const (
	trackWindow = 2 * wavRate     // audio that is being put together
	trackDelay  = 4 * wavRate / 5 // how far behind the present it is written: jitter and an echo of both sides fit
	trackStray  = wavRate / 2     // the source's clock and ours may differ so far before the source is set right
)

// track is the audio of one stream on the timeline of its recording. It belongs to the writer.
type track struct {
	files  [3]*wavFile // caller, callee, mixed
	base   int64       // samples written
	end    int64       // first sample behind everything heard
	window [2][trackWindow]int16
	voices [2]voice
	out    [3][]byte
}

// voice is one party of it.
type voice struct {
	pipe *transcode.Pipe // nil: its codec cannot be decoded
	flow *flow
	pt   uint8
	ssrc uint32

	anchored bool
	anchor   int64  // position of the sample with the timestamp stamp
	stamp    uint32 // of the pipe's outgoing stream
}

// packet decodes a packet and puts its audio where it was at the given position.
func (t *track) packet(s *recordSlot, at int64) error {
	v := &t.voices[s.side]
	b := s.data[:s.n]
	pt, ssrc := b[1]&typeMask, binary.BigEndian.Uint32(b[8:])
	event, noise := s.flow.event[pt], s.flow.cn[pt]
	if voiced := !event && !noise; s.flow != v.flow || voiced && pt != v.pt {
		v.open(s.flow, pt, voiced)
		v.ssrc = ssrc
	}
	if v.pipe == nil {
		return nil
	}
	if ssrc != v.ssrc {
		v.ssrc = ssrc
		v.pipe.Resync()
	}
	v.pipe.Push(transcode.Packet{
		Event: event, Noise: noise, Seq: binary.BigEndian.Uint16(b[2:]), Timestamp: binary.BigEndian.Uint32(b[4:]),
		Marker: b[1]&markerBit != 0, Payload: unpadded(b, s.hdr),
	})
	for {
		out, ok := v.pipe.Next()
		if !ok {
			return nil
		}
		pos := v.anchor + int64(int32(out.Timestamp-v.stamp))
		if stray := pos - at; !v.anchored || stray > trackStray || stray < -trackStray {
			// The first, one after silence without timestamps, or a clock that runs away: it was said now.
			v.anchored, pos = true, at
		}
		v.anchor, v.stamp = pos, out.Timestamp
		if err := t.put(s.side, pos, out.Payload); err != nil {
			return err
		}
	}
}

// open makes the decoder for a payload type; a voice that cannot be decoded stays silent.
func (v *voice) open(f *flow, pt uint8, voiced bool) {
	if !voiced {
		return // the first voice packet decides
	}
	v.flow, v.pt, v.anchored, v.pipe = f, pt, false, nil
	cfg := transcode.PipeConfig{To: transcode.Format{Codec: transcode.L16, Rate: wavRate, Channels: 1}}
	found := false
	for _, c := range f.heard {
		switch {
		case isEvent(c):
			cfg.FromEvents = c.Rate
		case c.PT == pt:
			cfg.From, found = formatOf(c)
		}
	}
	if !found {
		return
	}
	v.pipe, _ = transcode.NewPipe(cfg) // an error leaves it nil: passed codecs are in the pcap file
}

func formatOf(c sdp.Codec) (transcode.Format, bool) {
	return transcode.Lookup(c.Name, c.Rate, c.Channels, c.Params)
}

// put writes 16 bit samples in network order at a position.
func (t *track) put(side int, pos int64, l16 []byte) error {
	n := int64(len(l16) / 2)
	if over := pos + n - (t.base + trackWindow); over > 0 {
		if err := t.flush(t.base + over); err != nil {
			return err
		}
	}
	for i := range n {
		if p := pos + i; p >= t.base { // else it came too late
			t.window[side][p%trackWindow] = int16(binary.BigEndian.Uint16(l16[2*i:]))
		}
	}
	t.end = max(t.end, pos+n)
	return nil
}

// flush writes everything before a position.
func (t *track) flush(to int64) error {
	for to > t.base {
		n := min(to-t.base, trackWindow)
		for i := range t.out {
			t.out[i] = t.out[i][:0]
		}
		for p := t.base; p < t.base+n; p++ {
			a, b := &t.window[0][p%trackWindow], &t.window[1][p%trackWindow]
			mixed := min(max(int32(*a)+int32(*b), -1<<15), 1<<15-1)
			t.out[0] = binary.LittleEndian.AppendUint16(t.out[0], uint16(*a))
			t.out[1] = binary.LittleEndian.AppendUint16(t.out[1], uint16(*b))
			t.out[2] = binary.LittleEndian.AppendUint16(t.out[2], uint16(mixed))
			*a, *b = 0, 0
		}
		t.base += n
		for i, f := range t.files {
			if err := f.write(t.out[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// close writes what was heard last and closes the files.
func (t *track) close() error {
	var errs []error
	if t.files[2] != nil {
		errs = append(errs, t.flush(t.end))
	}
	for i, f := range t.files {
		if f != nil {
			errs = append(errs, f.file.Close())
			t.files[i] = nil
		}
	}
	return errors.Join(errs...)
}
