package ng

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxDatagram is the largest UDP payload over IPv4.
const maxDatagram = 65507

// serveUDP reads datagrams until ctx ends and waits for those in work.
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ng server: read udp %s: %w", c.LocalAddr(), err)
		}
		if !s.acquire(ctx) {
			return nil
		}
		msg := slices.Clone(buf[:n])
		wg.Go(func() {
			defer s.release()
			s.datagram(ctx, c, from, msg)
		})
	}
}

func (s *Server) datagram(ctx context.Context, c *net.UDPConn, from netip.AddrPort, msg []byte) {
	answer := s.message(ctx, from.Addr().Unmap(), msg)
	if len(answer) > maxDatagram {
		s.stats.refused(RefusedTooBig)
		cookie, _, _ := cutCookie(msg)
		resp := Error(fmt.Sprintf("the answer of %d bytes fits no datagram: ask by TCP or HTTP, or set a limit", len(answer)))
		answer = appendBencode(append([]byte(cookie), ' '), resp.dict())
	}
	if answer != nil {
		// A lost answer is asked for again by the controller.
		_, _ = c.WriteToUDPAddrPort(answer, from)
	}
}
