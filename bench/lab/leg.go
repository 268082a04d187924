package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"rtcedge/bench/rawphone"
)

// answerTime is how long a phone waits for anything before it calls that a failure.
const answerTime = 15 * time.Second

// legConfig is who a phone is.
type legConfig struct {
	name      string
	host      netip.Addr
	edge      netip.AddrPort
	transport string // UDP where it is empty, TCP, WSS
	called    bool   // it waits for calls at port 5060
	hops      int    // Record-Routes in front of it; UDP only
	frame     time.Duration
	pacer     *rawphone.Pacer
}

// Leg is one phone with its one call. Its goroutine answers what the edge sends; the scenario asks for the rest.
type Leg struct {
	*rawphone.Phone
	Name string

	hops   []string // Record-Route of the proxies in front of it, the nearest to the edge first
	udp    bool
	called bool
	edge   netip.AddrPort
	end    context.CancelFunc

	mu        sync.Mutex // guards the rest
	d         *rawphone.Dialog
	up        bool
	ok        *rawphone.Message // the 200 to the call that came in
	ring      bool
	refuse    int // status for re-INVITEs
	refusals  int // how many of them
	before    func()
	pending   bool
	direction string
	seen      Seen
	owed      map[uint32]bool // CSeq of re-INVITEs whose 200 has no ACK yet
}

// Seen is what a phone saw since the last mark.
type Seen struct {
	Invited   []time.Time // re-INVITEs that were answered with 200
	Refused   int         // re-INVITEs that were not
	Acks      int
	Byes      int
	ByeAt     time.Time
	Cancelled int
	Strangers []string // requests of no dialog
	Wrong     []string // requests of the dialog that are not right: past the route, an old CSeq, another target
	Direction string   // that the far end offered last
}

// Owed counts the re-INVITEs whose 200 has no ACK: a phone hangs up when one has waited for 32 s (RFC 3261 section 13.3.1.4).
func (l *Leg) Owed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.owed)
}

