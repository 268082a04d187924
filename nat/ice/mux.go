package ice

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// mux is the one socket of an agent, as pion sees it. Packets come from the owner of the real one by push.
type mux struct {
	local netip.AddrPort
	send  func(b []byte, to netip.AddrPort)
	queue chan datagram
	done  chan struct{}
	once  sync.Once
}

type datagram struct {
	data []byte
	from netip.AddrPort
}

// muxRoom is ours: checks under way at a time. More are a flood, and checks are repeated.
const muxRoom = 32

func newMux(local netip.AddrPort, send func([]byte, netip.AddrPort)) *mux {
	return &mux{local: local, send: send, queue: make(chan datagram, muxRoom), done: make(chan struct{})}
}

// push copies a packet into the queue; false if that is full.
func (m *mux) push(b []byte, from netip.AddrPort) bool {
	if len(m.queue) == cap(m.queue) {
		return false
	}
	select {
	case m.queue <- datagram{append([]byte(nil), b...), from}:
		return true
	default:
		return false
	}
}

// GetConn, RemoveConnByUfrag, GetListenAddresses and Close satisfy pion's UDPMux. A restart gets a connection of its own on the queue,
// and closes the one before.
func (m *mux) GetConn(string, net.Addr) (net.PacketConn, error) {
	return &muxConn{mux: m, closed: make(chan struct{})}, nil
}

// RemoveConnByUfrag has nothing to do.
func (m *mux) RemoveConnByUfrag(string) {}

// GetListenAddresses is the one that we were told.
func (m *mux) GetListenAddresses() []net.Addr { return []net.Addr{net.UDPAddrFromAddrPort(m.local)} }

// Close ends all reads.
func (m *mux) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

// muxConn is the socket of one candidate.
type muxConn struct {
	mux    *mux
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex // guards deadline
	deadline time.Time
}

func (c *muxConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	select {
	case d := <-c.mux.queue:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.mux.done:
		return 0, nil, net.ErrClosed
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *muxConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError(addr.String())
	}
	to := udp.AddrPort()
	c.mux.send(b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	return len(b), nil
}

func (c *muxConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *muxConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.mux.local) }

// SetDeadline and its kin concern the next read.
func (c *muxConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *muxConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return nil
}

func (c *muxConn) SetWriteDeadline(time.Time) error { return nil }
