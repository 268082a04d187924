package sip

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// waits is a backlog of a fixed size.
type waits float64

func (w waits) Backlog() float64 { return float64(w) }

// TestF15LoadHolds: while a standing queue is short or shrinks the level stays; where it does not, nearly fills its buffer or is not known, it rises.
func TestF15LoadHolds(t *testing.T) {
	const standing = 100 * time.Millisecond
	s, now := sockLoad{}, time.Unix(1_000_000, 0)
	half := func(backlog float64) float64 {
		for range 50 {
			now = now.Add(time.Millisecond)
			s.batch(true, now, standing, waits(backlog))
		}
		return s.level
	}
	half(0.1)
	half(0.1)
	if first := half(0.1); first != loadSoft { // it stands from here on
		t.Errorf("the first step is %v", first)
	}
	for _, step := range []struct {
		backlog, rises float64
	}{{0.1, 0.1}, {0.2, 0.1}, {0.15, 0}, {0.12, 0}, {0.115, 0.1}, {0.05, 0}, {0.09, 0}, {0, 0.1}, {0.9, 0.1}, {0.7, 0.1}, {0.4, 0}} {
		before := s.level
		if after := half(step.backlog); after < before+step.rises-1e-9 || after > before+step.rises+1e-9 {
			t.Errorf("backlog %v: from %v to %v, want %v more", step.backlog, before, after, step.rises)
		}
	}
}

// TestF15Load: only a queue that stands raises the level; a burst, a stall and waiting do not; the level falls again.
func TestF15Load(t *testing.T) {
	const standing = 100 * time.Millisecond
	start := time.Unix(1_000_000, 0)
	// play reads batches every gap, every nth of them not full.
	play := func(s *sockLoad, now *time.Time, d, gap time.Duration, nth int) {
		for i := 1; d > 0; i++ {
			*now = now.Add(gap)
			d -= gap
			s.batch(nth == 0 || i%nth != 0, *now, standing, waits(0))
		}
	}
	for _, c := range []struct {
		name     string
		d, gap   time.Duration
		nth      int
		low, top float64
	}{
		{"keeps up", 10 * time.Second, time.Millisecond, 10, 0, 0},
		{"just keeps up", 10 * time.Second, time.Millisecond, 90, 0, 0},
		{"a burst", 90 * time.Millisecond, time.Millisecond, 0, 0, 0},
		{"full batches with waiting between", 10 * time.Second, 30 * time.Millisecond, 0, 0, 0},
		{"stands for a second", time.Second, time.Millisecond, 0, 1, 2},
		{"stands for ten", 10 * time.Second, time.Millisecond, 0, 2, 2},
	} {
		s, now := sockLoad{}, start
		play(&s, &now, c.d, c.gap, c.nth)
		if s.level < c.low || s.level > c.top {
			t.Errorf("%s: level %v, want %v to %v", c.name, s.level, c.low, c.top)
		}
		play(&s, &now, 6*time.Second, time.Millisecond, 10)
		if s.level != 0 {
			t.Errorf("%s: level %v six seconds after it", c.name, s.level)
		}
	}
	// A process that is stopped for most of the time finds its socket as full as before.
	held, now := sockLoad{}, start
	for range 200 {
		now = now.Add(30 * time.Millisecond)
		for range 4 {
			now = now.Add(time.Millisecond)
			held.batch(true, now, standing, waits(0.8))
		}
	}
	if held.level < 1 {
		t.Errorf("with a quota: level %v after 7 s of a full socket", held.level)
	}
	s, now := sockLoad{}, start
	play(&s, &now, 10*time.Second, time.Millisecond, 0)
	if s.batch(false, now.Add(time.Hour), standing, waits(0)); s.level != 0 {
		t.Errorf("level %v after an idle hour", s.level)
	}
}

