package media

import (
	"net"
	"os"
	"sync"
	"time"
)

// dtlsQueue is how many datagrams may wait for a handshake: its largest flight with a chain of certificates, twice.
const dtlsQueue = 16

// dtlsConn is the connection that a handshake sees. The worker puts the peer's datagrams in; what the handshake sends goes to
// the worker.
type dtlsConn struct {
	// Constant after newDTLSConn.
	send   func(b []byte) // takes b over
	in     chan []byte
	closed chan struct{}

	mu      sync.Mutex // guards what follows
	expired chan struct{}
	late    bool // expired is closed
	over    bool // closed is closed
	silent  bool
	proven  *dtlsProven   // until pion has asked for its cookie
	cookie  func() []byte // pion's
}

var _ net.PacketConn = (*dtlsConn)(nil)

func newDTLSConn(send func(b []byte)) *dtlsConn {
	return &dtlsConn{send: send, in: make(chan []byte, dtlsQueue), closed: make(chan struct{}), expired: make(chan struct{})}
}

// push queues a copy of b; false if the queue is full.
func (c *dtlsConn) push(b []byte) bool {
	select {
	case c.in <- append([]byte(nil), b...):
		return true
	default:
		return false
	}
}

// resume makes the handshake go on behind a cookie that was asked for before it began: pion reads the ClientHello as it was without one.
func (c *dtlsConn) resume(proven *dtlsProven, cookie func() []byte) {
	c.mu.Lock()
	c.proven, c.cookie = proven, cookie
	c.mu.Unlock()
	c.push(proven.first)
}

// answered takes pion's question for its cookie, which the peer has answered already.
func (c *dtlsConn) answered(b []byte) bool {
	c.mu.Lock()
	proven := c.proven
	if proven == nil || dtlsFirst(b) != dtlsHelloVerify {
		c.mu.Unlock()
		return false
	}
	c.proven = nil
	c.mu.Unlock()
	copy(c.cookie(), proven.cookie)
	c.push(proven.second)
	return true
}

// ReadFrom waits for a datagram.
func (c *dtlsConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	select {
	case p := <-c.in:
		return copy(b, p), dtlsPeer{}, nil
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo hands a copy of b to the worker, which knows where the peer is.
func (c *dtlsConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.answered(b) {
		return len(b), nil
	}
	c.mu.Lock()
	over, silent := c.over, c.silent
	c.mu.Unlock()
	switch {
	case over:
		return 0, net.ErrClosed
	case !silent:
		c.send(append([]byte(nil), b...))
	}
	return len(b), nil
}

// mute makes the handshake's last word unheard: the close_notify of a connection that ends would make the peer end the media.
func (c *dtlsConn) mute() {
	c.mu.Lock()
	c.silent = true
	c.mu.Unlock()
}

// Close ends reads and writes.
func (c *dtlsConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		close(c.closed)
	}
	return nil
}

// SetReadDeadline knows the two deadlines that pion sets: one in the past ends a read, none lets it wait.
func (c *dtlsConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	past := !t.IsZero() && !t.After(time.Now())
	switch {
	case past && !c.late:
		close(c.expired)
	case !past && c.late:
		c.expired = make(chan struct{})
	}
	c.late = past
	return nil
}

// SetWriteDeadline has nothing to do: a write never waits.
func (c *dtlsConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the deadline of reads.
func (c *dtlsConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// LocalAddr has no meaning here.
func (c *dtlsConn) LocalAddr() net.Addr { return dtlsPeer{} }

// dtlsPeer stands for the other end, whose address only the worker knows.
type dtlsPeer struct{}

func (dtlsPeer) Network() string { return "udp" }
func (dtlsPeer) String() string  { return "peer" }
