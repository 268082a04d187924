package ng

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chosen by us: a controller that is at work asks again within hotWait. It stays well below the 10 ms after which the runtime's monitor
// looks for who does not come back. A read that took longer than hotRead has waited: there was nothing in the socket before. idleWait is
// how long a server that ends may wait for its reader.
const (
	hotWait  = 4 * time.Millisecond
	hotRead  = 20 * time.Microsecond
	idleWait = 50 * time.Millisecond
)

// udpSocket is a socket that the runtime's poller does not know: it would be woken by each message and each answer, for nothing.
type udpSocket struct {
	fd   int
	addr net.Addr
}

// peer is where a message came from, as the kernel says it.
type peer struct {
	sa   unix.RawSockaddrAny
	size uint32
}

// takeUDP makes it of an ordinary one, which is closed.
func takeUDP(c *net.UDPConn) (*udpSocket, error) {
	s := &udpSocket{fd: -1, addr: c.LocalAddr()}
	raw, err := c.SyscallConn()
	if err == nil {
		var why error
		err = raw.Control(func(fd uintptr) { s.fd, why = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
		err = errors.Join(err, why)
	}
	_ = c.Close()
	if err != nil {
		return nil, fmt.Errorf("ng server: take udp %s over: %w", s.addr, err)
	}
	wait := unix.NsecToTimeval(int64(hotWait))
	if err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err == nil {
		err = unix.SetNonblock(s.fd, false)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("ng server: take udp %s over: %w", s.addr, err)
	}
	return s, nil
}

func (s *udpSocket) close() { unix.Close(s.fd) }

// send sends one datagram. A lost answer is asked for again by the controller.
func (s *udpSocket) send(b []byte, to *peer) {
	if len(b) > 0 {
		unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(&to.sa)), uintptr(to.size))
	}
}

// line is a reader of the socket. While the controller is at work it reads by a system call that the runtime does not know of: the thread
// waits in the kernel and keeps its processor, so a command costs no turn of the scheduler. The collector's signal ends such a wait at
// once. Between, it waits like any other system call.
type line struct {
	udpSocket
	buf   []byte
	peer  peer // of the last message
	hot   bool // a message came shortly before
	alone bool // no message waited behind the last one
}

func (s *udpSocket) line() *line { return &line{udpSocket: *s, buf: make([]byte, 1<<16)} }

// read waits for a message, which stays until the next call, or for the end of ctx: nil then.
func (l *line) read(ctx context.Context) ([]byte, netip.AddrPort, error) {
	for ctx.Err() == nil {
		if !l.hot {
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, int(idleWait/time.Millisecond))
			if l.hot = ready > 0; err != nil && !errors.Is(err, unix.EINTR) {
				return nil, netip.AddrPort{}, fmt.Errorf("ng server: wait for udp %s: %w", l.addr, err)
			}
			continue
		}
		begun := time.Now()
		l.peer.size = uint32(unsafe.Sizeof(l.peer.sa))
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(l.fd), uintptr(unsafe.Pointer(&l.buf[0])), uintptr(len(l.buf)), 0,
			uintptr(unsafe.Pointer(&l.peer.sa)), uintptr(unsafe.Pointer(&l.peer.size)))
		switch {
		case e == 0:
			if l.alone = time.Since(begun) > hotRead; !l.alone {
				// FIONREAD of udp(7): the size of the next datagram.
				next, err := unix.IoctlGetInt(l.fd, unix.TIOCINQ)
				l.alone = err == nil && next == 0
			}
			return l.buf[:n], l.peer.from(), nil
		case e == unix.EAGAIN:
			l.hot = false
		case e != unix.EINTR:
			return nil, netip.AddrPort{}, fmt.Errorf("ng server: read udp %s: %w", l.addr, e)
		}
	}
	return nil, netip.AddrPort{}, nil
}

// from is the peer's address.
func (p *peer) from() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[4]byte)(unsafe.Pointer(&p.sa))[2:]) // behind the family in both kinds
	if p.sa.Addr.Family == unix.AF_INET6 {
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&p.sa))
		a := netip.AddrFrom16(sa.Addr)
		if sa.Scope_id != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(a, port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&p.sa)).Addr), port)
}
