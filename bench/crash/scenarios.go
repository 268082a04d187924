package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/e2e/farms"
)

// scenarios in the order in which they run. The numbers are those of the design's table of faults.
var scenarios = []scenario{
	{name: "demo", about: "20 calls and a conference of five; the call node is killed, then the conference node", nodes: [2]int{2, 2}, play: demo},
	{name: "calm", about: "nothing happens: the longest silence without a strike", nodes: [2]int{2, 1}, play: calm},
	{name: "F1", about: "SIGKILL of a call node: UDP, TCP and WSS, both roles, 0-3 Record-Routes", nodes: [2]int{2, 1}, play: killed},
	{name: "F1r", about: "the same, seen over the network only, as a node of another machine", nodes: [2]int{2, 1},
		change: func(c *lab.Config) (func(), error) { c.NoPIDFiles = true; return func() {}, nil }, play: killed},
	{name: "F2", about: "SIGSTOP of a call node, SIGCONT when all calls are back", nodes: [2]int{2, 1}, play: stopped},
	{name: "F3", about: "the node that takes the calls over is killed 300 ms after the re-INVITEs begin", nodes: [2]int{3, 1}, play: twice},
	{name: "F5", about: "crash while a phone's re-INVITE, hold, REFER or BYE is unanswered", nodes: [2]int{2, 1}, play: midway},
	{name: "F6", about: "crash while calls ring", nodes: [2]int{2, 1}, play: early},
	{name: "F7", about: "SIGKILL of the node of a conference", nodes: [2]int{1, 2}, play: conference},
	{name: "F13", about: "HOMER away, with a wrong token, lagging 4 s, losing 60 %, out of order", nodes: [2]int{2, 1}, change: withoutCapture, play: homer},
	{name: "F18", about: "the network is cut for 1 s, 5 s and 30 s, one way and both, and loses 5 % and 20 %", nodes: [2]int{2, 2}, change: machines, play: partition},
	{name: "F18node", about: "a node is cut off from everybody for 5 s and comes back with all its calls", nodes: [2]int{2, 2}, change: machines, play: nodeCutOff},
	{name: "stall", about: "all call nodes stand still for 0.9 s: no crash, no recovery", nodes: [2]int{2, 1}, play: blip},
	{name: "F34", about: "forged HEP, crash events, re-INVITEs and BYEs", nodes: [2]int{2, 1}, change: guarded, play: forged},
}

// f1 is the goal for calls of a node that dies; the two of a call are joined directly meanwhile, so that who talks loses less than a second.
var f1 = lab.Goal{P50: 1500 * time.Millisecond, P99: 3 * time.Second, Silence99: time.Second}

// spare is the share of the processors that has to be idle before a strike: with less the times are those of a full machine.
const spare = .1

// settled is a second of the calls as they are, and what the machine has left.
func (l *bench) settled(ctx context.Context) {
	l.idle = lab.Idle(ctx, time.Second)
	l.Printf("before the strike the processors are idle for %.0f %%", l.idle*100)
}

// judge compares an outcome with its goal. Times are judged on a machine that has something to spare only, and not at all with -strict=false.
func (l *bench) judge(o lab.Outcome, g lab.Goal) error {
	if !l.timed() {
		if l.cfg.strict {
			l.Printf("times are NOT JUDGED: the calls alone fill the machine (at least %.0f %% idle are needed)", spare*100)
		}
		g = lab.Goal{}
	}
	return o.Judge(g)
}

// timed tells whether times are judged.
func (l *bench) timed() bool { return l.cfg.strict && (l.idle < 0 || l.idle >= spare) }

// settle waits until the calls of a strike are back, and prints what the phones saw and where the time went.
func (l *bench) settle(ctx context.Context, legs []*lab.Leg, at time.Time, limit time.Duration) (lab.Outcome, error) {
	o, err := l.Settle(ctx, legs, at, limit)
	o.Print(l.Lab)
	l.PrintSteps(at)
	return o, err
}

