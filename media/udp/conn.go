package udp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Options are those of one socket. The zero value works.
type Options struct {
	RecvBuffer int // bytes asked of the kernel (SO_RCVBUFFORCE, else SO_RCVBUF); 0 keeps the system's default
	TOS        int // traffic class of outgoing packets, 0..255 (IP_TOS, IPV6_TCLASS); 0 keeps the default
}

// Conn is one UDP socket, of a Loop or for blocking reads, or a steered port of a Loop, which has none. WriteTo may be called by any
// goroutine, on a loop by that of the loop only (packets leave in batches); the rest by the owner.
type Conn struct {
	socket socket
	local  netip.AddrPort

	// Of a loop's socket, owned by the loop.
	loop *Loop
	recv Receiver
	slot uint32
}

// socket is what the system-call and the net implementations have in common.
type socket interface {
	writeTo(b []byte, to netip.AddrPort) error
	setTOS(tos int) error
	close() error
}

// ErrLoop is returned by a blocking read on a socket that belongs to a loop.
var ErrLoop = errors.New("read: the socket belongs to a loop")

// Listen opens a socket for blocking reads. Port 0 lets the system choose.
func Listen(addr netip.AddrPort, o Options) (*Conn, error) {
	s, err := listenNet(addr, o)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: s, local: s.local()}, nil
}

// ListenPair opens two neighbouring sockets for blocking reads, the first on an even port (RTP), the second above it
// (RTCP), both within portMin..portMax. It begins at a random pair and takes the first that is free.
func ListenPair(ip netip.Addr, portMin, portMax uint16, o Options) (rtp, rtcp *Conn, err error) {
	first, pairs := Pairs(portMin, portMax)
	if pairs == 0 {
		return nil, nil, fmt.Errorf("listen pair: no even port with its successor in %d-%d", portMin, portMax)
	}
	start := rand.IntN(pairs)
	for i := range pairs {
		port := first + uint16(2*((start+i)%pairs))
		if rtp, err = Listen(netip.AddrPortFrom(ip, port), o); err != nil {
			if isInUse(err) {
				continue
			}
			return nil, nil, err
		}
		if rtcp, err = Listen(netip.AddrPortFrom(ip, port+1), o); err == nil {
			return rtp, rtcp, nil
		}
		rtp.Close()
		if !isInUse(err) {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("listen pair: every port of %s %d-%d is in use", ip, portMin, portMax)
}

// Pairs tells how many even/odd port pairs lie in portMin..portMax, and the first even port.
func Pairs(portMin, portMax uint16) (first uint16, n int) {
	lo := (int(portMin) + 1) &^ 1
	n = (int(portMax) - lo + 1) / 2
	if lo > 65534 || n <= 0 {
		return 0, 0
	}
	return uint16(lo), n
}

// LocalAddr is the address that the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// WriteTo sends one datagram. b is not kept. A packet that the kernel has no room for is an error, not a wait; on a steered port it
// leaves with the batch that is being worked on, and Failer tells what went wrong.
func (c *Conn) WriteTo(b []byte, to netip.AddrPort) error { return c.socket.writeTo(b, to) }

// SetTOS changes the traffic class of what is sent from now on. The owner calls it.
func (c *Conn) SetTOS(tos int) error { return c.socket.setTOS(tos) }

// ReadFrom waits for a datagram on a socket of Listen or ListenPair.
func (c *Conn) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	s, ok := c.socket.(*netSocket)
	if !ok || c.loop != nil {
		return 0, netip.AddrPort{}, ErrLoop
	}
	return s.readFrom(b)
}

// SetReadDeadline bounds ReadFrom.
func (c *Conn) SetReadDeadline(t time.Time) error {
	s, ok := c.socket.(*netSocket)
	if !ok || c.loop != nil {
		return ErrLoop
	}
	return s.conn.SetReadDeadline(t)
}

// Close closes the socket. On a loop's socket it must be called on the loop's goroutine (Receive, Tick, Do).
func (c *Conn) Close() error {
	if c.loop != nil {
		return c.loop.drv.remove(c)
	}
	return c.socket.close()
}

// isInUse tells an occupied port from every other reason.
func isInUse(err error) bool { return errors.Is(err, errAddrInUse) }

// InUse tells if err of Listen or Loop.Listen means that the port is taken.
func InUse(err error) bool { return isInUse(err) }

// netSocket is the portable socket: the net package's AddrPort methods, which do not allocate.
type netSocket struct {
	conn *net.UDPConn
	v6   bool
}

func listenNet(addr netip.AddrPort, o Options) (*netSocket, error) {
	network := "udp4"
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		network = "udp6"
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	s := &netSocket{conn: conn, v6: network == "udp6"}
	if o.RecvBuffer > 0 {
		err = conn.SetReadBuffer(o.RecvBuffer)
	}
	if err == nil && o.TOS > 0 {
		err = setTrafficClass(conn, s.v6, o.TOS)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("set options of %s: %w", addr, err)
	}
	return s, nil
}

func (s *netSocket) local() netip.AddrPort {
	a := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (s *netSocket) readFrom(b []byte) (int, netip.AddrPort, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(b)
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
}

func (s *netSocket) writeTo(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

func (s *netSocket) setTOS(tos int) error { return setTrafficClass(s.conn, s.v6, tos) }

func (s *netSocket) close() error { return s.conn.Close() }
