package nat

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

const (
	ourUfrag = "oUr1"
	ourPwd   = "0123456789abcdefghijkl"
)

var (
	host  = ap("203.0.113.9:61000")
	relay = ap("198.51.100.50:50000")
)

func newAgent() *ICELite { return NewICELite(ICEConfig{Ufrag: ourUfrag, Pwd: ourPwd}) }

// check is a request of a full agent.
type check struct {
	ufrag, pwd string // "": the agent's
	priority   uint32
	nominate   bool
	controlled bool
	more       []stun.Setter
}

func (c check) build() []byte {
	if c.ufrag == "" {
		c.ufrag, c.pwd = ourUfrag, ourPwd
	}
	s := []stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(c.ufrag + ":them")}
	p := attr(attrPriority, 4)
	p.Value = []byte{byte(c.priority >> 24), byte(c.priority >> 16), byte(c.priority >> 8), byte(c.priority)}
	role := attr(attrControlling, 8)
	if c.controlled {
		role = attr(attrControlled, 8)
	}
	s = append(s, p, role)
	if c.nominate {
		s = append(s, attr(attrUseCandidate, 0))
	}
	s = append(s, c.more...)
	return stun.MustBuild(append(s, stun.NewShortTermIntegrity(c.pwd), stun.Fingerprint)...).Raw
}

// handle runs one packet and checks the answer of what was accepted.
func handle(t *testing.T, a *ICELite, b []byte, from netip.AddrPort, ms int) ICEEvent {
	t.Helper()
	out, ev := a.Handle(b, from, at(ms), make([]byte, 0, ICEAnswerSize))
	if ev >= ICERefreshed {
		m := decoded(t, out, "")
		var x stun.XORMappedAddress
		if m.Type != stun.BindingSuccess || x.GetFrom(m) != nil || x.Port != int(from.Port()) {
			t.Fatalf("answer %v to %v", m, from)
		}
		if len(out) > len(b) {
			t.Fatalf("%d bytes for %d", len(out), len(b))
		}
	}
	return ev
}

func TestB34Check(t *testing.T) {
	a := newAgent()
	if a.Selected().IsValid() || a.Consent(at(0)) || a.Validated(host) {
		t.Fatal("a new agent has a pair")
	}
	first := check{priority: 100}.build()
	if ev := handle(t, a, first, host, 0); ev != ICEValidated || a.Selected() != host || a.Nominated() {
		t.Fatalf("event %d, selected %v", ev, a.Selected())
	}
	if ev := handle(t, a, first, host, 100); ev != ICERefreshed {
		t.Fatalf("a retransmission: event %d", ev)
	}
	if ev := handle(t, a, check{priority: 200}.build(), relay, 200); ev != ICEValidated || a.Selected() != relay {
		t.Fatalf("a better pair: event %d, selected %v", ev, a.Selected())
	}
	if ev := handle(t, a, check{priority: 100, nominate: true}.build(), host, 300); ev != ICENominated || a.Selected() != host || !a.Nominated() {
		t.Fatalf("nomination: event %d, selected %v", ev, a.Selected())
	}
	if ev := handle(t, a, check{priority: 200}.build(), relay, 400); ev != ICERefreshed || a.Selected() != host {
		t.Fatalf("a better pair that is not nominated: event %d, selected %v", ev, a.Selected())
	}
	if !a.Validated(host) || !a.Validated(relay) || a.Validated(attacker) {
		t.Fatal("validated sources")
	}
}

// TestB34Nominations: a browser that moves nominates again; an aggressive one nominates all and means the best.
func TestB34Nominations(t *testing.T) {
	a := newAgent()
	for i, s := range []struct {
		ms       int
		from     netip.AddrPort
		priority uint32
		want     netip.AddrPort
	}{
		{0, relay, 10, relay},
		{20, host, 100, host},   // better
		{40, relay, 10, host},   // at the same time, worse
		{500, host, 100, host},  // still nominated
		{1400, relay, 10, host}, // the other one less than a second ago
		{1600, relay, 10, relay},
		{1650, host, 100, host},
	} {
		handle(t, a, check{priority: s.priority, nominate: true}.build(), s.from, s.ms)
		if a.Selected() != s.want {
			t.Fatalf("step %d: selected %v, want %v", i, a.Selected(), s.want)
		}
	}
}

// TestB34MDNSPeer: no candidate of the peer is known, the source of the check is enough.
func TestB34MDNSPeer(t *testing.T) {
	a := newAgent()
	v6 := ap("[2001:db8::77]:9")
	if ev := handle(t, a, check{nominate: true}.build(), v6, 0); ev != ICENominated || a.Selected() != v6 {
		t.Fatalf("event %d, selected %v", ev, a.Selected())
	}
}

