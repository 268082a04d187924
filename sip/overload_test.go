package sip

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// TestF15LoadByWait: what is no standing queue leaves the level at 0, and what is one does not.
func TestF15LoadByWait(t *testing.T) {
	const standing, gap = 100 * time.Millisecond, time.Millisecond
	start := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		name     string
		d        time.Duration
		nth      int // of the batches one is not full
		wait     time.Duration
		backlog  float64
		low, top float64
	}{
		{"keeps up", 10 * time.Second, 10, 0, 0, 0, 0},
		{"just keeps up", 10 * time.Second, 90, time.Second, 0, 0, 0},
		{"a burst", 90 * time.Millisecond, 0, time.Second, 0, 0, 0},
		{"a short queue that stands", 10 * time.Second, 0, 9 * time.Millisecond, 0.1, 0, 0},
		{"a queue that stands for 150 ms", 150 * time.Millisecond, 0, 50 * time.Millisecond, 0.1, 0.1, 0.5},
		{"for a second", time.Second, 0, 50 * time.Millisecond, 0.1, 2, 2},
		{"for a second, if nobody knows how long it is", time.Second, 0, 0, 0, 2, 2},
		{"a nearly full buffer", 50 * time.Millisecond, 0, 0, 0.6, 0.1, 2},
	} {
		s, now, left, idle := sockLoad{}, start, c.d, time.Duration(0)
		for i := 1; left > 0; i++ {
			now, left = now.Add(gap), left-gap
			w := waiting{backlog: c.backlog}
			if c.wait > 0 {
				w.at = now.Add(-c.wait)
			}
			s.batch(c.nth == 0 || i%c.nth != 0, now, standing, w)
		}
		if s.level < c.low || s.level > c.top {
			t.Errorf("%s: level %v, want %v to %v", c.name, s.level, c.low, c.top)
		}
		for range 3000 { // the queue is gone: 3 s later nobody is refused any more
			now = now.Add(gap)
			idle += gap / 2
			s.batch(false, now, standing, waiting{idle: idle})
		}
		if s.level != 0 {
			t.Errorf("%s: level %v three seconds after it", c.name, s.level)
		}
	}
	// A clock that was set ahead makes no message older than the queue.
	s, now := sockLoad{}, start
	for i := range 1000 {
		now = now.Add(gap)
		s.batch(i%5 != 0, now, standing, waiting{at: now.Add(-time.Hour)})
	}
	if s.level != 0 {
		t.Errorf("level %v by a clock that was set", s.level)
	}
}

type waiting struct {
	at      time.Time
	backlog float64
	idle    time.Duration
}

func (w waiting) Arrived() time.Time  { return w.at }
func (w waiting) Backlog() float64    { return w.backlog }
func (w waiting) Idle() time.Duration { return w.idle }

// TestF15Goodput: with a worker of known speed, whose refusals cost what they do (bench/SIP.md), goodput stays near what is left beside them at
// every offer, also if the worker runs in short turns, and no call that was let in loses a message.
func TestF15Goodput(t *testing.T) {
	for _, c := range []struct {
		name  string
		work  workshop
		offer []float64 // of the capacity
		slack float64
	}{
		{"a core", workshop{speed: 1}, []float64{0.9, 1.2, 2, 4, 6}, 0.03},
		{"a fast core", workshop{speed: 2}, []float64{0.9, 1.2, 2, 4, 6}, 0.03},
		{"a tenth of a core in turns of 1 ms", workshop{speed: 1, turn: time.Millisecond, period: 10 * time.Millisecond}, []float64{0.9, 1.2, 2, 4}, 0.12},
		{"a sixth of a core, stopped for 25 ms at a time", workshop{speed: 1, turn: 5 * time.Millisecond, period: 30 * time.Millisecond}, []float64{0.9, 1.2, 2, 4}, 0.12},
		{"half of a core, stopped for 50 ms at a time", workshop{speed: 1, turn: 50 * time.Millisecond, period: 100 * time.Millisecond}, []float64{0.9, 1.2, 2}, 0.06},
	} {
		peak := c.work.capacity()
		for _, times := range c.offer {
			w := c.work
			w.serve(times*peak, 4*time.Second)
			cost := float64(refusal+absorbed) / float64(7*forwarding)
			// times is offered, x of it served, the rest refused: x + (times - x) * cost = 1.
			want := min(times, max(0, (1-times*cost)/(1-cost)))
			good := float64(w.completed) / w.took.Seconds() / peak
			t.Logf("%s, %.1f x: goodput %.0f %% of the peak, %.0f %% are possible, %d refused, lost %d, longest wait %v", c.name, times, 100*good, 100*want, w.refused, w.lost, w.longest)
			switch {
			case w.lost > 0:
				t.Errorf("%s, %.1f x: %d messages overflowed", c.name, times, w.lost)
			case times < 1 && w.refused > 0:
				t.Errorf("%s, %.1f x: %d calls refused", c.name, times, w.refused)
			case good < want-c.slack:
				t.Errorf("%s, %.1f x: goodput %.2f of the peak, %.2f is possible", c.name, times, good, want)
			}
		}
	}
}