// put makes the calls: all on one node, unless they are to be spread.
func (l *bench) put(ctx context.Context) ([]lab.Pair, error) {
	if l.cfg.spread {
		return l.Pairs(ctx, l.cfg.calls)
	}
	if err := l.Steer("drain"); err != nil {
		return nil, err
	}
	pairs, err := l.Pairs(ctx, l.cfg.calls)
	return pairs, errors.Join(err, l.Steer("up"))
}

// killed is F1.
func killed(ctx context.Context, l *bench) error {
	return strikeCalls(ctx, l, func(n *farms.Node) error { n.Kill(); return nil }, nil)
}

// stopped is F2. The node that comes back must not speak into the calls that others have now.
func stopped(ctx context.Context, l *bench) error {
	return strikeCalls(ctx, l, func(n *farms.Node) error { return n.Signal(syscall.SIGSTOP) }, func(n *farms.Node) error {
		l.Printf("SIGCONT: %s runs again, with all its old dialogs", n.ID)
		return n.Signal(syscall.SIGCONT)
	})
}

// strikeCalls puts the calls up, hits the node that holds them, and has all of them end well. afterwards may be nil.
func strikeCalls(ctx context.Context, l *bench, hit, afterwards func(*farms.Node) error) error {
	pairs, err := l.put(ctx)
	if err != nil {
		return err
	}
	l.settled(ctx)
	n, legs, err := l.struck("call", l.Legs)
	if err != nil {
		return err
	}
	l.Mark()
	at := time.Now()
	if err := hit(n); err != nil {
		return err
	}
	o, err := l.settle(ctx, legs, at, 20*time.Second)
	if err := errors.Join(err, l.judge(o, f1)); err != nil {
		return err
	}
	if afterwards != nil {
		l.Mark()
		if err := afterwards(n); err != nil {
			return err
		}
		lab.Sleep(ctx, 3*time.Second)
		if err := l.Undisturbed(); err != nil {
			return err
		}
		l.Printf("nobody saw a request, and everybody hears the far end")
	}
	return l.FarewellBoth(ctx, pairs)
}

// struck chooses the node with most calls and says which phones it holds.
func (l *bench) struck(role string, phones []*lab.Leg) (*farms.Node, []*lab.Leg, error) {
	n, channels, err := l.Holder(role)
	if err != nil {
		return nil, nil, err
	}
	legs, err := lab.Held(n, phones)
	if err != nil {
		return nil, nil, err
	}
	l.Printf("%s holds %d channels: %d phones", n.ID, channels, len(legs))
	if len(legs) == 0 {
		return nil, nil, fmt.Errorf("no phone has a call on %s", n.ID)
	}
	return n, legs, nil
}

// killed is struck, and the node is dead by SIGKILL.
func (l *bench) killed(role string, phones []*lab.Leg) (n *farms.Node, legs []*lab.Leg, at time.Time, err error) {
	if n, legs, err = l.struck(role, phones); err != nil {
		return nil, nil, at, err
	}
	l.Mark()
	at = time.Now()
	n.Kill()
	return n, legs, at, nil
}

// twice kills the node that takes over, in the middle of it.
func twice(ctx context.Context, l *bench) error {
	pairs, err := l.put(ctx)
	if err != nil {
		return err
	}
	l.settled(ctx)
	n, legs, err := l.struck("call", l.Legs)
	if err != nil {
		return err
	}
	others := map[*farms.Node][]*lab.Leg{}
	for _, other := range l.Farm("call") {
		if others[other], err = lab.Held(other, l.Legs); err != nil {
			return err
		}
	}
	l.Mark()
	at := time.Now()
	n.Kill()
	// The recovery is under way when a phone has its re-INVITE.
	for first := false; !first && time.Since(at) < 10*time.Second; lab.Sleep(ctx, 5*time.Millisecond) {
		first = !lab.All(legs, func(p *lab.Leg) bool { return len(p.Seen().Invited) == 0 })
	}
	lab.Sleep(ctx, 300*time.Millisecond)
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
	l.Printf("%s killed as well, %d ms after the first", victim.ID, second.Sub(at).Milliseconds())
	lab.Sleep(ctx, 1500*time.Millisecond) // what the dead node had sent is over: the last re-INVITE of a phone is the third node's
	legs = append(legs, others[victim]...)
	o, err := l.settle(ctx, legs, at, 20*time.Second)
	if err := errors.Join(err, l.judge(o, lab.Goal{P99: 6 * time.Second})); err != nil {
		return err
	}
	return l.FarewellBoth(ctx, pairs)
}

