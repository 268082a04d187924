package media

import (
	"encoding/binary"
	"time"
)

// copyTo gives an opened packet of this leg to the streams of its subscribers (subscribe.go), which change it on their way. It runs on
// the worker's goroutine: all streams of a call are on one worker.
func (l *leg) copyTo(subscribers []*stream, b []byte, hdr, n int, now time.Time) {
	w := l.stream.worker
	for _, s := range subscribers {
		r := s.route.Load()
		if r == nil || s.closed {
			continue
		}
		if r != s.cur {
			s.adopt(r)
		}
		from := &s.legs[0]
		if n > len(w.copy)-srtpRoom {
			from.drop(dropPayload)
			continue
		}
		f, pt := &r.flows[0], b[1]&typeMask
		if f.types[pt] == noType {
			from.drop(dropPayloadType)
			continue
		}
		clock := f.clock
		if f.event[pt] {
			clock = 0
		}
		from.in.packet(binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), n, now, clock)
		s.carry(from, r, w.copy[:copy(w.copy[:], b[:n])+srtpRoom], hdr, n, now)
	}
}
