package store

import (
	"context"
	"crypto/rand"
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
	ttl   time.Duration
	value []byte // like no other holder's, not even of one with the same name
	rev   uint64 // of the holder's goroutine
	lost  chan struct{}
	stop  context.CancelFunc
}

// held is a lease's entry.
type held struct {
	Owner string        `json:"owner"`
	TTL   time.Duration `json:"ttl_ns"`
	ID    string        `json:"id"` // of this holding: two processes by mistake with one name do not hold it at once
}

// sighting is when a revision of a foreign lease was first and last seen, by the monotonic clock.
type sighting struct {
	rev         uint64
	since, last time.Time
}

// Lease takes the lease of a name, or answers ErrHeld at once; ask again about three times per ttl. It is taken over when its holder has not
// renewed it for its ttl since this store first asked, and the store has answered all that time: where nobody can write, silence says
// nothing. An owner may take its own lease again at once: a process that has started anew. The lease is renewed until it is released, lost,
// or ctx ends.
func (s *Store) Lease(ctx context.Context, name, owner string, ttl time.Duration) (*Lease, error) {
	b, err := s.Bucket(ctx, leaseBucket)
	if err != nil {
		s.forget(name)
		return nil, err
	}
	value, err := json.Marshal(held{Owner: owner, TTL: ttl, ID: rand.Text()})
	if err != nil {
		return nil, err
	}
	// A write, though it will mostly be refused: its answer shows that the bucket has a leader, by whom the holder could renew.
	rev, err := b.Create(ctx, name, value)
	if errors.Is(err, ErrExists) {
		rev, err = s.takeOver(ctx, b, name, owner, value)
	}
	if err != nil {
		if !errors.Is(err, ErrHeld) {
			s.forget(name)
		}
		return nil, err
	}
	s.forget(name)
	ctx, stop := context.WithCancel(ctx)
	l := &Lease{b: b, name: name, ttl: ttl, value: value, rev: rev, lost: make(chan struct{}), stop: stop}
	if !s.task(func() { l.keep(ctx) }) {
		stop()
		close(l.lost)
		return nil, fmt.Errorf("lease %s: %w", name, ErrClosed)
	}
	return l, nil
}

func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, name)
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
	if errors.Is(err, ErrConflict) && h.Owner == owner {
		// Mostly an earlier try of ours that got no answer. The next one tells.
		return 0, fmt.Errorf("lease %s: %w: it was written at the same time", name, ErrAway)
	}
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
	if at, ok := s.seen[name]; ok && at.rev == rev && now.Sub(at.last) <= ttl {
		s.seen[name] = sighting{rev, at.since, now}
		return now.Sub(at.since) > ttl
	}
	s.seen[name] = sighting{rev, now, now}
	return false
}

// keep renews the lease. It is lost when somebody else has written it, and also when it could not be renewed for a ttl: others may then
// have taken it over.
func (l *Lease) keep(ctx context.Context) {
	defer close(l.lost)
	defer l.stop()
	renewed := time.Now()
	t := time.NewTicker(max(l.ttl/3, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.b.s.ending:
			return
		case <-t.C:
		}
		left := l.ttl - time.Since(renewed)
		if left <= 0 {
			return
		}
		try, cancel := context.WithTimeout(ctx, left)
		asked := time.Now()
		rev, err := l.b.Update(try, l.name, l.value, l.rev)
		if errors.Is(err, ErrConflict) {
			rev, err = l.own(try)
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrHeld) {
				cancel()
				return
			}
			if err == nil && rev <= l.rev { // an old copy of a node that lags: it renews nothing
				err = ErrAway
			}
		}
		cancel()
		if err == nil {
			l.rev, renewed = rev, asked
		}
	}
}

// own is the entry's revision if it is still ours: an answer that was lost on its way leaves our value under a newer one. ErrHeld if it is
// somebody else's.
func (l *Lease) own(ctx context.Context) (uint64, error) {
	e, err := l.b.Get(ctx, l.name)
	if err == nil && string(e.Value) != string(l.value) {
		err = ErrHeld
	}
	return e.Revision, err
}

// Lost is closed when the lease is no longer held.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Release gives the lease back, so that the next one need not wait for its ttl.
func (l *Lease) Release(ctx context.Context) error {
	l.stop()
	<-l.lost
	err := l.b.Delete(ctx, l.name, l.rev)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	rev, err := l.own(ctx) // the last renewal may have arrived without an answer
	if errors.Is(err, ErrHeld) || errors.Is(err, ErrNotFound) {
		return nil // somebody else has it already
	}
	if err == nil {
		err = l.b.Delete(ctx, l.name, rev)
	}
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}
