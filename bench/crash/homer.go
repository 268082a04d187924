package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/e2e/farms"
)

// withoutCapture has farms and edge send HEP to the relay in front of HOMER; homer starts recovery by itself, with other sources each time.
func withoutCapture(c *lab.Config) (func(), error) {
	c.NoRecovery, c.HEP = true, lab.RelayAddr(netip.MustParseAddr("127.0.0.10"))
	return func() {}, nil
}

// homer is F13. HOMER is our capture with HOMER's API, in a process of its own, behind a relay that delays, drops and mixes up.
func homer(ctx context.Context, l *bench) error {
	h, err := l.StartHomer()
	if err != nil {
		return err
	}
	p, err := l.StartRecovery(0, l.StoreFlags()...)
	if err != nil {
		return err
	}
	l.RecoverP = []*farms.Process{p}
	from := func(url, token string, more ...string) []string {
		return append(append(l.StoreFlags(), "--homer", url, "--homer-token", token), more...)
	}
	cases := []struct {
		name        string
		flags       []string
		own         bool
		lag, jitter time.Duration
		loss        int32
		all         bool // every leg has to come back
		limit       time.Duration
	}{
		{"own capture, HOMER away", from("http://127.0.0.10:9", "x"), true, 0, 0, 0, true, 3 * time.Second},
		{"own capture, HOMER with a wrong token", from(h.URL, "wrong"), true, 0, 0, 0, true, 3 * time.Second},
		{"own capture, HOMER 4 s late and without 60 %", from(h.URL, lab.HomerToken), true, 4 * time.Second, 0, 60, true, 3 * time.Second},
		{"HOMER only, away", from("http://127.0.0.10:9", "x", "--homer-lag", "1s"), false, 0, 0, 0, false, 0},
		{"HOMER only, with a wrong token", from(h.URL, "wrong", "--homer-lag", "1s"), false, 0, 0, 0, false, 0},
		{"HOMER only, 4 s late and out of order", from(h.URL, lab.HomerToken), false, 3600 * time.Millisecond, 400 * time.Millisecond, 0, true, 8 * time.Second},
		{"HOMER only, without 60 % and out of order", from(h.URL, lab.HomerToken, "--homer-lag", "2s"), false, 0, 400 * time.Millisecond, 60, false, 0},
	}
	var errs []error
	for _, c := range cases {
		if err := l.EndAll(ctx); err != nil {
			return err
		}
		lab.Sleep(ctx, 500*time.Millisecond) // the phones answer the BYEs
		l.Clear()
		for _, n := range l.Nodes {
			select {
			case <-n.Done():
				if err := errors.Join(n.Restart(), l.Streamed(ctx, n)); err != nil {
					return err
				}
			default:
			}
		}
		h.Own.Store(c.own)
		h.Degrade(c.lag, c.jitter, c.loss)
		if err := l.Recontrol(ctx, c.flags...); err != nil {
			return err
		}
		pairs, err := l.Pairs(ctx, min(l.cfg.calls, 20))
		if err != nil {
			return err
		}
		if c.lag > 0 {
			lab.Sleep(ctx, c.lag) // a call of some seconds
		}
		_, legs, at, err := l.killed("call", l.Legs)
		if err != nil {
			return err
		}
		limit := 12 * time.Second
		if !c.all {
			limit = 5 * time.Second
		}
		l.Printf("== %s", c.name)
		o, err := l.settle(ctx, legs, at, limit)
		if err != nil {
			return err
		}
		l.Printf("relay passed %d, lost %d", h.Passed.Load(), h.Lost.Load())
		reasons := map[string]int{}
		for _, loss := range l.Reasons(at) {
			reasons[loss]++
		}
		if len(reasons) > 0 {
			l.Printf("not recovered, by reason: %v", reasons)
		}
		// The one thing that must never be: a request that is not right. Who did not come back is known, and says why.
		if len(o.Wrong)+len(o.Strangers) > 0 {
			errs = append(errs, fmt.Errorf("%s: wrong dialogs: %v %v", c.name, o.Wrong, o.Strangers))
		}
		if c.all {
			if err := l.judge(o, lab.Goal{P99: c.limit}); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
			if err := l.FarewellBoth(ctx, pairs); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
		}
	}
	return errors.Join(errs...)
}
