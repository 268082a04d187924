package farm

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bridge/mixer"
)

// The pace of everything that the farm generates. After a stall the clock catches up at most so many frames and lets the
// others go: a burst is worse than a gap.
const (
	frameTime = 20 * time.Millisecond
	catchUp   = 5
)

// ticking is what the clock drives: players and rooms.
type ticking interface {
	tick(melody [][mixer.FrameSamples]byte)
}

// clock is the one goroutine that paces music and conferences.
type clock struct {
	melody [][mixer.FrameSamples]byte

	// The list is replaced, never changed, so the clock reads it without a lock while streams come and go.
	list atomic.Pointer[[]ticking]
	mu   sync.Mutex // of those who replace it
}

func newClock() *clock {
	c := &clock{melody: melody()}
	c.list.Store(new([]ticking))
	return c
}

func (c *clock) add(t ticking) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := append(slices.Clone(*c.list.Load()), t)
	c.list.Store(&list)
}

func (c *clock) remove(t ticking) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(*c.list.Load()), func(o ticking) bool { return o == t })
	c.list.Store(&list)
}

func (c *clock) run(ctx context.Context) {
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		if now.Sub(next) > catchUp*frameTime {
			next = now
		}
		for !next.After(now) {
			for _, t := range *c.list.Load() {
				t.tick(c.melody)
			}
			next = next.Add(frameTime)
		}
		timer.Reset(time.Until(next))
	}
}
