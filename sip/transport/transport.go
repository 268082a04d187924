package transport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Errors a caller branches on. The send path returns them as they are, without text built per message.
var (
	// ErrFlowGone means that the connection which the Flow names is closed. A caller may try again without a Flow.
	ErrFlowGone = errors.New("flow is gone")
	// ErrQueueFull means that the connection takes bytes slower than they are sent to it; the message was dropped.
	ErrQueueFull = errors.New("connection queue is full")
	// ErrTooLarge means that the message is larger than the transport can carry.
	ErrTooLarge = errors.New("message is too large for the transport")
	// ErrNoConnection means that there is no connection to the address and none can be opened: WS and WSS peers cannot be
	// dialled, or too many dials or connections are pending.
	ErrNoConnection = errors.New("no connection to the address")
	// ErrBadTarget means that the Target names no listener, or an address of the wrong family.
	ErrBadTarget = errors.New("target has no usable listener or address")
	// ErrSend means that the kernel refused the datagram.
	ErrSend = errors.New("datagram was not sent")
	// ErrClosed means that the transport has ended.
	ErrClosed = errors.New("transport is closed")
)

// Flow names a connection of this process. Zero is no connection: a datagram.
type Flow uint64

// A Message is one SIP message as it came in. All of it is borrowed: valid until Handle returns.
type Message struct {
	Bytes    []byte         // the whole message; the Handler may change it in place
	From     netip.AddrPort // where it came from, IPv4 never in its mapped form
	Listener *Listener      // the listener it came in on, or, on a dialled connection, the one it was dialled for
	Flow     Flow           // the connection it came in on; 0 for UDP
	Worker   *Worker        // for sending on this goroutine
}

// A Handler gets every message. Handle runs on the worker's goroutine and must not block.
type Handler interface {
	Handle(m *Message)
}

// UnreachableHandler is a Handler that also wants to know which peers are away: an ICMP error for a datagram (port, host or
// network unreachable; Linux only), or a connection that could not be opened. It runs on a worker's or a connection's
// goroutine and must not block. ICMP can be forged by whoever guesses addresses and ports: treat it as a reason to look
// (send an OPTIONS now), not as proof.
type UnreachableHandler interface {
	Unreachable(l *Listener, peer netip.AddrPort)
}

// UndeliveredHandler is a Handler that also wants to have back what waited for a connection which could not be opened. b is borrowed
// for the call, which runs on the connection's goroutine and must not block. It returns whether it took care of b.
type UndeliveredHandler interface {
	Undelivered(l *Listener, peer netip.AddrPort, b []byte) bool
}

// A Target says where to send.
type Target struct {
	// Listener is the one whose socket, address and protocol are used. Required, except where Flow is set.
	Listener *Listener
	// Addr is the peer. Ignored where Flow is set.
	Addr netip.AddrPort
	// Flow is an open connection, or 0.
	Flow Flow
	// Host is the name that a TLS peer must prove when a connection is dialled; empty: the IP address of Addr.
	Host string
}

// A Worker is the sending side of the goroutine that runs Handle. It belongs to that goroutine until Handle returns.
type Worker struct {
	// State is the Handler's own, nil at first: scratch buffers and counters that need no lock. A UDP worker keeps it for
	// its life; connections borrow workers from a pool, one per message.
	State any

	serial uint64        // of the read batch, UDP only
	full   bool          // the batch had no room for more
	idle   time.Duration // in which it waited for messages

	t       *Transport
	backlog func() float64   // see Backlog; nil: not known
	arrived func() time.Time // see Arrived; nil: not known
	slot    int              // whose counters to use
	out     []*batch         // by Listener.index; nil entries: send at once
	msg     Message          // the one message in flight, reused
}

// Batch numbers the read batch that the message in flight belongs to, and tells if it was full, so that more may wait in the socket. A
// connection has no batches: 0.
func (w *Worker) Batch() (serial uint64, full bool) { return w.serial, w.full }

// Backlog is about how full the socket is that the message in flight came through, from 0 to 1 of its buffer; 0 where that is not known. It is a
// system call.
func (w *Worker) Backlog() float64 {
	if w.backlog == nil {
		return 0
	}
	return w.backlog()
}

// Arrived is when the kernel got the last message of the read batch, zero where that is not known. It is a system call, and the first one on
// a socket only makes the kernel take note of times from then on.
func (w *Worker) Arrived() time.Time {
	if w.arrived == nil {
		return time.Time{}
	}
	return w.arrived()
}

// Idle is the time in which the worker had nothing to do, since it began.
func (w *Worker) Idle() time.Duration { return w.idle }

