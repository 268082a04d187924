package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Store is a connection to the shared state.
type Store struct {
	// Constant after New.
	cfg    Config
	ready  chan struct{} // closed when conn and js are set
	ending chan struct{} // closed when the last writes are done: tasks end
	closed chan struct{} // closed when Run has ended
	later  later
	seal   seal

	// Set by Run before ready is closed.
	conn *nats.Conn
	js   jetstream.JetStream

	reconnects atomic.Uint64
	refused    atomic.Uint64
	tasks      sync.WaitGroup // watches and leases; see task

	mu      sync.Mutex // guards the rest
	over    bool       // no task may begin
	told    string     // why there is no connection, as it was logged last
	buckets map[string]*Bucket
	seen    map[string]sighting // of leases that others hold
	online  chan struct{}       // closed while there is a connection
	turn    chan struct{}       // closed, and replaced, when a lost connection is back
}

// New checks the configuration; nothing is opened before Run.
func New(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, ready: make(chan struct{}), ending: make(chan struct{}), closed: make(chan struct{}), buckets: map[string]*Bucket{},
		seen: map[string]sighting{}, online: make(chan struct{}), turn: make(chan struct{})}
	s.later.init()
	if err := s.seal.init(cfg.Key); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return s, nil
}

// Run connects and serves until ctx ends; everything is closed when it returns. An external cluster may be away at start and at any time.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.closed)
	options := []nats.Option{
		nats.Name(s.cfg.Name), nats.MaxReconnects(-1), nats.ReconnectWait(retryPause), nats.RetryOnFailedConnect(true), nats.Timeout(s.cfg.Timeout),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), // a server that hangs is left after about 6 s
		// What is written without a connection would leave with the next one, long after its caller was told that it failed.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(), nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { s.notLetIn(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.notLetIn(err) }),
		nats.ConnectHandler(func(*nats.Conn) { s.connected() }),
		nats.ReconnectHandler(func(*nats.Conn) { s.reconnects.Add(1); s.connected(); s.cfg.Logger.Info("store is back") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			s.disconnected()
			if err != nil {
				s.cfg.Logger.Warn("store is away", "err", err)
			}
		}),
	}
	if s.cfg.Token != "" {
		options = append(options, nats.Token(s.cfg.Token)) // an account in the URL goes before it
	}
	if s.cfg.CA != "" {
		options = append(options, nats.RootCAs(s.cfg.CA))
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
		return fmt.Errorf("store %s: %w", redact(s.cfg.URL), err)
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
	for range writers {
		s.task(func() { s.later.run(write, s.cfg.Logger) })
	}
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	turn := s.turned()
	for {
		select {
		case <-sweep.C:
			s.sweep(ctx)
			continue
		case <-turn:
			turn = s.turned()
			s.remake(ctx)
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
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	close(s.ending)
	conn.Close()
	s.tasks.Wait()
	return nil
}

// task runs something that Run waits for; false if it ends already.
func (s *Store) task(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.tasks.Go(f)
	return true
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

// ask bounds a question about a key that has no deadline, and waits, for as long as it may take, until there is a connection to ask over.
func (s *Store) ask(ctx context.Context, key string) (context.Context, context.CancelFunc, error) {
	if err := checkKey(key); err != nil {
		return nil, nil, err
	}
	cancel := context.CancelFunc(func() {})
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Timeout)
	}
	s.mu.Lock()
	online := s.online
	s.mu.Unlock()
	var err error
	select {
	case <-online:
		return ctx, cancel, nil
	case <-s.ending:
		err = ErrClosed
	case <-s.closed:
		err = ErrClosed
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrAway, ctx.Err())
	}
	cancel()
	return nil, nil, err
}

// notLetIn tells what the library cannot do, once per reason: an operator must see a wrong password at once.
func (s *Store) notLetIn(err error) {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) || tlsFault(err) {
		s.refused.Add(1)
	}
	s.mu.Lock()
	told := s.told == err.Error()
	s.told = err.Error()
	s.mu.Unlock()
	if !told {
		s.cfg.Logger.Warn("store: not connected", "store", redact(s.cfg.URL), "err", err)
	}
}

// tlsFault tells of a certificate that is not believed, or a server that wants or has no TLS.
func tlsFault(err error) bool {
	var verify *tls.CertificateVerificationError
	return errors.As(err, &verify) || errors.Is(err, nats.ErrSecureConnRequired) || errors.Is(err, nats.ErrSecureConnWanted)
}

// connected and disconnected are what the library tells, in its order.
func (s *Store) connected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = ""
	select {
	case <-s.online:
	default:
		close(s.online)
	}
	close(s.turn)
	s.turn = make(chan struct{})
}

func (s *Store) disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.online:
		s.online = make(chan struct{})
	default:
	}
}

// turned is closed at the next connection.
func (s *Store) turned() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turn
}

// sweep removes the marks of keys that were deleted a while ago.
func (s *Store) sweep(ctx context.Context) {
	for _, b := range s.all() {
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
	Forged     uint64 // values that were read and not believed, for their seal
	Refused    uint64 // connections that the server did not let in, by password, token or certificate; of tries in a row not each
	Pending    int    // keys that wait to be written
	Written    uint64 // by PutLater and DeleteLater
	Dropped    uint64 // of those, writes that no repetition makes better, as of a value that is too large
	Failed     uint64 // tries of those that did not succeed, and were repeated
}

// Stats returns the counters; it never waits.
func (s *Store) Stats() Stats {
	st := Stats{Reconnects: s.reconnects.Load(), Forged: s.seal.forged.Load(), Refused: s.refused.Load(), Pending: s.later.pending(), Written: s.later.written.Load(), Failed: s.later.failed.Load(), Dropped: s.later.dropped.Load()}
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
