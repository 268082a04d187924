package udp

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const errAddrInUse = unix.EADDRINUSE

// Chosen by us.
const (
	maxEvents = 256 // of one epoll_wait: with 10 us a packet a batch lasts 2.5 ms at most
	clockStep = 16  // packets of a batch that share one look at the clock: 0.2 ms of jitter at most

	// The runtime's monitor takes the processor of a goroutine that has not been scheduled, or was in one system call, for 10 ms
	// (runtime.retake), and then looks each 20 us whether there is more of that: a tenth of a relay's CPU. A loop with ports is never
	// so long away: both together stay below it. To yield costs something, too: it wakes a thread to look for work.
	shortWait  = 4 * time.Millisecond
	yieldAfter = 5 * time.Millisecond
	// Without packets there is nothing to be late for, and the monitor itself comes to rest.
	quiet = 100 * time.Millisecond
)

func newDriver(l *Loop) (driver, error) {
	if l.cfg.Portable {
		return newNetDriver(l), nil
	}
	return newEpoll(l)
}

// epoll is the Linux driver: one descriptor waits for all sockets of the loop, level triggered.
type epoll struct {
	// Constant after newEpoll.
	loop *Loop
	fd   int
	bell int      // eventfd: rung by Do and by the end of the context
	many *steered // ports without a socket; nil without a steering

	// Owned by the loop's goroutine.
	slots  []slot
	free   []uint32
	events [maxEvents]unix.EpollEvent
	buf    [bufferSize + Tailroom]byte
	from   unix.RawSockaddrAny
	pkt    Packet
	heard  time.Time // when a packet was there last
}

// slot is a place in the table of sockets. The generation tells a stale event of a socket that was closed within the
// same batch from one of its successor.
type slot struct {
	conn *Conn
	fd   int
	gen  uint32
}

// These are no indices of slots.
const (
	bellSlot = ^uint32(0)
	manySlot = bellSlot - 1
)

func newEpoll(l *Loop) (*epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll create: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ev := event(bellSlot, 0)
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, bell, &ev); err != nil {
		unix.Close(bell)
		unix.Close(fd)
		return nil, fmt.Errorf("epoll add: %w", err)
	}
	d := &epoll{loop: l, fd: fd, bell: bell}
	if l.cfg.Steering == nil {
		return d, nil
	}
	if d.many, err = newSteered(l); err == nil {
		ev := event(manySlot, 0)
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, d.many.fd, &ev)
	}
	if err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

func (d *epoll) steer(addr netip.AddrPort, o Options, recv Receiver) (*Conn, error) {
	if d.many == nil {
		return nil, nil
	}
	h := d.many.covers(addr)
	if h == nil {
		return nil, nil
	}
	if d.loop.hasEnded() {
		return nil, ErrEnded
	}
	p := &steeredPort{Conn: Conn{local: netip.AddrPortFrom(h.addr, addr.Port()), loop: d.loop, recv: recv}}
	if err := d.many.listen(h, p, o); err != nil {
		return nil, err
	}
	return &p.Conn, nil
}

// event packs slot and generation into the 64 bits of user data (struct epoll_event of the kernel's eventpoll.h).
func event(slot, gen uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(slot), Pad: int32(gen)}
}

func (d *epoll) open(addr netip.AddrPort, o Options) (socket, netip.AddrPort, error) {
	s, err := openRaw(addr, o)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	local, err := s.local()
	if err != nil {
		s.close()
		return nil, netip.AddrPort{}, err
	}
	return s, local, nil
}

func (d *epoll) add(c *Conn) {
	if n := len(d.free); n > 0 {
		c.slot, d.free = d.free[n-1], d.free[:n-1]
	} else {
		c.slot = uint32(len(d.slots))
		d.slots = append(d.slots, slot{})
	}
	s := &d.slots[c.slot]
	s.conn, s.fd = c, c.socket.(*rawSocket).fd
	ev := event(c.slot, s.gen)
	// It fails only for want of kernel memory or watches (fs.epoll.max_user_watches); the socket then stays deaf and the
	// session ends by its timeout.
	_ = unix.EpollCtl(d.fd, unix.EPOLL_CTL_ADD, s.fd, &ev)
}