// newLeg runs a phone on an address of its own. Hops are sockets of their own in front of it.
func newLeg(ctx context.Context, all *sync.WaitGroup, c legConfig) (*Leg, error) {
	cfg := rawphone.Config{User: c.name, Frame: c.frame, Pacer: c.pacer, Listen: netip.AddrPortFrom(c.host, 0), Next: c.edge, TCP: c.transport == "TCP", WSS: c.transport == "WSS"}
	switch {
	case cfg.TCP && c.called:
		cfg.Listen, cfg.Accept = netip.AddrPortFrom(c.host, 5060), true
	case c.transport == "" && c.hops > 0:
		cfg.Hop = netip.AddrPortFrom(c.host, 5060)
	}
	p, err := rawphone.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("phone %s: %w", c.name, err)
	}
	l := &Leg{Phone: p, Name: c.name, udp: c.transport == "", called: c.called, edge: c.edge, direction: "sendrecv", owed: map[uint32]bool{}}
	if cfg.Hop.IsValid() {
		l.hops = append(l.hops, fmt.Sprintf("<sip:%s;lr>", cfg.Hop))
		for i := 1; i < c.hops; i++ {
			l.hops = append(l.hops, fmt.Sprintf("<sip:127.254.0.%d:5060;lr>", i)) // reached over the first one
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var own sync.WaitGroup
	l.end = func() { cancel(); own.Wait() }
	own.Go(func() { _ = p.Run(ctx) })
	own.Go(func() { l.serve(ctx) })
	all.Go(own.Wait)
	return l, nil
}

func fields(name string, values []string) []rawphone.Field {
	var f []rawphone.Field
	for _, v := range values {
		f = append(f, rawphone.Field{Name: name, Value: v})
	}
	return f
}

// serve answers requests until ctx ends: calls, re-INVITEs, BYE, and whatever else needs a 200.
func (l *Leg) serve(ctx context.Context) {
	for {
		m, err := l.Take(ctx, func(m *rawphone.Message) bool { return m.Status() == 0 })
		if err != nil {
			return
		}
		l.mu.Lock()
		l.handle(m)
		l.mu.Unlock()
	}
}

func (l *Leg) handle(m *rawphone.Message) {
	mine := l.d != nil && l.d.Matches(m)
	switch method := m.Method(); {
	case method == "INVITE" && l.d == nil && rawphone.Param(m.Get("To"), "tag") == "":
		l.incoming(m)
	case method == "INVITE" && m.Resent && rawphone.Param(m.Get("To"), "tag") == "":
		if l.ok != nil { // its answer was lost
			_ = l.Send(l.ok)
		}
	case method == "CANCEL":
		if !m.Resent {
			l.seen.Cancelled++
		}
		_, _ = l.Respond(m, nil, 200, "OK", "")
		if l.d != nil && l.d.Offer != nil && !l.up {
			_, _ = l.Respond(l.d.Offer, l.d, 487, "Request Terminated", "")
		}
	case !mine:
		if method != "ACK" {
			l.seen.Strangers = append(l.seen.Strangers, m.Start)
			_, _ = l.Respond(m, nil, 481, "Call/Transaction Does Not Exist", "")
		}
	case method == "ACK":
		if !m.Resent {
			l.seen.Acks++
		}
		n, _ := m.CSeq()
		delete(l.owed, n)
		if m.Body != "" {
			_ = l.Media().Send(m.Body)
		}
	default:
		if !m.Resent {
			l.check(m)
		}
		l.inside(m, method)
	}
}

// check looks at a request of the dialog as a strict phone does.
func (l *Leg) check(m *rawphone.Message) {
	n, _ := m.CSeq()
	switch {
	case len(l.hops) > 0 && !m.AtHop:
		l.seen.Wrong = append(l.seen.Wrong, "past the route: "+m.Start)
	case l.d.FarCSeq != 0 && n <= l.d.FarCSeq: // RFC 3261 section 12.2.2
		l.seen.Wrong = append(l.seen.Wrong, fmt.Sprintf("CSeq %d after %d: %s", n, l.d.FarCSeq, m.Start))
	case !strings.Contains(m.URI(), l.Name+"@"):
		l.seen.Wrong = append(l.seen.Wrong, "for another: "+m.Start)
	}
	l.d.FarCSeq = max(l.d.FarCSeq, n)
}

// inside answers a request of the dialog.
func (l *Leg) inside(m *rawphone.Message, method string) {
	switch method {
	case "INVITE":
		status := 0
		switch {
		case l.pending: // RFC 3261 section 14.2
			status = 491
		case l.refusals > 0:
			l.refusals--
			status = l.refuse
		}
		if status != 0 {
			if !m.Resent {
				l.seen.Refused++
			}
			_, _ = l.Respond(m, l.d, status, "Not now", "")
			return
		}
		if !m.Resent {
			if l.before != nil {
				l.before()
				l.before = nil
			}
			l.d.Refresh(m)
			l.seen.Invited = append(l.seen.Invited, time.Now())
			l.seen.Direction = directionOf(m.Body)
			n, _ := m.CSeq()
			l.owed[n] = true
		}
		_, _ = l.Respond(m, l.d, 200, "OK", l.Media().SDP(l.direction))
		if m.Body != "" {
			_ = l.Media().Send(m.Body)
		}
	case "BYE":
		if !m.Resent {
			l.seen.Byes++
			l.seen.ByeAt = time.Now()
		}
		l.Media().Pause()
		_, _ = l.Respond(m, l.d, 200, "OK", "")
	default:
		_, _ = l.Respond(m, l.d, 200, "OK", "")
	}
}

// directionOf is the direction of an SDP body; sendrecv is the default (RFC 8866 section 6.7).
func directionOf(body string) string {
	for _, d := range []string{"sendonly", "recvonly", "inactive"} {
		if strings.Contains(body, "a="+d) {
			return d
		}
	}
	return "sendrecv"
}

// incoming answers a new call, or lets it ring.
func (l *Leg) incoming(m *rawphone.Message) {
	// The hops put themselves in on the way here, the nearest to the phone on top.
	hops := slices.Clone(l.hops)
	slices.Reverse(hops)
	at := slices.IndexFunc(m.Fields, func(f rawphone.Field) bool { return strings.EqualFold(f.Name, "Record-Route") })
	m.Fields = slices.Insert(m.Fields, max(at, 0), fields("Record-Route", hops)...)
	l.d = l.Called(m)
	l.stripHops()
	if l.ring {
		_, _ = l.Respond(m, l.d, 180, "Ringing", "", fields("Record-Route", l.d.RecordRoute)...)
		return
	}
	l.answer()
}

// stripHops takes the hops out of the phone's route set, as each of them does with its own entry on the way to the edge.
func (l *Leg) stripHops() {
	l.d.Route = slices.DeleteFunc(slices.Clone(l.d.Route), func(r string) bool { return slices.Contains(l.hops, r) })
}

// answer is the 200 of the call that rings.
func (l *Leg) answer() {
	m := l.d.Offer
	l.up = true
	l.ok, _ = l.Respond(m, l.d, 200, "OK", l.Media().SDP("sendrecv"), fields("Record-Route", l.d.RecordRoute)...)
	if m.Body != "" {
		_ = l.Media().Send(m.Body)
	}
}

// Ring makes the phone let calls ring until Answer.
func (l *Leg) Ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring = true
}

