package media

import "net/netip"

// dtlsLink is the DTLS association with one party of a stream. Control makes it and publishes it with a route; from then on it
// belongs to the worker, but for what is constant. The worker gives it only what came from a source that ICE has validated or
// the latch has learnt (behaviour 35): a link believes its caller about that, and nobody else about anything.
//
//  1. Passive: a ClientHello begins a handshake (dtls_hello.go says which). Active: open does, when the way to the peer is known.
//  2. Datagrams of the peer are sorted and queued for the handshake's goroutine; what that sends comes back by do.
//  3. The handshake ends with keys that only the certificate of the SDP can have agreed on, or without; then the next ClientHello, or
//     the next tick, starts again.
type dtlsLink struct {
	cfg dtlsLinkConfig // constant

	// Owned by the worker.
	try    *dtlsTry       // the handshake that runs; nil: none
	to     netip.AddrPort // active: where the peer is
	done   bool
	closed bool
	final  []byte // our last flight as server, should it be lost
	idle   int    // active: ticks since something was sent, or since a handshake failed
	turns  int    // handshakes begun by a ClientHello in this tick
	keys   dtlsKeys

	proven netip.AddrPort // whose ClientHello brought its cookie and is not whole yet; invalid: none
	parts  dtlsParts      // of that
}

// dtlsLinkConfig is constant after newDTLSLink.
type dtlsLinkConfig struct {
	agent  *dtlsAgent
	pins   dtlsPins // of the party's SDP
	active bool     // we are the client
	// ice says that sources are validated by ICE. They may change during a handshake, and need no cookie.
	ice bool

	do    func(fn func()) bool              // runs fn on the worker's goroutine: Loop.Do
	send  func(b []byte, to netip.AddrPort) // on the worker's goroutine; b is not kept
	ready func()                            // on the worker's goroutine, when the contexts are there; nil is none
}

// Chosen by us, in ticks of the worker.
const (
	dtlsRepeatTicks = 5  // a ClientHello that nobody answered is repeated: pion's own repetitions get ever rarer
	dtlsRetryTicks  = 10 // after a handshake that failed
)

func newDTLSLink(cfg dtlsLinkConfig) *dtlsLink { return &dtlsLink{cfg: cfg} }

// same tells if the association goes on under new SDP (RFC 8842 section 4): the same certificate in the same role. Control may
// call it.
func (l *dtlsLink) same(pins dtlsPins, active bool) bool {
	return l.cfg.active == active && l.cfg.pins.equal(pins)
}

// contexts returns what opens and seals the party's packets; nil before the handshake has ended.
func (l *dtlsLink) contexts() (rx, tx *srtpContext) { return l.keys.rx, l.keys.tx }

// open says where the peer is. An active link begins there; a running handshake goes on there.
func (l *dtlsLink) open(to netip.AddrPort) {
	l.to = to
	switch {
	case !l.cfg.active:
	case l.try != nil:
		l.try.to = to
	case !l.done && !l.closed && to.IsValid():
		l.begin(&dtlsTry{to: to}, nil)
	}
}

// receive takes a datagram of class DTLS from a source that may speak. b is changed and not kept. False means that it was of
// no use.
func (l *dtlsLink) receive(b []byte, from netip.AddrPort) bool {
	whole := len(b)
	b, flight := sortDTLS(b)
	switch {
	case l.closed || len(b) == 0:
		return false
	case l.done:
		return l.repeatFinal(flight, whole, from)
	case flight.greets && (l.cfg.active || flight.beyond):
		return false // no client puts more behind its ClientHello, and no server sends one
	case flight.greets:
		return l.greeted(b, from)
	}
	t := l.try
	if t == nil || !l.cfg.ice && from != t.to {
		return false
	}
	if !l.cfg.active {
		if b = l.certified(t, b); len(b) == 0 {
			return false
		}
	}
	t.to, t.heard = from, true
	return t.conn.push(b)
}

// repeatFinal answers a flight that came again: ours behind it was lost (RFC 6347 section 4.2.4, state FINISHED). It is
// shorter than the peer's.
func (l *dtlsLink) repeatFinal(f dtlsFlight, whole int, from netip.AddrPort) bool {
	if l.final == nil || !f.beyond || whole < len(l.final) {
		return false
	}
	l.cfg.send(l.final, from)
	return true
}

// tick is called about every 100 ms.
func (l *dtlsLink) tick() {
	l.turns = 0
	if l.done || l.closed || !l.cfg.active || !l.to.IsValid() {
		return
	}
	l.idle++
	switch t := l.try; {
	case t == nil && l.idle >= dtlsRetryTicks:
		l.idle = 0
		l.begin(&dtlsTry{to: l.to}, nil)
	case t != nil && !t.heard && t.last != nil && l.idle >= dtlsRepeatTicks:
		l.idle = 0
		l.cfg.send(t.last, t.to)
	}
}

// close ends the association. The peer is not told: its call ends by signalling.
func (l *dtlsLink) close() {
	l.abandon()
	l.closed = true
}