// TestF15ShedsNewCallsFirst: at half load half of the new calls are refused and nothing else; above 1 registrations too; what belongs to a
// dialog, comes from a farm or is a response is always served.
func TestF15ShedsNewCallsFirst(t *testing.T) {
	r := newRig(t, Config{})
	req := r.one(r.put(phone, longInvite()), node1)
	rr := lines(req, "Record-Route")[0]
	l := r.p.newLoad()
	set := func(level float64) { r.p.loads[l.slot].Store(uint32(level * 1000)) }
	register := strings.ReplaceAll(longInvite(), "INVITE", "REGISTER")
	for _, c := range []struct{ level, calls, regs float64 }{{0, 0, 0}, {0.5, 0.5, 0}, {1, 1, 0}, {1.5, 1, 0.5}, {2, 1, 1}} {
		set(c.level)
		refused := func(text string) (part float64) {
			const n = 400
			for i := range n {
				out := r.put(phone, strings.Replace(text, "call-1@phone", fmt.Sprint("c", i), 1))
				if len(out) != 1 {
					t.Fatal(out)
				}
				if strings.HasPrefix(out[0].text, "SIP/2.0 503 ") {
					if len(lines(out[0].text, "Retry-After")) != 1 {
						t.Fatalf("without Retry-After:\n%s", out[0].text)
					}
					part += 1. / n
				}
			}
			return part
		}
		if part := refused(longInvite()); part < c.calls-0.1 || part > c.calls+0.1 {
			t.Errorf("level %v: %v of the calls refused, want %v", c.level, part, c.calls)
		}
		if part := refused(register); part < c.regs-0.1 || part > c.regs+0.1 {
			t.Errorf("level %v: %v of the registrations refused, want %v", c.level, part, c.regs)
		}
		for _, method := range []string{"BYE", "INVITE", "ACK", "INFO"} {
			in := strings.ReplaceAll(longInvite(), "INVITE", method)
			in = strings.Replace(strings.Replace(in, "To: <sip:600@E0>", "To: <sip:600@E0>;tag=tt", 1), "sip:600@E0 SIP", "sip:600@"+node1+" SIP", 1)
			r.one(r.put(phone, in+"Route: "+rr+"\n"), node1)
		}
		r.one(r.put(phone, strings.ReplaceAll(longInvite(), "INVITE", "CANCEL")), node1)
		r.one(r.putOn(0, 0, node1, answer(req, 200, "tt", "")), phone)
		r.one(r.put(node1, strings.Replace(longInvite(), "INVITE sip:600@E0", "INVITE sip:1@127.0.2.2:5072", 1)), "127.0.2.2:5072")
	}
	if r.p.Stats().Load != 2 || r.drops()["overload"] == 0 {
		t.Errorf("load %v, drops %v", r.p.Stats().Load, r.drops())
	}
	// B16 holds here too: a short request of an unproven address gets silence.
	if out := r.put(phone, "INVITE sip:1@E0 SIP/2.0\nv:SIP/2.0/UDP 1.1.1.1;rport\nf:<sip:1@x>;tag=1\nt:<sip:1@x>\ni:1\nCSeq:1 INVITE\n"); len(out) != 0 {
		t.Errorf("answered with %v", out)
	}
}

// TestF15Early: under load a new call is refused with the same answer as by the whole way, its ACK is taken in, and what is not a whole new call
// goes the whole way.
func TestF15Early(t *testing.T) {
	r := newRig(t, Config{Farms: farms(node1, node2, node3)})
	c := r.p.newPass()
	c.send, c.load = r, r.p.newLoad()
	w := &transport.Worker{State: c}
	level := func(l float64) { c.load.socks[0].level = l }
	one := func(text string) string {
		t.Helper()
		r.sent = nil
		c.send = r
		r.p.begin(c, &transport.Message{Bytes: []byte(r.text(text)), From: parseAddr(phone), Listener: r.ls[0], Worker: w})
		if len(r.sent) > 1 {
			t.Fatal(r.sent)
		}
		if len(r.sent) == 0 {
			return ""
		}
		return r.sent[0].text
	}
	level(1)
	before := c.count.drops[DropOverload].Load()
	refusal := one(longInvite())
	if !strings.HasPrefix(refusal, "SIP/2.0 503 ") || c.count.drops[DropOverload].Load() != before+1 || c.count.requests[message.Invite].Load() != 1 {
		t.Fatalf("%d refused:\n%s", c.count.drops[DropOverload].Load(), refusal)
	}
	// Without a UDP worker's load there is no early way.
	r.p.loads[c.load.slot].Store(1000)
	if out := r.put(phone, longInvite()); len(out) != 1 || out[0].text != refusal {
		t.Errorf("the whole way answers\n%v\nthe short one\n%s", out, refusal)
	}
	ack := strings.ReplaceAll(longInvite(), "INVITE", "ACK")
	if out := one(strings.Replace(ack, "To: <sip:600@E0>", "To: "+lines(refusal, "To")[0], 1)); out != "" || c.count.drops[DropAbsorbed].Load() != 1 {
		t.Errorf("the ACK of a refusal: %q, drops %v", out, r.drops())
	}
	for name, text := range map[string]string{
		"an ACK of another's answer": strings.Replace(ack, "To: <sip:600@E0>", "To: <sip:600@E0>;tag=vbe-AAAAAAAAAAA", 1),
		"a CANCEL":                   strings.ReplaceAll(longInvite(), "INVITE", "CANCEL"),
	} {
		if out := one(text); out == "" || strings.HasPrefix(out, "SIP/2.0 ") {
			t.Errorf("%s was not forwarded: %q", name, out)
		}
	}
	if out := one(strings.Replace(longInvite(), "CSeq", "X-CSeq", 1)); !strings.HasPrefix(out, "SIP/2.0 400 ") {
		t.Errorf("without a CSeq: %q", out)
	}
	if out := one(strings.Replace(longInvite(), "CSeq", "User-Agent: friendly-scanner\nCSeq", 1)); out != "" {
		t.Errorf("a scanner is answered: %q", out)
	}
	level(0)
	if out := one(longInvite()); !strings.HasPrefix(out, "INVITE ") {
		t.Errorf("without load: %q", out)
	}
}
