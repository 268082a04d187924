package nat

import (
	"net/netip"
	"time"
)

// ICELite is the lite agent of one component (RFC 8445 section 2.5): it answers connectivity checks and sends none, so the peer
// finds the way and chooses it. RTP and RTCP share the component under rtcp-mux; without it there are two agents.
//
// The candidates in the peer's SDP are not asked for: a check that knows our password names its source by coming from it (RFC
// 8445 section 7.3.1.3), behind any NAT, and with names in .local that nobody can resolve.
//
//   - Nothing but a request with right MESSAGE-INTEGRITY moves anything.
//   - A pair is validated by its first check; the nominated one is where media goes. Before a nomination it is the best validated.
//   - A request that comes again from elsewhere is a replay: the integrity does not cover the source address.
//   - Consent (RFC 7675) lasts as long as checks come: a full peer sends one about every 5 s.
//
// It belongs to one goroutine, allocates nothing after New and Restart, and has no clock.
type ICELite struct {
	cfg    ICEConfig
	key    *stunKey
	ufrag  string
	former formerICE

	pairs    [icePairs]icePair
	used     int
	selected int // index into pairs; -1: none
	epoch    uint8
	heard    time.Time // last authenticated packet

	seen     [iceSeen]iceCheck // transactions, newest before next
	nextSeen int
	refused  time.Time // last error to somebody who did not authenticate
}

// ICEConfig configures an agent.
type ICEConfig struct {
	// Ufrag and Pwd are ours, as the SDP names them: at least 4 and 22 ice-chars (RFC 8839 section 5.4), from a good source of
	// randomness.
	Ufrag, Pwd string
	// Consent is how long media may flow without a sign of the peer. 30 s (RFC 7675 section 5.1); negative is for ever.
	Consent time.Duration
}

// ICEEvent says what a STUN packet has changed. All below ICERefreshed left everything as it was.
type ICEEvent uint8

const (
	ICEMalformed ICEEvent = iota // no STUN message, or another method
	ICEIgnored                   // an indication or a response: no request of ours is under way
	ICERefused                   // without or with wrong credentials, or not to be served
	ICEReplayed                  // a copy of a request, from another source
	ICERefreshed                 // a known pair: consent goes on
	ICEValidated                 // first check of a pair
	ICENominated                 // Selected is another one now, by the peer's will
)

// ICEAnswerSize is the longest answer of Handle, for the caller's buffer.
const ICEAnswerSize = 128

// Chosen by us.
const (
	icePairs       = 8                      // sources at a time; a browser with three interfaces and a relay has four
	iceSeen        = 16                     // transactions: half a minute of a browser's checks, longer than a retransmission lives
	iceErrorEvery  = 100 * time.Millisecond // between errors to the unauthenticated
	iceConsent     = 30 * time.Second       // RFC 7675 section 5.1
	iceNominations = time.Second            // after so long without USE-CANDIDATE a pair yields to one of lower priority
)

type icePair struct {
	addr      netip.AddrPort
	priority  uint32 // of the peer's candidate; ours is the same in all pairs
	epoch     uint8  // of the credentials
	nominated time.Time
	heard     time.Time
}

type iceCheck struct {
	id   [stunIDLen]byte
	from netip.AddrPort
}

// formerICE is what was before a restart; it holds until the first nomination after it (RFC 8445 section 9).
type formerICE struct {
	key   *stunKey // nil: none
	ufrag string
}

// NewICELite makes an agent.
func NewICELite(cfg ICEConfig) *ICELite {
	if cfg.Consent == 0 {
		cfg.Consent = iceConsent
	}
	return &ICELite{cfg: cfg, key: newSTUNKey(cfg.Pwd), ufrag: cfg.Ufrag, selected: -1}
}

// Restart brings new credentials of ours (RFC 8445 section 9). Media goes on over the selected pair, and checks under the former
// credentials are answered, until the peer nominates a pair under the new ones.
func (a *ICELite) Restart(ufrag, pwd string) {
	if ufrag == a.ufrag {
		return
	}
	a.former = formerICE{key: a.key, ufrag: a.ufrag}
	a.key, a.ufrag = newSTUNKey(pwd), ufrag
	a.epoch++
}

// ICEState is what another agent with the same credentials needs to go on with a peer.
type ICEState struct {
	Selected  netip.AddrPort // invalid: no check has come
	Priority  uint32
	Nominated bool
}

