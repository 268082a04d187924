package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

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

// Watch sends the entries whose keys start with prefix, then an Entry without a key, then every change. A connection that is lost leaves no
// gap: when it is back, the watch goes on behind the last revision that it saw. The channel is closed when ctx or the store ends. The
// caller must read: the next change waits for him.
func (b *Bucket) Watch(ctx context.Context, prefix string) (<-chan Entry, error) {
	turn := b.s.turned()
	first, err := b.follow(ctx, prefix, 0)
	if err != nil {
		return nil, err
	}
	w := &watch{b: b, prefix: prefix, out: make(chan Entry, 64)}
	if !b.s.task(func() { w.run(ctx, first, turn) }) {
		b.s.stopWatcher(first)
		return nil, b.fail("watch", prefix, ErrClosed)
	}
	return w.out, nil
}

// follow asks the server for what is behind a revision; 0 is all that there is.
func (b *Bucket) follow(ctx context.Context, prefix string, after uint64) (jetstream.KeyWatcher, error) {
	asked, cancel, err := b.s.ask(ctx, "x")
	if err != nil {
		return nil, b.fail("watch", prefix, err)
	}
	defer cancel()
	var opts []jetstream.WatchOpt
	if after > 0 {
		st, err := b.kv.Status(asked)
		if err != nil {
			return nil, b.fail("watch", prefix, err)
		}
		// A bucket that ends before what we saw was made anew: all of it is news.
		if s, ok := st.(*jetstream.KeyValueBucketStatus); !ok || s.StreamInfo().State.LastSeq >= after {
			opts = append(opts, jetstream.ResumeFromRevision(after+1))
		}
	}
	var w jetstream.KeyWatcher
	if p, ok := strings.CutSuffix(prefix, "."); ok && p != "" {
		w, err = b.kv.Watch(ctx, escape(p)+".>", opts...)
	} else {
		w, err = b.kv.WatchAll(ctx, opts...)
	}
	if err != nil {
		return nil, b.fail("watch", prefix, err)
	}
	return w, nil
}

// watch is one Watch: a row of the library's watchers, one for each connection.
type watch struct {
	b      *Bucket
	prefix string
	out    chan Entry
	last   uint64 // revision that was passed on
	marked bool   // the mark was passed on
}

func (w *watch) run(ctx context.Context, kw jetstream.KeyWatcher, turn <-chan struct{}) {
	defer close(w.out)
	for w.pass(ctx, kw, turn) {
		for {
			turn = w.b.s.turned()
			var err error
			if kw, err = w.b.follow(ctx, w.prefix, w.last); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-w.b.s.ending:
				return
			case <-time.After(retryPause):
			}
		}
	}
}

// pass passes on what one of the library's watchers tells. It returns true when the connection has been lost and is back, or when the library
// has given the watcher up, as it does where a cluster has no leader for it.
func (w *watch) pass(ctx context.Context, kw jetstream.KeyWatcher, turn <-chan struct{}) bool {
	defer w.b.s.stopWatcher(kw)
	for {
		var e Entry
		select {
		case u, ok := <-kw.Updates():
			switch {
			case !ok:
				return ctx.Err() == nil
			case u == nil && w.marked:
				continue
			case u == nil:
				w.marked = true
			default:
				e = Entry{Key: unescape(u.Key()), Value: u.Value(), Revision: u.Revision(), Deleted: u.Operation() != jetstream.KeyValuePut}
				w.last = e.Revision
				if !strings.HasPrefix(e.Key, w.prefix) {
					continue
				}
				if !e.Deleted {
					var ok bool
					if e.Value, ok = w.b.s.seal.open(w.b, e.Key, e.Value); !ok {
						continue // what stood there before goes on to be believed
					}
				}
			}
		case <-turn:
			return true
		case <-ctx.Done():
			return false
		case <-w.b.s.ending:
			return false
		}
		select {
		case w.out <- e:
		case <-ctx.Done():
			return false
		case <-w.b.s.ending:
			return false
		}
	}
}

// stopWatcher ends a watcher of the library and takes what it still has: its callback would wait for a reader for ever.
func (s *Store) stopWatcher(kw jetstream.KeyWatcher) {
	_ = kw.Stop() // the connection may be gone already
	s.task(func() {
		for {
			select {
			case _, ok := <-kw.Updates():
				if !ok {
					return
				}
			case <-s.ending:
				return
			}
		}
	})
}
