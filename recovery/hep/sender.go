package hep

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"
)

// Chosen by us.
const (
	batch       = 64                     // packets taken from the queue at once
	dialTimeout = 5 * time.Second        // of one attempt
	firstPause  = 100 * time.Millisecond // before the second attempt; doubled for each one more
	lastPause   = 5 * time.Second        // a connection that lived so long was a good one: the next pause is short again
	flushTime   = 250 * time.Millisecond // for what waits when the context ends
)

// What ends a connection besides the system's errors.
var (
	errEnded = errors.New("ended") // the context has ended and nothing waits
	errLost  = errors.New("closed by the collector")
)

// Sender brings packets to one collector. Send may be called from anywhere, before, during and after Run.
type Sender struct {
	// Constant after New.
	cfg  Config
	node []byte
	auth []byte

	queue *ring
	idle  atomic.Bool   // Run's goroutine is about to wait for wake
	ended atomic.Bool   // Run is over
	wake  chan struct{} // one place: a second ring says nothing new
	count counters

	// Owned by Run's goroutine.
	spans [batch]span
	until time.Time // the end of flushing, once the context has ended
}

// New checks the configuration and takes the queue's memory. It opens nothing.
func New(cfg Config) (*Sender, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("hep sender: %w", err)
	}
	return &Sender{cfg: cfg, node: []byte(cfg.NodeName), auth: []byte(cfg.AuthKey), queue: newRing(cfg.QueueMessages, cfg.QueueBytes),
		wake: make(chan struct{}, 1)}, nil
}

// Functions occur in the order in which a packet meets them.

// Send puts p into the queue, or counts why not. It never waits and does not allocate; all slices of p are copied before
// it returns. CaptureID, Node and AuthKey are those of the Config.
func (s *Sender) Send(p Packet) {
	if s.ended.Load() {
		s.drop(DropEnded)
		return
	}
	p.CaptureID, p.Node, p.AuthKey = s.cfg.CaptureID, s.node, s.auth
	src, tgt := addresses(&p)
	n := size(&p, src.Is4())
	if n > MaxPacket {
		s.drop(DropTooLarge)
		return
	}
	c, full := s.queue.reserve(uint32(n))
	if full != DropNone {
		s.drop(full)
		return
	}
	appendSized(s.queue.room(c, uint32(n)), &p, src, tgt, n)
	s.queue.commit(c)
	if s.idle.Load() && s.idle.CompareAndSwap(true, false) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Run sends what is in the queue until ctx ends. It returns nil: no fault of the collector is one of the edge.
func (s *Sender) Run(ctx context.Context) error {
	defer s.end()
	pause := firstPause
	for first := true; ctx.Err() == nil; first = false {
		began := time.Now()
		err := s.connection(ctx, first)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) >= lastPause {
			pause = firstPause
		}
		if pause == firstPause { // the attempts after it are silent
			s.cfg.Log.Warn("capture collector lost", "peer", s.cfg.Addr, "proto", s.cfg.Proto, "err", err)
		}
		// The pause varies by half, so that edges do not come back to a restarted collector at one moment.
		wait(ctx, pause/2+rand.N(pause))
		pause = min(2*pause, lastPause)
	}
	return nil
}

// end counts what no longer has a way out.
func (s *Sender) end() {
	s.ended.Store(true)
	for {
		n := s.queue.peek(s.spans[:])
		if n == 0 {
			return
		}
		s.queue.release(n)
		s.count.dropped[DropEnded].Add(uint64(n))
	}
}

// connection opens one and uses it until it breaks or the context has ended.
func (s *Sender) connection(ctx context.Context, first bool) error {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, string(s.cfg.Proto), s.cfg.Addr.String())
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if !first {
		s.count.reconnects.Add(1)
	}
	s.count.connected.Store(true)
	defer s.count.connected.Store(false)
	s.cfg.Log.Info("capture collector connected", "peer", s.cfg.Addr, "proto", s.cfg.Proto)
	if udp, ok := conn.(*net.UDPConn); ok {
		defer conn.Close()
		return s.serve(ctx, conn, newDatagrams(s, udp), nil)
	}
	return s.overTCP(ctx, conn)
}

// A writer sends the n records of s.spans and says how many of them need not come again.
type writer interface {
	write(n int) (done int, err error)
}

// serve moves records from the queue to w until that fails or lost is closed. Nothing leaves the queue before it was sent,
// so that it survives a connection.
func (s *Sender) serve(ctx context.Context, conn net.Conn, w writer, lost <-chan struct{}) error {
	// A write that hangs when the context ends gets the time for flushing.
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(flushTime)) })()
	for {
		n, err := s.next(ctx, lost)
		if err != nil {
			return err
		}
		_ = conn.SetWriteDeadline(time.Now().Add(s.cfg.StallTimeout))
		if ctx.Err() != nil {
			// It may have ended just before the line above, which then undid the function's work.
			if s.until.IsZero() {
				s.until = time.Now().Add(flushTime)
			}
			_ = conn.SetWriteDeadline(s.until)
		}
		n, err = w.write(n)
		s.queue.release(n)
		if err != nil {
			return err
		}
	}
}

// next waits for records in the queue and leaves their places in s.spans.
func (s *Sender) next(ctx context.Context, lost <-chan struct{}) (int, error) {
	for {
		if n := s.queue.peek(s.spans[:]); n > 0 {
			return n, nil
		}
		if ctx.Err() != nil {
			return 0, errEnded
		}
		s.idle.Store(true)
		if n := s.queue.peek(s.spans[:]); n > 0 { // it came before idle was seen
			s.idle.Store(false)
			return n, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		case <-lost:
			s.idle.Store(false)
			return 0, errLost
		}
		s.idle.Store(false)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
