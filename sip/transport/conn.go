package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A conn is one connection. One goroutine reads it and hands over its messages; while messages wait to be written a second one
// writes, and leaves when there are none: an idle connection costs one goroutine and one small buffer.
type conn struct {
	// Constant after it was added to the table.
	t       *Transport
	l       *Listener
	peer    netip.AddrPort
	source  netip.Addr
	flow    Flow
	dialled bool
	host    string             // the name that a dialled TLS peer has to prove
	cancel  context.CancelFunc // ends a dial

	armed time.Time // when the writer, of whom there is one at most, has set the write deadline

	mu      sync.Mutex // guards the rest
	nc      net.Conn   // nil while it is dialled
	ws      *websocket.Conn
	wc      *wsConn // below ws
	ready   bool    // may be written to
	closed  bool
	reason  CloseReason // why it was closed first
	writing bool
	pending *queue
	writer  sync.WaitGroup // Add under mu and only while not closed
}

// queue is bytes that wait, and where in them each message ends: a WebSocket needs the borders.
type queue struct {
	b    []byte
	ends []int
}

// enqueue copies b to the end of what waits for the connection, and starts the writer if none runs.
func (c *conn) enqueue(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrFlowGone
	case len(b) > c.t.cfg.ConnQueue:
		c.shared().drops[DropTooLarge].Add(1)
		return ErrTooLarge
	case c.pending != nil && len(c.pending.b)+len(b) > c.t.cfg.ConnQueue:
		c.shared().drops[DropQueueFull].Add(1)
		return ErrQueueFull
	}
	if c.pending == nil {
		c.pending = c.t.queues.Get().(*queue)
	}
	c.pending.b = append(c.pending.b, b...)
	c.pending.ends = append(c.pending.ends, len(c.pending.b))
	c.startWriterLocked()
	return nil
}

func (c *conn) startWriterLocked() {
	if c.ready && !c.writing && !c.closed && c.pending != nil {
		c.writing = true
		c.writer.Add(1)
		c.t.writers.start(c)
	}
}

// write sends what waits until nothing does.
func (c *conn) write() {
	for {
		c.mu.Lock()
		q := c.pending
		c.pending = nil
		if q == nil || c.closed {
			c.writing = false
			c.pending = q
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.writeQueue(q)
		if err == nil {
			c.shared().messagesOut.Add(uint64(len(q.ends)))
			c.shared().bytesOut.Add(uint64(len(q.b)))
		} else {
			c.shared().drops[DropConnClosed].Add(uint64(len(q.ends)))
		}
		c.t.release(q)
		if err != nil {
			c.close(CloseWrite)
		}
	}
}

func (c *conn) writeQueue(q *queue) error {
	// The timer is moved at most once per 1/64 of the time: setting it costs as much as writing a message.
	if now := time.Now(); now.Sub(c.armed) > c.t.cfg.WriteTimeout/64 {
		if err := c.nc.SetWriteDeadline(now.Add(c.t.cfg.WriteTimeout)); err != nil {
			return err
		}
		c.armed = now
	}
	if c.ws != nil {
		return c.writeFrames(q)
	}
	_, err := c.nc.Write(q.b)
	return err
}

func (t *Transport) release(q *queue) {
	if cap(q.b) > 64<<10 {
		return // one large burst must not stay in the pool
	}
	q.b, q.ends = q.b[:0], q.ends[:0]
	t.queues.Put(q)
}

// open makes a connection writable: what was queued while it was dialled or shook hands leaves now.
func (c *conn) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.ready = true
	c.startWriterLocked()
	return true
}

// setConn gives a dialled connection its socket, or replaces it by the TLS connection on top of it.
func (c *conn) setConn(nc net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		nc.Close()
		return false
	}
	c.nc = nc
	return true
}

// close ends the connection; only the first reason counts. It does not wait.
func (c *conn) close(why CloseReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.reason = why
	if c.cancel != nil {
		c.cancel()
	}
	if c.nc != nil {
		// The socket below TLS is closed without its close_notify: that one would wait for a peer that does not read.
		nc := c.nc
		if t, ok := nc.(*tls.Conn); ok {
			nc = t.NetConn()
		}
		nc.Close()
	}
}

// finish runs once, at the end of the reader: nothing of the connection is left after it.
func (c *conn) finish(why CloseReason) {
	c.close(why)
	c.t.conns.remove(c)
	c.writer.Wait()
	c.mu.Lock()
	q := c.pending
	c.pending = nil
	c.mu.Unlock()
	if q != nil {
		c.shared().drops[DropConnClosed].Add(uint64(c.handBack(q)))
		c.t.release(q)
	}
	c.l.conns.closed[c.reason].Add(1)
	c.t.tasks.Done()
}

// handBack offers the Handler what waited for a connection that could not be opened, and returns how much of it is lost.
func (c *conn) handBack(q *queue) (lost int) {
	if c.reason != CloseDial || c.t.undelivered == nil {
		return len(q.ends)
	}
	at := 0
	for _, end := range q.ends {
		if !c.t.undelivered.Undelivered(c.l, c.peer, q.b[at:end]) {
			lost++
		}
		at = end
	}
	return lost
}

func (c *conn) key() peerKey { return peerKey{c.l.index, c.peer, c.host} }

// shared returns the counters that all connections of the listener write to.
func (c *conn) shared() *counters { return &c.l.counters[c.t.sharedSlot()] }

// serve takes an accepted connection.
func (t *Transport) serve(l *Listener, nc net.Conn) {
	peer := addrPortOf(nc.RemoteAddr())
	c := &conn{t: t, l: l, nc: nc, peer: peer, source: sourceOf(peer.Addr())}
	if _, why, ok := t.conns.add(c); !ok {
		l.conns.closed[why].Add(1)
		refuse(nc)
		return
	}
	l.conns.accepted.Add(1)
	go func() { c.finish(c.accepted()) }()
}

// refuse closes with a reset, so that refused connections leave nothing in TIME_WAIT.
func refuse(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	nc.Close()
}

// accepted brings an accepted connection to the point where messages flow, and reads them.
func (c *conn) accepted() CloseReason {
	// One limit for everything before the first message: TLS, HTTP upgrade and the message itself.
	deadline := time.Now().Add(c.t.cfg.MessageTimeout)
	if c.l.cfg.Proto.Secure() {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		tc := tls.Server(c.nc, c.t.certs.server(c.l.cfg.Proto))
		if !c.setConn(tc) {
			return CloseShutdown
		}
		if err := tc.HandshakeContext(ctx); err != nil {
			return handshakeReason(err)
		}
	}
	if c.l.cfg.Proto == WS || c.l.cfg.Proto == WSS {
		return c.serveWebSocket(deadline)
	}
	if !c.open() {
		return CloseShutdown
	}
	return c.read(deadline)
}

func handshakeReason(err error) CloseReason {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return CloseSlow
	}
	return CloseHandshake
}
