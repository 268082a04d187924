package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chosen by us.
const (
	batchSize  = 64                     // datagrams of one recvmmsg or sendmmsg
	maxBatches = 4                      // received one after the other before the ports with a socket of their own have a turn
	maxHold    = 500 * time.Microsecond // a datagram waits no longer for others to leave with it
	holdStep   = 4                      // datagrams between two looks at the clock
	sharedRoom = 8 << 20                // receive buffer: all ports of the loop share it; about 0.4 s of 200 calls
)

// steered is a loop's share of a steering. One socket receives for all its ports, many datagrams with one system call; one
// raw socket per local address sends for all of them, many with one call, too. A port costs neither descriptor nor kernel memory.
type steered struct {
	// Constant after newSteered.
	loop    *Loop
	steer   Steering
	lane    int
	fd      int
	portMin uint16
	portMax uint16
	hosts   []*host      // few: one per local address
	taken   atomic.Int32 // ports
	others  holders      // of ports, who may be other processes

	// Owned by the loop's goroutine.
	in   *inBatch
	pkt  Packet
	next [batchSize]Receiver // for Ahead
}

// host is a local address: its ports, and what leaves from it.
type host struct {
	addr  netip.Addr
	ip    [4]byte
	ports []atomic.Pointer[Conn] // from portMin: set by Listen on any goroutine, loaded by the loop
	out   outBatch
	tos   atomic.Int32 // of the raw socket
}

func newSteered(l *Loop) (*steered, error) {
	d := &steered{loop: l, steer: l.cfg.Steering, fd: -1, in: newInBatch()}
	addrs, portMin, portMax := d.steer.Range()
	d.portMin, d.portMax = portMin, portMax
	d.others.portMin, d.others.portMax = portMin, portMax
	for _, a := range addrs {
		h := &host{addr: a, ip: a.As4(), ports: make([]atomic.Pointer[Conn], int(portMax)-int(portMin)+1)}
		if err := h.out.open(h.ip); err != nil {
			d.close()
			return nil, fmt.Errorf("steered ports of %s: raw socket: %w", a, err)
		}
		d.hosts = append(d.hosts, h)
	}
	if err := d.open(); err != nil {
		d.close()
		return nil, fmt.Errorf("steered ports: %w", err)
	}
	return d, nil
}

// open makes the receiving socket. Its own address is of no importance: the program chooses it for packets to other ones.
func (d *steered) open() error {
	s, err := openRaw(netip.AddrPortFrom(d.hosts[0].addr, 0), Options{})
	if err != nil {
		return err
	}
	d.fd = s.fd
	if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sharedRoom); err != nil {
		// Without CAP_NET_ADMIN net.core.rmem_max bounds it.
		if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, sharedRoom); err != nil {
			return fmt.Errorf("set receive buffer: %w", err)
		}
	}
	if err := unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, 1); err != nil {
		return fmt.Errorf("ask for the address that packets went to: %w", err)
	}
	d.lane, err = d.steer.Join(d.fd)
	return err
}

func (d *steered) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	for _, h := range d.hosts {
		unix.Close(h.out.fd)
	}
}

// release gives all ports back and closes the sockets.
func (d *steered) release() {
	for _, h := range d.hosts {
		for i := range h.ports {
			if c := h.ports[i].Swap(nil); c != nil {
				d.steer.Clear(c.local)
			}
		}
	}
	d.close()
}

// host finds the local address, nil where a port is not steered.
func (d *steered) host(ip [4]byte) *host {
	for _, h := range d.hosts {
		if h.ip == ip {
			return h
		}
	}
	return nil
}

// covers tells if the port is one that a steering can give to the loop.
func (d *steered) covers(a netip.AddrPort) *host {
	if ip := a.Addr().Unmap(); ip.Is4() && a.Port() >= d.portMin && a.Port() <= d.portMax {
		return d.host(ip.As4())
	}
	return nil
}

// listen takes a port, unless another process holds it. Any goroutine may call it.
func (d *steered) listen(h *host, p *steeredPort, o Options) error {
	c := &p.Conn
	slot := &h.ports[c.local.Port()-d.portMin]
	if slot.Load() != nil {
		return fmt.Errorf("listen udp %s: %w", c.local, unix.EADDRINUSE)
	}
	if err := d.vacant(c.local); err != nil {
		return fmt.Errorf("listen udp %s: %w", c.local, err)
	}
	// The header says the traffic class; the socket's own sets the priority in the queue of the network card (sk_priority).
	if tos := int32(o.TOS); h.tos.Swap(tos) != tos {
		if err := unix.SetsockoptInt(h.out.fd, unix.IPPROTO_IP, unix.IP_TOS, o.TOS); err != nil {
			return fmt.Errorf("listen udp %s: set traffic class: %w", c.local, err)
		}
	}
	p.own = steeredSocket{host: h, conn: c, port: c.local.Port(), tos: uint8(o.TOS), batch: d}
	c.socket = &p.own
	if !slot.CompareAndSwap(nil, c) {
		return fmt.Errorf("listen udp %s: %w", c.local, unix.EADDRINUSE)
	}
	d.taken.Add(1)
	d.steer.Set(c.local, d.lane)
	return nil
}

// vacant says with EADDRINUSE that another process holds the port. Where the kernel has no list it is bound for a moment.
func (d *steered) vacant(a netip.AddrPort) error {
	held, err := d.others.holds(a, d.loop.cfg.Now())
	if held {
		return unix.EADDRINUSE
	}
	if err == nil {
		return nil
	}
	probe, err := openRaw(a, Options{})
	if err != nil {
		return err
	}
	return probe.close()
}

