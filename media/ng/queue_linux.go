package ng

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// queueLook tells if a socket has a datagram that was not read yet.
type queueLook struct {
	raw  syscall.RawConn
	ask  func(fd uintptr)
	next int
}

func newQueueLook(c *net.UDPConn) *queueLook {
	q := new(queueLook)
	var err error
	if q.raw, err = c.SyscallConn(); err != nil {
		return q // the socket is closed, as the next read will say
	}
	q.ask = func(fd uintptr) {
		// FIONREAD of udp(7): the size of the next datagram.
		if q.next, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ); err != nil {
			q.next = 1
		}
	}
	return q
}

func (q *queueLook) empty() bool {
	return q.raw != nil && q.raw.Control(q.ask) == nil && q.next == 0
}
