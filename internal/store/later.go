package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// later is the queue of PutLater and DeleteLater: per key the newest value. Some goroutines write, each key by one at a time, so that no older
// value comes after a newer one.
type later struct {
	wake    chan struct{}
	written atomic.Uint64
	failed  atomic.Uint64
	dropped atomic.Uint64

	mu    sync.Mutex // guards the rest
	order []target   // keys in the order of their first waiting write, without those that are being written
	next  map[target][]byte
	busy  map[target]bool // being written
	size  int             // bytes of the values in next
	idle  []chan struct{} // closed when nothing waits
}

type target struct {
	b   *Bucket
	key string
}

func (l *later) init() {
	l.wake = make(chan struct{}, writers)
	l.next, l.busy = map[target][]byte{}, map[target]bool{}
}

func (l *later) add(b *Bucket, key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("put %s: %w", b.name, err)
	}
	t := target{b, key}
	l.mu.Lock()
	old, waits := l.next[t]
	if !waits && len(l.next) >= maxPending || l.size+len(value)-len(old) > maxWaiting {
		l.mu.Unlock()
		return fmt.Errorf("put %s %s: %w (%d keys, %d bytes)", b.name, key, ErrFull, maxPending, maxWaiting)
	}
	if !waits && !l.busy[t] {
		l.order = append(l.order, t)
	}
	l.size += len(value) - len(old)
	l.next[t] = value
	l.mu.Unlock()
	l.wakeOne()
	return nil
}

func (l *later) wakeOne() {
	select {
	case l.wake <- struct{}{}:
	default: // all of them will look
	}
}

func (l *later) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting()
}

func (l *later) waiting() int {
	n := len(l.next)
	for t := range l.busy {
		if _, again := l.next[t]; !again {
			n++
		}
	}
	return n
}

// run writes until ctx ends. Writers is how many of it there are.
func (l *later) run(ctx context.Context, log *slog.Logger) {
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
		switch {
		case err == nil:
			l.written.Add(1)
			l.done(t)
			continue
		case hopeless(err):
			l.dropped.Add(1)
			l.done(t)
			log.Debug("store: a write is dropped", "bucket", t.b.name, "key", t.key, "err", err)
			continue
		}
		l.failed.Add(1)
		// While the store is away all wait alike. One that is refused goes behind the others, lest it hold them up.
		l.putBack(t, value, errors.Is(err, ErrAway))
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
	l.size -= len(value)
	l.busy[t] = true
	if len(l.order) > 0 {
		l.wakeOne()
	}
	return t, value, true
}

func (l *later) done(t target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, t)
	if _, again := l.next[t]; again {
		l.order = append(l.order, t)
		l.wakeOne()
	}
	if l.waiting() > 0 {
		return
	}
	for _, c := range l.idle {
		close(c)
	}
	l.idle = nil
}

// putBack keeps a value that could not be written, unless a newer one has come.
func (l *later) putBack(t target, value []byte, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, t)
	if _, newer := l.next[t]; !newer {
		l.next[t] = value
		l.size += len(value)
	}
	if first {
		l.order = append([]target{t}, l.order...)
	} else {
		l.order = append(l.order, t)
	}
}

func (l *later) flush(ctx context.Context) error {
	l.mu.Lock()
	if l.waiting() == 0 {
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
