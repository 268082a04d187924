package udp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Fixed by specification.
const (
	ipHeader     = 20 // RFC 791 section 3.1, no options
	udpHeader    = 8  // RFC 768
	headers      = ipHeader + udpHeader
	dontFragment = 0x4000
	protocolUDP  = 17
)

// Chosen by us: a longer datagram may be cut on its way (ip(7): a UDP socket does the same when it knows a smaller path MTU).
// 1280 bytes is what every path of IPv6 carries, and tunnels are made for.
const maxWhole = 1280

// outBatch is what leaves from one local address with the next sendmmsg: datagrams with their IP and UDP headers, by a raw socket, as
// an ordinary one has but one source port. The kernel routes them and fills in the header's checksum (raw(7)).
type outBatch struct {
	fd      int
	ip      [4]byte
	n       int
	msgs    [batchSize]mmsghdr
	vectors [batchSize]unix.Iovec
	targets [batchSize]unix.RawSockaddrInet4
	owners  [batchSize]*steeredSocket
	bytes   [batchSize][headers + bufferSize + Tailroom]byte
}

// open binds the socket to the address, so that rules of routing by source see it.
func (o *outBatch) open(ip [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	o.fd, o.ip = fd, ip
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ip}); err != nil {
		unix.Close(fd)
		return err
	}
	for i := range o.msgs {
		o.vectors[i].Base = &o.bytes[i][0]
		o.targets[i].Family = unix.AF_INET
		h := &o.msgs[i].hdr
		h.Iov = &o.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&o.targets[i]))
		h.Namelen = unix.SizeofSockaddrInet4
	}
	return nil
}

// add writes the datagram behind its headers. b is not kept.
func (o *outBatch) add(s *steeredSocket, b []byte, dst [4]byte, port uint16) {
	if o.n == batchSize {
		o.flush()
	}
	i := o.n
	p := o.bytes[i][:headers+len(b)]
	p[0], p[1] = 4<<4|ipHeader/4, s.tos
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[4:], 0) // the kernel fills it in where there may be fragments
	fragment := uint16(0)
	if len(p) <= maxWhole {
		fragment = dontFragment
	}
	binary.BigEndian.PutUint16(p[6:], fragment)
	p[8], p[9], p[10], p[11] = 64, protocolUDP, 0, 0
	copy(p[12:], o.ip[:])
	copy(p[16:], dst[:])
	u := p[ipHeader:]
	binary.BigEndian.PutUint16(u, s.port)
	binary.BigEndian.PutUint16(u[2:], port)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	u[6], u[7] = 0, 0
	copy(u[udpHeader:], b)
	binary.BigEndian.PutUint16(u[6:], checksum(p))
	o.vectors[i].SetLen(len(p))
	o.targets[i].Addr = dst
	o.owners[i] = s
	o.n++
}

// checksum is that of UDP with its pseudo header (RFC 768), over an IP packet whose checksum fields are zero. The addresses are the last
// eight bytes of the IP header, just before the UDP header.
func checksum(p []byte) uint16 {
	sum := uint64(protocolUDP) + uint64(len(p)-ipHeader)
	b := p[ipHeader-8:]
	var carry uint64
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(tail[:]), carry)
	sum, carry = bits.Add64(sum, 0, carry)
	sum += carry
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16&0xffff + sum&0xffff + sum>>32
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	if c := ^uint16(sum); c != 0 {
		return c
	}
	return 0xffff // zero means that there is none
}

// flush sends what is there. A datagram that the kernel refuses is told to its owner; those behind it leave all the same.
func (o *outBatch) flush() {
	for first := 0; first < o.n; {
		sent, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(o.fd), uintptr(unsafe.Pointer(&o.msgs[first])), uintptr(o.n-first),
			unix.MSG_DONTWAIT, 0, 0)
		if e == 0 && sent > 0 {
			first += int(sent)
			continue
		}
		if e != unix.EINTR {
			o.refused(first, e)
			first++
		}
	}
	o.n = 0
}

// refused deals with the datagram that stopped sendmmsg.
func (o *outBatch) refused(i int, e unix.Errno) {
	s := o.owners[i]
	if e == unix.EMSGSIZE {
		p := o.bytes[i][:o.vectors[i].Len]
		to := netip.AddrPortFrom(netip.AddrFrom4(o.targets[i].Addr), binary.BigEndian.Uint16(p[ipHeader+2:]))
		if s.sendAlone(p[headers:], to) == nil {
			return
		}
	}
	s.failed()
}