// State returns a copy. Other pairs than the selected one come back with their next checks.
func (a *ICELite) State() *ICEState {
	st := &ICEState{Selected: a.Selected(), Nominated: a.Nominated()}
	if a.selected >= 0 {
		st.Priority = a.pairs[a.selected].priority
	}
	return st
}

// Resume makes a new agent go on from a state. Consent counts from now.
func (a *ICELite) Resume(st ICEState, now time.Time) {
	if !st.Selected.IsValid() || a.used > 0 {
		return
	}
	p := icePair{addr: st.Selected, priority: st.Priority, epoch: a.epoch, heard: now}
	if st.Nominated {
		p.nominated = now
	}
	a.pairs[0], a.used, a.selected, a.heard = p, 1, 0, now
}

// Selected is where media goes; invalid before the first check.
func (a *ICELite) Selected() netip.AddrPort {
	if a.selected < 0 {
		return netip.AddrPort{}
	}
	return a.pairs[a.selected].addr
}

// Nominated tells if the peer has chosen the selected pair.
func (a *ICELite) Nominated() bool { return a.selected >= 0 && !a.pairs[a.selected].nominated.IsZero() }

// Validated tells if a check came from this source: DTLS, and media that nothing else authenticates, are taken from no other.
func (a *ICELite) Validated(from netip.AddrPort) bool {
	if a.selected >= 0 && a.pairs[a.selected].addr == from {
		return true
	}
	return a.find(from) >= 0
}

// Refresh notes that the peer has proved itself by other means, an SRTP packet.
func (a *ICELite) Refresh(now time.Time) {
	if a.selected >= 0 {
		a.heard = now
	}
}

// Consent tells if media may be sent (RFC 7675 section 5.1).
func (a *ICELite) Consent(now time.Time) bool {
	return a.selected >= 0 && (a.cfg.Consent < 0 || now.Sub(a.heard) < a.cfg.Consent)
}

// Handle takes a packet of class STUN and returns the answer to send back to from, if any, in out's memory if that has
// ICEAnswerSize bytes. The packet is only read. What is not authenticated gets no answer longer than itself.
func (a *ICELite) Handle(packet []byte, from netip.AddrPort, now time.Time, out []byte) ([]byte, ICEEvent) {
	m := new(stunMessage) // stays on the stack
	if !m.parse(packet) {
		return nil, ICEMalformed
	}
	switch m.kind {
	case bindingRequest:
	case bindingIndication, bindingSuccess, bindingFailure:
		return nil, ICEIgnored
	default:
		return nil, ICEMalformed
	}
	key, code := a.authenticate(m)
	if code != 0 {
		return a.refuse(m, code, now, out), ICERefused
	}
	if m.numUnknown > 0 {
		b := appendErrorCode(appendSTUNHeader(out, bindingFailure, m.id()), errorUnknownAttribute)
		return finish(appendUnknown(b, m.unknown[:m.numUnknown]), key), ICERefused
	}
	if m.controlled {
		// A lite agent is controlled by any full one (RFC 8445 section 6.1.1): as if our tie-breaker were 0, the peer is told to
		// switch (section 7.3.1.1).
		b := appendErrorCode(appendSTUNHeader(out, bindingFailure, m.id()), errorRoleConflict)
		return finish(b, key), ICERefused
	}
	if !a.fresh(m.id(), from) {
		return nil, ICEReplayed
	}
	ev := a.check(m, key == a.key, from, now)
	return finish(appendXORMapped(appendSTUNHeader(out, bindingSuccess, m.id()), from), key), ev
}

// finish seals an answer. RFC 8445 section 7.1.2: FINGERPRINT is in every message of ICE.
func finish(b []byte, key *stunKey) []byte { return appendFingerprint(appendIntegrity(b, key)) }

// authenticate finds the key that a request was made with, or the error that it gets (RFC 8489 section 9.1.3).
func (a *ICELite) authenticate(m *stunMessage) (*stunKey, int) {
	if m.username == nil || m.integrity == 0 {
		return nil, errorBadRequest
	}
	key := a.key
	switch {
	case startsWithUfrag(m.username, a.ufrag):
	case a.former.key != nil && startsWithUfrag(m.username, a.former.ufrag):
		key = a.former.key
	default:
		return nil, errorUnauthenticated
	}
	if !key.verifies(m) {
		return nil, errorUnauthenticated
	}
	return key, 0
}

