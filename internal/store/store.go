package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Store is a connection to the shared state.
type Store struct {
	// Constant after New.
	cfg    Config
	ready  chan struct{} // closed when conn and js are set
	closed chan struct{} // closed when Run has ended
	later  later

	// Set by Run before ready is closed.
	conn *nats.Conn
	js   jetstream.JetStream

	reconnects atomic.Uint64
	tasks      sync.WaitGroup // watches and leases

	mu      sync.Mutex // guards the rest
	buckets map[string]*Bucket
	seen    map[string]sighting // of leases that others hold
}

// New checks the configuration; nothing is opened before Run.
func New(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, ready: make(chan struct{}), closed: make(chan struct{}), buckets: map[string]*Bucket{}, seen: map[string]sighting{}}
	s.later.init()
	return s, nil
}

// Run connects and serves until ctx ends; everything is closed when it returns. An external cluster may be away at start and at any time.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.closed)
	options := []nats.Option{
		nats.Name(s.cfg.Name), nats.MaxReconnects(-1), nats.ReconnectWait(retryPause), nats.RetryOnFailedConnect(true), nats.Timeout(s.cfg.Timeout),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), // a server that hangs is left after about 6 s
		nats.ReconnectHandler(func(*nats.Conn) { s.reconnects.Add(1); s.cfg.Logger.Info("store is back") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.cfg.Logger.Warn("store is away", "err", err)
			}
		}),
	}
	url := s.cfg.URL
	if url == Embedded {
		srv, done, err := startServer(s.cfg)
		if err != nil {
			return fmt.Errorf("embedded store: %w", err)
		}
		defer done()
		url, options = "", append(options, nats.InProcessServer(srv))
	}
	conn, err := nats.Connect(url, options...)
	if err != nil {
		return fmt.Errorf("store %s: %w", s.cfg.URL, err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(s.cfg.Timeout))
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.conn, s.js = conn, js
	close(s.ready)

	write, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.tasks.Go(func() { s.later.run(write) })
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-sweep.C:
			s.sweep(ctx)
			continue
		case <-ctx.Done():
		}
		break
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	if err := s.Flush(last); err != nil {
		s.cfg.Logger.Warn("store: writes were lost at the end", "count", s.later.pending())
	}
	stop()
	conn.Close()
	s.tasks.Wait()
	return nil
}

// startServer runs JetStream inside the process. done ends it and removes what was temporary.
func startServer(cfg Config) (srv *server.Server, done func(), err error) {
	dir := cfg.Dir
	remove := func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "rtcedge-store-"); err != nil {
			return nil, nil, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
	}
	o := &server.Options{ServerName: cfg.Name, JetStream: true, StoreDir: dir, DontListen: !cfg.Listen.IsValid(), NoSigs: true, NoLog: true, MaxControlLine: 4096}
	if cfg.Listen.IsValid() {
		o.Host, o.Port = cfg.Listen.Addr().String(), int(cfg.Listen.Port())
		if o.Port == 0 {
			o.Port = server.RANDOM_PORT
		}
	}
	if srv, err = server.NewServer(o); err != nil {
		remove()
		return nil, nil, err
	}
	srv.Start()
	done = func() {
		srv.Shutdown()
		srv.WaitForShutdown()
		remove()
	}
	if !srv.ReadyForConnections(startTimeout) {
		done()
		return nil, nil, fmt.Errorf("not ready after %v (folder %s)", startTimeout, dir)
	}
	return srv, done, nil
}

// up waits until Run has connected.
func (s *Store) up(ctx context.Context) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrAway, ctx.Err())
	}
}

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
	storage := jetstream.FileStorage
	if s.cfg.URL == Embedded && s.cfg.Dir == "" {
		storage = jetstream.MemoryStorage
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	// As somebody else has made it, it is right: two processes may disagree on copies and storage.
	kv, err := s.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, History: 1, Storage: storage, Replicas: s.cfg.Replicas})
	}
	if errors.Is(err, jetstream.ErrBucketExists) { // made between the two questions
		kv, err = s.js.KeyValue(ctx, name)
	}
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

// bound gives a question without deadline the configured one.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// sweep removes the marks of keys that were deleted a while ago.
func (s *Store) sweep(ctx context.Context) {
	s.mu.Lock()
	var all []*Bucket
	for _, b := range s.buckets {
		all = append(all, b)
	}
	s.mu.Unlock()
	for _, b := range all {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		if err := b.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(markerAge)); err != nil && ctx.Err() == nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
			s.cfg.Logger.Warn("store: sweep", "bucket", b.name, "err", err)
		}
		cancel()
	}
}

// Flush waits until everything that PutLater and DeleteLater were given is written.
func (s *Store) Flush(ctx context.Context) error { return s.later.flush(ctx) }

// Stats are the counters of a store.
type Stats struct {
	Connected  bool
	Reconnects uint64
	Pending    int    // keys that wait to be written
	Written    uint64 // by PutLater and DeleteLater
	Failed     uint64 // tries of those that did not succeed, and were repeated
}

// Stats returns the counters; it never waits.
func (s *Store) Stats() Stats {
	st := Stats{Reconnects: s.reconnects.Load(), Pending: s.later.pending(), Written: s.later.written.Load(), Failed: s.later.failed.Load()}
	select {
	case <-s.ready:
		st.Connected = s.conn.IsConnected()
	default:
	}
	return st
}

// Addr is where the embedded server serves other processes; empty if it does not, or before it runs.
func (s *Store) Addr() string {
	select {
	case <-s.ready:
	default:
		return ""
	}
	if !s.cfg.Listen.IsValid() {
		return ""
	}
	return s.cfg.Listen.String()
}
