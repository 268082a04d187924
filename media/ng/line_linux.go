package ng

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chosen by us: a controller that is at work asks again within hotWait. It stays well below the 10 ms after which the runtime's monitor
// looks for who does not come back. A read that took longer than hotRead has waited: there was nothing in the socket before.
const (
	hotWait = 4 * time.Millisecond
	hotRead = 20 * time.Microsecond
)

// line is the socket of one reader. While the controller is at work it reads and writes by system calls that the runtime does not know of:
// the thread waits in the kernel and keeps its processor, so a command costs neither a turn of the scheduler nor of its poller, which
// are a tenth of a call's set-up. Else it waits like any other reader. The collector's signal ends such a wait at once.
type line struct {
	// Constant after newLine.
	conn             *net.UDPConn
	raw              syscall.RawConn // nil: there is only the ordinary way
	recv, send, look func(fd uintptr)

	// Owned by the reader.
	buf    []byte
	answer []byte
	peer   unix.RawSockaddrAny // of the last message that was read without the runtime
	size   uint32
	n      int
	hot    bool // a message came shortly before
	direct bool // peer is set
	alone  bool // no message waited behind the last one
}

func newLine(c *net.UDPConn) *line {
	l := &line{conn: c, buf: make([]byte, 1<<16)}
	raw, err := c.SyscallConn()
	if err != nil || !patient(raw) {
		return l
	}
	l.raw = raw
	l.recv = func(fd uintptr) {
		l.size = uint32(unsafe.Sizeof(l.peer))
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&l.buf[0])), uintptr(len(l.buf)), 0,
			uintptr(unsafe.Pointer(&l.peer)), uintptr(unsafe.Pointer(&l.size)))
		if l.n = int(n); e != 0 {
			l.n = -1
		}
	}
	l.send = func(fd uintptr) {
		_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&l.answer[0])), uintptr(len(l.answer)), unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(&l.peer)), uintptr(l.size))
		l.direct = e == 0
	}
	l.look = func(fd uintptr) {
		// FIONREAD of udp(7): the size of the next datagram.
		next, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		l.alone = err == nil && next == 0
	}
	return l
}

// patient makes reads wait in the kernel for a moment before they end with EAGAIN, at which the runtime's poller takes over as ever.
func patient(raw syscall.RawConn) (ok bool) {
	err := raw.Control(func(fd uintptr) {
		wait := unix.NsecToTimeval(int64(hotWait))
		ok = unix.SetsockoptTimeval(int(fd), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait) == nil &&
			unix.SetsockoptTimeval(int(fd), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait) == nil && unix.SetNonblock(int(fd), false) == nil
	})
	return ok && err == nil
}

// read waits for a message, which stays until the next call.
func (l *line) read() ([]byte, netip.AddrPort, error) {
	if l.hot {
		begun := time.Now()
		if err := l.raw.Control(l.recv); err != nil {
			return nil, netip.AddrPort{}, fmt.Errorf("ng server: read udp %s: %w", l.conn.LocalAddr(), err)
		}
		if l.n >= 0 {
			l.direct = true
			if l.alone = time.Since(begun) > hotRead; !l.alone {
				l.alone = l.raw.Control(l.look) == nil && l.alone
			}
			return l.buf[:l.n], l.from(), nil
		}
	}
	n, from, err := l.conn.ReadFromUDPAddrPort(l.buf)
	if err != nil {
		return nil, from, fmt.Errorf("ng server: read udp %s: %w", l.conn.LocalAddr(), err)
	}
	l.hot, l.direct, l.alone = l.raw != nil, false, false
	if l.raw != nil {
		l.alone = l.raw.Control(l.look) == nil && l.alone
	}
	return l.buf[:n], from, nil
}

// from is the peer's address.
func (l *line) from() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[4]byte)(unsafe.Pointer(&l.peer))[2:]) // behind the family in both kinds
	if l.peer.Addr.Family == unix.AF_INET6 {
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&l.peer))
		a := netip.AddrFrom16(sa.Addr)
		if sa.Scope_id != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(a, port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&l.peer)).Addr), port)
}

// reply sends the answer to the message that was read last. A lost one is asked for again by the controller.
func (l *line) reply(answer []byte, to netip.AddrPort) {
	if l.direct && len(answer) > 0 {
		l.answer = answer
		if err := l.raw.Control(l.send); err == nil && l.direct {
			return
		}
	}
	_, _ = l.conn.WriteToUDPAddrPort(answer, to)
}
