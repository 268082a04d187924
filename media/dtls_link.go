package media

import (
	"context"
	"net/netip"
)

// dtlsLink is the DTLS association with one party of a stream. Control makes it and publishes it with a route; from then on it
// belongs to the worker, but for what is constant. The worker gives it only what came from a source that ICE has validated or
// the latch has learnt (behaviour 35): a link believes its caller about that, and nobody else about anything.
//
//  1. Passive: a ClientHello starts a handshake. Active: open does, when the way to the peer is known.
//  2. Datagrams of the peer are sorted and queued for the handshake's goroutine; what that sends comes back by do.
//  3. The handshake ends with keys that only the certificate of the SDP can have agreed on, or without; then the next ClientHello, or
//     the next tick, starts again.
type dtlsLink struct {
	cfg dtlsLinkConfig // constant

	// Owned by the worker.
	conn     *dtlsConn // of the running handshake; nil: none
	cancel   context.CancelFunc
	done     bool
	closed   bool
	to       netip.AddrPort // where the peer is
	random   [dtlsRandomLen]byte
	answered bool   // the peer has read our flight: no other ClientHello takes its place
	heard    bool   // anything from the peer in this handshake
	last     []byte // datagram that was sent last
	idle     int    // ticks since then, or since a handshake failed
	turns    int    // handshakes begun by a ClientHello in this tick
	keys     dtlsKeys
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
	dtlsTurns       = 3  // ClientHellos per tick that may begin a handshake: each costs a key pair and a signature
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
	if l.cfg.active && l.conn == nil && !l.done {
		l.begin()
	}
}

// receive takes a datagram of class DTLS from a source that may speak. b is changed and not kept. False means that it was of
// no use.
func (l *dtlsLink) receive(b []byte, from netip.AddrPort) bool {
	whole := len(b)
	b, flight := sortDTLS(b)
	if l.closed || len(b) == 0 {
		return false
	}
	if l.done {
		return l.repeatFinal(flight, whole, from)
	}
	if flight.hello && !l.cfg.active {
		fresh := l.conn == nil || !l.answered && (flight.random != l.random || !l.cfg.ice && from != l.to)
		if fresh && !l.restart(flight, from) {
			return false
		}
	}
	if l.conn == nil || !l.cfg.ice && from != l.to {
		return false
	}
	l.to, l.heard = from, true
	if flight.beyond {
		l.answered = true
	}
	return l.conn.push(b)
}

// restart begins with this ClientHello. One whose sender went no further gives way to it: else a single forged packet would keep
// the real one out.
func (l *dtlsLink) restart(f dtlsFlight, from netip.AddrPort) bool {
	if l.turns >= dtlsTurns {
		return false
	}
	l.turns++
	l.abandon()
	l.to, l.random = from, f.random
	return l.begin()
}

// begin starts a handshake; false if there is no room now.
func (l *dtlsLink) begin() bool {
	if l.closed || !l.to.IsValid() {
		return false
	}
	var conn *dtlsConn
	conn = newDTLSConn(func(b []byte) { l.cfg.do(func() { l.write(conn, b) }) })
	cfg := &l.cfg
	cancel, ok := cfg.agent.start(func(ctx context.Context) dtlsFault {
		keys, fault := cfg.agent.handshake(ctx, conn, cfg.active, cfg.ice, cfg.pins)
		cfg.do(func() { l.finish(conn, keys, fault) })
		return fault
	})
	if !ok {
		return false
	}
	l.conn, l.cancel = conn, cancel
	l.answered, l.heard, l.last, l.idle = false, false, nil, 0
	return true
}

// write sends what the handshake wrote, unless another has taken its place.
func (l *dtlsLink) write(conn *dtlsConn, b []byte) {
	if l.conn != conn {
		return
	}
	l.last, l.idle = b, 0
	l.cfg.send(b, l.to)
}

// finish takes the result of the handshake.
func (l *dtlsLink) finish(conn *dtlsConn, keys dtlsKeys, fault dtlsFault) {
	if l.conn != conn {
		return
	}
	l.conn, l.cancel, l.idle = nil, nil, 0
	if fault != dtlsOK {
		return
	}
	l.done, l.keys = true, keys
	if l.cfg.active {
		l.last = nil // the server has the last word
	}
	if l.cfg.ready != nil {
		l.cfg.ready()
	}
}

// repeatFinal answers a flight that came again: ours behind it was lost (RFC 6347 section 4.2.4, state FINISHED). It is
// shorter than the peer's.
func (l *dtlsLink) repeatFinal(f dtlsFlight, whole int, from netip.AddrPort) bool {
	if l.last == nil || !f.beyond || whole < len(l.last) {
		return false
	}
	l.cfg.send(l.last, from)
	return true
}

// tick is called about every 100 ms.
func (l *dtlsLink) tick() {
	l.turns = 0
	if l.done || l.closed || !l.cfg.active || !l.to.IsValid() {
		return
	}
	l.idle++
	switch {
	case l.conn == nil && l.idle >= dtlsRetryTicks:
		l.idle = 0
		l.begin()
	case l.conn != nil && !l.heard && l.last != nil && l.idle >= dtlsRepeatTicks:
		l.idle = 0
		l.cfg.send(l.last, l.to)
	}
}

// abandon ends the running handshake. Its goroutine ends soon; what it still says is not heard.
func (l *dtlsLink) abandon() {
	if l.conn != nil {
		l.cancel()
		l.conn.mute()
		l.conn, l.cancel = nil, nil
	}
}

// close ends the association. The peer is not told: its call ends by signalling.
func (l *dtlsLink) close() {
	l.abandon()
	l.closed = true
}
