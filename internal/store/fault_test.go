package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// outside is a server that a test can take away and bring back, at one address.
type outside struct {
	t    *testing.T
	dir  string
	addr netip.AddrPort
	stop func()
}

func newOutside(t *testing.T) *outside {
	o := &outside{t: t, dir: t.TempDir(), addr: netip.MustParseAddrPort(freeAddr(t)), stop: func() {}}
	t.Cleanup(func() { o.stop() })
	o.start()
	return o
}

func (o *outside) start() {
	o.t.Helper()
	_, done, err := startServer(Config{Name: "s", Dir: o.dir, Listen: o.addr})
	if err != nil {
		o.t.Fatal(err)
	}
	o.stop = done
}

func (o *outside) away() { o.stop(); o.stop = func() {} }

func (o *outside) url() string { return "nats://" + o.addr.String() }

// until waits for a state of something that runs by itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// TestF12NothingIsSentLater: a write whose caller was told that it failed does not reach the store when that is back, over what others wrote.
func TestF12NothingIsSentLater(t *testing.T) {
	srv := newOutside(t)
	one := open(t, Config{URL: srv.url(), Timeout: 300 * time.Millisecond})
	b := bucket(t, one, "calls")
	srv.away()
	until(t, "the connection is lost", func() bool { return !one.Stats().Connected })
	if _, err := b.Put(t.Context(), "k", []byte("old")); !errors.Is(err, ErrAway) {
		t.Fatalf("put while away: %v", err)
	}
	if _, err := b.Create(t.Context(), "c", []byte("old")); !errors.Is(err, ErrAway) {
		t.Fatalf("create while away: %v", err)
	}
	srv.start()
	until(t, "the connection is back", func() bool { return one.Stats().Connected })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.Put(ctx, "mark", nil); err != nil { // behind anything that waited
		t.Fatal(err)
	}
	for _, k := range []string{"k", "c"} {
		if e, err := b.Get(ctx, k); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %q, %v: a failed write came later", k, e.Value, err)
		}
	}
}

