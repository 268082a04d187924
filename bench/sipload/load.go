//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"rtcedge/bench/meter"
)

// kind names what is counted: a message that enters the proxy and must come out of it. The first REGISTER comes out as the
// proxy's own 401.
type kind uint8

const (
	kindInvite kind = iota
	kindTrying
	kindRinging
	kindAnswer
	kindAck
	kindBye
	kindByeOK
	kindRegister
	kindAuthorised
	kindRegistered
	kinds // also: not counted
)

// call is what is known of one call.
type call struct {
	seen  uint16 // a bit per kind that came out
	phone *phone
	began int64
}

// load is both neighbours of the proxy. All of it belongs to one goroutine.
type load struct {
	domain    string
	registers bool
	users     int
	digest    *digest
	meter     *meter.Meter
	phones    []*phone
	nodes     []*node
	streams   []*stream
	epoll     int // of the streams

	// Of one run.
	run        uint64
	calls      []call
	started    int
	sent, came [kinds]uint64
	bytes      uint64 // that came out
	delay      histogram
	completed  uint64
	refused    uint64
	twice      uint64 // messages that came out again
	strange    uint64 // messages that nobody waits for
}

// Chosen by us.
const (
	burst   = 16                     // calls that are started between two looks at the sockets
	settle  = 4                      // rates and processor time count after 1/settle of the time: the first calls have met no others
	quietly = 250 * time.Millisecond // the run is over when nothing has come for so long
	tailEnd = 2 * time.Second        // and at the latest so long after the last call
)

func (l *load) userOf(serial uint64) int { return int(serial) % l.users }

// callOf finds the call of a message; nil if it is of an earlier run.
func (l *load) callOf(f *fields) (*call, uint64) {
	id := value(f.callID)
	if len(id) < serialSize+len(holeRun) {
		l.strange++
		return nil, 0
	}
	serial, ok := hex(id[:serialSize])
	run, also := hex(id[serialSize : serialSize+len(holeRun)])
	if !ok || !also || run != l.run || serial >= uint64(l.started) {
		l.strange++
		return nil, 0
	}
	return &l.calls[serial], serial
}

// arrive counts a message that came out of the proxy; false if it did before.
func (l *load) arrive(c *call, k kind, b []byte, f *fields, arrived int64) bool {
	if c.seen&(1<<k) != 0 {
		l.twice++
		return false
	}
	c.seen |= 1 << k
	l.came[k]++
	l.bytes += uint64(len(b))
	left := c.began
	if f.stamp != nil {
		if t, ok := hex(f.stamp); ok {
			left = int64(t)
		}
	}
	l.delay.add(arrived - left)
	if k == kindByeOK || k == kindRegistered {
		l.completed++
	}
	return true
}

// perCall is the number of messages that come out of the proxy for each call or registration.
func (l *load) perCall() float64 {
	if l.registers {
		return 3
	}
	return 7
}

// offer starts calls at a rate (messages out of the proxy per second) for a time, waits for the last answers and says what came.
func (l *load) offer(rate float64, span time.Duration) result {
	perSecond := rate / l.perCall()
	total := int(perSecond * span.Seconds())
	l.run = (l.run + 1) & 0xffff
	l.calls = append(l.calls[:0], make([]call, total)...)
	l.started = 0
	l.sent, l.came, l.bytes, l.delay = [kinds]uint64{}, [kinds]uint64{}, 0, histogram{}
	l.completed, l.refused, l.twice, l.strange = 0, 0, 0, 0
	lostBefore, failedBefore := l.lost()

	r := result{offered: rate, span: span}
	var spent, waited, idle time.Duration
	start := time.Now()
	mark, end, last, heard := start.Add(span/settle), start.Add(span), start, start
	for marked, ended := false, false; ; {
		now := time.Now()
		r.stall = max(r.stall, now.Sub(last))
		if !marked && now.After(mark) {
			marked, mark, idle = true, now, 0
			spent, waited = l.meter.Spent(), l.meter.Waited()
			r.out, r.good = l.total(&l.came), l.completed
		}
		due := min(int(now.Sub(start).Seconds()*perSecond)+1, total) - l.started
		for range min(due, burst) {
			p := l.phones[l.started%len(l.phones)]
			l.calls[l.started] = call{phone: p, began: now.UnixNano()}
			l.started++
			p.start(uint64(l.started - 1))
		}
		got := l.poll()
		switch {
		case got > 0:
			heard = now
		case due <= 0:
			idle += time.Since(now)
		}
		last = now
		if !ended && now.After(end) {
			ended = true
			r.took = now.Sub(mark)
			r.cpu, r.waited = l.meter.Spent()-spent, l.meter.Waited()-waited
			r.out, r.good = l.total(&l.came)-r.out, l.completed-r.good
			r.busy = 1 - idle.Seconds()/r.took.Seconds()
			last = time.Now()
		}
		if ended && (now.Sub(heard) > quietly || now.Sub(end) > tailEnd) {
			break
		}
	}
	r.calls, r.planned, r.completed, r.refused = l.started, total, l.completed, l.refused
	r.sent, r.came, r.twice, r.strange = l.total(&l.sent), l.total(&l.came), l.twice, l.strange
	r.perCall, r.delay = l.perCall(), &l.delay
	if r.came > 0 {
		r.size = float64(l.bytes) / float64(r.came)
	}
	lost, failed := l.lost()
	r.self = lost - lostBefore + failed - failedBefore
	return r
}

// poll takes what has arrived and sends the answers; it returns how many messages there were.
func (l *load) poll() int {
	got := 0
	for _, n := range l.nodes {
		got += n.receive(n.take)
	}
	if len(l.streams) == 0 {
		for _, p := range l.phones {
			got += p.receive(p.take)
		}
	} else {
		var events [256]unix.EpollEvent
		if n, err := unix.EpollWait(l.epoll, events[:], 0); err == nil {
			for _, e := range events[:n] {
				p := l.phones[e.Fd]
				got += p.receive(p.take)
			}
		}
	}
	for _, n := range l.nodes {
		n.flush()
	}
	for _, p := range l.phones {
		p.flush()
	}
	return got
}

func (l *load) total(counts *[kinds]uint64) (sum uint64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// lost counts what we lost ourselves: datagrams that we read too late, and what the kernel did not take.
func (l *load) lost() (lost, failed uint64) {
	for _, n := range l.nodes {
		lost, failed = lost+n.lost(), failed+n.failed
	}
	for _, p := range l.phones {
		switch k := p.link.(type) {
		case *udpSocket:
			lost, failed = lost+k.lost(), failed+k.failed
		case *stream:
			failed += k.failed
			if k.broken {
				failed++
			}
		}
	}
	return lost, failed
}

// warmUp waits until calls go through.
func (l *load) warmUp(limit time.Duration) error {
	var r result
	for start := time.Now(); time.Since(start) < limit; {
		r = l.offer(700, 200*time.Millisecond)
		if r.completed == uint64(r.calls) {
			return nil
		}
	}
	return fmt.Errorf("no whole call in %v: %s", limit, r)
}

func (l *load) close() {
	for _, n := range l.nodes {
		n.close()
	}
	for _, p := range l.phones {
		p.close()
	}
	if len(l.streams) > 0 {
		unix.Close(l.epoll)
	}
}
