package media

import (
	"bytes"
	"context"
	"net/netip"
	"sync/atomic"
)

// dtlsTry is one handshake of a link. It belongs to the worker, but for conn and refused.
type dtlsTry struct {
	conn   *dtlsConn
	cancel context.CancelFunc
	to     netip.AddrPort // where its peer is
	heard  bool           // anything from the peer
	last   []byte         // datagram that was sent last

	// Of a passive link.
	random [dtlsRandomLen]byte
	proved bool // the peer brought its cookie back
	quiet  bool // another ClientHello came, and nothing shows yet whose this is: it says nothing
	proof  dtlsProof

	refused atomic.Bool // it has been counted: a certificate that the SDP does not name
}

// dtlsTurns is how many handshakes the ClientHellos of a link may begin in a tick: each costs a key pair and a signature.
const dtlsTurns = 3

// greeted takes a datagram of ClientHellos.
//
//  1. One with the cookie is the peer's: it begins a handshake, or belongs to the one that it began.
//  2. Sources that ICE validates need none, as long as they agree: the first begins a handshake at once, which saves a round trip.
//  3. All others are asked for the cookie.
func (l *dtlsLink) greeted(b []byte, from netip.AddrPort) bool {
	body, ok := firstFragment(firstRecord(b))
	if !ok {
		return l.continued(b, from)
	}
	h, ok := readHello(body)
	if !ok {
		return false
	}
	t, cookie := l.try, l.cfg.agent.cookie(from)
	if bytes.Equal(h.cookie, cookie) {
		if t != nil && t.proved && t.random == h.random {
			return t.conn.push(b)
		}
		l.proven, l.parts = from, dtlsParts{}
		return l.continued(b, from)
	}
	switch {
	case l.cfg.ice && t == nil:
		t = l.begin(&dtlsTry{to: from, random: h.random}, nil)
		return t != nil && t.conn.push(b)
	case l.cfg.ice && !t.quiet && t.random == h.random:
		t.to = from
		return t.conn.push(b)
	case t != nil && !t.proved && !t.heard:
		t.quiet = true
	}
	ask := helloVerify(cookie)
	if len(b) < len(ask) {
		return false // no more out than in
	}
	l.cfg.send(ask, from)
	return true
}

// continued adds fragments to the ClientHello that brought its cookie, and begins with it when it is whole.
func (l *dtlsLink) continued(b []byte, from netip.AddrPort) bool {
	if l.proven != from {
		// Further fragments of one that needs no cookie do not tell whose they are.
		t := l.try
		return t != nil && !t.proved && !t.heard && t.conn.push(b)
	}
	for rest := b; len(rest) > 0; {
		record := firstRecord(rest)
		rest = rest[len(record):]
		if !l.parts.add(record, dtlsMaxHello) {
			continue
		}
		parts := l.parts
		l.proven, l.parts = netip.AddrPort{}, dtlsParts{}
		h, ok := readHello(parts.body)
		if !ok || !bytes.Equal(h.cookie, l.cfg.agent.cookie(from)) {
			return false // somebody else's came between
		}
		t := &dtlsTry{to: from, random: h.random, proved: true}
		return l.begin(t, newDTLSProven(&h, parts)) != nil
	}
	return len(l.parts.body) > 0
}

// begin starts a handshake in the place of one that runs; nil if there is no room now. proven is nil if no cookie was asked for.
func (l *dtlsLink) begin(t *dtlsTry, proven *dtlsProven) *dtlsTry {
	cfg := &l.cfg
	if !cfg.active {
		if l.turns >= dtlsTurns {
			return nil
		}
		l.turns++
	}
	l.abandon()
	t.proof.pins = cfg.pins
	t.conn = newDTLSConn(func(b []byte) { cfg.do(func() { l.write(t, b) }) })
	cancel, ok := cfg.agent.start(func(ctx context.Context) dtlsFault {
		keys, fault := cfg.agent.handshake(ctx, t.conn, cfg.active, proven, cfg.pins)
		cfg.do(func() { l.finish(t, keys, fault) })
		if fault != dtlsOK && t.refused.Load() {
			return dtlsCounted
		}
		return fault
	})
	if !ok {
		return nil
	}
	t.cancel = cancel
	l.try, l.idle = t, 0
	return t
}

// certified returns what t may read of a datagram of its peer. A handshake that was shown a wrong certificate counts at once: it only
// ends when its time is over, or when another takes its place.
func (l *dtlsLink) certified(t *dtlsTry, b []byte) []byte {
	before := t.proof.other
	b = t.proof.pass(b)
	if t.proof.other && !before {
		l.cfg.agent.ended[dtlsFingerprint].Add(1)
		t.refused.Store(true)
	}
	if t.proof.shown {
		t.quiet = false
	}
	return b
}

// write sends what a handshake wrote, unless it was given up.
func (l *dtlsLink) write(t *dtlsTry, b []byte) {
	if l.try != t || t.quiet {
		return
	}
	if !l.cfg.active && !t.proved && !t.proof.shown && dtlsFirst(b) == dtlsPlainAlert {
		return // the answer to what a stranger wrote would end the handshake of the peer, whose address it used
	}
	t.last, l.idle = b, 0
	l.cfg.send(b, t.to)
}

// finish takes the result of a handshake.
func (l *dtlsLink) finish(t *dtlsTry, keys dtlsKeys, fault dtlsFault) {
	if l.try != t {
		return
	}
	l.try, l.idle = nil, 0
	if fault != dtlsOK {
		return
	}
	l.done, l.keys = true, keys
	if !l.cfg.active { // the server has the last word
		l.final = t.last
	}
	if l.cfg.ready != nil {
		l.cfg.ready()
	}
}

// abandon ends the running handshake. Its goroutine ends soon; what it still says is not heard.
func (l *dtlsLink) abandon() {
	if t := l.try; t != nil {
		t.cancel()
		t.conn.mute()
		l.try = nil
	}
}
