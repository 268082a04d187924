package sip

import (
	"strconv"
	"time"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// More than can be served loses messages at random, and with each one a call of which others were served already: goodput falls while
// the offer grows. So new calls are refused first, at the price of reading them, and what belongs to a running one is always served.
//
// The sign of too much is a standing queue, as in CoDel (RFC 8289 section 4.2): messages wait in the socket, and over a while none was found that
// did not. A burst or a stall of the machine leaves a queue too, but it ends. From then on the level follows how long messages wait at least, by a
// proportional-integral controller as in PIE (RFC 8033 section 4.2). It keeps nearly no queue: what waits for long is no more in the processor's
// cache when it is read, so that a worker with a queue of 5 ms carries a third less than one with none, and would never get out of it.

// Chosen by us, by TestF15Goodput and by measurement (bench/SIP.md). Times are parts of Config.Overload, of which the default is 100 ms.
const (
	maxLoads  = 64
	loadCalm  = 0.1   // a shorter wait is no standing queue
	loadFull  = 0.5   // but one that fills this part of its buffer is: what overflows belongs to calls that are served
	loadFill  = 0.2   // a full buffer is like a wait of this, so that a small one is kept from filling, too
	loadFirst = 0.1   // the level that a standing queue begins with
	loadStep  = 0.1   // from one decision to the next
	loadWait  = 0.005 // the wait that is kept
	loadTurn  = 0.03  // a batch that takes longer was not let run
	loadRise  = 1.6   // level for a wait that has grown by Config.Overload since the last decision
	loadHold  = 1.3   // level for each Config.Overload that the wait is longer by Config.Overload than what is kept
	loadFall  = 0.4   // level for each Config.Overload that the worker was idle, of the time in which it was let run
	maxLoad   = 2     // above 1 registrations and the like are refused too
)

// load is a worker's estimate; the worker's goroutine owns it.
type load struct {
	slot  uint32
	socks [maxListeners]sockLoad
}

// sockLoad is that of one socket.
type sockLoad struct {
	serial  uint64        // of the last batch
	last    time.Time     // when it was
	drained time.Time     // when the socket was last known to hold less than a batch
	calm    time.Time     // when messages were last known to wait less than loadCalm
	stepped time.Time     // the last decision
	least   time.Duration // the shortest wait since
	wait    time.Duration // the one before
	idle    time.Duration // the worker's, at the last decision
	rested  time.Duration // at the last batch
	stall   time.Duration // for how long the worker was not let run at a time, of late
	stopped time.Duration // for how long in all since the last decision
	level   float64
}

// maxListeners is what Config.Transport may have.
const maxListeners = 64

func (p *Proxy) newLoad() *load { return &load{slot: (p.loadNext.Add(1) - 1) % maxLoads} }

// observe takes note of the message's batch, once per batch.
func (p *Proxy) observe(c *pass, in *transport.Message) {
	serial, full := in.Worker.Batch()
	s := &c.load.socks[in.Listener.Index()]
	standing := p.policy.Load().overload
	if serial == s.serial || standing < 0 {
		return
	}
	s.serial = serial
	if s.batch(full, c.now, standing, in.Worker) {
		top := 0.0
		for i := range p.sides {
			top = max(top, c.load.socks[i].level)
		}
		p.loads[c.load.slot].Store(uint32(top * 1000))
	}
}

// backlogger tells how full the socket is, 0 to 1, and when the last message of the batch came into it, zero values if that is not known; and for
// how long the worker has been idle.
type backlogger interface {
	Backlog() float64
	Arrived() time.Time
	Idle() time.Duration
}

// batch moves the level; changed tells if it did.
func (s *sockLoad) batch(full bool, now time.Time, standing time.Duration, w backlogger) (changed bool) {
	part := func(of float64) time.Duration { return time.Duration(of * float64(standing)) }
	wait, fill := time.Duration(0), 0.0
	if !full || s.drained.IsZero() {
		s.drained = now
	} else {
		fill = w.Backlog()
		wait = max(s.waited(now, w), part(loadFill*fill))
	}
	if wait < part(loadCalm) {
		s.calm = now
	}
	s.least = min(s.least, wait)
	idle := w.Idle()
	if gap := now.Sub(s.last) - (idle - s.rested); !s.last.IsZero() && gap > part(loadTurn) {
		s.stall = max(s.stall, gap)
		s.stopped += gap
	}
	s.last, s.rested = now, idle
	// Of a worker that runs in turns, by a quota for instance, a whole turn and pause are looked at: the shortest wait is at the end of a turn.
	step := max(part(loadStep), 2*min(s.stall, standing))
	past := now.Sub(s.stepped)
	if past < step {
		return false
	}
	least, before, rest := s.least, s.wait, float64(idle-s.idle)/float64(max(past-s.stopped, 1))
	s.stepped, s.least, s.wait, s.idle, s.stopped = now, wait, least, idle, 0
	s.stall -= s.stall / 4
	old := s.level
	switch {
	case old > 0 || fill > loadFull:
		of := func(d time.Duration) float64 { return float64(d) / float64(standing) }
		slower := float64(part(loadStep)) / float64(step) // the later it is seen what a step did, the smaller it must be
		long := min(of(past), 10)
		s.level += slower*loadRise*of(least-before) + slower*loadHold*of(least-part(loadWait))*long - loadFall*min(rest, 1)*long
		s.level = min(maxLoad, max(0, s.level))
	case now.Sub(s.calm) >= standing:
		s.level = loadFirst
	}
	return s.level != old
}

// waited is how long the last message of the batch was in the socket: no longer than since that was empty, whatever the clock says.
func (s *sockLoad) waited(now time.Time, w backlogger) time.Duration {
	d := now.Sub(s.drained)
	if at := w.Arrived(); !at.IsZero() {
		d = min(d, max(0, now.Sub(at)))
	}
	return d
}

// busiest is the level of the busiest worker.
func (p *Proxy) busiest() float64 {
	top := uint32(0)
	for i := range min(p.loadNext.Load(), maxLoads) {
		top = max(top, p.loads[i].Load())
	}
	return float64(top) / 1000
}

// sheds tells if the request is one to refuse now. The Call-ID decides, so that a retransmission fares as the first copy did.
func (p *Proxy) sheds(c *pass) bool {
	m := &c.msg
	if c.inside || len(m.ToTag()) > 0 || c.policy.overload < 0 {
		return false
	}
	level := 0.0
	if c.load != nil {
		level = c.load.socks[c.side.index].level
	} else {
		level = p.busiest()
	}
	switch m.Method() {
	case message.Invite:
	case message.Ack, message.Cancel, message.Bye, message.Prack, message.Update, message.Info:
		return false
	default:
		level--
	}
	if level <= 0 {
		return false
	}
	return float64(uint32(c.hash>>32))/(1<<32) < level
}

// early refuses a new call, and takes in the ACK of such a refusal, with as little reading as an answer needs: beyond its maximum the edge has no
// time that is spent better. Other faults of the request count no more; true if the request is done.
func (p *Proxy) early(c *pass) bool {
	m := &c.msg
	invite, ack := m.Method() == message.Invite, m.Method() == message.Ack
	// A request that another edge node relays is one of the farm's.
	if c.load.socks[c.side.index].level <= 0 || c.inside || !m.Request() || !invite && !ack || m.Count(message.Internal) > 0 || !m.Peek() {
		return false
	}
	c.hash = p.callHash(m.CallID())
	if ack {
		if !p.ownTag(m, m.ToTag()) {
			return false
		}
		c.drop(DropAbsorbed)
	} else {
		if !p.sheds(c) {
			return false
		}
		p.nat(c)
		if p.scans(c) {
			c.drop(DropScanner)
		} else {
			p.shed(c)
		}
	}
	c.count.requests[m.Method()].Add(1)
	return true
}

// shed answers with 503, spread over some seconds; to an address that has not proved itself only if that costs it no more than it sent.
func (p *Proxy) shed(c *pass) {
	c.extra = append(c.extra, "Retry-After: "...)
	c.extra = strconv.AppendUint(c.extra, 2+c.hash%8, 10)
	c.extra = append(c.extra, "\r\n"...)
	p.refuse(c, 503, "Overloaded", DropOverload)
}
