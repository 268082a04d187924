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
// The sign of too much is a standing queue, as in CoDel (RFC 8289 section 4.2): a socket that was not once found with less than a full
// batch for a while. A burst or a stall of the machine leaves a queue too, but it ends.

// Chosen by us.
const (
	maxLoads = 64
	loadRise = 0.1  // per half of Config.Overload that the queue stands: all new calls are refused after some ten
	loadSoft = 0.05 // for the first one: the level was nearly right before
	shrinks  = 0.9  // a queue that holds less than this part of what it held is on its way out: to refuse more would be too much,
	roomy    = 0.5  // unless it holds more than this part of its buffer: what overflows belongs to calls that are served
	emptied  = 0.1  // less of the buffer than this is what came since the worker woke, or a queue of milliseconds
	loadFall = 0.05 // per half that it does not: slower, as what is refused returns
	maxLoad  = 2    // above 1 registrations and the like are refused too
)

// load is a worker's estimate; the worker's goroutine owns it.
type load struct {
	slot  uint32
	socks [maxListeners]sockLoad
}

// sockLoad is that of one socket.
type sockLoad struct {
	serial  uint64    // of the last batch
	last    time.Time // when it was
	drained time.Time // when the socket was last known to hold less than a batch
	stepped time.Time
	backlog float64 // what it held at the last half in which the queue stood, of its buffer; 0 if it did not
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

// backlogger tells how full the socket is, 0 to 1; 0: not known.
type backlogger interface{ Backlog() float64 }

// batch moves the level; changed tells if it did.
func (s *sockLoad) batch(full bool, now time.Time, standing time.Duration, w backlogger) (changed bool) {
	// A worker that has waited has an empty socket behind it, also if a full batch ended the waiting. One that was not let run, by a quota of
	// its control group for instance, has not.
	if !full || s.drained.IsZero() || now.Sub(s.last) > standing/4 && w.Backlog() < emptied {
		s.drained = now
	}
	s.last = now
	half := standing / 2
	steps := float64(now.Sub(s.stepped) / half)
	if steps < 1 {
		return false
	}
	s.stepped = now
	old := s.level
	if now.Sub(s.drained) >= standing {
		before, known := s.backlog, w.Backlog()
		s.backlog = max(known, 1e-6)
		switch {
		case known > 0 && known < emptied: // it keeps the worker busy; to refuse more would leave it idle
		case known > 0 && known < roomy && before == 0:
			s.level += loadSoft
		case known > 0 && known < roomy && known < shrinks*before:
		default:
			s.level += loadRise
		}
		s.level = min(maxLoad, s.level)
	} else {
		s.backlog = 0
		s.level = max(0, s.level-loadFall*min(steps, 1000))
	}
	return s.level != old
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
