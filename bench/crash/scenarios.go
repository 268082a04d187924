package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"rtcedge/e2e/farms"
)

// scenarios in the order in which they run. The numbers are those of the design's table of faults.
var scenarios = []scenario{
	{"demo", "20 calls and a conference of five; the call node is killed, then the conference node", [2]int{2, 2}, demo},
	{"calm", "nothing happens: the longest silence without a strike", [2]int{2, 1}, calm},
	{"F1", "SIGKILL of a call node: UDP and TCP, both roles, 0-3 Record-Routes", [2]int{2, 1}, func(ctx context.Context, l *lab) error {
		return strikeCalls(ctx, l, func(n *farms.Node) error { n.Kill(); return nil }, nil)
	}},
	{"F2", "SIGSTOP of a call node, SIGCONT when all calls are back", [2]int{2, 1}, func(ctx context.Context, l *lab) error {
		return strikeCalls(ctx, l, func(n *farms.Node) error { return n.Signal(syscall.SIGSTOP) }, func(n *farms.Node) error {
			l.printf("SIGCONT: %s runs again, with all its old dialogs", n.ID)
			return n.Signal(syscall.SIGCONT)
		})
	}},
	{"F3", "the node that takes the calls over is killed 300 ms after the re-INVITEs begin", [2]int{3, 1}, twice},
	{"F7", "SIGKILL of the node of a conference", [2]int{1, 2}, conference},
	{"F18", "call nodes that stand still for 0.5 s: no crash, no recovery", [2]int{2, 1}, blip},
}

// strikeCalls puts the calls up, hits the node that holds them, and has all of them end well. afterwards may be nil.
func strikeCalls(ctx context.Context, l *lab, hit, afterwards func(*farms.Node) error) error {
	pairs, err := l.pairs(ctx, l.cfg.calls)
	if err != nil {
		return err
	}
	sleep(ctx, time.Second)
	n, legs, err := l.struck("call", l.legs)
	if err != nil {
		return err
	}
	mark(l.legs)
	at := time.Now()
	if err := hit(n); err != nil {
		return err
	}
	o := settle(ctx, legs, at, 20*time.Second)
	o.print(l)
	if err := o.judge(goal{p50: 1500 * time.Millisecond, p99: 3 * time.Second}); err != nil {
		return err
	}
	if afterwards != nil {
		mark(l.legs)
		if err := afterwards(n); err != nil {
			return err
		}
		sleep(ctx, 3*time.Second)
		if err := l.undisturbed(); err != nil {
			return err
		}
	}
	return farewell(ctx, l, pairs)
}

func mark(legs []*leg) {
	for _, p := range legs {
		p.mark()
	}
}

// struck chooses the node with most calls and says which phones it holds.
func (l *lab) struck(role string, phones []*leg) (*farms.Node, []*leg, error) {
	n, channels, err := l.holder(role)
	if err != nil {
		return nil, nil, err
	}
	legs, err := held(n, phones)
	if err != nil {
		return nil, nil, err
	}
	l.printf("%s holds %d channels: %d phones", n.ID, channels, len(legs))
	if len(legs) == 0 {
		return nil, nil, fmt.Errorf("no phone has a call on %s", n.ID)
	}
	return n, legs, nil
}

// held are the phones whose calls a node has, by the Call-ID that ARI calls protocol_id.
func held(n *farms.Node, phones []*leg) ([]*leg, error) {
	var list []struct {
		ProtocolID string `json:"protocol_id"`
	}
	if err := n.Get("/channels", &list); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, c := range list {
		ids[c.ProtocolID] = true
	}
	var legs []*leg
	for _, p := range phones {
		p.mu.Lock()
		if p.d != nil && ids[p.d.CallID] {
			legs = append(legs, p)
		}
		p.mu.Unlock()
	}
	return legs, nil
}

// undisturbed wants every phone to hear the far end without a gap and with no request since the last mark.
func (l *lab) undisturbed() error {
	var errs []error
	for _, p := range l.legs {
		s, h := p.read(), p.Media().Heard()
		if len(s.reinvites) > 0 || s.byes > 0 || len(s.strangers) > 0 {
			errs = append(errs, fmt.Errorf("%s saw %d re-INVITEs, %d BYEs, %d strangers", p.name, len(s.reinvites), s.byes, len(s.strangers)))
		}
		if gap := time.Since(h.Last); gap > time.Second {
			errs = append(errs, fmt.Errorf("%s hears nothing for %v", p.name, gap.Round(time.Millisecond)))
		}
	}
	if n := len(errs); n > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", n-5))
	}
	return errors.Join(errs...)
}

// twice kills the node that takes over, in the middle of it.
func twice(ctx context.Context, l *lab) error {
	pairs, err := l.pairs(ctx, l.cfg.calls)
	if err != nil {
		return err
	}
	sleep(ctx, time.Second)
	n, legs, err := l.struck("call", l.legs)
	if err != nil {
		return err
	}
	others := map[*farms.Node][]*leg{}
	for _, other := range l.Farm("call") {
		if others[other], err = held(other, l.legs); err != nil {
			return err
		}
	}
	mark(l.legs)
	at := time.Now()
	n.Kill()
	// The recovery is under way when a phone has its re-INVITE.
	for first := false; !first && time.Since(at) < 10*time.Second; sleep(ctx, 5*time.Millisecond) {
		first = !all(legs, func(p *leg) bool { return len(p.read().reinvites) == 0 })
	}
	sleep(ctx, 300*time.Millisecond)
	var victim *farms.Node
	for _, other := range l.Farm("call") {
		var list []struct{ ID string }
		if other != n && other.Get("/channels", &list) == nil && len(list) > 0 {
			victim = other
			break
		}
	}
	if victim == nil {
		return errors.New("no node takes the calls over")
	}
	second := time.Now()
	victim.Kill()
	l.printf("%s killed as well, %d ms after the first", victim.ID, second.Sub(at).Milliseconds())
	sleep(ctx, 1500*time.Millisecond) // what the dead node had sent is over: the last re-INVITE counts from here
	legs = append(legs, others[victim]...)
	o := settle(ctx, legs, at, 20*time.Second)
	o.print(l)
	if err := o.judge(goal{p99: 6 * time.Second}); err != nil {
		return err
	}
	return farewell(ctx, l, pairs)
}