// Ringing tells whether a call rings.
func (l *Leg) Ringing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d != nil && !l.up
}

// Refuse makes the phone answer the next re-INVITEs with a status.
func (l *Leg) Refuse(status, times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse, l.refusals = status, times
}

// Before is called once, when the next re-INVITE has come and before its 200 goes out.
func (l *Leg) Before(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = f
}

// Dialog is a copy of the phone's call; nil before there is one.
func (l *Leg) Dialog() *rawphone.Dialog {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.d == nil {
		return nil
	}
	d := *l.d
	return &d
}

// Dial calls a number and returns when it is answered.
func (l *Leg) Dial(ctx context.Context, number string) error {
	ok, err := l.Call(ctx, number)
	if err == nil && ok.Status() != 200 {
		err = fmt.Errorf("%s dials %s: %s", l.Name, number, ok.Start)
	}
	return err
}

// Call calls a number and returns the final answer.
func (l *Leg) Call(ctx context.Context, number string) (*rawphone.Message, error) {
	d := l.Place("sip:" + number + "@" + l.edge.Addr().String())
	d.Target = "sip:" + number + "@" + l.edge.String()
	l.mu.Lock()
	l.d = d
	m, err := l.Invite(d, l.Media().SDP("sendrecv"), fields("Record-Route", l.hops)...)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ok, err := l.final(ctx, m, answerTime)
	if err != nil {
		return nil, fmt.Errorf("%s dials %s: %w", l.Name, number, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok.Status() != 200 {
		d.RemoteTag = rawphone.Param(ok.Get("To"), "tag")
		return ok, nil
	}
	d.Answered(ok)
	l.stripHops()
	l.up = true
	return ok, errors.Join(l.Ack(d), l.Media().Send(ok.Body))
}

// final waits for the final answer to a request, which goes out again over UDP until something comes.
func (l *Leg) final(ctx context.Context, req *rawphone.Message, limit time.Duration) (*rawphone.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	number, method := req.CSeq()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	type answer struct {
		m   *rawphone.Message
		err error
	}
	got := make(chan answer, 1)
	go func() {
		for {
			m, err := l.Take(ctx, func(m *rawphone.Message) bool {
				n, of := m.CSeq()
				return m.Status() != 0 && of == method && n == number
			})
			if err != nil || m.Status() >= 200 {
				got <- answer{m, err}
				return
			}
		}
	}()
	for {
		select {
		case a := <-got:
			return a.m, a.err
		case <-again.C:
			if l.udp {
				_ = l.Send(req)
			}
		}
	}
}

// Ask sends a request inside of the dialog and returns the final answer.
func (l *Leg) Ask(ctx context.Context, method, body string, extra ...rawphone.Field) (*rawphone.Message, error) {
	l.mu.Lock()
	req, err := l.Request(l.d, method, body, extra...)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return l.final(ctx, req, answerTime)
}

// Reinvite offers the media once more, in a direction, and returns the answer's status. Until then the far end's re-INVITE gets 491.
func (l *Leg) Reinvite(ctx context.Context, direction string) (int, error) {
	l.mu.Lock()
	l.pending, l.direction = true, direction
	req, err := l.Request(l.d, "INVITE", l.Media().SDP(direction))
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	ok, err := l.final(ctx, req, answerTime)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = false
	if err != nil {
		return 0, err
	}
	if ok.Status() != 200 {
		return ok.Status(), nil
	}
	number, _ := req.CSeq()
	cseq := l.d.CSeq
	l.d.CSeq = number
	err = l.Ack(l.d)
	l.d.CSeq = cseq
	return 200, errors.Join(err, l.Media().Send(ok.Body))
}

// HangUp sends the BYE and wants its 200.
func (l *Leg) HangUp(ctx context.Context) error {
	l.Media().Pause()
	ok, err := l.Ask(ctx, "BYE", "")
	if err == nil && ok.Status() != 200 {
		err = fmt.Errorf("%s: BYE: %s", l.Name, ok.Start)
	}
	return err
}

// Mark begins a measurement.
func (l *Leg) Mark() {
	l.mu.Lock()
	l.seen = Seen{}
	l.mu.Unlock()
	l.Media().Mark()
}

// Seen reads it.
func (l *Leg) Seen() Seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen
	s.Invited, s.Strangers, s.Wrong = slices.Clone(s.Invited), slices.Clone(s.Strangers), slices.Clone(s.Wrong)
	return s
}