// calm measures what the machine alone does to the calls.
func calm(ctx context.Context, l *bench) error {
	pairs, err := l.Pairs(ctx, l.cfg.calls)
	if err != nil {
		return err
	}
	lab.Sleep(ctx, time.Second)
	l.Mark()
	lab.Sleep(ctx, 5*time.Second)
	var o lab.Outcome
	for _, p := range l.Legs {
		o.Silences = append(o.Silences, p.Media().Heard().Longest)
	}
	slices.Sort(o.Silences)
	l.Printf("silence of a phone, ms:  p50 %d, p99 %d, max %d", lab.Quantile(o.Silences, .5).Milliseconds(), lab.Quantile(o.Silences, .99).Milliseconds(), lab.Quantile(o.Silences, 1).Milliseconds())
	return errors.Join(l.Undisturbed(), l.FarewellBoth(ctx, pairs))
}

// blip has a node stand still for less than a crash takes. Nothing may happen but silence.
func blip(ctx context.Context, l *bench) error {
	pairs, err := l.Pairs(ctx, l.cfg.calls)
	if err != nil {
		return err
	}
	lab.Sleep(ctx, time.Second)
	l.Mark()
	for _, n := range l.Farm("call") {
		if err := n.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	lab.Sleep(ctx, 900*time.Millisecond)
	for _, n := range l.Farm("call") {
		if err := n.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	l.Printf("all call nodes stood still for 900 ms")
	lab.Sleep(ctx, 4*time.Second)
	if err := l.Undisturbed(); err != nil {
		return err
	}
	l.Printf("no re-INVITE, no BYE, every phone hears its far end")
	return l.FarewellBoth(ctx, pairs)
}

// demo is what `make crash-demo` shows.
func demo(ctx context.Context, l *bench) error {
	pairs, err := l.Pairs(ctx, 20)
	if err != nil {
		return err
	}
	room, err := l.Confer(ctx, "7001", 5)
	if err != nil {
		return err
	}
	n, legs, at, err := l.killed("call", l.Legs)
	if err != nil {
		return err
	}
	l.Printf("SIGKILL: call node %s is dead", n.ID)
	o, err := l.settle(ctx, legs, at, 20*time.Second)
	for _, p := range legs {
		s, h := p.Seen(), p.Media().Heard()
		switch {
		case len(s.Invited) == 0:
			l.Printf("  %-4s got no re-INVITE", p.Name)
		case !p.Back():
			l.Printf("  %-4s re-INVITE after %4d ms, and has heard nothing since", p.Name, s.Invited[0].Sub(at).Milliseconds())
		default:
			l.Printf("  %-4s re-INVITE after %4d ms, silent for %4d ms, hears its far end again", p.Name, s.Invited[0].Sub(at).Milliseconds(), h.Longest.Milliseconds())
		}
	}
	if err := errors.Join(err, l.judge(o, lab.Goal{P99: 3 * time.Second, Silence99: time.Second})); err != nil {
		return err
	}
	l.Printf("SIGKILL: now the conference's node")
	if err := l.strikeRoom(ctx, room, 4*time.Second); err != nil {
		return err
	}
	return l.FarewellBoth(ctx, pairs)
}
