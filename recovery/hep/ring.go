package hep

import "sync/atomic"

// ring is a bounded queue of encoded packets between many senders and one reader: no lock, no allocation, first in first
// out. The bytes lie one behind the other in one slab, each record in one piece; slots tell where.
//
// A sender claims the next slot and the next bytes in one step, by moving tail; then the memory is its own until it
// marks the slot ready. The reader takes ready slots in order and gives them back by moving head. A sender that the
// scheduler stops in between holds up the reader, but no other sender.
type ring struct {
	// Constant after newRing.
	slots []slot
	slab  []byte // both lengths are powers of two

	// tail and head count records in the upper 32 bits and bytes in the lower ones; both run over.
	_    [64]byte // of cache lines of their own
	tail atomic.Uint64
	_    [64]byte
	head atomic.Uint64
	_    [64]byte
}

type slot struct {
	ready  atomic.Uint32 // one more than the number of the record that is complete here
	off, n uint32        // where it is in the slab
	end    uint32        // the count of bytes behind it
}

// span is a record's place in the slab.
type span struct{ off, n uint32 }

// claim is a record that its sender may write.
type claim struct {
	seq, off uint32
}

func newRing(messages, bytes int) *ring {
	return &ring{slots: make([]slot, messages), slab: make([]byte, bytes)}
}

func pack(seq, pos uint32) uint64             { return uint64(seq)<<32 | uint64(pos) }
func unpack(v uint64) (seq, pos uint32)       { return uint32(v >> 32), uint32(v) }
func (r *ring) at(seq uint32) *slot           { return &r.slots[seq&uint32(len(r.slots)-1)] }
func (r *ring) bytes(off, n uint32) []byte    { return r.slab[off : off+n : off+n] }
func (r *ring) room(c claim, n uint32) []byte { return r.slab[c.off : c.off : c.off+n] }

// reserve claims n bytes, or says which bound is reached.
func (r *ring) reserve(n uint32) (claim, Drop) {
	for {
		head := r.head.Load()
		tail := r.tail.Load()
		seq, pos := unpack(tail)
		headSeq, headPos := unpack(head)
		off, skip := pos&uint32(len(r.slab)-1), uint32(0)
		if left := uint32(len(r.slab)) - off; left < n {
			off, skip = 0, left // a record does not run over the slab's end
		}
		full := DropNone
		if seq-headSeq >= uint32(len(r.slots)) {
			full = DropMessages
		} else if uint64(pos-headPos)+uint64(skip)+uint64(n) > uint64(len(r.slab)) {
			full = DropBytes
		}
		if full != DropNone {
			if r.head.Load() == head {
				return claim{}, full
			}
			continue // the reader went on between the two loads
		}
		end := pos + skip + n
		if r.tail.CompareAndSwap(tail, pack(seq+1, end)) {
			s := r.at(seq)
			s.off, s.n, s.end = off, n, end
			return claim{seq: seq, off: off}, DropNone
		}
	}
}

// commit hands a claimed record to the reader.
func (r *ring) commit(c claim) { r.at(c.seq).ready.Store(c.seq + 1) }

// peek fills spans with complete records from the head on and says how many. They stay in the ring.
func (r *ring) peek(spans []span) int {
	seq, _ := unpack(r.head.Load())
	for i := range spans {
		s := r.at(seq)
		if s.ready.Load() != seq+1 {
			return i
		}
		spans[i] = span{s.off, s.n}
		seq++
	}
	return len(spans)
}

// release takes the first n records out, of which peek has told.
func (r *ring) release(n int) {
	if n == 0 {
		return
	}
	seq, _ := unpack(r.head.Load())
	seq += uint32(n)
	r.head.Store(pack(seq, r.at(seq-1).end))
}

// waiting is what the ring holds, claimed records included.
func (r *ring) waiting() (messages, bytes int) {
	headSeq, headPos := unpack(r.head.Load())
	seq, pos := unpack(r.tail.Load())
	return int(seq - headSeq), int(pos - headPos)
}
