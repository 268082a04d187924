package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rtcedge/sip/siptest"
)

// measureKill kills the bridge that controls calls, with another one standing by. It must be the last one that needs the first bridge.
func (s *system) measureKill(ctx context.Context, t *table, count int) error {
	if err := s.idle(); err != nil {
		return err
	}
	var mine []*siptest.Call
	var legs []*leg
	for range count {
		l, err := newLeg(s.hosts, 600, tone)
		if err != nil {
			return err
		}
		call, _, _, err := s.dial(ctx, "callee", l)
		if err != nil {
			return err
		}
		mine, legs = append(mine, call), append(legs, l)
		mine = append(mine, (<-s.answers).call)
	}
	list, err := s.calls(count, 2)
	if err != nil {
		return err
	}
	for _, l := range legs {
		l.mark()
	}
	other := netip.AddrPortFrom(s.Inside, apiOf2nd)
	s.band.stalled()
	start := time.Now()
	s.BridgeP.Kill()
	var mu sync.Mutex
	var back []time.Duration
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() {
			for time.Since(start) < 10*time.Second {
				if s.api(other, "POST", "/v1/calls/"+c.ID+"/participants/"+c.Legs[1].ID+"/mute", map[string]bool{"on": true}, nil) == nil {
					mu.Lock()
					back = append(back, time.Since(start))
					mu.Unlock()
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second)
	lost := 0
	for _, c := range mine {
		select {
		case <-c.Done():
			lost++
		default:
		}
	}
	var worst time.Duration
	for _, l := range legs {
		_, gap := l.heard()
		worst = max(worst, gap)
	}
	slices.Sort(back)
	if len(back) < count {
		return fmt.Errorf("no control of %d calls after 10 s", count-len(back))
	}
	t.raw("control back, per call: %v", back)
	t.row("kill -9 of the bridge with %d calls, another one stands by", "%d legs lost; control of the first call back after %v, of all after %v; longest gap in the audio %v; the generator was late by %v at the worst", count,
		lost, back[0].Round(time.Millisecond), back[len(back)-1].Round(time.Millisecond), worst.Round(100*time.Microsecond), s.band.stalled())
	if lost > 0 {
		return fmt.Errorf("%d legs lost with the bridge", lost)
	}
	for _, c := range list {
		if err := s.api(other, "DELETE", "/v1/calls/"+c.ID, nil, nil); err != nil {
			return err
		}
	}
	for _, l := range legs {
		s.band.leave(l)
	}
	return nil
}
