package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/bench/rawphone"
)

// onOne puts phones for calls up that will all be on the first call node.
func (l *bench) onOne(count int) ([]lab.Pair, error) {
	pairs, err := l.NewPairs(count)
	if err != nil {
		return nil, err
	}
	return pairs, l.Steer("drain")
}

// midway is F5: a node dies while phones wait for an answer inside of their calls. A stopped node answers nothing, so that whatever is sent to it
// is still open when it is killed.
func midway(ctx context.Context, l *bench) error {
	pairs, err := l.onOne(max(8, min(l.cfg.calls, 48)))
	if err != nil {
		return err
	}
	if err := lab.Each(pairs, 20, func(p lab.Pair) error { return p.A.Dial(ctx, p.B.Name) }); err != nil {
		return err
	}
	if err := errors.Join(l.Heard(ctx, l.Legs), l.Steer("up")); err != nil {
		return err
	}
	kinds := []string{"re-INVITE", "on hold", "REFER", "BYE"}
	of := map[string][]lab.Pair{}
	for i, p := range pairs {
		k := kinds[i/4%len(kinds)] // four callers in a row have all transports
		of[k] = append(of[k], p)
	}
	for _, p := range of["on hold"] {
		if status, err := p.A.Reinvite(ctx, "sendonly"); err != nil || status != 200 {
			return fmt.Errorf("%s holds: %d, %w", p.A.Name, status, err)
		}
	}
	n := l.Farm("call")[0]
	if err := n.Hang(); err != nil {
		return err
	}
	l.Mark()
	var asked sync.WaitGroup
	var mu sync.Mutex
	answers := map[string][]string{}
	ask := func(kind string, f func(p lab.Pair) (int, error)) {
		for _, p := range of[kind] {
			asked.Go(func() {
				began := time.Now()
				status, err := f(p)
				mu.Lock()
				defer mu.Unlock()
				text := fmt.Sprintf("%d after %.1f s", status, time.Since(began).Seconds())
				if err != nil {
					text = "none"
				}
				answers[kind] = append(answers[kind], text)
			})
		}
	}
	ask("re-INVITE", func(p lab.Pair) (int, error) { return p.A.Reinvite(ctx, "sendrecv") })
	final := func(m *rawphone.Message, err error) (int, error) {
		if err != nil {
			return 0, err
		}
		return m.Status(), nil
	}
	ask("REFER", func(p lab.Pair) (int, error) {
		return final(p.A.Ask(ctx, "REFER", "", rawphone.Field{Name: "Refer-To", Value: "<sip:nobody@" + l.SIP().String() + ">"}))
	})
	ask("BYE", func(p lab.Pair) (int, error) { return final(p.A.Ask(ctx, "BYE", "")) })
	lab.Sleep(ctx, 200*time.Millisecond)
	at := time.Now()
	n.Kill()
	l.Printf("SIGKILL of %s with %d calls: %d each with an open re-INVITE, on hold, with an open REFER, with an open BYE", n.ID, len(pairs), len(pairs)/4)
	asked.Wait()
	for _, k := range kinds {
		if a := answers[k]; len(a) > 0 {
			slices.Sort(a)
			l.Printf("%-9s was answered: first %s, last %s", k, a[0], a[len(a)-1])
		}
	}
	return l.midwayEnds(ctx, of, at)
}

