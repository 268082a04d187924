package transport

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// portableSocket is a UDP listener over a net.PacketConn: what platforms other than Linux use, and what tests use over a
// simulated network. One goroutine reads it; messages are sent one by one.
type portableSocket struct {
	l      *Listener
	pc     net.PacketConn
	udp    *net.UDPConn // pc, if it is one: its AddrPort methods do not allocate
	closed atomic.Bool
}

func (l *Listener) openPortable(pc net.PacketConn) {
	p := &portableSocket{l: l, pc: pc}
	if p.udp, _ = pc.(*net.UDPConn); p.udp != nil {
		// As much as the system grants; a refusal leaves its default.
		_ = p.udp.SetReadBuffer(l.t.cfg.RecvBuffer)
		_ = p.udp.SetWriteBuffer(l.t.cfg.SendBuffer)
	}
	l.packet = p
	l.addr = addrPortOf(pc.LocalAddr())
}

// read serves until the socket is closed.
func (p *portableSocket) read() {
	t := p.l.t
	w := &Worker{t: t, slot: t.sharedSlot()}
	c := &p.l.counters[w.slot]
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := p.readFrom(buf)
		if err != nil {
			if p.closed.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			// An ICMP error of some systems, or a lack of memory: the socket lives on.
			time.Sleep(time.Millisecond)
			continue
		}
		if r, ok := notSIP(buf[:n]); ok {
			c.drops[r].Add(1)
			continue
		}
		c.messagesIn.Add(1)
		c.bytesIn.Add(uint64(n))
		w.msg = Message{Bytes: buf[:n:n], From: from, Listener: p.l, Worker: w}
		t.handler.Handle(&w.msg)
	}
}

func (p *portableSocket) readFrom(buf []byte) (int, netip.AddrPort, error) {
	if p.udp != nil {
		n, from, err := p.udp.ReadFromUDPAddrPort(buf)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, from, err := p.pc.ReadFrom(buf)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	return n, addrPortOf(from), nil
}

func (p *portableSocket) send(b []byte, to netip.AddrPort, slot int) error {
	c := &p.l.counters[slot]
	if len(b) > maxUDPPayload {
		c.drops[DropTooLarge].Add(1)
		return ErrTooLarge
	}
	var err error
	if p.udp != nil {
		_, err = p.udp.WriteToUDPAddrPort(b, to)
	} else {
		_, err = p.pc.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	if err != nil {
		c.drops[DropSend].Add(1)
		if p.closed.Load() {
			return ErrClosed
		}
		return ErrSend
	}
	c.messagesOut.Add(1)
	c.bytesOut.Add(uint64(len(b)))
	return nil
}

func (p *portableSocket) close() {
	p.closed.Store(true)
	p.pc.Close()
}

// notSIP tells datagrams that are no message and need no answer: empty ones, CRLF keep-alives (RFC 5626 section 3.5.1 has
// them on streams only, many phones send them over UDP all the same) and STUN (section 3.5.2).
func notSIP(b []byte) (DropReason, bool) {
	if len(b) == 0 {
		return DropEmpty, true
	}
	switch c := b[0]; {
	case c == '\r' || c == '\n' || c == 0:
		// Some phones send four zero bytes; STUN Binding Indications and Requests begin with 0 too.
		if isSTUN(b) {
			return DropSTUN, true
		}
		if len(b) <= 8 && blank(b) {
			return DropKeepAlive, true
		}
	case c < 4:
		if isSTUN(b) {
			return DropSTUN, true
		}
	}
	return 0, false
}

// isSTUN checks the header of RFC 8489 section 5: two zero bits, the magic cookie, 20 bytes.
func isSTUN(b []byte) bool {
	return len(b) >= 20 && b[0]>>6 == 0 && b[4] == 0x21 && b[5] == 0x12 && b[6] == 0xa4 && b[7] == 0x42
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != '\r' && c != '\n' && c != 0 && c != ' ' {
			return false
		}
	}
	return true
}
