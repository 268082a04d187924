package hep

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestRingManySenders: each record that was accepted comes out once, whole, and in its sender's order, also where both
// counts run over.
func TestRingManySenders(t *testing.T) {
	const senders, each = 4, 20000
	r := newRing(16, 4096)
	start := pack(1<<32-100, 1<<32-777)
	r.tail.Store(start)
	r.head.Store(start)

	var refused atomic.Int64
	var wg sync.WaitGroup
	for id := range senders {
		wg.Go(func() {
			for i := uint32(0); i < each; {
				n := 8 + (i*7+uint32(id)*13)%600
				c, full := r.reserve(n)
				if full != DropNone {
					refused.Add(1)
					runtime.Gosched()
					continue
				}
				b := r.room(c, n)[:n]
				binary.BigEndian.PutUint32(b, uint32(id))
				binary.BigEndian.PutUint32(b[4:], i)
				for k := range b[8:] {
					b[8+k] = byte(i)
				}
				r.commit(c)
				i++
			}
		})
	}
	var next [senders]uint32
	var spans [5]span
	for got := 0; got < senders*each; {
		n := r.peek(spans[:])
		if n == 0 {
			runtime.Gosched()
		}
		for _, sp := range spans[:n] {
			b := r.bytes(sp.off, sp.n)
			id, i := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
			if id >= senders || i != next[id] {
				t.Fatalf("sender %d: record %d, want %d", id, i, next)
			}
			for _, c := range b[8:] {
				if c != byte(i) {
					t.Fatalf("sender %d: record %d is torn", id, i)
				}
			}
			next[id]++
		}
		r.release(n)
		got += n
	}
	wg.Wait()
	if m, b := r.waiting(); m != 0 || b != 0 {
		t.Errorf("%d messages, %d bytes left", m, b)
	}
	t.Logf("%d times full", refused.Load())
}

// TestRingBounds: both bounds hold and are told apart, and a record never runs over the slab's end.
func TestRingBounds(t *testing.T) {
	r := newRing(4, 1024)
	for i := range 4 {
		c, full := r.reserve(10)
		if full != DropNone {
			t.Fatalf("record %d: %v", i, full)
		}
		r.commit(c)
	}
	if _, full := r.reserve(10); full != DropMessages {
		t.Errorf("fifth record: %v", full)
	}
	var spans [4]span
	r.release(r.peek(spans[:]))
	c, _ := r.reserve(900) // 40 to 940
	if _, full := r.reserve(85); full != DropBytes {
		t.Errorf("84 bytes are left at the end and 40 at the start, for 85: %v", full)
	}
	if _, full := r.reserve(84); full != DropNone {
		t.Errorf("84 bytes: %v", full)
	}
	if n := r.peek(spans[:]); n != 0 {
		t.Errorf("%d records before the first is ready", n)
	}
	r.commit(c)
	if n := r.peek(spans[:]); n != 1 || spans[0] != (span{40, 900}) {
		t.Errorf("%d records, %v", n, spans)
	}
}