// startsWithUfrag compares the part before the colon, which is ours. That behind it is not looked at: checks may come before the SDP
// that says what it is (RFC 8445 section 7.3).
func startsWithUfrag(username []byte, ufrag string) bool {
	return len(username) > len(ufrag) && username[len(ufrag)] == ':' &&
		string(username[:len(ufrag)]) == ufrag
}

// refuse makes an error for somebody who did not authenticate, seldom, and never longer than what he sent: the source may be
// forged (F26).
func (a *ICELite) refuse(m *stunMessage, code int, now time.Time, out []byte) []byte {
	if now.Sub(a.refused) < iceErrorEvery {
		return nil
	}
	b := appendFingerprint(appendErrorCode(appendSTUNHeader(out, bindingFailure, m.id()), code))
	if len(b) > len(m.raw) {
		return nil
	}
	a.refused = now
	return b
}

// fresh tells a new request, or its retransmission, from a copy that somebody else sends.
func (a *ICELite) fresh(id []byte, from netip.AddrPort) bool {
	for i := range a.seen {
		if c := &a.seen[i]; string(c.id[:]) == string(id) && c.from.IsValid() {
			return c.from == from
		}
	}
	a.seen[a.nextSeen] = iceCheck{id: [stunIDLen]byte(id), from: from}
	a.nextSeen = (a.nextSeen + 1) % iceSeen
	return true
}

// check moves the agent by an authenticated request.
func (a *ICELite) check(m *stunMessage, current bool, from netip.AddrPort, now time.Time) ICEEvent {
	ev := ICERefreshed
	i := a.find(from)
	if i < 0 {
		i, ev = a.add(from), ICEValidated
	}
	p := &a.pairs[i]
	p.priority, p.heard = m.priority, now
	if current {
		p.epoch = a.epoch
	}
	lost := a.selected >= 0 && !a.Consent(now)
	a.heard = now
	if !current {
		// Late, of before the restart: it keeps what there is.
		if a.selected < 0 || lost {
			a.selected = i
		}
		return ev
	}
	if m.useCandidate {
		return a.nominate(i, ev, lost, now)
	}
	if a.selected < 0 || lost || !a.Nominated() && p.priority > a.pairs[a.selected].priority {
		a.selected = i
	}
	return ev
}

// nominate takes the peer's choice. One that nominates several (aggressive nomination of RFC 5245) means the best of them; one
// that nominates again means the newest, and has stopped to nominate the former.
func (a *ICELite) nominate(i int, ev ICEEvent, lost bool, now time.Time) ICEEvent {
	p := &a.pairs[i]
	first := p.nominated.IsZero()
	p.nominated = now
	if i != a.selected {
		if a.Nominated() && !lost {
			c := &a.pairs[a.selected]
			if c.epoch == a.epoch && c.priority >= p.priority && now.Sub(c.nominated) < iceNominations {
				return ev
			}
		}
		a.selected, first = i, true
	}
	if a.former.key != nil {
		// The restart is done: the pairs of before it are history.
		a.former, first = formerICE{}, true
		a.retire()
	}
	if first {
		return ICENominated
	}
	return ev
}

// retire drops the pairs under former credentials.
func (a *ICELite) retire() {
	kept := 0
	for i := range a.used {
		if a.pairs[i].epoch != a.epoch {
			continue
		}
		if a.selected == i {
			a.selected = kept
		}
		a.pairs[kept] = a.pairs[i]
		kept++
	}
	a.used = kept
}

func (a *ICELite) find(from netip.AddrPort) int {
	for i := range a.used {
		if a.pairs[i].addr == from {
			return i
		}
	}
	return -1
}

// add makes a pair; in a full table it takes the place of the one that was silent longest.
func (a *ICELite) add(from netip.AddrPort) int {
	i := a.used
	if i < icePairs {
		a.used++
	} else {
		i = -1
		for j := range a.pairs {
			if j != a.selected && (i < 0 || a.pairs[j].heard.Before(a.pairs[i].heard)) {
				i = j
			}
		}
	}
	a.pairs[i] = icePair{addr: from, epoch: a.epoch - 1} // until a check under the present credentials
	return i
}
