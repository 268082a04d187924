package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Entry is a value with its key and revision. Revisions of a bucket only grow.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Deleted  bool // of a Watch: the key is gone, Value is empty
}

// Bucket is a named set of keys. Its methods may be called from many goroutines.
type Bucket struct {
	s    *Store
	kv   jetstream.KeyValue
	name string
}

// Get returns the value of a key, or ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	ctx, cancel, err := b.s.ask(ctx, key)
	if err != nil {
		return Entry{}, b.fail("get", key, err)
	}
	defer cancel()
	e, err := b.kv.Get(ctx, escape(key))
	if err != nil {
		return Entry{}, b.fail("get", key, err)
	}
	value, ok := b.s.seal.open(b, key, e.Value())
	if !ok {
		return Entry{}, b.fail("get", key, ErrForged)
	}
	return Entry{Key: key, Value: value, Revision: e.Revision()}, nil
}

// Put writes a value; the last writer wins.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	ctx, cancel, err := b.s.ask(ctx, key)
	if err != nil {
		return 0, b.fail("put", key, err)
	}
	defer cancel()
	rev, err := b.kv.Put(ctx, escape(key), b.s.seal.close(b, key, value))
	return rev, b.fail("put", key, err)
}

// Create writes a value where there is none, else ErrExists. Of several that try, one succeeds.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	ctx, cancel, err := b.s.ask(ctx, key)
	if err != nil {
		return 0, b.fail("create", key, err)
	}
	defer cancel()
	rev, err := b.swap(ctx, key, value, 0, nil)
	if errors.Is(err, ErrConflict) {
		// The mark of a deleted key is in the place of nothing, and so is what is forged.
		var mark uint64
		if mark, err = b.mark(ctx, key); err == nil {
			rev, err = b.swap(ctx, key, value, mark, nil)
		}
		if errors.Is(err, ErrConflict) {
			err = ErrExists
		}
	}
	return rev, b.fail("create", key, err)
}

// Update writes a value if the key's revision is still rev, else ErrConflict.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	ctx, cancel, err := b.s.ask(ctx, key)
	if err != nil {
		return 0, b.fail("update", key, err)
	}
	defer cancel()
	rev, err = b.swap(ctx, key, value, rev, nil)
	return rev, b.fail("update", key, err)
}

// Delete removes a key if its revision is still rev, else ErrConflict; 0 removes any. A key that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, key string, rev uint64) error {
	ctx, cancel, err := b.s.ask(ctx, key)
	if err != nil {
		return b.fail("delete", key, err)
	}
	defer cancel()
	if rev == 0 {
		return b.fail("delete", key, b.kv.Purge(ctx, escape(key)))
	}
	_, err = b.swap(ctx, key, nil, rev, purge())
	return b.fail("delete", key, err)
}

// Modify reads a value (nil if there is none), lets change make the new one, and writes it if nobody was faster, else it does the same again.
// change returning nil, nil deletes the key; an error of change ends it and is returned as it is.
func (b *Bucket) Modify(ctx context.Context, key string, change func(old []byte) ([]byte, error)) error {
	for {
		var old []byte
		e, err := b.Get(ctx, key)
		missing := errors.Is(err, ErrNotFound)
		if err != nil && !missing {
			return err
		}
		if !missing {
			old = e.Value
		}
		value, err := change(old)
		if err != nil {
			return err
		}
		switch {
		case missing && value == nil:
			return nil
		case missing:
			_, err = b.Create(ctx, key, value)
		case value == nil:
			err = b.Delete(ctx, key, e.Revision)
		default:
			_, err = b.Update(ctx, key, value, e.Revision)
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrExists) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("modify %s %s: %w", b.name, key, ctx.Err())
		}
	}
}

// PutLater writes a value in the background; of several for one key the newest is written. ErrFull if too many keys wait.
func (b *Bucket) PutLater(key string, value []byte) error { return b.s.later.add(b, key, value) }

// DeleteLater removes a key in the background.
func (b *Bucket) DeleteLater(key string) error { return b.s.later.add(b, key, nil) }

func (b *Bucket) fail(what, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %s: %w", what, b.name, key, typed(err))
}