// conference kills the node under a conference.
func conference(ctx context.Context, l *lab) error {
	phones, err := l.confer(ctx, l.cfg.room)
	if err != nil {
		return err
	}
	return l.strikeRoom(ctx, phones, 4*time.Second)
}

// confer lets phones into one conference.
func (l *lab) confer(ctx context.Context, count int) ([]*leg, error) {
	phones, err := l.callers(count)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = each(phones, 10, func(p *leg) error { return p.dial(ctx, "7001", l.SIP()) })
	if err == nil {
		err = l.heard(ctx, phones)
	}
	l.printf("conference of %d up after %.1f s", count, time.Since(began).Seconds())
	return phones, err
}

func (l *lab) strikeRoom(ctx context.Context, phones []*leg, limit time.Duration) error {
	sleep(ctx, time.Second)
	n, legs, err := l.struck("conference", phones)
	if err != nil {
		return err
	}
	mark(l.legs)
	at := time.Now()
	n.Kill()
	o := settle(ctx, legs, at, 20*time.Second)
	o.print(l)
	if err := o.judge(goal{p99: limit}); err != nil {
		return err
	}
	for _, p := range phones {
		if gap := time.Since(p.Media().Heard().Last); gap > time.Second {
			return fmt.Errorf("%s hears nothing for %v", p.name, gap.Round(time.Millisecond))
		}
	}
	where, channels, err := l.holder("conference")
	if err != nil {
		return err
	}
	var bridges []struct{ Channels []string }
	if err := where.Get("/bridges", &bridges); err != nil {
		return err
	}
	most := 0
	for _, b := range bridges {
		most = max(most, len(b.Channels))
	}
	l.printf("%s has %d channels, %d of them in one bridge", where.ID, channels, most)
	if most < len(legs) {
		return fmt.Errorf("%d of %d are in one bridge again", most, len(legs))
	}
	return each(phones, 10, func(p *leg) error { return p.hangUp(ctx) })
}

// calm measures what the machine alone does to the calls.
func calm(ctx context.Context, l *lab) error {
	pairs, err := l.pairs(ctx, l.cfg.calls)
	if err != nil {
		return err
	}
	sleep(ctx, time.Second)
	mark(l.legs)
	sleep(ctx, 5*time.Second)
	var o outcome
	for _, p := range l.legs {
		o.silences = append(o.silences, p.Media().Heard().Longest)
	}
	slices.Sort(o.silences)
	l.printf("silence of a phone, ms:  p50 %d, p99 %d, max %d", quantile(o.silences, .5).Milliseconds(), quantile(o.silences, .99).Milliseconds(), quantile(o.silences, 1).Milliseconds())
	return errors.Join(l.undisturbed(), farewell(ctx, l, pairs))
}

// blip has a node stand still for less than a crash takes. Nothing may happen but silence.
func blip(ctx context.Context, l *lab) error {
	pairs, err := l.pairs(ctx, l.cfg.calls)
	if err != nil {
		return err
	}
	sleep(ctx, time.Second)
	mark(l.legs)
	for _, n := range l.Farm("call") {
		if err := n.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	sleep(ctx, 900*time.Millisecond)
	for _, n := range l.Farm("call") {
		if err := n.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	l.printf("all call nodes stood still for 500 ms")
	sleep(ctx, 4*time.Second)
	if err := l.undisturbed(); err != nil {
		return err
	}
	l.printf("no re-INVITE, no BYE, every phone hears its far end")
	return farewell(ctx, l, pairs)
}

// demo is what `make crash-demo` shows.
func demo(ctx context.Context, l *lab) error {
	pairs, err := l.pairs(ctx, 20)
	if err != nil {
		return err
	}
	room, err := l.confer(ctx, 5)
	if err != nil {
		return err
	}
	n, legs, err := l.struck("call", l.legs)
	if err != nil {
		return err
	}
	mark(l.legs)
	at := time.Now()
	n.Kill()
	l.printf("SIGKILL: call node %s is dead", n.ID)
	o := settle(ctx, legs, at, 20*time.Second)
	for _, p := range legs {
		s, h := p.read(), p.Media().Heard()
		if len(s.reinvites) > 0 {
			l.printf("  %-4s re-INVITE after %4d ms, silent for %4d ms, hears its far end again", p.name, s.reinvites[0].Sub(at).Milliseconds(), h.Longest.Milliseconds())
		}
	}
	o.print(l)
	if err := o.judge(goal{p99: 3 * time.Second}); err != nil {
		return err
	}
	l.printf("SIGKILL: now the conference's node")
	if err := l.strikeRoom(ctx, room, 4*time.Second); err != nil {
		return err
	}
	return farewell(ctx, l, pairs)
}