// midwayEnds wants the right final state of each kind.
func (l *bench) midwayEnds(ctx context.Context, of map[string][]lab.Pair, at time.Time) error {
	var errs []error
	var legs []*lab.Leg
	for _, k := range []string{"re-INVITE", "REFER"} {
		for _, p := range of[k] {
			legs = append(legs, p.A, p.B)
		}
	}
	o, err := l.settle(ctx, legs, at, 20*time.Second)
	if err != nil {
		return err
	}
	errs = append(errs, l.judge(o, lab.Goal{P99: 6 * time.Second}))
	held := 0
	for _, p := range of["on hold"] {
		seen := p.A.Seen()
		if len(seen.Invited) != 1 || seen.Byes > 0 {
			errs = append(errs, fmt.Errorf("%s on hold saw %d re-INVITEs, %d BYEs", p.A.Name, len(seen.Invited), seen.Byes))
			continue
		}
		if status, err := p.A.Reinvite(ctx, "sendrecv"); err != nil || status != 200 {
			errs = append(errs, fmt.Errorf("%s takes up again: %d, %w", p.A.Name, status, err))
			continue
		}
		held++
	}
	lab.Sleep(ctx, time.Second)
	for _, p := range of["on hold"] {
		for _, leg := range []*lab.Leg{p.A, p.B} {
			if gap := time.Since(leg.Media().Heard().Last); gap > 500*time.Millisecond {
				errs = append(errs, fmt.Errorf("%s hears nothing for %v after the hold", leg.Name, gap.Round(time.Millisecond)))
			}
		}
	}
	l.Printf("on hold: %d of %d are recovered on hold, taken up again, and both hear", held, len(of["on hold"]))
	ended := 0
	for _, p := range of["BYE"] {
		a, b := p.A.Seen(), p.B.Seen()
		if len(a.Invited)+a.Refused > 0 || b.Byes != 1 {
			errs = append(errs, fmt.Errorf("%s hung up and saw %d re-INVITEs; %s saw %d BYEs", p.A.Name, len(a.Invited)+a.Refused, p.B.Name, b.Byes))
			continue
		}
		ended++
	}
	l.Printf("BYE: %d of %d are over: no re-INVITE at who hung up, a BYE at the far end", ended, len(of["BYE"]))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return l.FarewellBoth(ctx, slices.Concat(of["re-INVITE"], of["on hold"], of["REFER"]))
}

// early is F6: a node dies while calls ring.
func early(ctx context.Context, l *bench) error {
	pairs, err := l.onOne(max(8, min(l.cfg.calls, 40)))
	if err != nil {
		return err
	}
	type end struct {
		status int
		at     time.Time
	}
	ends := make(chan end, len(pairs))
	for _, p := range pairs {
		p.B.Ring()
		go func() {
			m, err := p.A.Call(ctx, p.B.Name)
			e := end{at: time.Now()}
			if err == nil {
				e.status = m.Status()
			}
			ends <- e
		}()
	}
	for began := time.Now(); !lab.All(pairs, func(p lab.Pair) bool { return p.B.Ringing() }); lab.Sleep(ctx, 20*time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			return errors.New("not all callees ring after 10 s")
		}
	}
	if err := l.Steer("up"); err != nil {
		return err
	}
	n := l.Farm("call")[0]
	l.Mark()
	at := time.Now()
	n.Kill()
	var after []time.Duration
	statuses := map[int]int{}
	for range pairs {
		e := <-ends
		statuses[e.status]++
		after = append(after, e.at.Sub(at))
	}
	lab.Sleep(ctx, time.Second)
	slices.Sort(after)
	cancelled := 0
	for _, p := range pairs {
		if p.B.Seen().Cancelled > 0 {
			cancelled++
		}
	}
	l.Printf("SIGKILL of %s while %d calls rang: the callers' answers are %v, after p50 %d ms, max %d ms; %d callees got CANCEL", n.ID, len(pairs), statuses,
		lab.Quantile(after, .5).Milliseconds(), lab.Quantile(after, 1).Milliseconds(), cancelled)
	var errs []error
	if statuses[0] > 0 || lab.Quantile(after, 1) > 2*time.Second {
		errs = append(errs, fmt.Errorf("%d callers got no answer, the last one after %v; goal 2 s", statuses[0], lab.Quantile(after, 1)))
	}
	if cancelled != len(pairs) {
		errs = append(errs, fmt.Errorf("%d of %d callees go on ringing", len(pairs)-cancelled, len(pairs)))
	}
	// What comes next has a node.
	again, err := l.Pairs(ctx, 4)
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, l.FarewellBoth(ctx, again))
	}
	return errors.Join(errs...)
}
