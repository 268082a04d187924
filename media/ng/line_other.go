//go:build !linux

package ng

import (
	"fmt"
	"net"
	"net/netip"
)

// line is the socket of one reader.
type line struct {
	conn  *net.UDPConn
	buf   []byte
	alone bool // no message waits behind the last one; nobody knows
}

func newLine(c *net.UDPConn) *line { return &line{conn: c, buf: make([]byte, 1<<16)} }

func (l *line) read() ([]byte, netip.AddrPort, error) {
	n, from, err := l.conn.ReadFromUDPAddrPort(l.buf)
	if err != nil {
		return nil, from, fmt.Errorf("ng server: read udp %s: %w", l.conn.LocalAddr(), err)
	}
	return l.buf[:n], from, nil
}

// reply sends the answer to the message that was read last. A lost one is asked for again by the controller.
func (l *line) reply(answer []byte, to netip.AddrPort) {
	_, _ = l.conn.WriteToUDPAddrPort(answer, to)
}
