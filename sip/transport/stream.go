package transport

import (
	"errors"
	"os"
	"sync"
	"time"
)

// The functions of this file occur in the order in which a stream's bytes meet them.

// largeBuffers are for connections that are inside a large message or have more to read than a small buffer holds. They go
// back when the connection has nothing to read.
type largeBuffers struct{ pool sync.Pool }

// streamReader is what the reading goroutine of a TCP or TLS connection owns.
type streamReader struct {
	c          *conn
	f          framer
	small      []byte
	buf        []byte // small, or a large one
	start, end int    // buf[start:end] is not consumed
	deadline   time.Time
	spoke      bool      // a message or keep-alive has come
	began      time.Time // when the incomplete message began; zero if there is none
}

// read takes messages until the connection ends, and says why it did. first is when the first message has to be complete;
// a dialled connection has none.
func (c *conn) read(first time.Time) CloseReason {
	r := &streamReader{c: c, f: framer{max: c.t.cfg.MaxMessage}, small: make([]byte, smallBuffer), spoke: first.IsZero()}
	r.buf = r.small
	defer r.shrink()
	for {
		if err := r.setDeadline(first); err != nil {
			return ClosePeer
		}
		n, err := c.nc.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			if why, ok := r.cut(); !ok {
				return why
			}
		}
		if err != nil {
			return r.failed(err)
		}
	}
}

// setDeadline bounds the next read: for the first message, for the rest of a message that has begun, or for idleness. A peer
// that sends a byte now and then gains nothing, since the limit counts from the message's first byte.
func (r *streamReader) setDeadline(first time.Time) error {
	want := first
	switch {
	case r.spoke && r.began.IsZero():
		want = time.Now().Add(r.c.t.cfg.IdleTimeout)
		// The timer is moved at most once per 1/64 of the idle time: setting it costs more than reading a message.
		if d := want.Sub(r.deadline); !r.deadline.IsZero() && d >= 0 && d < r.c.t.cfg.IdleTimeout/64 {
			return nil
		}
	case r.spoke:
		want = r.began.Add(r.c.t.cfg.MessageTimeout)
	}
	if want.Equal(r.deadline) {
		return nil
	}
	r.deadline = want
	return r.c.nc.SetReadDeadline(want)
}

func (r *streamReader) failed(err error) CloseReason {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return ClosePeer
	}
	if r.spoke && r.began.IsZero() {
		return CloseIdle
	}
	return CloseSlow
}

// cut hands over every complete message of the buffer and makes room for the next read.
func (r *streamReader) cut() (why CloseReason, ok bool) {
	t, c := r.c.t, r.c
	full := r.end == len(r.buf)
	count := c.shared()
	var w *Worker
	pong := false
	defer func() {
		if w != nil {
			w.msg = Message{}
			t.workers.Put(w)
		}
	}()
	for r.start < r.end {
		n, kind := r.f.next(r.buf[r.start:r.end])
		if kind == frameMore {
			break
		}
		b := r.buf[r.start : r.start+n : r.start+n]
		r.start += n
		switch kind {
		case frameMessage:
			if w == nil {
				w = t.workers.Get().(*Worker)
			}
			r.spoke, r.began = true, time.Time{}
			count.messagesIn.Add(1)
			count.bytesIn.Add(uint64(n))
			w.msg = Message{Bytes: b, From: c.peer, Listener: c.l, Flow: c.flow, Worker: w}
			t.handler.Handle(&w.msg)
		case framePing:
			// One answer per read: it is never longer than the question.
			pong = true
			count.drops[DropKeepAlive].Add(1)
		case frameBlank:
			count.drops[DropKeepAlive].Add(1)
		case frameNoLength:
			return CloseNoLength, false
		case frameOversize:
			return CloseOversize, false
		default:
			return CloseMalformed, false
		}
	}
	if pong {
		_ = c.enqueue([]byte("\r\n")) // the peer learns by itself that it got none
	}
	r.makeRoom(full)
	return 0, true
}

// makeRoom moves an incomplete message to the front and takes a larger buffer for one that needs it, or where the peer sends
// more than a small buffer takes at once. A connection that is idle goes back to its small one.
func (r *streamReader) makeRoom(full bool) {
	if r.start == r.end {
		r.start, r.end = 0, 0
		r.began = time.Time{}
		switch {
		case full:
			r.grow()
		default:
			r.shrink()
		}
		return
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	if full || r.f.size() > len(r.buf) {
		r.grow()
	}
	if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, r.end-r.start
	}
}

// grow changes to a large buffer, which holds the largest message and the one after it in part.
func (r *streamReader) grow() {
	if len(r.buf) > len(r.small) {
		return
	}
	large := r.c.t.large.get(r.c.t.cfg.MaxMessage + smallBuffer)
	r.end = copy(large, r.buf[r.start:r.end])
	r.start = 0
	r.buf = large
}

func (r *streamReader) shrink() {
	if len(r.buf) > len(r.small) {
		r.c.t.large.put(r.buf)
		r.buf = r.small
	}
}

func (p *largeBuffers) get(size int) []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

func (p *largeBuffers) put(b []byte) { p.pool.Put(&b) }