// forget gives a port back, on the loop's goroutine.
func (d *steered) forget(s *steeredSocket) error {
	if !s.host.ports[s.port-d.portMin].CompareAndSwap(s.conn, nil) {
		return unix.EBADF
	}
	d.taken.Add(-1)
	d.steer.Clear(s.conn.local)
	return nil
}

// receive takes what waits in the shared socket, and lets leave what that caused.
func (d *steered) receive() {
	for range maxBatches {
		n := d.in.receive(d.fd)
		d.ahead(n)
		now := d.loop.cfg.Now()
		begun := now
		for i := range n {
			if i%holdStep == holdStep-1 {
				if now = d.loop.cfg.Now(); now.Sub(begun) > maxHold {
					d.flush()
					begun = now
				}
			}
			if c := d.receiver(i); c != nil {
				d.pkt.Data, d.pkt.From, d.pkt.Time = d.in.data(i), d.in.from(i), now
				c.recv.Receive(&d.pkt)
			}
		}
		d.flush()
		if n < batchSize {
			return
		}
	}
}

// ahead tells who gets the n datagrams.
func (d *steered) ahead(n int) {
	tell := d.loop.cfg.Ahead
	if tell == nil || n < 2 {
		return
	}
	// One loop that does nothing else: what is not in the cache is then waited for once, not for each datagram.
	var conns [batchSize]*Conn
	for i := range n {
		conns[i] = d.receiver(i)
	}
	next := d.next[:0]
	for _, c := range conns[:n] {
		if c != nil {
			next = append(next, c.recv)
		}
	}
	tell(next)
}

// receiver finds the connection of the i-th datagram; nil where it was closed after the kernel had chosen our socket.
func (d *steered) receiver(i int) *Conn {
	ip, port, ok := d.in.to(i)
	if !ok || port < d.portMin || port > d.portMax {
		return nil
	}
	if h := d.host(ip); h != nil {
		return h.ports[port-d.portMin].Load()
	}
	return nil
}

// flush sends what waits.
func (d *steered) flush() {
	for _, h := range d.hosts {
		h.out.flush()
	}
}

// steeredPort is the connection of a port without a socket, and what is in the socket's place, in one piece.
type steeredPort struct {
	Conn
	own steeredSocket
}

// steeredSocket is a port without a socket.
type steeredSocket struct {
	host  *host
	conn  *Conn
	batch *steered
	port  uint16
	tos   uint8
}

// setTOS changes what the headers say; the priority in the network card's queue stays that of the address.
func (s *steeredSocket) setTOS(tos int) error {
	s.tos = uint8(tos)
	return nil
}

// writeTo puts the datagram into the batch of its address. That it could not be sent shows later, in Failed of the receiver.
func (s *steeredSocket) writeTo(b []byte, to netip.AddrPort) error {
	dst := to.Addr().Unmap()
	if len(b) == 0 || len(b) > bufferSize+Tailroom || !dst.Is4() || to.Port() == 0 {
		return unix.EINVAL
	}
	s.host.out.add(s, b, dst.As4(), to.Port())
	return nil
}

func (s *steeredSocket) close() error { return s.batch.forget(s) }

// sendAlone sends a datagram that is too long for the interface and must leave in fragments, which a raw socket does not make: by an
// ordinary socket at the port, for a moment.
func (s *steeredSocket) sendAlone(b []byte, to netip.AddrPort) error {
	r, err := openRaw(s.conn.local, Options{TOS: int(s.tos)})
	if err != nil {
		return err
	}
	return errors.Join(r.writeTo(b, to), r.close())
}

// failed tells the receiver that a datagram was not sent.
func (s *steeredSocket) failed() {
	if f, ok := s.conn.recv.(Failer); ok {
		f.Failed()
	}
}

// inBatch is room for the datagrams of one recvmmsg.
type inBatch struct {
	used    int // by the last call
	msgs    [batchSize]mmsghdr
	vectors [batchSize]unix.Iovec
	sources [batchSize]unix.RawSockaddrInet4
	control [batchSize][controlSize / 8]uint64 // aligned as struct cmsghdr
	bytes   [batchSize][bufferSize + Tailroom]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// controlSize holds one IP_ORIGDSTADDR: a header of at most 16 bytes and a sockaddr_in.
const controlSize = 32

func newInBatch() *inBatch {
	b := &inBatch{used: batchSize}
	for i := range b.msgs {
		b.vectors[i].Base = &b.bytes[i][0]
		b.vectors[i].SetLen(bufferSize)
		h := &b.msgs[i].hdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.sources[i]))
		h.Control = (*byte)(unsafe.Pointer(&b.control[i]))
	}
	return b
}

// receive reads what is there, without waiting.
func (b *inBatch) receive(fd int) int {
	for i := range b.used { // what the last call has written over
		h := &b.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet4
		h.SetControllen(controlSize)
	}
	n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		n = 0 // EAGAIN, or a pending error that reading has cleared
	}
	b.used = int(n)
	return b.used
}

func (b *inBatch) data(i int) []byte { return b.bytes[i][:b.msgs[i].n] }

func (b *inBatch) from(i int) netip.AddrPort {
	s := &b.sources[i]
	return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), bigEndian(s.Port))
}

// to is the address that the datagram was sent to.
func (b *inBatch) to(i int) (ip [4]byte, port uint16, ok bool) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.control[i]))
	if uint64(b.msgs[i].hdr.Controllen) < uint64(unix.CmsgLen(unix.SizeofSockaddrInet4)) || h.Level != unix.IPPROTO_IP || h.Type != unix.IP_ORIGDSTADDR {
		return ip, 0, false
	}
	sa := (*unix.RawSockaddrInet4)(unsafe.Add(unsafe.Pointer(h), unix.CmsgLen(0)))
	return sa.Addr, bigEndian(sa.Port), true
}
