package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

func quantile(list []time.Duration, p int) time.Duration {
	return list[min(len(list)-1, len(list)*p/100)].Round(100 * time.Microsecond)
}

// measureCalls places calls at a rate; each talks for three seconds.
func (s *system) measureCalls(ctx context.Context, t *table, count, perSecond int) error {
	// The first call finds connections and pools empty; it is no figure.
	if err := s.oneCall(ctx, nil); err != nil {
		return fmt.Errorf("the first call: %w", err)
	}
	if err := s.idle(); err != nil {
		return err
	}
	before, err := s.usage()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var rings, ups []time.Duration
	var errs []error
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for range count {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			err := s.oneCall(ctx, func(ring, up time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				rings, ups = append(rings, ring), append(ups, up)
			})
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	after, err := s.usage()
	if err != nil {
		return err
	}
	if len(rings) == 0 {
		return fmt.Errorf("no call came up: %w", errs[0])
	}
	t.raw("INVITE to 180, in the order of the calls: %v", rings)
	slices.Sort(rings)
	slices.Sort(ups)
	t.row("post-dial delay at %d calls/s (INVITE to 180), %d calls", "p50 %v, p99 %v, max %v; to the 200 (20 ms of ringing) p50 %v, p99 %v; %d failed; the generator was late by %v at the worst", perSecond, count,
		quantile(rings, 50), quantile(rings, 99), rings[len(rings)-1].Round(100*time.Microsecond), quantile(ups, 50), quantile(ups, 99), len(errs), s.band.stalled())
	t.row("processor time meanwhile, of one core", "%s", strings.Join(after.since(before), ", "))
	if len(errs) > 0 {
		return fmt.Errorf("%d calls failed, the first: %w", len(errs), errs[0])
	}
	return nil
}

// oneCall calls, talks and hangs up.
func (s *system) oneCall(ctx context.Context, note func(ring, up time.Duration)) error {
	l, err := newLeg(s.hosts, 600, tone)
	if err != nil {
		return err
	}
	call, ring, up, err := s.dial(ctx, "callee", l)
	if err != nil {
		l.close()
		return err
	}
	defer s.band.leave(l)
	<-s.answers
	if note != nil {
		note(ring, up)
	}
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
	return call.Hangup(ctx)
}
