//go:build linux

package main

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is an address in the kernel's form.
type sockaddr = unix.RawSockaddrInet4

func rawAddr(a netip.AddrPort) sockaddr {
	s := sockaddr{Family: unix.AF_INET, Addr: a.Addr().As4()}
	p := (*[2]byte)(unsafe.Pointer(&s.Port))
	p[0], p[1] = byte(a.Port()>>8), byte(a.Port())
	return s
}

// openSocket binds a UDP socket at a free port of host; the kernel stamps what it receives.
func openSocket(host netip.Addr) (fd, port int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, 0, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		unix.Close(fd)
		return -1, 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: host.As4()}); err != nil {
		unix.Close(fd)
		return -1, 0, os.NewSyscallError("bind", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return -1, 0, os.NewSyscallError("getsockname", err)
	}
	return fd, sa.(*unix.SockaddrInet4).Port, nil
}

func (p *party) send(n int) bool {
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(&p.buf[0])), uintptr(n), 0,
		uintptr(unsafe.Pointer(&p.to)), unsafe.Sizeof(p.to))
	return e == 0
}

// inbox receives one datagram with the time of its arrival.
type inbox struct {
	data    [2048]byte
	control [64]byte
	iov     unix.Iovec
	msg     unix.Msghdr
}

func newInbox() *inbox {
	in := new(inbox)
	in.iov.Base = &in.data[0]
	in.iov.SetLen(len(in.data))
	in.msg.Iov = &in.iov
	in.msg.SetIovlen(1)
	in.msg.Control = &in.control[0]
	return in
}

// receive reads a datagram from fd; the time is in ns of the wall clock.
func (in *inbox) receive(fd int) (b []byte, at int64, ok bool) {
	in.msg.SetControllen(len(in.control))
	n, _, e := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.msg)), 0)
	if e != 0 {
		return nil, 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&in.control[0]))
	if in.msg.Controllen < uint64(unix.CmsgSpace(16)) || h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_TIMESTAMPNS {
		return nil, 0, false
	}
	ts := (*unix.Timespec)(unsafe.Pointer(&in.control[unix.CmsgLen(0)]))
	return in.data[:n], ts.Nano(), true
}

// wallClock is the clock of the kernel's stamps.
func wallClock() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &ts) // fails for an unknown clock only
	return ts.Nano()
}
