//go:build e2e

package e2e

import (
	"sync/atomic"
	"testing"
	"time"
)

// pulse is a watch on the machine itself: how much longer than asked a sleep took.
type pulse struct{ longest, lateOver atomic.Int64 }

// feel starts one; it ends with the test.
func feel(t *testing.T) *pulse {
	p := new(pulse)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			start := time.Now()
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			late := int64(time.Since(start) - 10*time.Millisecond)
			p.longest.Store(max(p.longest.Load(), late))
			if late > int64(5*time.Millisecond) {
				p.lateOver.Add(late)
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return p
}

// reset forgets what was before.
func (p *pulse) reset() { p.longest.Store(0); p.lateOver.Store(0) }

// stoodStill tells if the machine was late by more than the buffers of sockets hold at the rates of the attacks.
func (p *pulse) stoodStill() bool { return time.Duration(p.longest.Load()) > 80*time.Millisecond }

// judge fails the test if a time is over its limit, unless the machine was late itself: then it says that it does not know.
func (p *pulse) judge(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	longest, late := time.Duration(p.longest.Load()), time.Duration(p.lateOver.Load())
	switch {
	case took <= limit:
	case longest > 50*time.Millisecond || late > took/20:
		t.Logf("%s: %v, limit %v: NOT JUDGED, the machine itself was late by %v at once and %v in all", what, took, limit, longest.Round(time.Millisecond), late.Round(time.Millisecond))
	default:
		t.Errorf("%s: %v, want at most %v (the machine was late by %v at once)", what, took, limit, longest.Round(time.Millisecond))
	}
}
