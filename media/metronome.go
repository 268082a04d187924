package media

import (
	"context"
	"sync/atomic"
	"time"
)

// metronome is the clock of a worker for what no packet sets off. It stands still while nothing needs it.
type metronome struct {
	// Constant.
	post  func(func()) bool // to the worker
	beat  func()
	rouse chan struct{} // room for one

	users   atomic.Int32
	waiting atomic.Bool // a beat is posted and has not run yet
}

// Chosen by us: half of the usual frame, so that a frame is at most 10 ms late.
const beatEvery = 10 * time.Millisecond

// init is in place of a constructor, as the worker holds the metronome by value.
func (m *metronome) init(post func(func()) bool, fn func()) {
	m.post, m.rouse = post, make(chan struct{}, 1)
	m.beat = func() {
		m.waiting.Store(false)
		fn()
	}
}

// add and done count who needs beats.
func (m *metronome) add() {
	m.users.Add(1)
	select {
	case m.rouse <- struct{}{}:
	default:
	}
}

func (m *metronome) done() { m.users.Add(-1) }

// run beats until ctx ends, while there are users.
func (m *metronome) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.rouse:
		}
		ticker := time.NewTicker(beatEvery)
		for m.users.Load() > 0 && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-ticker.C:
				if m.waiting.CompareAndSwap(false, true) {
					m.post(m.beat)
				}
			}
		}
		ticker.Stop()
	}
}
