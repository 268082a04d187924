package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"rtcedge/internal/testrun"
)

// open runs a store until the test ends.
func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, s.Run)
	return s
}

func bucket(t *testing.T, s *Store, name string) *Bucket {
	t.Helper()
	b, err := s.Bucket(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestValues: what each call does to a key that is there, and to one that is not.
func TestValues(t *testing.T) {
	for name, cfg := range map[string]Config{"memory": {Name: "a name"}, "file": {Dir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			b := bucket(t, open(t, cfg), "calls")
			ctx := t.Context()
			const key = "sip:ä b@x..y." // nothing of it is a NATS key as it stands
			if _, err := b.Get(ctx, key); !errors.Is(err, ErrNotFound) {
				t.Fatalf("get of nothing: %v", err)
			}
			one, err := b.Create(ctx, key, []byte("1"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Create(ctx, key, []byte("2")); !errors.Is(err, ErrExists) {
				t.Fatalf("second create: %v", err)
			}
			two, err := b.Update(ctx, key, []byte("2"), one)
			if err != nil || two <= one {
				t.Fatalf("update: %d, %v", two, err)
			}
			if _, err := b.Update(ctx, key, []byte("3"), one); !errors.Is(err, ErrConflict) {
				t.Fatalf("update of an old revision: %v", err)
			}
			if err := b.Delete(ctx, key, one); !errors.Is(err, ErrConflict) {
				t.Fatalf("delete of an old revision: %v", err)
			}
			if e, err := b.Get(ctx, key); err != nil || string(e.Value) != "2" || e.Revision != two || e.Key != key {
				t.Fatalf("get: %+v, %v", e, err)
			}
			if err := b.Delete(ctx, key, two); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Get(ctx, key); !errors.Is(err, ErrNotFound) {
				t.Fatalf("get of what is deleted: %v", err)
			}
			if _, err := b.Create(ctx, key, []byte("4")); err != nil {
				t.Fatalf("create where something was: %v", err)
			}
		})
	}
}

// TestModifyLosesNothing: eight that add one at the same time make eight times as many.
func TestModifyLosesNothing(t *testing.T) {
	b := bucket(t, open(t, Config{}), "flows")
	var all sync.WaitGroup
	const each = 20
	for range 8 {
		all.Go(func() {
			for range each {
				err := b.Modify(t.Context(), "n", func(old []byte) ([]byte, error) {
					n, _ := strconv.Atoi(string(old))
					return []byte(strconv.Itoa(n + 1)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if e, err := b.Get(t.Context(), "n"); err != nil || string(e.Value) != strconv.Itoa(8*each) {
		t.Errorf("%s, %v; want %d", e.Value, err, 8*each)
	}
	stop := errors.New("stop")
	if err := b.Modify(t.Context(), "n", func([]byte) ([]byte, error) { return nil, stop }); !errors.Is(err, stop) {
		t.Errorf("an error of change came back as %v", err)
	}
	if err := b.Modify(t.Context(), "n", func([]byte) ([]byte, error) { return nil, nil }); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(t.Context(), "n"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nil did not delete: %v", err)
	}
}

// TestWatchAndList: first what is there, then the mark, then every change; other prefixes are not seen.
func TestWatchAndList(t *testing.T) {
	b := bucket(t, open(t, Config{}), "crashes")
	ctx := t.Context()
	for _, k := range []string{"call1.a", "call1.b", "call10.a", "other"} {
		if _, err := b.Put(ctx, k, []byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{"call1.": {"call1.a", "call1.b"}, "call1": {"call1.a", "call1.b", "call10.a"}, "": {"call1.a", "call1.b", "call10.a", "other"}, "no": nil} {
		list, err := b.List(ctx, prefix)
		var keys []string
		for _, e := range list {
			keys = append(keys, e.Key)
		}
		slices.Sort(keys)
		if err != nil || !slices.Equal(keys, want) {
			t.Errorf("list %q: %v, %v; want %v", prefix, keys, err, want)
		}
	}
	changes, err := b.Watch(ctx, "call1.")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e := <-changes; e.Key == "" || e.Deleted {
			t.Fatalf("present entry: %+v", e)
		}
	}
	if e := <-changes; e.Key != "" {
		t.Fatalf("mark: %+v", e)
	}
	if _, err := b.Put(ctx, "call1.c", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if e := <-changes; e.Key != "call1.c" || string(e.Value) != "new" {
		t.Errorf("change: %+v", e)
	}
	if err := b.Delete(ctx, "call1.a", 0); err != nil {
		t.Fatal(err)
	}
	if e := <-changes; e.Key != "call1.a" || !e.Deleted {
		t.Errorf("deletion: %+v", e)
	}
}

// TestLease: one holder at a time; given back, it is free; a silent holder's is taken over after its ttl.
func TestLease(t *testing.T) {
	listen := netip.MustParseAddrPort(freeAddr(t))
	one := open(t, Config{Listen: listen})
	bucket(t, one, "x") // it is up
	ctx := t.Context()
	const ttl = 300 * time.Millisecond
	a, err := one.Lease(ctx, "node/call1", "bridge-a", ttl)
	if err != nil {
		t.Fatal(err)
	}

	// A second process, over the network.
	two := open(t, Config{URL: "nats://" + listen.String()})
	if _, err := two.Lease(ctx, "node/call1", "bridge-b", ttl); !errors.Is(err, ErrHeld) {
		t.Fatalf("held lease: %v", err)
	}
	time.Sleep(2 * ttl) // a holder that renews keeps it
	if _, err := two.Lease(ctx, "node/call1", "bridge-b", ttl); !errors.Is(err, ErrHeld) {
		t.Fatalf("renewed lease: %v", err)
	}
	if err := a.Release(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := two.Lease(ctx, "node/call1", "bridge-b", ttl)
	if err != nil {
		t.Fatalf("released lease: %v", err)
	}

	// The holder dies: what renews it ends, the entry stays.
	b.stop()
	<-b.Lost()
	deadline := time.Now().Add(10 * ttl)
	for {
		c, err := one.Lease(ctx, "node/call1", "bridge-a", ttl)
		if err == nil {
			defer func() { _ = c.Release(context.Background()) }()
			break
		}
		if !errors.Is(err, ErrHeld) || time.Now().After(deadline) {
			t.Fatalf("lease of a dead holder: %v", err)
		}
		time.Sleep(ttl / 3)
	}
}

// TestLeaseLost: a holder that somebody else has overwritten learns of it.
func TestLeaseLost(t *testing.T) {
	s := open(t, Config{})
	l, err := s.Lease(t.Context(), "one", "a", 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket(t, s, leaseBucket).Put(t.Context(), "one", []byte(`{"owner":"b"}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Lost():
	case <-time.After(5 * time.Second):
		t.Fatal("a stolen lease is still held")
	}
}

// TestF12StoreAway: while the server is gone writes wait, the newest of each key survives, watchers go on after it is back.
func TestF12StoreAway(t *testing.T) {
	listen := netip.MustParseAddrPort(freeAddr(t))
	dir := t.TempDir()
	server := func() (stop func()) {
		srv, done, err := startServer(Config{Name: "s", Dir: dir, Listen: listen})
		if err != nil {
			t.Fatal(err)
		}
		_ = srv
		return done
	}
	stop := server()
	s := open(t, Config{URL: "nats://" + listen.String(), Timeout: 500 * time.Millisecond})
	b := bucket(t, s, "calls")
	changes, err := b.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-changes; e.Key != "" {
		t.Fatalf("mark: %+v", e)
	}
	stop()

	asked := time.Now()
	if _, err := b.Get(t.Context(), "k"); !errors.Is(err, ErrAway) {
		t.Errorf("get while away: %v", err)
	}
	if d := time.Since(asked); d > 5*time.Second {
		t.Errorf("a question waited for %v", d)
	}
	for i := range 500 {
		if err := b.PutLater(fmt.Sprintf("call-%d", i%50), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Stats().Pending; n != 50 {
		t.Errorf("%d keys wait, want 50", n)
	}

	stop = server()
	defer stop()
	back, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Flush(back); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		key := fmt.Sprintf("call-%d", i)
		if e, err := b.Get(t.Context(), key); err != nil || string(e.Value) != strconv.Itoa(450+i) {
			t.Errorf("%s: %s, %v; want %d", key, e.Value, err, 450+i)
		}
	}
	seen := map[string]bool{}
	for len(seen) < 50 {
		select {
		case e := <-changes:
			seen[e.Key] = true
		case <-back.Done():
			t.Fatalf("the watcher saw %d of 50 changes", len(seen))
		}
	}
}

// TestClosed: after Run has ended every call answers at once.
func TestClosed(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b := bucket(t, s, "x")
	if err := b.PutLater("last", []byte("1")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.Stats().Written != 1 {
		t.Error("Run ended before the last write")
	}
	if _, err := s.Bucket(t.Context(), "y"); !errors.Is(err, ErrClosed) {
		t.Errorf("bucket of a closed store: %v", err)
	}
	if _, err := b.Get(t.Context(), "last"); !errors.Is(err, ErrClosed) {
		t.Errorf("get from a closed store: %v", err)
	}
}

// TestBadConfig: each mistake is named with what is allowed.
func TestBadConfig(t *testing.T) {
	for _, c := range []Config{
		{URL: "redis://x"}, {URL: "nats://a:4222,http://b"}, {URL: "nats://a:4222", Dir: "/x"}, {Replicas: 6}, {Replicas: -1}, {Timeout: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// FuzzKey: every key survives, and two keys never become one.
func FuzzKey(f *testing.F) {
	for _, k := range []string{"", "a.b", ".a", "a.", "a..b", "a=3Db", "=", "ä", "sip:1001@host;x"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		e := escape(key)
		if got := unescape(e); got != key {
			t.Errorf("%q became %q, and then %q", key, e, got)
		}
		for i := range len(e) {
			if e[i] != '=' && !allowed(e, i) {
				t.Errorf("%q became %q", key, e)
			}
		}
	})
}
