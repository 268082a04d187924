package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// outcome is what all phones of a strike saw.
type outcome struct {
	legs      int
	recovered int             // got a re-INVITE, and media after it
	invited   []time.Duration // strike to re-INVITE
	silences  []time.Duration // longest time without a packet of the far end
	byes      int
	again     int // re-INVITEs beside the first
	strangers []string
	wrong     int // re-INVITEs past the hops
	missing   []string
}

// settle waits until every leg that a strike hit has its re-INVITE and hears again, or the time is up, and reads the phones.
func settle(ctx context.Context, legs []*leg, struck time.Time, limit time.Duration) outcome {
	o := outcome{legs: len(legs)}
	back := func(p *leg) bool {
		s := p.read()
		if len(s.reinvites) == 0 {
			return false
		}
		last := s.reinvites[len(s.reinvites)-1]
		h := p.Media().Heard()
		return h.Last.After(last) && time.Since(h.Last) < 200*time.Millisecond
	}
	for time.Since(struck) < limit && ctx.Err() == nil && !all(legs, back) {
		sleep(ctx, 20*time.Millisecond)
	}
	sleep(ctx, time.Second) // for a second re-INVITE or a BYE that must not come
	for _, p := range legs {
		s, h := p.read(), p.Media().Heard()
		o.byes += s.byes
		o.strangers = append(o.strangers, s.strangers...)
		o.wrong += s.wrongRoute
		if !back(p) {
			o.missing = append(o.missing, fmt.Sprintf("%s (%d re-INVITEs, last packet %.1f s after the strike)", p.name, len(s.reinvites), h.Last.Sub(struck).Seconds()))
			continue
		}
		o.recovered++
		o.again += len(s.reinvites) - 1
		o.invited = append(o.invited, s.reinvites[0].Sub(struck))
		o.silences = append(o.silences, max(h.Longest, time.Since(h.Last)))
	}
	slices.Sort(o.invited)
	slices.Sort(o.silences)
	return o
}

func all[T any](items []T, ok func(T) bool) bool {
	return !slices.ContainsFunc(items, func(it T) bool { return !ok(it) })
}

// quantile of a sorted list; 0 where it is empty.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (o outcome) print(l *lab) {
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	l.printf("%d of %d legs recovered; BYEs seen %d; re-INVITEs beside the first %d; past the route %d; of no dialog %d",
		o.recovered, o.legs, o.byes, o.again, o.wrong, len(o.strangers))
	l.printf("strike to re-INVITE, ms: p50 %d, p90 %d, p99 %d, max %d", ms(quantile(o.invited, .5)), ms(quantile(o.invited, .9)), ms(quantile(o.invited, .99)), ms(quantile(o.invited, 1)))
	l.printf("silence of a phone, ms:  p50 %d, p90 %d, p99 %d, max %d", ms(quantile(o.silences, .5)), ms(quantile(o.silences, .9)), ms(quantile(o.silences, .99)), ms(quantile(o.silences, 1)))
	for i, m := range o.missing {
		if i == 5 {
			l.printf("and %d more", len(o.missing)-i)
			break
		}
		l.printf("not recovered: %s", m)
	}
}

// goal is what an outcome must reach.
type goal struct{ p50, p99 time.Duration }

func (o outcome) judge(g goal) error {
	var errs []error
	if o.recovered != o.legs {
		errs = append(errs, fmt.Errorf("%d of %d legs recovered", o.recovered, o.legs))
	}
	if o.byes != 0 {
		errs = append(errs, fmt.Errorf("%d BYEs", o.byes))
	}
	if o.wrong != 0 || len(o.strangers) != 0 {
		errs = append(errs, fmt.Errorf("%d requests past the route, %d of no dialog", o.wrong, len(o.strangers)))
	}
	if p := quantile(o.silences, .5); g.p50 > 0 && p > g.p50 {
		errs = append(errs, fmt.Errorf("p50 of the silence is %v, goal %v", p, g.p50))
	}
	if p := quantile(o.silences, .99); g.p99 > 0 && p > g.p99 {
		errs = append(errs, fmt.Errorf("p99 of the silence is %v, goal %v", p, g.p99))
	}
	return errors.Join(errs...)
}

// farewell has every caller hang up, and wants 200 for each BYE and a BYE at each far end.
func farewell(ctx context.Context, l *lab, pairs []pair) error {
	err := each(pairs, 20, func(p pair) error {
		if err := p.a.hangUp(ctx); err != nil {
			return err
		}
		for end := time.Now().Add(answerTime); p.b.read().byes == 0; sleep(ctx, 20*time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%s hung up, %s got no BYE", p.a.name, p.b.name)
			}
		}
		return nil
	})
	if err == nil {
		l.printf("afterwards %d BYEs of callers: all answered 200, and every far end got one", len(pairs))
	}
	return err
}
