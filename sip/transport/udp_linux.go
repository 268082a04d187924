package transport

import (
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of the kernel's include/linux/socket.h.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// kernelSocket is a UDP listener: one SO_REUSEPORT socket per worker. The worker of the same slot reads its socket and sends
// batches through it; all others send single datagrams under mu.
type kernelSocket struct {
	l   *Listener
	fds []int

	mu     sync.RWMutex // keeps fds open while others send
	closed bool
}

func (l *Listener) openUDP() error {
	if l.cfg.Packet != nil {
		l.openPortable(l.cfg.Packet)
		return nil
	}
	k := &kernelSocket{l: l}
	addr := netip.AddrPortFrom(l.cfg.Addr.Addr().Unmap(), l.cfg.Addr.Port())
	for i := range l.t.cfg.Workers {
		fd, err := l.openKernel(addr, i == 0)
		if err != nil {
			k.close()
			return err
		}
		k.fds = append(k.fds, fd)
		if i == 0 {
			if addr, err = boundAddr(fd); err != nil {
				k.close()
				return err
			}
		}
	}
	l.addr = addr
	l.packet = k
	return nil
}

// openKernel opens and binds one socket. The first one is bound before SO_REUSEPORT is set: otherwise a second process of the
// same user would share the port in silence, and take half of the messages.
func (l *Listener) openKernel(addr netip.AddrPort, first bool) (fd int, err error) {
	domain := unix.AF_INET6
	if addr.Addr().Is4() {
		domain = unix.AF_INET
	}
	fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	set := func(level, option, value int, name string) {
		if err == nil {
			err = os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, level, option, value))
		}
	}
	if !first {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT")
	}
	set(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1, "SO_RXQ_OVFL")
	// Answers of more than one MTU are common and routers that drop fragments rarer than those that drop the ICMP of path
	// MTU discovery: fragment, as other SIP servers do.
	if domain == unix.AF_INET {
		set(unix.IPPROTO_IP, unix.IP_RECVERR, 1, "IP_RECVERR")
		set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, "IP_MTU_DISCOVER")
	} else {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY")
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1, "IPV6_RECVERR")
		set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER")
	}
	if err == nil {
		var sa rawAddr
		n := sa.put(addr)
		if _, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(n)); errno != 0 {
			err = os.NewSyscallError("bind", errno)
		}
	}
	if first {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	growBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, l.t.cfg.RecvBuffer)
	growBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, l.t.cfg.SendBuffer)
	// The kernel doubles what is asked for, for its own bookkeeping (socket(7)).
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		l.recvBuffer = n / 2
	}
	return fd, nil
}

// growBuffer asks for more than net.core.rmem_max where the process may (CAP_NET_ADMIN), and for what is allowed otherwise.
func growBuffer(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

func boundAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
}

// send sends one datagram from any goroutine.
func (k *kernelSocket) send(b []byte, to netip.AddrPort, slot int) error {
	c := &k.l.counters[slot]
	if len(b) > maxUDPPayload {
		c.drops[DropTooLarge].Add(1)
		return ErrTooLarge
	}
	var sa rawAddr
	n := sa.put(to)
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		return ErrClosed
	}
	fd := k.fds[slot%len(k.fds)]
	for try := 0; ; try++ {
		_, _, errno := syscall.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&sa)), uintptr(n))
		if errno == 0 {
			c.messagesOut.Add(1)
			c.bytesOut.Add(uint64(len(b)))
			return nil
		}
		if try < 3 && retryable(fd, errno) {
			continue
		}
		c.drops[DropSend].Add(1)
		return ErrSend
	}
}

// retryable tells whether sending the same datagram again can help. With IP_RECVERR an ICMP error for an earlier datagram is
// reported once by whatever call comes next (ip(7)), which then has done nothing.
func retryable(fd int, errno syscall.Errno) bool {
	switch errno {
	case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPROTO, unix.EHOSTDOWN, unix.ENETDOWN:
		return true
	case unix.EAGAIN, unix.ENOBUFS:
		// A full buffer empties within microseconds; a worker that waited longer would lose what comes in.
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, _ := unix.Poll(fds, 2)
		return n > 0
	}
	return false
}

func (k *kernelSocket) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.closed = true
	for _, fd := range k.fds {
		unix.Close(fd)
	}
}

// rawAddr is room for a socket address of either family.
type rawAddr struct{ sa unix.RawSockaddrInet6 }

// put writes ap, of the socket's family, and returns the length.
func (r *rawAddr) put(ap netip.AddrPort) uint32 {
	a := ap.Addr().Unmap()
	if a.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.sa))
		sa.Family = unix.AF_INET
		putPort(&sa.Port, ap.Port())
		sa.Addr = a.As4()
		return unix.SizeofSockaddrInet4
	}
	r.sa.Family = unix.AF_INET6
	putPort(&r.sa.Port, ap.Port())
	r.sa.Addr = a.As16()
	r.sa.Scope_id = 0
	if z := a.Zone(); z != "" {
		n, _ := strconv.ParseUint(z, 10, 32)
		r.sa.Scope_id = uint32(n)
	}
	return unix.SizeofSockaddrInet6
}

// get reads the address the kernel wrote; the zero AddrPort if it is of no IP family.
func (r *rawAddr) get() netip.AddrPort {
	switch r.sa.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), getPort(&sa.Port))
	case unix.AF_INET6:
		a := netip.AddrFrom16(r.sa.Addr).Unmap()
		if r.sa.Scope_id != 0 && a.IsLinkLocalUnicast() {
			a = a.WithZone(strconv.FormatUint(uint64(r.sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(a, getPort(&r.sa.Port))
	}
	return netip.AddrPort{}
}

// putPort and getPort convert to and from network byte order.
func putPort(field *uint16, port uint16) {
	p := (*[2]byte)(unsafe.Pointer(field))
	p[0], p[1] = byte(port>>8), byte(port)
}

func getPort(field *uint16) uint16 {
	p := (*[2]byte)(unsafe.Pointer(field))
	return uint16(p[0])<<8 | uint16(p[1])
}
