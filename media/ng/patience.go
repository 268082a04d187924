package ng

import (
	"context"
	"sync"
	"time"
)

// patience is context.WithTimeout for a Handler that hardly ever asks for it: the timer is made by the first Done. One for each request
// costs more than its reading, as the runtime wakes a thread to watch a timer that is the next to fire.
type patience struct {
	context.Context // that is never done
	until           time.Time

	mu    sync.Mutex // guards what follows
	err   error
	done  chan struct{}
	timer *time.Timer
}

func newPatience(ctx context.Context, d time.Duration) *patience {
	return &patience{Context: context.WithoutCancel(ctx), until: time.Now().Add(d)}
}

// Deadline, Done and Err are those of a context.Context.
func (p *patience) Deadline() (time.Time, bool) { return p.until, true }

func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = make(chan struct{})
		if p.err != nil {
			close(p.done)
		} else {
			p.timer = time.AfterFunc(time.Until(p.until), func() { p.end(context.DeadlineExceeded) })
		}
	}
	return p.done
}

func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && p.done == nil && !time.Now().Before(p.until) {
		p.err = context.DeadlineExceeded
	}
	return p.err
}

// stop ends it when the request is answered.
func (p *patience) stop() { p.end(context.Canceled) }

func (p *patience) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err = err
	if p.done != nil {
		p.timer.Stop()
		close(p.done)
	}
}
