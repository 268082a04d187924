package farm

import (
	"context"
	"time"

	"rtcedge/bridge/mixer"
)

// The pace of everything that the farm generates. After a stall the clock catches up at most so many frames and lets the
// others go: a burst is worse than a gap.
const (
	frameTime = 20 * time.Millisecond
	catchUp   = 5
)

// clock is the one goroutine that paces what channels and bridges hear.
type clock struct {
	melody [][mixer.FrameSamples]byte
	tick   func(melody [][mixer.FrameSamples]byte)
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
			c.tick(c.melody)
			next = next.Add(frameTime)
		}
		timer.Reset(time.Until(next))
	}
}
