package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rtcedge/sip/siptest"
)

// measureThird adds a third party to a call of two, again and again, and tells the longest silence that the first two heard, and
// beside it the longest in as much time with no third.
func (s *system) measureThird(ctx context.Context, t *table, times int) error {
	if err := s.idle(); err != nil {
		return err
	}
	var quiet, joined []time.Duration
	for range times {
		a, err := newLeg(s.hosts, 600, tone)
		if err != nil {
			return err
		}
		call, _, _, err := s.dial(ctx, "callee", a)
		if err != nil {
			return fmt.Errorf("two talk: %w", err)
		}
		b := <-s.answers
		list, err := s.calls(1, 2)
		if err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond) // the media proxy has found both
		longest := func(do func() error) (time.Duration, error) {
			a.mark()
			b.leg.mark()
			if do != nil {
				if err := do(); err != nil {
					return 0, err
				}
			}
			time.Sleep(1500 * time.Millisecond)
			_, ga := a.heard()
			_, gb := b.leg.heard()
			return max(ga, gb), nil
		}
		g, err := longest(nil)
		if err != nil {
			return err
		}
		quiet = append(quiet, g)
		var third answered
		g, err = longest(func() error {
			if err := s.api(s.API(), "POST", "/v1/calls/"+list[0].ID+"/participants", map[string]string{"to": "third"}, nil); err != nil {
				return err
			}
			select {
			case third = <-s.answers:
				return nil
			case <-time.After(10 * time.Second):
				return errors.New("the third one was not called")
			}
		})
		if err != nil {
			return err
		}
		joined = append(joined, g)
		for limit := time.Now().Add(5 * time.Second); ; time.Sleep(frame) {
			if n, _ := third.leg.heard(); n >= 50 {
				break
			}
			if time.Now().After(limit) {
				return errors.New("the third one hears nothing")
			}
		}
		if err := s.endAll(ctx, list[0].ID, call, b.call, third.call); err != nil {
			return err
		}
		s.band.leave(a)
	}
	t.raw("longest gap, with no third: %v; with: %v", quiet, joined)
	slices.Sort(quiet)
	slices.Sort(joined)
	t.row("a third party joins, %d times", "longest gap heard by the first two: median %v, worst %v; in as much time without: median %v, worst %v (a packet is due each 20 ms; the generator was late by %v at the worst)", times,
		quantile(joined, 50), joined[len(joined)-1].Round(100*time.Microsecond), quantile(quiet, 50), quiet[len(quiet)-1].Round(100*time.Microsecond), s.band.stalled())
	return nil
}

// endAll ends a call by the API and waits for the BYE of every phone.
func (s *system) endAll(ctx context.Context, id string, calls ...*siptest.Call) error {
	if err := s.api(s.API(), "DELETE", "/v1/calls/"+id, nil, nil); err != nil {
		return err
	}
	for _, c := range calls {
		select {
		case <-c.Done():
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Second):
			return fmt.Errorf("a phone got no BYE 10 s after the end of its call")
		}
	}
	return nil
}
