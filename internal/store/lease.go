package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// leaseBucket is where leases stand.
const leaseBucket = "leases"

// Lease is the right to do something that only one may do, as long as Lost is open.
type Lease struct {
	b     *Bucket
	name  string
	owner string
	ttl   time.Duration
	rev   uint64 // of the holder's goroutine
	lost  chan struct{}
	stop  context.CancelFunc
}

// held is a lease's entry.
type held struct {
	Owner string        `json:"owner"`
	TTL   time.Duration `json:"ttl_ns"`
}

// sighting is when a revision of a foreign lease was first seen, by the monotonic clock.
type sighting struct {
	rev   uint64
	since time.Time
}

// Lease takes the lease of a name, or answers ErrHeld at once; ask again about three times per ttl. It is taken over when its holder has not
// renewed it for its ttl since this store first asked. An owner may take its own lease again at once: a process that has started anew. The
// lease is renewed until it is released, lost, or ctx ends.
func (s *Store) Lease(ctx context.Context, name, owner string, ttl time.Duration) (*Lease, error) {
	b, err := s.Bucket(ctx, leaseBucket)
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(held{Owner: owner, TTL: ttl})
	if err != nil {
		return nil, err
	}
	rev, err := b.Create(ctx, name, value)
	if errors.Is(err, ErrExists) {
		rev, err = s.takeOver(ctx, b, name, owner, value)
	}
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	l := &Lease{b: b, name: name, owner: owner, ttl: ttl, rev: rev, lost: make(chan struct{}), stop: stop}
	s.tasks.Go(func() { l.keep(ctx, value) })
	return l, nil
}

// takeOver takes a lease that is ours already, or whose holder is silent.
func (s *Store) takeOver(ctx context.Context, b *Bucket, name, owner string, value []byte) (uint64, error) {
	e, err := b.Get(ctx, name)
	if errors.Is(err, ErrNotFound) { // released in between: the next try gets it
		return 0, fmt.Errorf("lease %s: %w", name, ErrHeld)
	}
	if err != nil {
		return 0, err
	}
	var h held
	if err := json.Unmarshal(e.Value, &h); err != nil {
		return 0, fmt.Errorf("lease %s: %w", name, err)
	}
	if h.Owner != owner && !s.silent(name, e.Revision, h.TTL) {
		return 0, fmt.Errorf("lease %s, held by %s: %w", name, h.Owner, ErrHeld)
	}
	rev, err := b.Update(ctx, name, value, e.Revision)
	if errors.Is(err, ErrConflict) {
		return 0, fmt.Errorf("lease %s: %w", name, ErrHeld)
	}
	return rev, err
}

// silent tells if a revision has stayed for longer than the ttl since it was first seen.
func (s *Store) silent(name string, rev uint64, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if at, ok := s.seen[name]; ok && at.rev == rev {
		return now.Sub(at.since) > ttl
	}
	s.seen[name] = sighting{rev, now}
	return false
}

// keep renews the lease. It is lost when somebody else has written it, and also when it could not be renewed for a ttl: others may then
// have taken it over.
func (l *Lease) keep(ctx context.Context, value []byte) {
	defer close(l.lost)
	defer l.stop()
	renewed := time.Now()
	t := time.NewTicker(max(l.ttl/3, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.b.s.closed:
			return
		case <-t.C:
		}
		left := l.ttl - time.Since(renewed)
		if left <= 0 {
			return
		}
		try, cancel := context.WithTimeout(ctx, left)
		asked := time.Now()
		rev, err := l.b.Update(try, l.name, value, l.rev)
		cancel()
		switch {
		case err == nil:
			l.rev, renewed = rev, asked
		case errors.Is(err, ErrConflict):
			// An answer that was lost on its way leaves our own value under a newer revision.
			e, again := l.b.Get(ctx, l.name)
			if again != nil || string(e.Value) != string(value) {
				return
			}
			l.rev, renewed = e.Revision, asked
		}
	}
}

// Lost is closed when the lease is no longer held.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Release gives the lease back, so that the next one need not wait for its ttl.
func (l *Lease) Release(ctx context.Context) error {
	l.stop()
	<-l.lost
	err := l.b.Delete(ctx, l.name, l.rev)
	if errors.Is(err, ErrConflict) {
		return nil // somebody else has it already
	}
	return err
}
