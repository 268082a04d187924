package nat

import (
	"net/netip"
	"time"
)

// Mode is rtpengine's endpoint-learning.
type Mode uint8

const (
	Heuristic Mode = iota // ranked against signalling, then locked; always strict
	Delayed               // whoever sends first after LatchConfig.Window has passed since signalling
	Immediate             // whoever sends first
	Off                   // nobody: media goes to the address in the SDP
)

// Chosen by us.
const (
	defaultWindow   = 3 * time.Second // rtpengine learns for 3 s too
	defaultPatience = 5 * time.Second
	// probation is how long a stranger has to be alone. Half a second would cost more than 7 % of the packets of an 8 s call.
	probation = 250 * time.Millisecond
	// silence is after how long a waiting candidate makes place for another: ten packets of 20 ms.
	silence = 200 * time.Millisecond
	// formerSilence is after how long a source that signalling put in doubt counts as gone.
	formerSilence = time.Second
)

// LatchConfig says what signalling knows of a peer's media stream, and how to learn the rest. The zero value learns from strangers
// alone, after a short probation.
type LatchConfig struct {
	// Mode is how the source is learnt; default Heuristic.
	Mode Mode
	// Expected is the address and port of the SDP (c= and m=, or a=rtcp). Media goes there until something is learnt.
	Expected netip.AddrPort
	// Signalling is where the SIP message came from (received-from); the zero value is unknown. Behind NAT it is the only
	// address that media can be compared with.
	Signalling netip.Addr
	// StrictSource drops packets of other sources once one is latched. Heuristic is always strict; with Off it compares with Expected.
	StrictSource bool
	// Asymmetric keeps sending to Expected whatever is learnt: the peer receives elsewhere than it sends from.
	Asymmetric bool
	// Handover lets a plain packet move the latch at any time (rtpengine's media-handover). It is an open door: for peers that change
	// their address without telling.
	Handover bool
	// Window is how long a better source may still take over, and what Delayed waits for; default 3 s.
	Window time.Duration
	// Patience is how long after signalling a stranger is refused where signalling left something to compare with; default 5 s. A
	// longer one keeps an attacker out who sprays from before the peer; a shorter one helps peers whose media
	// comes from an address that signalling never showed.
	Patience time.Duration
}

// Verdict is what to do with a packet.
type Verdict uint8

const (
	Drop   Verdict = iota // not the peer, or not yet known to be
	Accept                // forward it
	Learn                 // forward it; the source or the destination changed
)

// rank is how well a source fits what signalling said; lower is better.
type rank uint8

const (
	rankExact      rank = iota // address and port of the SDP
	rankAddress                // its address: a NAT that the peer knows of, or another port
	rankSignalling             // the address that SIP came from: a peer behind NAT
	rankPort                   // another address but the SDP's port: a port-preserving NAT, and an attacker does not see the SDP
	rankStranger
	rankNone
)

// Latch holds one stream of one peer: which source is accepted and where to send to. It is a value, owned by one goroutine.
type Latch struct {
	cfg     LatchConfig
	learnt  rank           // of source; rankNone before the first
	former  bool           // source is from before a signalling update that moved the peer
	locked  bool           // no plain packet takes over
	source  netip.AddrPort // valid once learnt
	since   time.Time      // when source was learnt, or was put in doubt
	heard   time.Time      // last packet of a source in doubt
	updated time.Time      // last signalling

	waiting      netip.AddrPort // a candidate on probation
	waitingRank  rank
	waitingSince time.Time
	waitingLast  time.Time
}

// NewLatch starts to learn. now is when signalling arrived.
func NewLatch(cfg LatchConfig, now time.Time) Latch {
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Mode == Heuristic {
		cfg.StrictSource = true
	}
	cfg.Signalling = cfg.Signalling.Unmap()
	return Latch{cfg: cfg, learnt: rankNone, updated: now}
}

// Packet decides about a packet. Authenticated means that its SRTP tag was right and it is no replay: such a packet wins over everything.
func (l *Latch) Packet(from netip.AddrPort, authenticated bool, now time.Time) Verdict {
	if l.locked && from == l.source {
		return Accept
	}
	return l.learn(from, authenticated, now)
}

// Source is the source that is latched; the zero value before that.
func (l *Latch) Source() netip.AddrPort { return l.source }

// Locked tells if plain packets of other sources are without effect until signalling moves the peer.
func (l *Latch) Locked() bool { return l.locked }

// Destination is where media for the peer goes; invalid when nothing is known.
func (l *Latch) Destination() netip.AddrPort {
	switch {
	case l.learnt == rankNone || l.cfg.Asymmetric:
		return l.cfg.Expected
	case l.former && l.learnt == rankExact:
		// It sent from where it received, so it will again.
		return l.cfg.Expected
	}
	return l.source
}

// Update brings new signalling: a re-offer or its answer. Where it moves the peer, learning starts again, and the former source
// is heard until the new one sends. An unspecified address (hold by RFC 2543) moves nobody.
func (l *Latch) Update(expected netip.AddrPort, signalling netip.Addr, now time.Time) {
	signalling = signalling.Unmap()
	l.updated = now
	if !expected.IsValid() || expected.Addr().IsUnspecified() || expected.Port() == 0 {
		return
	}
	moved := expected != l.cfg.Expected || signalling.IsValid() && signalling != l.cfg.Signalling
	l.cfg.Expected = expected
	if signalling.IsValid() {
		l.cfg.Signalling = signalling
	}
	if !moved || l.learnt == rankNone {
		return
	}
	if l.source == expected {
		l.settle(rankExact, now)
		return
	}
	l.former, l.locked, l.since, l.heard = true, false, now, now
}

