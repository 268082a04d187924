package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// later is the queue of PutLater and DeleteLater: per key the newest value, written by one goroutine.
type later struct {
	wake    chan struct{}
	written atomic.Uint64
	failed  atomic.Uint64

	mu    sync.Mutex // guards the rest
	order []target   // keys in the order of their first waiting write
	next  map[target][]byte
	busy  int             // taken out of next, not written yet
	idle  []chan struct{} // closed when nothing waits
}

type target struct {
	b   *Bucket
	key string
}

func (l *later) init() {
	l.wake = make(chan struct{}, 1)
	l.next = map[target][]byte{}
}

func (l *later) add(b *Bucket, key string, value []byte) error {
	t := target{b, key}
	l.mu.Lock()
	if _, waits := l.next[t]; !waits {
		if len(l.next) >= maxPending {
			l.mu.Unlock()
			return fmt.Errorf("put %s %s: %w (%d)", b.name, key, ErrFull, maxPending)
		}
		l.order = append(l.order, t)
	}
	l.next[t] = value
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

func (l *later) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.next) + l.busy
}

// run writes until ctx ends.
func (l *later) run(ctx context.Context) {
	for {
		t, value, ok := l.take()
		if !ok {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		var err error
		if value == nil {
			err = t.b.Delete(ctx, t.key, 0)
		} else {
			_, err = t.b.Put(ctx, t.key, value)
		}
		if err == nil {
			l.written.Add(1)
			l.done()
			continue
		}
		l.failed.Add(1)
		l.putBack(t, value)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return
		}
	}
}

func (l *later) take() (t target, value []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.order) == 0 {
		return t, nil, false
	}
	t = l.order[0]
	l.order = l.order[1:]
	value = l.next[t]
	delete(l.next, t)
	l.busy = 1
	return t, value, true
}

func (l *later) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = 0
	if len(l.next) > 0 {
		return
	}
	for _, c := range l.idle {
		close(c)
	}
	l.idle = nil
}

// putBack keeps a value that could not be written, unless a newer one has come.
func (l *later) putBack(t target, value []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = 0
	if _, newer := l.next[t]; !newer {
		l.order = append([]target{t}, l.order...)
		l.next[t] = value
	}
}

func (l *later) flush(ctx context.Context) error {
	l.mu.Lock()
	if len(l.next)+l.busy == 0 {
		l.mu.Unlock()
		return nil
	}
	c := make(chan struct{})
	l.idle = append(l.idle, c)
	l.mu.Unlock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush: %w: %w", ErrAway, ctx.Err())
	}
}
