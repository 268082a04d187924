package main

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

// leg is one phone with its one call. Its goroutine answers what the edge sends; the scenario asks for the rest.
type leg struct {
	*rawphone.Phone
	name string
	hops []string // Record-Route of the proxies in front of it, the nearest to the edge first
	tcp  bool

	mu     sync.Mutex
	d      *rawphone.Dialog
	up     chan struct{} // closed when the call is answered
	ring   bool          // let an incoming call ring, and answer only when told to
	refuse int           // answer re-INVITEs with this
	seen   seen
}

// seen is what a phone saw since the last mark.
type seen struct {
	reinvites  []time.Time // answered
	acks       int
	byes       int
	byeAt      time.Time
	strangers  []string // messages of other dialogs, or past the hops
	wrongRoute int
}

// newLeg runs a phone on an address of its own. Hops are sockets of their own in front of it; only UDP has them.
func newLeg(ctx context.Context, all *sync.WaitGroup, name string, host netip.Addr, edge netip.AddrPort, tcp bool, hops int) (*leg, error) {
	cfg := rawphone.Config{User: name, Listen: netip.AddrPortFrom(host, 0), Next: edge, TCP: tcp}
	if !tcp && hops > 0 {
		cfg.Hop = netip.AddrPortFrom(host, 5060)
	}
	p, err := rawphone.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("phone %s: %w", name, err)
	}
	l := &leg{Phone: p, name: name, tcp: tcp, up: make(chan struct{})}
	if cfg.Hop.IsValid() {
		l.hops = append(l.hops, fmt.Sprintf("<sip:%s;lr>", cfg.Hop))
		for i := 1; i < hops; i++ {
			l.hops = append(l.hops, fmt.Sprintf("<sip:127.254.0.%d:5060;lr>", i)) // reached over the first one
		}
	}
	all.Go(func() { _ = p.Run(ctx) })
	all.Go(func() { l.serve(ctx) })
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
func (l *leg) serve(ctx context.Context) {
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

func (l *leg) handle(m *rawphone.Message) {
	mine := l.d != nil && l.d.Matches(m)
	switch method := m.Method(); {
	case method == "INVITE" && l.d == nil && rawphone.Param(m.Get("To"), "tag") == "":
		l.called(m)
	case !mine && method != "CANCEL":
		if method != "ACK" {
			l.seen.strangers = append(l.seen.strangers, m.Start)
			_, _ = l.Respond(m, nil, 481, "Call/Transaction Does Not Exist", "")
		}
	case method == "ACK":
		if !m.Resent {
			l.seen.acks++
		}
		if m.Body != "" {
			_ = l.Media().Send(m.Body)
		}
	case method == "INVITE":
		if len(l.hops) > 0 && !m.AtHop {
			l.seen.wrongRoute++
		}
		if l.refuse != 0 {
			_, _ = l.Respond(m, l.d, l.refuse, "Not now", "")
			return
		}
		if !m.Resent {
			l.d.Refresh(m)
			l.seen.reinvites = append(l.seen.reinvites, time.Now())
		}
		body := l.Media().SDP("sendrecv")
		_, _ = l.Respond(m, l.d, 200, "OK", body)
		if m.Body != "" {
			_ = l.Media().Send(m.Body)
		}
	case method == "BYE":
		if !m.Resent {
			l.seen.byes++
			l.seen.byeAt = time.Now()
		}
		l.Media().Pause()
		_, _ = l.Respond(m, l.d, 200, "OK", "")
	default:
		_, _ = l.Respond(m, l.d, 200, "OK", "")
	}
}

// called answers a new call, or lets it ring.
func (l *leg) called(m *rawphone.Message) {
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
func (l *leg) stripHops() {
	l.d.Route = slices.DeleteFunc(slices.Clone(l.d.Route), func(r string) bool { return slices.Contains(l.hops, r) })
}

// answer is the 200 of the call that rings.
func (l *leg) answer() {
	m := l.d.Offer
	_, _ = l.Respond(m, l.d, 200, "OK", l.Media().SDP("sendrecv"), fields("Record-Route", l.d.RecordRoute)...)
	if m.Body != "" {
		_ = l.Media().Send(m.Body)
	}
	close(l.up)
}

// dial calls a number and returns when it is answered.
func (l *leg) dial(ctx context.Context, number string, edge netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	d := l.Place("sip:" + number + "@" + edge.Addr().String())
	d.Target = "sip:" + number + "@" + edge.String()
	l.mu.Lock()
	l.d = d
	l.mu.Unlock()
	if _, err := l.Invite(d, l.Media().SDP("sendrecv"), fields("Record-Route", l.hops)...); err != nil {
		return err
	}
	ok, err := l.Take(ctx, func(m *rawphone.Message) bool { return m.Status() >= 200 && m.Method() == "INVITE" })
	if err != nil {
		return fmt.Errorf("%s dials %s: %w", l.name, number, err)
	}
	if ok.Status() != 200 {
		return fmt.Errorf("%s dials %s: %s", l.name, number, ok.Start)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Answered(ok)
	l.stripHops()
	close(l.up)
	return errors.Join(l.Ack(d), l.Media().Send(ok.Body))
}

// hangUp sends the BYE and wants its 200.
func (l *leg) hangUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	l.mu.Lock()
	bye, err := l.Request(l.d, "BYE", "")
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.Media().Pause()
	again := time.NewTicker(500 * time.Millisecond) // over UDP a request comes again until it is answered
	defer again.Stop()
	done := make(chan error, 1)
	go func() {
		ok, err := l.Take(ctx, func(m *rawphone.Message) bool { return m.Status() >= 200 && m.Method() == "BYE" })
		if err == nil && ok.Status() != 200 {
			err = fmt.Errorf("%s: BYE: %s", l.name, ok.Start)
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return err
		case <-again.C:
			if !l.tcp {
				_ = l.Send(bye)
			}
		}
	}
}

// mark begins a measurement.
func (l *leg) mark() {
	l.mu.Lock()
	l.seen = seen{}
	l.mu.Unlock()
	l.Media().Mark()
}

func (l *leg) read() seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen
	s.reinvites, s.strangers = slices.Clone(s.reinvites), slices.Clone(s.strangers)
	return s
}