// What a message costs a worker of speed 1, measured: bench/SIP.md.
const (
	forwarding = 7200 * time.Nanosecond
	refusal    = 4200 * time.Nanosecond
	absorbed   = 1500 * time.Nanosecond
	tripTime   = 200 * time.Microsecond // until phone or farm answers
	socketRoom = 7000                   // messages
)

// workshop is a worker with its socket, phones and farm, in a time of its own.
type workshop struct {
	speed        float64
	turn, period time.Duration // of each period it runs for a turn; 0: always

	now     time.Time
	socket  []parcel
	replies []parcel // on their way
	load    sockLoad
	dice    *rand.Rand
	from    time.Time // what is counted
	idle    time.Duration

	took                     time.Duration
	completed, refused, lost int
	longest                  time.Duration
}

// parcel is a message: step tells how far its call is.
type parcel struct {
	step int
	at   time.Time
}

// The steps of a call, in order; the farm answers an INVITE with three messages, the phone the 200 with ACK and BYE.
const (
	stepInvite = iota
	stepTrying
	stepRinging
	stepAnswer
	stepAck
	stepBye
	stepOver
	stepRefusedAck
)

// capacity is in calls a second.
func (w *workshop) capacity() float64 {
	c := w.speed / (7 * forwarding.Seconds())
	if w.period > 0 {
		c *= w.turn.Seconds() / w.period.Seconds()
	}
	return c
}

// spend lets a time of work pass.
func (w *workshop) spend(d time.Duration) {
	w.now = w.now.Add(time.Duration(float64(d) / w.speed))
	w.pause()
}

// pause goes on to the next turn, if this one is over.
func (w *workshop) pause() {
	if w.period > 0 {
		if in := time.Duration(w.now.UnixNano()) % w.period; in >= w.turn {
			w.now = w.now.Add(w.period - in)
		}
	}
}

func (w *workshop) serve(calls float64, d time.Duration) {
	const standing = 100 * time.Millisecond
	start := time.Unix(1_000_000, 0)
	end := start.Add(d)
	w.now, w.dice = start, rand.New(rand.NewPCG(1, 2))
	w.from, w.took = start.Add(d/2), d-d/2
	w.pause()
	gap := time.Duration(float64(time.Second) / calls)
	for next := start; w.now.Before(end); {
		for !next.After(w.now) || len(w.replies) > 0 && !w.replies[0].at.After(w.now) {
			m := parcel{stepInvite, next}
			if len(w.replies) > 0 && w.replies[0].at.Before(next) {
				m, w.replies = w.replies[0], w.replies[1:]
			} else {
				next = next.Add(gap)
			}
			if len(w.socket) == socketRoom {
				if !w.now.Before(w.from) {
					w.lost++
				}
				continue
			}
			w.socket = append(w.socket, m)
		}
		if len(w.socket) == 0 {
			before := w.now
			w.now = next
			if len(w.replies) > 0 && w.replies[0].at.Before(next) {
				w.now = w.replies[0].at
			}
			w.idle += w.now.Sub(before)
			w.pause()
			continue
		}
		batch := w.socket[:min(64, len(w.socket))]
		w.socket = w.socket[len(batch):]
		w.load.batch(len(batch) == 64, w.now, standing, waiting{batch[len(batch)-1].at, float64(len(w.socket)) / socketRoom, w.idle})
		sent := len(w.replies)
		for _, m := range batch {
			w.handle(m)
		}
		for i := range w.replies[sent:] { // they leave with the batch
			w.replies[sent+i].at = w.now.Add(tripTime)
		}
	}
}

func (w *workshop) handle(m parcel) {
	count := !w.now.Before(w.from)
	if wait := w.now.Sub(m.at); count {
		w.longest = max(w.longest, wait)
	}
	answer := func(steps ...int) {
		for _, s := range steps {
			w.replies = append(w.replies, parcel{step: s})
		}
	}
	switch {
	case m.step == stepInvite && w.dice.Float64() < w.load.level:
		w.spend(refusal)
		answer(stepRefusedAck)
		if count {
			w.refused++
		}
		return
	case m.step == stepRefusedAck:
		w.spend(absorbed)
		return
	}
	w.spend(forwarding)
	switch m.step {
	case stepInvite:
		answer(stepTrying, stepRinging, stepAnswer)
	case stepAnswer:
		answer(stepAck, stepBye)
	case stepBye:
		answer(stepOver)
	case stepOver:
		if count {
			w.completed++
		}
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
