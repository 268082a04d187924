//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chosen by us.
const (
	recvBatch  = 64
	sendBatch  = 16       // all of a batch carry the time before the first is sent: more would blur the latency
	slotSize   = 4160     // room per datagram; no power of two, so that the slots do not share cache sets
	socketRoom = 16 << 20 // kernel buffer: what waits for us must not be lost
)

// mmsghdr is struct mmsghdr of the kernel's include/linux/socket.h.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// udpSocket is a connected socket with batches in both directions.
type udpSocket struct {
	fd    int
	local netip.AddrPort

	in      [recvBatch]mmsghdr
	inIov   [recvBatch]unix.Iovec
	control [recvBatch][64]byte
	buffers []byte

	n      int
	out    [sendBatch]mmsghdr
	outIov [sendBatch]unix.Iovec
	stamps [sendBatch]int // where the time goes in each message, -1: nowhere
	slots  []byte
	failed uint64
}

func openUDP(local, peer netip.AddrPort) (*udpSocket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &udpSocket{fd: fd, buffers: make([]byte, recvBatch*slotSize), slots: make([]byte, sendBatch*slotSize)}
	// Root may exceed the system's limit; anybody else gets what is allowed.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketRoom) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketRoom)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: local.Addr().As4(), Port: int(local.Port())})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: peer.Addr().As4(), Port: int(peer.Port())})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open udp %s: %w", local, err)
	}
	if sa, err := unix.Getsockname(fd); err == nil {
		if in4, ok := sa.(*unix.SockaddrInet4); ok {
			local = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
		}
	}
	s.local = local
	for i := range s.in {
		s.inIov[i].Base = &s.buffers[i*slotSize]
		s.inIov[i].SetLen(slotSize)
		h := &s.in[i].hdr
		h.Iov = &s.inIov[i]
		h.SetIovlen(1)
		h.Control = &s.control[i][0]
	}
	for i := range s.out {
		s.outIov[i].Base = &s.slots[i*slotSize]
		h := &s.out[i].hdr
		h.Iov = &s.outIov[i]
		h.SetIovlen(1)
	}
	return s, nil
}

// The calls below never block, so the scheduler need not be told of them: told, it would take the core away and give it back each time.

// receive hands over one batch with the times of arrival, and returns its size.
func (s *udpSocket) receive(take func(b []byte, arrived int64)) int {
	for i := range s.in {
		s.in[i].hdr.SetControllen(len(s.control[i]))
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.in[0])), recvBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	for i := range int(n) {
		at := i * slotSize
		take(s.buffers[at:at+int(s.in[i].len)], s.arrival(i))
	}
	return int(n)
}

// arrival is the kernel's time of a datagram, socket(7).
func (s *udpSocket) arrival(i int) int64 {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&s.control[i][0]))
	if s.in[i].hdr.Controllen < unix.SizeofCmsghdr || h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS {
		return time.Now().UnixNano()
	}
	ts := (*unix.Timespec)(unsafe.Pointer(&s.control[i][unix.SizeofCmsghdr]))
	return ts.Nano()
}

// slot is room for the next message.
func (s *udpSocket) slot() []byte {
	if s.n == sendBatch {
		s.flush()
	}
	at := s.n * slotSize
	return s.slots[at : at : at+slotSize]
}

// queue takes the message that was written into the slot. stamp is where its time goes.
func (s *udpSocket) queue(b []byte, stamp int) {
	if len(b) > slotSize {
		s.failed++ // it has outgrown the slot and lies elsewhere
		return
	}
	s.outIov[s.n].SetLen(len(b))
	s.stamps[s.n] = stamp
	s.n++
}

// flush sends what is queued. What the kernel refuses is counted and not sent again.
func (s *udpSocket) flush() {
	if s.n == 0 {
		return
	}
	now := uint64(time.Now().UnixNano())
	for i := range s.n {
		if s.stamps[i] >= 0 {
			at := i*slotSize + s.stamps[i]
			putHex(s.slots[at:at+stampSize], now)
		}
	}
	for sent, tries := 0, 0; sent < s.n; {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.out[sent])), uintptr(s.n-sent), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			sent += int(n)
			continue
		}
		// A refused connection is told once and has nothing to do with this datagram.
		if tries++; tries > 2 {
			s.failed += uint64(s.n - sent)
			break
		}
	}
	s.n = 0
}

// lost is how many datagrams the kernel dropped because we were too slow.
func (s *udpSocket) lost() uint64 {
	var info [9]uint32 // SK_MEMINFO_VARS of include/uapi/linux/sock_diag.h
	size := uint32(unsafe.Sizeof(info))
	const memInfo, drops = 55, 8 // SO_MEMINFO, SK_MEMINFO_DROPS
	_, _, errno := syscall.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, memInfo, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return uint64(info[drops])
}

func (s *udpSocket) close() { unix.Close(s.fd) }