// TestF12AwayIsNoSilence: while nobody can write, a lease does not pass to another process; its holder has it again when the store is back.
func TestF12AwayIsNoSilence(t *testing.T) {
	srv := newOutside(t)
	const ttl = time.Second
	holder, other := open(t, Config{URL: srv.url()}), open(t, Config{URL: srv.url()})
	l, err := holder.Lease(t.Context(), "node", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stolen := make(chan struct{})
	ended := make(chan struct{})
	go func() { // as a standby does
		defer close(ended)
		for ctx.Err() == nil {
			if _, err := other.Lease(ctx, "node", "b", ttl); err == nil {
				close(stolen)
				return
			}
			time.Sleep(ttl / 4)
		}
	}()
	defer func() { <-ended }()
	defer cancel()
	srv.away()
	<-l.Lost() // it could not be renewed for a ttl
	time.Sleep(ttl)
	srv.start()
	until(t, "the holder has it again", func() bool {
		l, err = holder.Lease(t.Context(), "node", "a", ttl)
		return err == nil
	})
	select {
	case <-stolen:
		t.Error("the standby took it")
	case <-time.After(2 * ttl):
	}
	// The holder goes without a word: now silence counts.
	l.stop()
	select {
	case <-stolen:
	case <-time.After(10 * ttl):
		t.Error("the standby does not take it from a dead holder")
	}
}

// TestLeaseOfOneName: of two processes with the same name by mistake one holds it.
func TestLeaseOfOneName(t *testing.T) {
	s := open(t, Config{})
	const ttl = 300 * time.Millisecond
	first, err := s.Lease(t.Context(), "node", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Lease(t.Context(), "node", "a", ttl)
	if err != nil {
		t.Fatalf("an owner that starts anew: %v", err)
	}
	select {
	case <-first.Lost():
	case <-time.After(5 * time.Second):
		t.Fatal("both hold it")
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.Lost():
		t.Error("the first one's release ended the second one's lease")
	case <-time.After(2 * ttl):
	}
}

// TestReleaseBehindALostAnswer: a renewal that arrived without an answer does not keep the lease for another ttl.
func TestReleaseBehindALostAnswer(t *testing.T) {
	s := open(t, Config{})
	l, err := s.Lease(t.Context(), "node", "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.b.Put(t.Context(), "node", l.value); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(t.Context(), "node", "b", time.Hour); err != nil {
		t.Errorf("a released lease: %v", err)
	}
}

// TestHopelessWrites: a value too large for the server and a key that would make it close the connection hold up nothing else.
func TestHopelessWrites(t *testing.T) {
	srv := newOutside(t)
	s := open(t, Config{URL: srv.url()})
	b := bucket(t, s, "media")
	long := strings.Repeat("x@", 600) // 2400 bytes when escaped
	if err := b.PutLater(long, []byte("1")); !errors.Is(err, ErrKey) {
		t.Errorf("a long key: %v", err)
	}
	if _, err := b.Put(t.Context(), long, []byte("1")); !errors.Is(err, ErrKey) {
		t.Errorf("a long key: %v", err)
	}
	if err := b.PutLater("", []byte("1")); !errors.Is(err, ErrKey) {
		t.Errorf("an empty key: %v", err)
	}
	for i := range 20 {
		if err := b.PutLater(fmt.Sprint("large-", i), make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.PutLater("small", []byte("1")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Dropped != 20 || st.Written != 1 || st.Reconnects != 0 {
		t.Errorf("%+v, want 20 dropped, 1 written, no reconnect", st)
	}
	if _, err := b.Get(ctx, "small"); err != nil {
		t.Error(err)
	}
}

// TestLaterIsBounded: by keys and by bytes; a newer value of a key that waits needs no new room.
func TestLaterIsBounded(t *testing.T) {
	s, err := New(Config{}) // it does not run: everything waits
	if err != nil {
		t.Fatal(err)
	}
	b := &Bucket{s: s, name: "media"}
	block := make([]byte, 64<<20)
	for i := range maxWaiting / len(block) {
		if err := b.PutLater(fmt.Sprint(i), block); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.PutLater("more", []byte("1")); !errors.Is(err, ErrFull) {
		t.Errorf("over the bytes: %v", err)
	}
	for i := range maxWaiting / len(block) {
		if err := b.PutLater(fmt.Sprint(i), nil); err != nil {
			t.Errorf("a newer value of less: %v", err)
		}
	}
	for i := range maxPending - maxWaiting/len(block) {
		if err := b.PutLater(fmt.Sprint("k", i), []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.PutLater("more", []byte("1")); !errors.Is(err, ErrFull) {
		t.Errorf("over the keys: %v", err)
	}
	if err := b.PutLater("k0", []byte("2")); err != nil {
		t.Errorf("a key that waits: %v", err)
	}
}

// TestWatchLeavesNoGap: changes and deletions that came while a watcher's connection was lost reach it right after it is back, each once.
func TestWatchLeavesNoGap(t *testing.T) {
	srv := newOutside(t)
	s := open(t, Config{URL: srv.url()})
	b := bucket(t, s, "calls")
	for _, k := range []string{"a", "b"} {
		if _, err := b.Put(t.Context(), k, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := b.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	next := func() Entry {
		t.Helper()
		select {
		case e := <-changes:
			return e
		case <-time.After(8 * time.Second):
			t.Fatal("the watcher says nothing")
			return Entry{}
		}
	}
	for range 3 {
		next()
	}
	srv.away()
	until(t, "the connection is lost", func() bool { return !s.Stats().Connected })
	// The server has other clients, who are there before ours.
	srv.addr = netip.MustParseAddrPort(freeAddr(t))
	back := s.cfg.URL
	srv.start()
	func() {
		ctx, cancel := context.WithCancel(context.Background())
		other, err := New(Config{URL: srv.url()})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- other.Run(ctx) }()
		defer func() { cancel(); <-done }()
		o := bucket(t, other, "calls")
		if _, err := o.Put(ctx, "c", []byte("1")); err != nil {
			t.Fatal(err)
		}
		if err := o.Delete(ctx, "a", 0); err != nil {
			t.Fatal(err)
		}
	}()
	srv.away()
	srv.addr = netip.MustParseAddrPort(strings.TrimPrefix(back, "nats://"))
	srv.start()
	if e := next(); e.Key != "c" || e.Deleted {
		t.Errorf("first %+v, want the new key", e)
	}
	if e := next(); e.Key != "a" || !e.Deleted {
		t.Errorf("then %+v, want the deletion", e)
	}
	if _, err := b.Put(t.Context(), "d", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.Key != "d" {
		t.Errorf("then %+v, want what came last", e)
	}
}

// TestServerThatLostItsFiles: buckets are made again, writes go on, and a watcher sees what is written into the new one.
func TestServerThatLostItsFiles(t *testing.T) {
	srv := newOutside(t)
	s := open(t, Config{URL: srv.url(), Timeout: 500 * time.Millisecond})
	b := bucket(t, s, "calls")
	for i := range 5 {
		if _, err := b.Put(t.Context(), fmt.Sprint("old", i), []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := b.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		<-changes
	}
	srv.away()
	srv.dir = t.TempDir()
	srv.start()
	until(t, "a write succeeds", func() bool {
		_, err := b.Put(t.Context(), "new", []byte("1"))
		return err == nil
	})
	select {
	case e := <-changes:
		if e.Key != "new" {
			t.Errorf("%+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watcher sees nothing of the new bucket")
	}
}

// TestRunEndsWithADeafWatcher: one that does not read, and whose context goes on, does not keep Run.
func TestRunEndsWithADeafWatcher(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b := bucket(t, s, "x")
	if _, err := b.Watch(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(t.Context(), "node", "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if _, err := b.Put(t.Context(), fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run does not end")
	}
}

// TestOlderBucket: one that another program made, with few copies and a long memory of message ids, is put right when it is opened.
func TestOlderBucket(t *testing.T) {
	srv := newOutside(t)
	s := open(t, Config{URL: srv.url()})
	bucket(t, s, "x") // it is up
	if _, err := s.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "calls", History: 1}); err != nil {
		t.Fatal(err)
	}
	b := bucket(t, s, "calls")
	stream, err := s.js.Stream(t.Context(), "KV_calls")
	if err != nil || stream.CachedInfo().Config.Duplicates != sameWithin || stream.CachedInfo().Config.AllowDirect {
		t.Fatalf("%+v, %v", stream.CachedInfo().Config, err)
	}
	// Two for one revision: the second is refused, by the id if not by the revision.
	rev, err := b.Create(t.Context(), "k", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(t.Context(), "k", []byte("2"), rev); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(t.Context(), "k", []byte("3"), rev); !errors.Is(err, ErrConflict) {
		t.Errorf("a second write for one revision: %v", err)
	}
	if e, err := b.Get(t.Context(), "k"); err != nil || string(e.Value) != "2" {
		t.Errorf("%q, %v", e.Value, err)
	}
}

// TestBucketOfManyAtOnce: processes that open a new bucket at the same time all read it afterwards. One that came between another's making and
// setting it up went on to ask in a way that nobody answers.
func TestBucketOfManyAtOnce(t *testing.T) {
	srv := newOutside(t)
	var all []*Store
	for range 3 {
		all = append(all, open(t, Config{URL: srv.url()}))
	}
	for n := range 20 {
		name := fmt.Sprint("b", n)
		var group sync.WaitGroup
		for i, s := range all {
			group.Go(func() {
				b, err := s.Bucket(t.Context(), name)
				if err != nil {
					t.Errorf("%s by %d: %v", name, i, err)
					return
				}
				if _, err := b.Put(t.Context(), "k", []byte("v")); err != nil {
					t.Errorf("%s by %d: %v", name, i, err)
				}
				if _, err := b.Get(t.Context(), "k"); err != nil {
					t.Errorf("%s by %d: %v", name, i, err)
				}
			})
		}
		group.Wait()
	}
}