// TestB34OnlyAuthenticatedMoves: nothing else changes anything, and none of it is answered with more than it brought.
func TestB34OnlyAuthenticatedMoves(t *testing.T) {
	base := []stun.Setter{stun.TransactionID, stun.BindingRequest}
	build := func(s ...stun.Setter) []byte { return stun.MustBuild(append(base, s...)...).Raw }
	nominate := attr(attrUseCandidate, 0)
	for _, tc := range []struct {
		name string
		b    []byte
		want ICEEvent
		code int // 0: no answer
	}{
		{"bare request", build(), ICERefused, 0},
		{"no integrity", build(stun.NewUsername(ourUfrag+":them"), nominate, stun.Fingerprint), ICERefused, 400},
		{"no user name", build(attr(0x8022, 16), nominate, stun.NewShortTermIntegrity(ourPwd), stun.Fingerprint), ICERefused, 400},
		{"wrong password", check{ufrag: ourUfrag, pwd: "wrong", nominate: true}.build(), ICERefused, 401},
		{"wrong user", check{ufrag: "oUr2", pwd: ourPwd, nominate: true}.build(), ICERefused, 401},
		{"longer user", check{ufrag: ourUfrag + "x", pwd: ourPwd, nominate: true}.build(), ICERefused, 401},
		{"user without colon", build(stun.NewUsername(ourUfrag), attr(0x8022, 16), stun.NewShortTermIntegrity(ourPwd)), ICERefused, 401},
		{"indication", stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication)).Raw, ICEIgnored, 0},
		{"response", stun.MustBuild(stun.TransactionID, stun.BindingSuccess, stun.NewShortTermIntegrity(ourPwd)).Raw, ICEIgnored, 0},
		{"another method", stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw, ICEMalformed, 0},
		{"noise", []byte("\x00\x01\x00\x00 no stun at all "), ICEMalformed, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAgent()
			handle(t, a, check{nominate: true}.build(), host, 0)
			before := *a
			out, ev := a.Handle(tc.b, attacker, at(1000), nil)
			if ev != tc.want || len(out) > len(tc.b) {
				t.Fatalf("event %d, %d bytes for %d", ev, len(out), len(tc.b))
			}
			if tc.code != 0 {
				var code stun.ErrorCodeAttribute
				if err := code.GetFrom(decoded(t, out, "")); err != nil || int(code.Code) != tc.code {
					t.Fatalf("error %v, %v", code, err)
				}
			} else if out != nil {
				t.Fatalf("answered with %x", out)
			}
			before.refused = a.refused
			if *a != before {
				t.Fatal("it changed the agent")
			}
		})
	}
}

// TestB34AuthenticatedErrors: 420 and 487 are signed, and move nothing.
func TestB34AuthenticatedErrors(t *testing.T) {
	for code, c := range map[int]check{
		420: {nominate: true, more: []stun.Setter{attr(0x7777, 4)}},
		487: {nominate: true, controlled: true},
	} {
		a := newAgent()
		out, ev := a.Handle(c.build(), host, at(0), nil)
		var got stun.ErrorCodeAttribute
		if err := got.GetFrom(decoded(t, out, ourPwd)); err != nil || int(got.Code) != code || ev != ICERefused {
			t.Fatalf("error %v, %v, event %d", got, err, ev)
		}
		if a.Selected().IsValid() || a.Validated(host) {
			t.Fatal("it made a pair")
		}
	}
}

// TestB34Replay: who repeats a check from another source moves nothing; the peer may repeat it.
func TestB34Replay(t *testing.T) {
	a := newAgent()
	b := check{nominate: true}.build()
	handle(t, a, b, host, 0)
	if out, ev := a.Handle(b, attacker, at(5), nil); ev != ICEReplayed || out != nil || a.Selected() != host || a.Validated(attacker) {
		t.Fatalf("event %d, selected %v", ev, a.Selected())
	}
	if ev := handle(t, a, b, host, 10); ev != ICERefreshed {
		t.Fatalf("event %d", ev)
	}
}

func TestB34Consent(t *testing.T) {
	a := newAgent()
	handle(t, a, check{nominate: true}.build(), host, 0)
	if !a.Consent(at(29999)) || a.Consent(at(30000)) {
		t.Fatal("consent does not last 30 s")
	}
	a.Refresh(at(20000))
	if !a.Consent(at(49999)) || a.Consent(at(50000)) {
		t.Fatal("an SRTP packet does not prolong it")
	}
	if _, ev := a.Handle(check{pwd: "wrong", ufrag: ourUfrag}.build(), host, at(49000), nil); ev != ICERefused || a.Consent(at(50000)) {
		t.Fatal("a wrong check prolongs it")
	}
	// The peer comes back over another way, without USE-CANDIDATE yet.
	if ev := handle(t, a, check{}.build(), relay, 60000); ev != ICEValidated || a.Selected() != relay || !a.Consent(at(60001)) {
		t.Fatalf("event %d, selected %v", ev, a.Selected())
	}
	forever := NewICELite(ICEConfig{Ufrag: ourUfrag, Pwd: ourPwd, Consent: -1})
	handle(t, forever, check{}.build(), host, 0)
	if !forever.Consent(at(1 << 40)) {
		t.Fatal("negative is not for ever")
	}
}

