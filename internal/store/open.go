package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket opens the bucket of a name and creates it where there is none. Letters, digits, - and _ are allowed.
func (s *Store) Bucket(ctx context.Context, name string) (*Bucket, error) {
	if err := s.up(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	b := s.buckets[name]
	s.mu.Unlock()
	if b != nil {
		return b, nil
	}
	ctx, cancel, err := s.ask(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	defer cancel()
	kv, err := s.open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, typed(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b = s.buckets[name]; b == nil {
		b = &Bucket{s: s, kv: kv, name: name}
		s.buckets[name] = b
	}
	return b, nil
}

func (s *Store) open(ctx context.Context, name string) (jetstream.KeyValue, error) {
	storage := jetstream.FileStorage
	if s.cfg.URL == Embedded && s.cfg.Dir == "" {
		storage = jetstream.MemoryStorage
	}
	want := s.replicas()
	_, err := s.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, History: 1, Storage: storage, Replicas: want})
	}
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) { // made between the two questions
		return nil, err
	}
	stream, err := s.js.Stream(ctx, fmt.Sprintf(streamOf, name))
	if err != nil {
		return nil, err
	}
	// Storage is as somebody else has made it. Copies are raised, and never taken away: a process that was told to keep fewer may have been first.
	cfg := stream.CachedInfo().Config
	if cfg.Replicas >= want && cfg.Duplicates == sameWithin && !cfg.AllowDirect {
		// Asked for only now: another process may change the bucket while we look, and a handle of before would go on with direct gets, which
		// nobody answers any more.
		return s.js.KeyValue(ctx, name)
	}
	has := cfg.Replicas
	cfg.Replicas, cfg.Duplicates = max(want, has), sameWithin
	// A direct get is answered by any node, also by one that lags after a restart: who looks whether a lease's revision moves would see it
	// go to and fro. The leader has the last word.
	cfg.AllowDirect = false
	if _, err := s.js.UpdateStream(ctx, cfg); err != nil {
		return nil, fmt.Errorf("keep %d copies instead of %d: %w", cfg.Replicas, has, err)
	}
	return s.js.KeyValue(ctx, name) // its gets go to the leader now
}

// replicas is how many copies a new bucket gets.
func (s *Store) replicas() int {
	switch {
	case s.cfg.Replicas > 0:
		return s.cfg.Replicas
	case s.cfg.URL != Embedded && s.conn.ConnectedClusterName() != "":
		return copies
	}
	return 1
}

// remake makes again the buckets that a server which lost its files does not have any more. What was in them is written by those who own it.
func (s *Store) remake(ctx context.Context) {
	for _, b := range s.all() {
		ctx, cancel, err := s.ask(ctx, b.name)
		if err != nil {
			return
		}
		if _, err := s.open(ctx, b.name); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("store: bucket after a lost connection", "bucket", b.name, "err", err)
		}
		cancel()
	}
}

func (s *Store) all() []*Bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Bucket, 0, len(s.buckets))
	for _, b := range s.buckets {
		out = append(out, b)
	}
	return out
}
