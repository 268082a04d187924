package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
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
	ctx, cancel := b.s.bound(ctx)
	defer cancel()
	e, err := b.kv.Get(ctx, escape(key))
	if err != nil {
		return Entry{}, b.fail("get", key, err)
	}
	return Entry{Key: key, Value: e.Value(), Revision: e.Revision()}, nil
}

// Put writes a value; the last writer wins.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	ctx, cancel := b.s.bound(ctx)
	defer cancel()
	rev, err := b.kv.Put(ctx, escape(key), value)
	return rev, b.fail("put", key, err)
}

// Create writes a value where there is none, else ErrExists. Of several that try, one succeeds.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	ctx, cancel := b.s.bound(ctx)
	defer cancel()
	rev, err := b.kv.Create(ctx, escape(key), value)
	if err != nil && conflict(err) {
		err = ErrExists
	}
	return rev, b.fail("create", key, err)
}

// Update writes a value if the key's revision is still rev, else ErrConflict.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	ctx, cancel := b.s.bound(ctx)
	defer cancel()
	rev, err := b.kv.Update(ctx, escape(key), value, rev)
	return rev, b.fail("update", key, err)
}

// Delete removes a key if its revision is still rev, else ErrConflict; 0 removes any. A key that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, key string, rev uint64) error {
	ctx, cancel := b.s.bound(ctx)
	defer cancel()
	var opts []jetstream.KVDeleteOpt
	if rev > 0 {
		opts = append(opts, jetstream.LastRevision(rev))
	}
	return b.fail("delete", key, b.kv.Purge(ctx, escape(key), opts...))
}

// List returns the entries whose keys start with prefix, in no order.
func (b *Bucket) List(ctx context.Context, prefix string) ([]Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := b.Watch(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var out []Entry
	wait := time.NewTimer(b.s.cfg.Timeout)
	defer wait.Stop()
	for {
		select {
		case e, ok := <-changes:
			if !ok {
				return nil, fmt.Errorf("list %s %s: %w", b.name, prefix, ErrAway)
			}
			if e.Key == "" {
				return out, nil
			}
			if !e.Deleted {
				out = append(out, e)
			}
			wait.Reset(b.s.cfg.Timeout) // a long list is no silence
		case <-wait.C:
			return nil, fmt.Errorf("list %s %s: %w", b.name, prefix, ErrAway)
		}
	}
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

// Watch sends the entries whose keys start with prefix, then an Entry without a key, then every change. The channel is closed when ctx or the
// store ends. The caller must read: the next change waits for him.
func (b *Bucket) Watch(ctx context.Context, prefix string) (<-chan Entry, error) {
	if err := b.s.up(ctx); err != nil {
		return nil, err
	}
	var w jetstream.KeyWatcher
	var err error
	if p, ok := strings.CutSuffix(prefix, "."); ok && p != "" {
		w, err = b.kv.Watch(ctx, escape(p)+".>")
	} else {
		w, err = b.kv.WatchAll(ctx)
	}
	if err != nil {
		return nil, b.fail("watch", prefix, err)
	}
	out := make(chan Entry, 64)
	b.s.tasks.Go(func() {
		defer close(out)
		defer func() { _ = w.Stop() }() // the connection may be gone already
		for {
			var e Entry
			select {
			case u, ok := <-w.Updates():
				if !ok {
					return
				}
				if u != nil {
					e = Entry{Key: unescape(u.Key()), Value: u.Value(), Revision: u.Revision(), Deleted: u.Operation() != jetstream.KeyValuePut}
					if !strings.HasPrefix(e.Key, prefix) {
						continue
					}
				}
			case <-ctx.Done():
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			case <-b.s.closed:
				return
			}
		}
	})
	return out, nil
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

// typed gives the library's errors the names that callers branch on.
func typed(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return ErrNotFound
	case conflict(err):
		return ErrConflict
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}

func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

const hexDigits = "0123456789ABCDEF"

// escape makes a NATS key: letters, digits, - / _ and single inner dots stay, every other byte becomes =XX.
func escape(key string) string {
	plain := true
	for i := range len(key) {
		plain = plain && allowed(key, i)
	}
	if plain {
		return key
	}
	var sb strings.Builder
	for i := range len(key) {
		if c := key[i]; allowed(key, i) {
			sb.WriteByte(c)
		} else {
			sb.WriteByte('=')
			sb.WriteByte(hexDigits[c>>4])
			sb.WriteByte(hexDigits[c&15])
		}
	}
	return sb.String()
}

func allowed(key string, i int) bool {
	c := key[i]
	if c == '.' {
		return i > 0 && i < len(key)-1 && key[i-1] != '.'
	}
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '/'
}

// unescape is the inverse of escape; what is no escape stays.
func unescape(key string) string {
	if !strings.Contains(key, "=") {
		return key
	}
	var sb strings.Builder
	for i := 0; i < len(key); i++ {
		if key[i] == '=' && i+2 < len(key) {
			hi, lo := strings.IndexByte(hexDigits, key[i+1]), strings.IndexByte(hexDigits, key[i+2])
			if hi >= 0 && lo >= 0 {
				sb.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		sb.WriteByte(key[i])
	}
	return sb.String()
}