// Send sends or queues a copy of b. A datagram leaves after the read batch at the latest.
func (w *Worker) Send(b []byte, to Target) error {
	if to.Flow == 0 && to.Listener != nil && to.Listener.index < len(w.out) {
		if o := w.out[to.Listener.index]; o != nil {
			return o.add(b, to)
		}
	}
	return w.t.send(b, to, w.slot)
}

// Transport owns the listeners, connections and workers.
type Transport struct {
	// Constant after New.
	cfg         Config
	handler     Handler
	unreachable UnreachableHandler // nil if the handler does not care
	undelivered UndeliveredHandler // likewise
	listeners   []*Listener
	certs       *certificates // nil without TLS listeners

	conns   connTable
	workers sync.Pool // of *Worker, for connections
	queues  sync.Pool // of *queue
	large   largeBuffers
	writers writers
	tasks   sync.WaitGroup
	closing atomic.Bool
	ran     atomic.Bool
}

// New checks the configuration and opens all listeners, or none: the error names the listener that could not be opened.
// Nothing is read before Run.
func New(cfg Config, h Handler) (*Transport, error) {
	if h == nil {
		return nil, errors.New("transport: no handler")
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	t := &Transport{cfg: cfg, handler: h}
	t.unreachable, _ = h.(UnreachableHandler)
	t.undelivered, _ = h.(UndeliveredHandler)
	t.conns.init(&t.cfg)
	t.writers.init()
	t.workers.New = func() any { return &Worker{t: t, slot: t.sharedSlot()} }
	t.queues.New = func() any { return new(queue) }
	if cfg.needsTLS() {
		var err error
		if t.certs, err = loadCertificates(cfg.TLS, cfg.Log); err != nil {
			return nil, fmt.Errorf("transport: %w", err)
		}
	}
	for i, lc := range cfg.Listeners {
		l, err := t.open(lc, i)
		if err != nil {
			t.closeListeners()
			return nil, fmt.Errorf("listen %s: %w", lc, err)
		}
		t.listeners = append(t.listeners, l)
	}
	return t, nil
}

// Listeners returns the open listeners in the order of the configuration, with the ports that were really bound.
func (t *Transport) Listeners() []*Listener { return t.listeners }

// Send sends or queues a copy of b, from any goroutine.
func (t *Transport) Send(b []byte, to Target) error { return t.send(b, to, t.sharedSlot()) }

// Close releases the listeners of a Transport whose Run was never called. After Run it does nothing.
func (t *Transport) Close() {
	if t.ran.CompareAndSwap(false, true) {
		t.closing.Store(true)
		t.closeListeners()
	}
}

// Run serves until ctx ends and returns when every socket is closed and every goroutine has ended. Connections are closed
// at once: the caller drains first.
func (t *Transport) Run(ctx context.Context) error {
	if !t.ran.CompareAndSwap(false, true) {
		return ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopWorkers, err := t.startWorkers()
	if err != nil {
		t.closeListeners()
		return fmt.Errorf("transport: %w", err)
	}
	for _, l := range t.listeners {
		l.start(ctx)
	}
	if t.certs != nil {
		t.tasks.Go(func() { t.certs.watch(ctx, t.cfg.TLS.CheckInterval) })
	}
	<-ctx.Done()
	t.closing.Store(true)
	stopWorkers()
	t.closeListeners()
	t.conns.closeAll()
	t.tasks.Wait()
	t.writers.stop()
	return nil
}

// ReloadCertificates reads the certificate files again now, as a change on disk would do within Config.TLS.CheckInterval.
// On an error the old certificates stay.
func (t *Transport) ReloadCertificates() error {
	if t.certs == nil {
		return nil
	}
	return t.certs.reload()
}

// sharedSlot is the counter slot of everything that is not a UDP worker.
func (t *Transport) sharedSlot() int { return t.cfg.Workers }

// send sends at once or queues on a connection.
func (t *Transport) send(b []byte, to Target, slot int) error {
	if to.Flow != 0 {
		c := t.conns.byFlow(to.Flow)
		if c == nil {
			return ErrFlowGone
		}
		return c.enqueue(b)
	}
	l := to.Listener
	if l == nil || !l.reaches(to.Addr.Addr()) || to.Addr.Port() == 0 {
		return ErrBadTarget
	}
	if l.packet != nil {
		return l.packet.send(b, to.Addr, slot)
	}
	return t.sendStream(b, to)
}

func (t *Transport) closeListeners() {
	for _, l := range t.listeners {
		l.close()
	}
}
