package simnet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Config describes a net.
type Config struct {
	// Delay is the time of every datagram on its way. Default 0.
	Delay time.Duration
	// Jitter is added to Delay at random; datagrams may overtake each other. Default 0.
	Jitter time.Duration
	// Loss is the part of datagrams that is lost, 0 to 1. Default 0.
	Loss float64
	// Queue is how many datagrams a socket holds. Default 1024. More are lost.
	Queue int
	// Seed makes another run of chances. Default 0.
	Seed uint64
}

// Net joins sockets by their addresses.
type Net struct {
	cfg Config

	mu    sync.Mutex // guards the rest, and all NATs and sockets of the net
	rnd   *rand.Rand
	hosts map[netip.AddrPort]receiver
}

// receiver gets what arrives at an address: a socket or a NAT's mapping.
type receiver interface {
	receiveLocked(p packet)
}

type packet struct {
	from, to netip.AddrPort
	data     []byte
}

// New makes an empty net.
func New(cfg Config) *Net {
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	return &Net{cfg: cfg, rnd: rand.New(rand.NewPCG(cfg.Seed, 1)), hosts: map[netip.AddrPort]receiver{}}
}

// Listen opens a socket with a public address.
func (n *Net) Listen(addr netip.AddrPort) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		return nil, fmt.Errorf("listen %v: %w", addr, os.ErrExist)
	}
	c := newConn(n, nil, addr)
	n.hosts[addr] = c
	return c, nil
}

// sendLocked puts a datagram on its way.
func (n *Net) sendLocked(p packet) {
	if n.rnd.Float64() < n.cfg.Loss {
		return
	}
	delay := n.cfg.Delay
	if n.cfg.Jitter > 0 {
		delay += time.Duration(n.rnd.Int64N(int64(n.cfg.Jitter)))
	}
	deliver := func() {
		if r := n.hosts[p.to]; r != nil {
			r.receiveLocked(p)
		}
	}
	if delay == 0 {
		deliver()
		return
	}
	time.AfterFunc(delay, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		deliver()
	})
}

// Conn is one socket. Its methods may be called from any goroutine.
type Conn struct {
	n      *Net
	nat    *NAT // nil: public
	local  netip.AddrPort
	queue  chan packet
	closed chan struct{}
	once   sync.Once

	deadline struct {
		mu      sync.Mutex // guards the rest
		timer   *time.Timer
		hit     chan struct{} // closed when the deadline has come
		changed chan struct{} // closed when another deadline is set
	}
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(n *Net, nat *NAT, local netip.AddrPort) *Conn {
	c := &Conn{n: n, nat: nat, local: local, queue: make(chan packet, n.cfg.Queue), closed: make(chan struct{})}
	c.deadline.hit, c.deadline.changed = make(chan struct{}), make(chan struct{})
	return c
}

// WriteTo sends a datagram; addr is a *net.UDPAddr. Like UDP it does not know whether it arrives.
func (c *Conn) WriteTo(b []byte, addr net.Addr) (int, error) {
	ua, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %v: %w", addr, os.ErrInvalid)
	}
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	to := netip.AddrPortFrom(ua.AddrPort().Addr().Unmap(), ua.AddrPort().Port())
	p := packet{from: c.local, to: to, data: append([]byte(nil), b...)}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.nat != nil {
		p.from = c.nat.outLocked(c, to)
	}
	c.n.sendLocked(p)
	return len(b), nil
}

// ReadFrom takes the next datagram. A longer one is cut, like UDP does.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.deadline.mu.Lock()
		hit, changed := c.deadline.hit, c.deadline.changed
		c.deadline.mu.Unlock()
		// First what a kernel's socket looks at first: select would choose at random.
		select {
		case <-c.closed:
			return 0, nil, net.ErrClosed
		default:
		}
		select {
		case <-hit:
			return 0, nil, os.ErrDeadlineExceeded
		default:
		}
		select {
		case <-c.closed:
		case <-hit:
		case p := <-c.queue:
			return copy(b, p.data), net.UDPAddrFromAddrPort(p.from), nil
		case <-changed:
		}
	}
}

func (c *Conn) receiveLocked(p packet) {
	select {
	case c.queue <- p:
	default: // full
	}
}

// Close ends the socket and whatever waits in ReadFrom.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		if c.nat == nil {
			delete(c.n.hosts, c.local)
			return
		}
		c.nat.forgetLocked(c)
	})
	return nil
}

// LocalAddr returns the socket's own address, behind a NAT the private one.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local) }

// SetDeadline is SetReadDeadline: a write does not wait.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline ends every ReadFrom that waits at that time; the zero time: never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	d := &c.deadline
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	hit := make(chan struct{})
	d.hit = hit
	close(d.changed)
	d.changed = make(chan struct{})
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() { close(hit) })
	}
	return nil
}
