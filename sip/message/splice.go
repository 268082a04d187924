package message

import (
	"net/netip"
	"strconv"
)

// Chosen by us: a forwarded request needs about ten edits and 500 bytes; a browser's with two Record-Routes 700.
const (
	maxEdits   = 64
	maxScratch = 4096
	maxLong    = 4
)

// Splice collects edits of one message and writes the outgoing one. The zero value is ready; Reset before each message.
//
// Cut starts an edit: the bytes from..to of the message leave, and what the following writes add stands in their place.
// Edits may come in any order of positions; those at the same position keep the order in which they were made.
type Splice struct {
	n     int
	full  bool
	edits [maxEdits]edit
	long  [maxLong][]byte // borrowed texts, by edit.long-1
	longs int
	used  int
	text  [maxScratch]byte // of all edits, up to used
}

// edit holds no pointers, so that sorting moves two words and the collector is told nothing.
type edit struct {
	from, to  uint32
	text, end uint16 // in Splice.text
	long      uint8  // index in Splice.long plus one, in place of text
}

// Reset forgets all edits.
func (s *Splice) Reset() {
	clear(s.long[:s.longs])
	s.n, s.longs, s.full, s.used = 0, 0, false, 0
}

// Cut starts an edit that takes the bytes from..to out; from == to only inserts.
func (s *Splice) Cut(from, to int) {
	if s.n == maxEdits {
		s.full = true
		return
	}
	at := uint16(s.used)
	s.edits[s.n] = edit{from: uint32(from), to: uint32(to), text: at, end: at}
	s.n++
}

// CutFor is Cut with long bytes in place; data is borrowed until Append.
func (s *Splice) CutFor(from, to int, data []byte) {
	if s.longs == maxLong {
		s.full = true
		return
	}
	s.Cut(from, to)
	if !s.full {
		s.long[s.longs] = data
		s.longs++
		s.edits[s.n-1].long = uint8(s.longs)
	}
}

// Str adds to the edit that Cut started last.
func (s *Splice) Str(t string) {
	if s.n == 0 || len(t) > maxScratch-s.used {
		s.full = true
		return
	}
	s.wrote(copy(s.text[s.used:], t))
}

// Put adds bytes to the edit that Cut started last.
func (s *Splice) Put(b []byte) {
	if s.n == 0 || len(b) > maxScratch-s.used {
		s.full = true
		return
	}
	s.wrote(copy(s.text[s.used:], b))
}

func (s *Splice) wrote(n int) {
	s.used += n
	s.edits[s.n-1].end = uint16(s.used)
}

// maxNumber is the longest text of Num.
const maxNumber = 20

// Num adds a decimal number.
func (s *Splice) Num(n int) {
	if s.n == 0 || maxNumber > maxScratch-s.used {
		s.full = true
		return
	}
	s.wrote(len(strconv.AppendInt(s.text[s.used:s.used], int64(n), 10)))
}

// Addr adds an address as it stands in "received": IPv6 without brackets.
func (s *Splice) Addr(a netip.Addr) {
	var b [64]byte
	s.Put(a.AppendTo(b[:0]))
}

// added is how many bytes an edit writes.
func (s *Splice) added(e *edit) int {
	n := int(e.end) - int(e.text)
	if e.long > 0 {
		n += len(s.long[e.long-1])
	}
	return n
}

// Size is the length of what Append would write; at least, where cuts overlap.
func (s *Splice) Size(m *Message) int {
	size := len(m.raw)
	for i := range s.edits[:s.n] {
		e := &s.edits[i]
		size += s.added(e) - int(e.to-e.from)
	}
	return size
}

// Append writes the outgoing message behind dst, which must have the room: it is never grown. ok is false if there were too
// many edits, if their texts were too long or if dst is too short; dst is then returned as it came.
func (s *Splice) Append(dst []byte, m *Message) (out []byte, ok bool) {
	if s.full {
		return dst, false
	}
	edits := s.edits[:s.n]
	// Insertion sort: stable, and the edits come nearly in order.
	for i := 1; i < len(edits); i++ {
		e := edits[i]
		j := i
		for ; j > 0 && edits[j-1].from > e.from; j-- {
			edits[j] = edits[j-1]
		}
		edits[j] = e
	}
	src := m.raw
	size := len(src) + s.used
	for _, b := range s.long[:s.longs] {
		size += len(b)
	}
	if size > cap(dst)-len(dst) && !s.fits(dst, src) {
		return dst, false
	}
	out = dst
	pos := 0
	for i := range edits {
		e := &edits[i]
		if int(e.from) > pos {
			out = append(out, src[pos:e.from]...)
			pos = int(e.from)
		}
		if e.text < e.end {
			out = append(out, s.text[e.text:e.end]...)
		}
		if e.long > 0 {
			out = append(out, s.long[e.long-1]...)
		}
		pos = max(pos, int(e.to)) // cuts may overlap
	}
	return append(out, src[pos:]...), true
}

// fits counts exactly, with what is cut out; edits must be sorted.
func (s *Splice) fits(dst, src []byte) bool {
	size, pos := 0, 0
	for i := range s.edits[:s.n] {
		e := &s.edits[i]
		if int(e.from) > pos {
			size += int(e.from) - pos
			pos = int(e.from)
		}
		size += s.added(e)
		pos = max(pos, int(e.to))
	}
	return size+len(src)-pos <= cap(dst)-len(dst)
}