func TestB34Restart(t *testing.T) {
	a := newAgent()
	handle(t, a, check{nominate: true, priority: 100}.build(), host, 0)
	a.Restart("nEw1", "zyxwvutsrqponmlkjihgfe")
	a.Restart("nEw1", "zyxwvutsrqponmlkjihgfe") // a repeated offer
	old, fresh := check{nominate: true, priority: 100}, check{ufrag: "nEw1", pwd: "zyxwvutsrqponmlkjihgfe", priority: 1}
	if ev := handle(t, a, old.build(), host, 1000); ev != ICERefreshed || a.Selected() != host {
		t.Fatalf("old credentials: event %d, selected %v", ev, a.Selected())
	}
	if ev := handle(t, a, fresh.build(), relay, 1100); ev != ICEValidated || a.Selected() != host {
		t.Fatalf("media moved before the nomination: event %d, selected %v", ev, a.Selected())
	}
	fresh.nominate = true
	if ev := handle(t, a, fresh.build(), relay, 1200); ev != ICENominated || a.Selected() != relay {
		t.Fatalf("event %d, selected %v", ev, a.Selected())
	}
	if a.Validated(host) {
		t.Fatal("a pair of before the restart is still good")
	}
	if _, ev := a.Handle(old.build(), host, at(1300), nil); ev != ICERefused {
		t.Fatalf("old credentials after the restart: event %d", ev)
	}
}

// TestB34RestartSameWay: the restart ends where it began.
func TestB34RestartSameWay(t *testing.T) {
	a := newAgent()
	handle(t, a, check{nominate: true}.build(), host, 0)
	a.Restart("nEw1", "zyxwvutsrqponmlkjihgfe")
	if ev := handle(t, a, check{ufrag: "nEw1", pwd: "zyxwvutsrqponmlkjihgfe", nominate: true}.build(), host, 100); ev != ICENominated {
		t.Fatalf("event %d", ev)
	}
	if a.Selected() != host || !a.Validated(host) || a.used != 1 {
		t.Fatalf("selected %v of %d", a.Selected(), a.used)
	}
}

// TestB34ManySources: the table is bounded and never loses the selected pair.
func TestB34ManySources(t *testing.T) {
	a := newAgent()
	handle(t, a, check{nominate: true, priority: 9}.build(), host, 0)
	for i := range 100 {
		handle(t, a, check{}.build(), netip.AddrPortFrom(relay.Addr(), uint16(1000+i)), 10*i)
	}
	if a.Selected() != host || !a.Validated(host) || a.used != icePairs {
		t.Fatalf("selected %v of %d", a.Selected(), a.used)
	}
}

// TestF26Flood: 10^5 requests of strangers get at most a tenth of their bytes back, and the call does not notice.
func TestF26Flood(t *testing.T) {
	a := newAgent()
	handle(t, a, check{nominate: true}.build(), host, 0)
	var packets [][]byte
	for range 64 {
		packets = append(packets, check{ufrag: ourUfrag, pwd: "guess", nominate: true}.build(),
			stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw,
			stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("x:y"), stun.Fingerprint).Raw)
	}
	in, out, buf := 0, 0, make([]byte, 0, ICEAnswerSize)
	for i := range 100000 {
		b := packets[i%len(packets)]
		answer, ev := a.Handle(b, netip.AddrPortFrom(attacker.Addr(), uint16(i)), start.Add(time.Duration(i)*50*time.Microsecond), buf)
		if ev != ICERefused || len(answer) > len(b) {
			t.Fatalf("event %d, %d bytes for %d", ev, len(answer), len(b))
		}
		in, out = in+len(b), out+len(answer)
	}
	if out*10 > in || a.Selected() != host {
		t.Fatalf("%d bytes out for %d in", out, in)
	}
	t.Logf("%d bytes in, %d out", in, out)
}

func TestICEAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a, buf := newAgent(), make([]byte, 0, ICEAnswerSize)
	for name, b := range map[string][]byte{
		"check":   check{nominate: true}.build(),
		"wrong":   check{ufrag: ourUfrag, pwd: "guess"}.build(),
		"unknown": check{more: []stun.Setter{attr(0x7777, 4)}}.build(),
	} {
		now := start
		if n := testing.AllocsPerRun(100, func() {
			now = now.Add(time.Second)
			a.Handle(b, host, now, buf)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkICEHandle(b *testing.B) {
	buf := make([]byte, 0, ICEAnswerSize)
	for _, c := range []check{{nominate: true}, {ufrag: ourUfrag, pwd: "guess"}} {
		b.Run(fmt.Sprintf("authentic=%v", c.nominate), func(b *testing.B) {
			a, req := newAgent(), c.build()
			b.ReportAllocs()
			for b.Loop() {
				a.Handle(req, host, start, buf)
			}
		})
	}
}
