package transport

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A batch collects the datagrams that one worker sends through one listener.
//
// Datagrams of one length to one address, with no other one to that address between them, make a run, which goes through the kernel's stack once
// (UDP_SEGMENT, udp(7)). First requests and refusals of calls from a trunk, a load balancer or another proxy are often such runs; what goes to
// many phones is not, and costs what it did. The order of what one address gets is kept, that between addresses is not.
type batch struct {
	c     *counters
	l     *Listener
	fd    int
	plain bool // the kernel cannot, or a path's MTU is too small: one by one

	n      int
	used   int
	arena  []byte
	data   [batchSize]unix.Iovec // the datagrams, in the order in which they came
	next   [batchSize]uint8      // the next one of its run
	runs   int
	run    [batchSize]run
	latest [latestSize]uint8 // an address's newest run, plus one

	// As the kernel wants it.
	msgs    [batchSize]mmsghdr
	iovs    [batchSize]unix.Iovec
	names   [batchSize]rawAddr
	control [batchSize]segmentSize
}

// run is a list of datagrams.
type run struct {
	to          netip.AddrPort
	size        int
	first, last uint8
	count       uint8
}

// segmentSize is the control message with the length of a run's datagrams.
type segmentSize struct {
	h    unix.Cmsghdr
	size uint16
	_    [6]byte
}

const (
	latestSize  = 32
	maxSegment  = 1400 // a larger one may not fit into a packet, which a segment must
	maxRunBytes = 60000
)

func newBatch(l *Listener, fd, slot int) *batch {
	o := &batch{c: &l.counters[slot], l: l, fd: fd, arena: make([]byte, arenaSize)}
	for i := range o.msgs {
		o.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&o.names[i]))
		h := &o.control[i].h
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
	}
	// Before Linux 4.18 the control message would be passed over, and the run would be one datagram.
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	o.plain = err != nil
	return o
}

// add copies b into the batch, and sends the batch first where it is full.
func (o *batch) add(b []byte, to Target) error {
	if len(b) > maxUDPPayload {
		o.c.drops[DropTooLarge].Add(1)
		return ErrTooLarge
	}
	if len(b) == 0 || !o.l.reaches(to.Addr.Addr()) || to.Addr.Port() == 0 {
		return ErrBadTarget
	}
	if o.n == batchSize || o.used+len(b) > len(o.arena) {
		o.flush()
	}
	i := uint8(o.n)
	room := o.arena[o.used:]
	copy(room, b)
	o.data[i].Base = &room[0]
	o.data[i].SetLen(len(b))
	o.n++
	o.used += len(b)

	a := to.Addr.Addr().As16()
	slot := &o.latest[(a[15]+3*a[14]+5*a[13]+byte(to.Addr.Port()))%latestSize]
	if *slot > 0 {
		r := &o.run[*slot-1]
		if r.size == len(b) && r.to == to.Addr && len(b) <= maxSegment && (int(r.count)+1)*len(b) <= maxRunBytes && !o.plain {
			o.next[r.last], r.last = i, i
			r.count++
			return nil
		}
	}
	o.run[o.runs] = run{to: to.Addr, size: len(b), first: i, last: i, count: 1}
	o.runs++
	*slot = uint8(o.runs)
	return nil
}

// lay writes the runs down as the kernel wants them.
func (o *batch) lay() {
	k := 0
	for i := range o.runs {
		r, h := &o.run[i], &o.msgs[i].hdr
		h.Namelen = o.names[i].put(r.to)
		h.Iov = &o.iovs[k]
		h.SetIovlen(int(r.count))
		for d, left := r.first, r.count; left > 0; d, left = o.next[d], left-1 {
			o.iovs[k] = o.data[d]
			k++
		}
		h.Control = nil
		h.SetControllen(0)
		if r.count > 1 {
			o.control[i].size = uint16(r.size)
			h.Control = (*byte)(unsafe.Pointer(&o.control[i]))
			h.SetControllen(int(unsafe.Sizeof(o.control[i])))
		}
	}
}

// flush sends what was collected. What the kernel refuses is dropped and counted; the rest still leaves.
func (o *batch) flush() {
	o.lay()
	sent, tries := 0, 0
	for sent < o.runs {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(o.fd), uintptr(unsafe.Pointer(&o.msgs[sent])), uintptr(o.runs-sent),
			unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 && int(n) > 0 {
			for i := sent; i < sent+int(n); i++ {
				o.c.bytesOut.Add(uint64(o.msgs[i].len))
				o.c.messagesOut.Add(uint64(o.run[i].count))
			}
			sent += int(n)
			tries = 0
			continue
		}
		if tries++; tries < 4 && retryable(o.fd, errno) {
			continue
		}
		if errno == unix.EAGAIN {
			// The kernel's buffer stays full: waiting for each of the rest would stall the worker.
			for ; sent < o.runs; sent++ {
				o.c.drops[DropSend].Add(uint64(o.run[sent].count))
			}
			break
		}
		if o.run[sent].count > 1 {
			o.plain = true
			o.split(sent)
		} else {
			o.c.drops[DropSend].Add(1)
		}
		sent++
		tries = 0
	}
	o.n, o.used, o.runs = 0, 0, 0
	o.latest = [latestSize]uint8{}
}

// split sends the datagrams of a run one by one.
func (o *batch) split(i int) {
	r, h := &o.run[i], &o.msgs[i].hdr
	h.Control = nil
	h.SetControllen(0)
	h.SetIovlen(1)
	for d, left := r.first, r.count; left > 0; d, left = o.next[d], left-1 {
		h.Iov = &o.data[d]
		n, tries := uintptr(0), 0
		for {
			var errno syscall.Errno
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(o.fd), uintptr(unsafe.Pointer(&o.msgs[i])), 1, unix.MSG_NOSIGNAL, 0, 0)
			if tries++; errno == 0 || tries == 4 || !retryable(o.fd, errno) {
				break
			}
		}
		if n == 1 {
			o.c.bytesOut.Add(uint64(r.size))
			o.c.messagesOut.Add(1)
		} else {
			o.c.drops[DropSend].Add(1)
		}
	}
}