func (d *epoll) remove(c *Conn) error {
	if s, ok := c.socket.(*steeredSocket); ok {
		return s.close()
	}
	if int(c.slot) >= len(d.slots) || d.slots[c.slot].conn != c {
		return unix.EBADF
	}
	s := &d.slots[c.slot]
	s.conn, s.fd = nil, -1
	s.gen++
	d.free = append(d.free, c.slot)
	return c.socket.close() // closing takes the descriptor out of the epoll set
}

func (d *epoll) wake() {
	one := uint64(1)
	_, _ = unix.Write(d.bell, (*[8]byte)(unsafe.Pointer(&one))[:])
}

func (d *epoll) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, d.wake)()
	now := d.loop.cfg.Now()
	yielded := now
	for ctx.Err() == nil {
		longest := d.loop.cfg.Interval + time.Millisecond
		if d.busy() && now.Sub(d.heard) < quiet {
			longest = shortWait
		}
		if now.Sub(yielded) >= yieldAfter {
			runtime.Gosched()
			yielded = now
		}
		timeout := min(max(d.loop.nextTick.Sub(now)+time.Millisecond, 0), longest)
		n, err := d.wait(int(timeout / time.Millisecond))
		if err != nil {
			return fmt.Errorf("epoll wait: %w", err)
		}
		d.serve(n)
		now = d.loop.cfg.Now()
		if n > 1 || n == 1 && uint32(d.events[0].Fd) != bellSlot {
			d.heard = now
		}
		d.loop.tick(now)
		d.loop.runPosted() // of Later; and what all of this has put into batches leaves
	}
	return nil
}

// busy tells if the loop has ports.
func (d *epoll) busy() bool {
	return len(d.slots) > len(d.free) || d.many != nil && d.many.taken.Load() > 0
}

// wait blocks in epoll_wait. Syscall, not RawSyscall: the runtime may lend our processor to another goroutine.
func (d *epoll) wait(ms int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(d.fd), uintptr(unsafe.Pointer(&d.events[0])), maxEvents,
		uintptr(ms), 0, 0)
	if e == unix.EINTR {
		return 0, nil
	}
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// serve reads one datagram for each of the first n events and hands it to its receiver.
func (d *epoll) serve(n int) {
	now := d.loop.cfg.Now()
	for i := range n {
		ev := &d.events[i]
		if uint32(ev.Fd) == bellSlot {
			d.answerBell()
			continue
		}
		if uint32(ev.Fd) == manySlot {
			d.many.receive()
			now = d.loop.cfg.Now()
			continue
		}
		s := &d.slots[uint32(ev.Fd)]
		if s.conn == nil || s.gen != uint32(ev.Pad) {
			continue
		}
		if i%clockStep == clockStep-1 {
			now = d.loop.cfg.Now()
		}
		c := s.conn
		size, ok := d.receive(s.fd)
		if !ok {
			continue
		}
		d.pkt.Data, d.pkt.Time = d.buf[:size], now
		c.recv.Receive(&d.pkt)
	}
}

// answerBell empties the eventfd before it looks at the functions, so that one posted in between rings again. They run in the bell's turn:
// a packet that was sent after Do finds it done.
func (d *epoll) answerBell() {
	var count [8]byte
	_, _ = unix.Read(d.bell, count[:])
	d.loop.runPosted()
}

// receive is recvfrom into the loop's buffer. RawSyscall: the socket does not block, so the runtime need not know.
func (d *epoll) receive(fd int) (int, bool) {
	size := uint32(unsafe.Sizeof(d.from))
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&d.buf[0])), bufferSize, 0,
		uintptr(unsafe.Pointer(&d.from)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0, false // EAGAIN, or a pending ICMP error that reading has cleared
	}
	d.pkt.From = addrPort(&d.from)
	return int(n), true
}

// enter and leave: there is but one goroutine, that of Run. What it has put into batches leaves with it.
func (d *epoll) enter() {}
func (d *epoll) leave() {
	if d.many != nil {
		d.many.flush()
	}
}

func (d *epoll) release() {
	for i := range d.slots {
		if c := d.slots[i].conn; c != nil {
			d.remove(c)
		}
	}
	if d.many != nil {
		d.many.release()
	}
	unix.Close(d.bell)
	unix.Close(d.fd)
}
