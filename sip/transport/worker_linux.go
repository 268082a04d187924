package transport

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions of this file occur in the order in which a datagram meets them.

// kernelWorker is the receiving side of a Worker: the goroutine that waits for its sockets, reads a batch, hands the messages
// to the Handler and sends what that has collected. All of it belongs to that goroutine.
type kernelWorker struct {
	Worker
	epoll   int
	wake    int // eventfd that ends the loop
	sockets []*kernelSocket
	reading int // the socket of the batch
	load    load

	msgs    [batchSize]mmsghdr
	iovs    [batchSize]unix.Iovec
	names   [batchSize]rawAddr
	control [batchSize][controlSize]byte
	buffers []byte // batchSize slots of maxDatagram bytes; the kernel touches only what it fills
}

const (
	// controlSize holds the SO_RXQ_OVFL count of a datagram: CMSG_SPACE(4) is 24 bytes on 64-bit systems.
	controlSize = 32
	// slotStride is not a power of two: equal offsets in each page would make 64 messages compete for one set of the
	// processor's caches.
	slotStride = 1<<16 + 13*64

	// From gatherRate messages a second and worker on, each round waits gatherTime (and the kernel's timer slack, 50 us) for company.
	gatherRate   = 8000
	gatherTime   = 60 * time.Microsecond
	gatherWindow = 10 * time.Millisecond
	yieldAfter   = 5 * time.Millisecond
)

// startWorkers starts one goroutine per slot. stop ends them and waits.
func (t *Transport) startWorkers() (stop func(), err error) {
	var sockets []*kernelSocket
	for _, l := range t.listeners {
		if k, ok := l.packet.(*kernelSocket); ok {
			sockets = append(sockets, k)
		}
	}
	if len(sockets) == 0 {
		return func() {}, nil
	}
	var started []*kernelWorker
	var running sync.WaitGroup
	stop = func() {
		for _, w := range started {
			w.stop()
		}
		running.Wait()
		for _, w := range started {
			w.release()
		}
	}
	for slot := range t.cfg.Workers {
		w, err := t.newKernelWorker(slot, sockets)
		if err != nil {
			stop()
			return nil, fmt.Errorf("worker %d: %w", slot, err)
		}
		started = append(started, w)
		running.Go(w.run)
	}
	return stop, nil
}

func (t *Transport) newKernelWorker(slot int, sockets []*kernelSocket) (*kernelWorker, error) {
	w := &kernelWorker{epoll: -1, wake: -1, sockets: sockets, buffers: make([]byte, batchSize*slotStride)}
	w.Worker = Worker{t: t, slot: slot, out: make([]*batch, len(t.listeners)), backlog: w.waiting, arrived: w.stamp}
	for i := range w.msgs {
		h := &w.msgs[i].hdr
		w.iovs[i].Base = &w.buffers[i*slotStride]
		w.iovs[i].SetLen(maxDatagram)
		h.Name = (*byte)(unsafe.Pointer(&w.names[i]))
		h.Iov = &w.iovs[i]
		h.SetIovlen(1)
		h.Control = &w.control[i][0]
	}
	for _, k := range sockets {
		w.out[k.l.index] = newBatch(k.l, k.fds[slot], slot)
	}
	err := w.watch()
	if err != nil {
		w.release()
	}
	return w, err
}

func (w *kernelWorker) watch() (err error) {
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.wake, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	for i, k := range w.sockets {
		// The Fd field is data for us: the place in sockets.
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, k.fds[w.slot], &ev); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

// run is the loop. Level triggered: a socket with more than one batch is reported again, after the others had their turn.
func (w *kernelWorker) run() {
	var events [16]unix.EpollEvent
	yielded := time.Now()
	for {
		now := time.Now()
		// A goroutine that never passes the scheduler looks stuck to the runtime's monitor, which would then poll every 20 us on this
		// core and take the processor away every 10 ms.
		if now.Sub(yielded) >= yieldAfter {
			runtime.Gosched()
			yielded = now
		}
		n, errno := w.wait(events[:], now)
		w.idle += time.Since(now)
		if errno != 0 {
			if errno == unix.EINTR {
				continue
			}
			return
		}
		for _, ev := range events[:n] {
			if ev.Fd < 0 {
				return
			}
			k := w.sockets[ev.Fd]
			if ev.Events&unix.EPOLLERR != 0 {
				w.errors(k)
			}
			if ev.Events&unix.EPOLLIN != 0 {
				w.read(k)
			}
		}
		for _, o := range w.out {
			if o != nil && o.n > 0 {
				o.flush()
			}
		}
	}
}

// wait returns the sockets that have something. Under load it first lets a batch gather: a wake-up costs as much as a message, and
// a message that waits for gatherTime is still early. The pause is a raw system call, so that the runtime does not take the worker's
// processor away and hand it back; it is far shorter than what the runtime waits before it stops a goroutine.
func (w *kernelWorker) wait(events []unix.EpollEvent, now time.Time) (int, syscall.Errno) {
	if w.load.busy(now) {
		if !w.full {
			pause := unix.Timespec{Nsec: gatherTime.Nanoseconds()}
			_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		}
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if n > 0 || errno != 0 {
			return int(n), errno
		}
	}
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), ^uintptr(0), 0, 0)
	return int(n), errno
}

