//go:build !linux

package ng

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// udpSocket is an ordinary socket.
type udpSocket struct{ conn *net.UDPConn }

// peer is where a message came from.
type peer struct{ addr netip.AddrPort }

func takeUDP(c *net.UDPConn) (*udpSocket, error) { return &udpSocket{c}, nil }

func (s *udpSocket) close() { _ = s.conn.Close() }

// send sends one datagram. A lost answer is asked for again by the controller.
func (s *udpSocket) send(b []byte, to *peer) { _, _ = s.conn.WriteToUDPAddrPort(b, to.addr) }

// line is a reader of the socket.
type line struct {
	udpSocket
	buf   []byte
	peer  peer
	alone bool // no message waits behind the last one; nobody knows
}

func (s *udpSocket) line() *line { return &line{udpSocket: *s, buf: make([]byte, 1<<16)} }

// read waits for a message, which stays until the next call, or for the end of ctx: nil then.
func (l *line) read(ctx context.Context) ([]byte, netip.AddrPort, error) {
	n, from, err := l.conn.ReadFromUDPAddrPort(l.buf)
	if ctx.Err() != nil {
		return nil, from, nil
	}
	if err != nil {
		return nil, from, fmt.Errorf("ng server: read udp %s: %w", l.conn.LocalAddr(), err)
	}
	l.peer.addr = from
	return l.buf[:n], from, nil
}