// learn is everything but the common case.
func (l *Latch) learn(from netip.AddrPort, authenticated bool, now time.Time) Verdict {
	if authenticated {
		return l.authentic(from, now)
	}
	switch l.cfg.Mode {
	case Off:
		if l.cfg.StrictSource && !same(from, l.cfg.Expected) {
			return Drop
		}
		return Accept
	case Delayed:
		if l.learnt == rankNone && now.Sub(l.updated) < l.cfg.Window {
			return l.before(from)
		}
		return l.first(from, now)
	case Immediate:
		return l.first(from, now)
	}
	return l.heuristic(from, now)
}

// authentic follows a packet whose sender has proved itself.
func (l *Latch) authentic(from netip.AddrPort, now time.Time) Verdict {
	if l.cfg.Mode == Off {
		return Accept
	}
	if from == l.source && !l.former {
		l.locked = true
		return Accept
	}
	l.take(from, l.rank(from), now)
	l.locked = true
	return Learn
}

// before is what Delayed does while it waits: it hears everybody, or with StrictSource whom the SDP named.
func (l *Latch) before(from netip.AddrPort) Verdict {
	if l.cfg.StrictSource && !same(from, l.cfg.Expected) {
		return Drop
	}
	return Accept
}

// first takes whoever comes first, and again after signalling moved the peer.
func (l *Latch) first(from netip.AddrPort, now time.Time) Verdict {
	if l.learnt != rankNone && from == l.source {
		return l.confirm(now)
	}
	if l.learnt == rankNone || l.former || l.cfg.Handover {
		l.take(from, l.rank(from), now)
		l.locked = !l.cfg.Handover
		return Learn
	}
	if l.cfg.StrictSource {
		return Drop
	}
	return Accept
}

// heuristic ranks the source.
func (l *Latch) heuristic(from netip.AddrPort, now time.Time) Verdict {
	if l.learnt != rankNone && from == l.source {
		return l.confirm(now)
	}
	r := l.rank(from)
	switch {
	case l.cfg.Handover:
		l.take(from, r, now)
		return Learn
	case l.locked:
		return Drop
	case r <= rankPort && (r < l.learnt || l.former):
		l.take(from, r, now)
		return Learn
	case l.former && now.Sub(l.heard) < formerSilence:
		return Drop // the former source is alive: no need for a stranger
	case r >= l.learnt && !l.former:
		return Drop
	}
	return l.probe(from, r, now)
}

// confirm hears the latched source, and locks it once the window has passed without a better one.
func (l *Latch) confirm(now time.Time) Verdict {
	l.heard = now
	if now.Sub(l.since) < l.cfg.Window || l.cfg.Handover {
		return Accept
	}
	if l.former {
		// The peer was to move and did not.
		l.settle(l.rank(l.source), now)
		return Learn
	}
	// Who got in without a reason in signalling never locks the door behind himself.
	l.locked = l.learnt <= rankPort
	return Accept
}

// probe lets one candidate at a time wait.
func (l *Latch) probe(from netip.AddrPort, r rank, now time.Time) Verdict {
	if from != l.waiting {
		if l.waiting.IsValid() && r >= l.waitingRank && now.Sub(l.waitingLast) < silence {
			return Drop
		}
		l.waiting, l.waitingRank, l.waitingSince = from, r, now
	}
	l.waitingLast = now
	if now.Sub(l.waitingSince) < probation || l.comparable() && now.Sub(l.updated) < l.cfg.Patience {
		return Drop
	}
	l.take(from, r, now)
	return Learn
}

// comparable tells if a peer without an attacker would have been known by its address: signalling showed one, or the SDP's can be
// a source on the way to us, which one of a private network is only for a neighbour.
func (l *Latch) comparable() bool {
	if l.cfg.Signalling.IsValid() {
		return true
	}
	a := l.cfg.Expected.Addr()
	return a.IsValid() && !a.IsPrivate() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !shared(a.Unmap())
}

// shared tells if an address is of the space between a carrier's NAT and its customers (RFC 6598).
func shared(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return b[0] == 100 && b[1]&0xc0 == 64
}

// rank compares a source with what signalling said.
func (l *Latch) rank(from netip.AddrPort) rank {
	addr, expected := from.Addr().Unmap(), l.cfg.Expected.Addr().Unmap()
	switch {
	case addr == expected && from.Port() == l.cfg.Expected.Port():
		return rankExact
	case addr == expected:
		return rankAddress
	case addr == l.cfg.Signalling:
		return rankSignalling
	case l.cfg.Expected.IsValid() && from.Port() == l.cfg.Expected.Port():
		return rankPort
	}
	return rankStranger
}

func (l *Latch) take(from netip.AddrPort, r rank, now time.Time) {
	l.source = from
	l.waiting = netip.AddrPort{}
	l.settle(r, now)
}

// settle makes the source the current one.
func (l *Latch) settle(r rank, now time.Time) {
	l.learnt, l.since, l.former = r, now, false
	l.locked = r == rankExact && !l.cfg.Handover
}

func same(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Unmap() == b.Addr().Unmap()
}