// load tells from the messages of the last whole window whether more than gatherRate come in a second.
type load struct {
	since time.Time
	count int
	high  bool
}

func (l *load) busy(now time.Time) bool {
	if d := now.Sub(l.since); d >= gatherWindow {
		l.high = float64(l.count) >= gatherRate*d.Seconds()
		l.since, l.count = now, 0
	}
	return l.high
}

// read takes one batch from a socket through the Handler.
func (w *kernelWorker) read(k *kernelSocket) {
	for i := range w.msgs {
		h := &w.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(w.names[i].sa))
		h.SetControllen(controlSize)
	}
	// It never waits, so the scheduler need not be told; nor of sendmmsg, which takes less than what it allows a goroutine.
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(k.fds[w.slot]), uintptr(unsafe.Pointer(&w.msgs[0])), batchSize,
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return // EAGAIN, or an ICMP error, which the error queue has in full
	}
	c := &k.l.counters[w.slot]
	w.reading = k.fds[w.slot]
	w.load.count += int(n)
	w.serial++
	w.full = n == batchSize
	var messages, size uint64
	for i := range int(n) {
		m := &w.msgs[i]
		at := i * slotStride
		b := w.buffers[at : at+int(m.len) : at+int(m.len)]
		if m.hdr.Flags&unix.MSG_TRUNC != 0 {
			c.drops[DropTruncated].Add(1)
			continue
		}
		if r, ok := notSIP(b); ok {
			c.drops[r].Add(1)
			continue
		}
		messages++
		size += uint64(len(b))
		w.msg = Message{Bytes: b, From: w.names[i].get(), Listener: k.l, Worker: &w.Worker}
		w.t.handler.Handle(&w.msg)
	}
	c.messagesIn.Add(messages)
	c.bytesIn.Add(size)
	if n > 0 {
		if drops, ok := w.overflow(int(n) - 1); ok {
			c.kernelDrops.Store(uint64(drops))
		}
	}
}

// waiting is the part of the socket's buffer that is taken by datagrams which wait in it.
func (w *kernelWorker) waiting() float64 {
	var info [9]uint32 // SK_MEMINFO_VARS of include/uapi/linux/sock_diag.h
	const memory, room = 0, 1
	size := uint32(unsafe.Sizeof(info))
	if _, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(w.reading), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)),
		uintptr(unsafe.Pointer(&size)), 0); errno != 0 || info[room] == 0 {
		return 0
	}
	return float64(info[memory]) / float64(info[room])
}

// stamp is the time of the datagram that was read last, socket(7). It costs nothing per message, unlike SO_TIMESTAMPNS.
func (w *kernelWorker) stamp() time.Time {
	var at unix.Timespec
	if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(w.reading), unix.SIOCGSTAMPNS, uintptr(unsafe.Pointer(&at))); errno != 0 {
		return time.Time{}
	}
	return time.Unix(at.Unix())
}

// overflow reads the socket's count of lost datagrams, which the kernel adds to a message once there are any.
func (w *kernelWorker) overflow(i int) (uint32, bool) {
	if w.msgs[i].hdr.Controllen < unix.SizeofCmsghdr+4 {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&w.control[i][0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SO_RXQ_OVFL {
		return 0, false
	}
	return *(*uint32)(unsafe.Pointer(&w.control[i][unix.SizeofCmsghdr])), true
}

// errors empties a socket's error queue and tells the Handler which peers are away (ip(7), IP_RECVERR).
func (w *kernelWorker) errors(k *kernelSocket) {
	fd := k.fds[w.slot]
	var name rawAddr
	var control [256]byte
	for range errorsPerWake {
		var h unix.Msghdr
		h.Name = (*byte)(unsafe.Pointer(&name))
		h.Namelen = uint32(unsafe.Sizeof(name.sa))
		h.Control = &control[0]
		h.SetControllen(len(control))
		if _, _, errno := syscall.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); errno != 0 {
			break
		}
		if peer := name.get(); unreachable(control[:h.Controllen]) && peer.IsValid() {
			k.l.counters[w.slot].unreachable.Add(1)
			w.notice(k.l, peer)
		}
	}
	// What is left in SO_ERROR would fail the next call and keep the socket ready.
	_, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
}

// unreachable looks for an ICMP error that speaks of the peer, not of the size of a datagram.
func unreachable(control []byte) bool {
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(control) {
			return false
		}
		v4 := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR
		v6 := h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR
		if (v4 || v6) && size >= unix.SizeofCmsghdr+int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			e := (*unix.SockExtendedErr)(unsafe.Pointer(&control[unix.SizeofCmsghdr]))
			switch syscall.Errno(e.Errno) {
			case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN:
				return true
			}
			return false
		}
		control = control[min(unix.CmsgSpace(size-unix.SizeofCmsghdr), len(control)):]
	}
	return false
}

func (w *kernelWorker) notice(l *Listener, peer netip.AddrPort) {
	if w.t.unreachable != nil {
		w.t.unreachable.Unreachable(l, peer)
	}
}

// stop ends run; it may be called from any goroutine.
func (w *kernelWorker) stop() {
	one := [8]byte{1}
	_, _ = unix.Write(w.wake, one[:])
}

// release closes what the worker has opened; its loop has ended. The sockets belong to the listeners.
func (w *kernelWorker) release() {
	for _, fd := range []int{w.epoll, w.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
