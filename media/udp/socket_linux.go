package udp

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSocket is a non-blocking UDP descriptor that the Go runtime does not watch: its netpoller would wake for each packet
// a second time.
type rawSocket struct {
	fd int
	v6 bool
}

func openRaw(addr netip.AddrPort, o Options) (*rawSocket, error) {
	ip := addr.Addr().Unmap()
	if !ip.IsValid() {
		return nil, fmt.Errorf("listen udp: no address")
	}
	s := &rawSocket{v6: ip.Is6()}
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen udp %s: socket: %w", addr, err)
	}
	s.fd = fd
	if err := s.setOptions(o); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen udp %s: set options: %w", addr, err)
	}
	var sa unix.Sockaddr
	if s.v6 {
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen udp %s: bind: %w", addr, err)
	}
	return s, nil
}

func (s *rawSocket) setOptions(o Options) error {
	if o.RecvBuffer > 0 {
		// Who may not go beyond the system's limit gets what it allows.
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, o.RecvBuffer); err != nil {
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, o.RecvBuffer); err != nil {
				return err
			}
		}
	}
	if s.v6 {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if o.TOS > 0 {
		return s.setTOS(o.TOS)
	}
	return nil
}

func (s *rawSocket) setTOS(tos int) error {
	if s.v6 {
		return unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
	}
	return unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_TOS, tos)
}

func (s *rawSocket) local() (netip.AddrPort, error) {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	}
	return netip.AddrPort{}, unix.EAFNOSUPPORT
}

// writeTo is sendto with an address built on the stack. EAGAIN (a full send buffer) is an error like the others.
func (s *rawSocket) writeTo(b []byte, to netip.AddrPort) error {
	if len(b) == 0 || s.v6 != (to.Addr().Is6() && !to.Addr().Is4In6()) {
		return unix.EINVAL
	}
	var e unix.Errno
	if s.v6 {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: bigEndian(to.Port()), Addr: to.Addr().As16()}
		_, _, e = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	} else {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: bigEndian(to.Port()), Addr: to.Addr().As4()}
		_, _, e = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	}
	if e != 0 {
		return e
	}
	return nil
}

func (s *rawSocket) close() error { return unix.Close(s.fd) }

// bigEndian gives the number whose bytes in memory are the port's in network order, on any machine.
func bigEndian(port uint16) (n uint16) {
	b := (*[2]byte)(unsafe.Pointer(&n))
	b[0], b[1] = byte(port>>8), byte(port)
	return n
}

// addrPort reads the kernel's sockaddr. Another family than the two cannot come from a UDP socket.
func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), bigEndian(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), bigEndian(in.Port))
	}
	return netip.AddrPort{}
}
