package sip

import (
	"sync/atomic"

	"rtcedge/sip/message"
)

// Drop says why a message went no further, or a request was refused.
type Drop uint8

// The reasons.
const (
	DropNone          Drop = iota
	DropMalformed          // could not be read, and no answer was possible
	DropNotOurs            // a response whose top Via is not ours or not signed by us
	DropNoNextVia          // a response with nobody to send it to
	DropAmplify            // an answer larger than the request, to an address that has not proved itself: it waits for a retransmission
	DropTooLarge           // the outgoing message has no room
	DropSend               // the transport refused it
	DropQueueFull          // more waits for media or DNS than may
	DropNoNode             // no farm node lives
	DropNoRoute            // no listener or address for the next hop
	DropLoop               // it was here before
	DropForeignRoute       // a preloaded Route of a stranger
	DropUnauthorised       // challenged
	DropForbidden          // a right digest for another user
	DropMedia              // the media node refused, or gave no answer
	DropUnknownDomain      // a domain that is not served
	DropNoDialog           // in-dialog without a route, and its target is no farm node
	DropDraining           // a new dialog while the proxy drains
	DropAbsorbed           // the ACK of an answer that we made ourselves: no loss
	DropRate               // a source sends more than its rate allows
	DropBanned             // a source that failed too often
	DropScanner            // a scanner by its own word
	DropPSTN               // a call to the telephone network from an address that may not
	DropOverload           // a new dialog while more comes in than can be served
	DropFenced             // from a fenced farm node, or for it
	DropAccounts           // the users' database gives no answer
	NumDrops
)

var dropNames = [NumDrops]string{"none", "malformed", "not_ours", "no_next_via", "amplification", "too_large", "send", "queue_full", "no_node", "no_route",
	"loop", "foreign_route", "unauthorised", "forbidden", "media", "unknown_domain", "no_dialog", "draining", "absorbed_ack",
	"rate", "banned", "scanner", "pstn", "overload", "fenced", "accounts"}

// String returns the name for a metric's label.
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Stats are the proxy's counters since the start.
type Stats struct {
	Requests  [message.NumMethods]uint64 // received, by method
	Forwarded [message.NumMethods]uint64 // requests sent on, by method
	Responses map[int]uint64             // responses sent on, by status code
	Replies   map[int]uint64             // answers of our own, by status code
	Drops     [NumDrops]uint64
	Faults    [message.NumFaults]uint64 // what was wrong with malformed messages
	Offers    uint64                    // questions to the media node
	Answers   uint64
	Deletes   uint64
	MediaErrs uint64  // refusals and missing answers
	Oversize  uint64  // requests too large for UDP: sent over TCP if the next hop takes it, else in fragments
	LargeTCP  uint64  // those of them that left over TCP
	Relayed   uint64  // messages for connections of other edge nodes
	Load      float64 // of the busiest worker: 0 keeps up, 1 refuses all new calls, 2 all new dialogs and registrations
	Queued    uint64  // messages that waited for media or DNS
}

// counters are written by one goroutine each and added up by Stats.
type counters struct {
	requests  [message.NumMethods]atomic.Uint64
	forwarded [message.NumMethods]atomic.Uint64
	responses [700]atomic.Uint64
	replies   [700]atomic.Uint64
	drops     [NumDrops]atomic.Uint64
	faults    [message.NumFaults]atomic.Uint64
	offers    atomic.Uint64
	answers   atomic.Uint64
	deletes   atomic.Uint64
	mediaErrs atomic.Uint64
	oversize  atomic.Uint64
	largeTCP  atomic.Uint64
	relayed   atomic.Uint64
	queued    atomic.Uint64
}

// Stats adds up the counters of all goroutines.
func (p *Proxy) Stats() Stats {
	s := Stats{Responses: map[int]uint64{}, Replies: map[int]uint64{}}
	s.Load = p.busiest()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.counted {
		for i := range c.requests {
			s.Requests[i] += c.requests[i].Load()
			s.Forwarded[i] += c.forwarded[i].Load()
		}
		for i := range c.responses {
			if n := c.responses[i].Load(); n > 0 {
				s.Responses[i] += n
			}
			if n := c.replies[i].Load(); n > 0 {
				s.Replies[i] += n
			}
		}
		for i := range c.drops {
			s.Drops[i] += c.drops[i].Load()
		}
		for i := range c.faults {
			s.Faults[i] += c.faults[i].Load()
		}
		s.Offers += c.offers.Load()
		s.Answers += c.answers.Load()
		s.Deletes += c.deletes.Load()
		s.MediaErrs += c.mediaErrs.Load()
		s.Oversize += c.oversize.Load()
		s.LargeTCP += c.largeTCP.Load()
		s.Relayed += c.relayed.Load()
		s.Queued += c.queued.Load()
	}
	return s
}
