package udp

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Chosen by us: an RTP packet plus tunnel overhead fits an Ethernet frame; longer datagrams (64 kB is the maximum of
// UDP) are no media and are cut by the kernel, which the header checks above notice.
const (
	bufferSize = 2048
	// Tailroom is free space behind a received packet for what protection appends (an SRTCP tag with index and MKI).
	Tailroom = 128
)

// Packet is a received datagram. Data and the room behind it are lent until Receive returns and may be changed.
type Packet struct {
	Data []byte // cap(Data)-len(Data) >= Tailroom
	From netip.AddrPort
	Time time.Time // of arrival, to a batch's precision
}

// Receiver takes the packets of one socket.
type Receiver interface{ Receive(p *Packet) }

// Failer is a Receiver that wants to know of a packet which WriteTo took for a batch and the kernel refused later.
type Failer interface{ Failed() }

// Steering is a way to have the packets of single ports delivered to one socket per loop: media/xdp. Set and Clear may be called by any
// goroutine.
type Steering interface {
	Range() (addrs []netip.Addr, portMin, portMax uint16)
	Join(fd int) (lane int, err error)
	Set(a netip.AddrPort, lane int)
	Clear(a netip.AddrPort)
}

// LoopConfig configures a Loop. The zero value works.
type LoopConfig struct {
	Portable bool                // use the net package instead of system calls; always so where there is no epoll
	Tick     func(now time.Time) // called about every TickEvery on the loop's goroutine; nil is never
	Interval time.Duration       // between ticks; 100 ms
	Now      func() time.Time    // clock of Packet.Time and Tick; time.Now
	Steering Steering            // ports of its range get no socket of their own; nil is none. Not with Portable
	// Ahead is told, before the packets of a batch are received one after the other, who will get them: in the order of the packets, one
	// of several packets several times, one whose port is closed by a packet before its own in vain. It may load what they need into the
	// processor's cache, for all of them at once. nil is nobody. The slice is lent.
	Ahead func(batch []Receiver)
}

// Loop serves many sockets on one goroutine.
type Loop struct {
	// Constant after NewLoop.
	cfg LoopConfig
	drv driver

	mu struct { // guards what follows
		sync.Mutex
		state  state
		posted []func()
		rung   bool // the driver was woken for what is posted
	}

	// Owned by the goroutine of Run.
	spare    []func()
	nextTick time.Time
}

type state uint8

const (
	idle state = iota
	running
	ended
)

// driver is how a loop waits and reads: epoll or a goroutine per socket.
type driver interface {
	// steer takes a port that needs no socket; nil without an error is one that does. Any goroutine may call it.
	steer(addr netip.AddrPort, o Options, recv Receiver) (*Conn, error)
	open(addr netip.AddrPort, o Options) (socket, netip.AddrPort, error)
	add(c *Conn)          // on the loop's goroutine
	remove(c *Conn) error // on the loop's goroutine
	run(ctx context.Context) error
	wake()
	release()
	enter() // the goroutine is the loop's until leave
	leave()
}

// ErrEnded is returned by Listen after Run has ended.
var ErrEnded = errors.New("the loop has ended")

// NewLoop makes a loop; it opens nothing but what waiting needs.
func NewLoop(cfg LoopConfig) (*Loop, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = 100 * time.Millisecond
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Loop{cfg: cfg}
	drv, err := newDriver(l)
	if err != nil {
		return nil, err
	}
	l.drv = drv
	return l, nil
}

// Listen opens a socket whose packets go to recv. Any goroutine may call it, before Run too: packets wait in the socket.
func (l *Loop) Listen(addr netip.AddrPort, o Options, recv Receiver) (*Conn, error) {
	if c, err := l.drv.steer(addr, o, recv); c != nil || err != nil {
		return c, err
	}
	s, local, err := l.drv.open(addr, o)
	if err != nil {
		return nil, err
	}
	c := &Conn{socket: s, local: local, loop: l, recv: recv}
	if !l.Do(func() { l.drv.add(c) }) {
		s.close()
		return nil, ErrEnded
	}
	return c, nil
}

// Do runs fn on the loop's goroutine, in the order of the calls. Before Run the functions wait; after Run has ended
// nothing runs and Do says false. fn must not wait for the loop.
func (l *Loop) Do(fn func()) bool { return l.post(fn, true) }

func (l *Loop) post(fn func(), now bool) bool {
	l.mu.Lock()
	if l.mu.state == ended {
		l.mu.Unlock()
		return false
	}
	l.mu.posted = append(l.mu.posted, fn)
	wake := now && !l.mu.rung && l.mu.state == running
	if wake {
		l.mu.rung = true
	}
	l.mu.Unlock()
	if wake {
		l.drv.wake()
	}
	return true
}

// Later is Do for what may wait: the functions run with the next packet or tick.
func (l *Loop) Later(fn func()) bool { return l.post(fn, false) }

func (l *Loop) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.state == ended
}

// Run serves the sockets until ctx ends, then runs what was posted, closes all sockets and returns.
func (l *Loop) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.mu.state != idle {
		l.mu.Unlock()
		return errors.New("run loop: it runs once")
	}
	l.mu.state = running
	l.mu.Unlock()
	l.nextTick = l.cfg.Now().Add(l.cfg.Interval)
	l.runPosted()
	err := l.drv.run(ctx)
	l.mu.Lock()
	l.mu.state = ended
	l.mu.Unlock()
	l.runPosted()
	l.drv.release()
	return err
}

// Discard releases a loop that will not run.
func (l *Loop) Discard() {
	l.mu.Lock()
	was := l.mu.state
	if was == idle {
		l.mu.state = ended
	}
	l.mu.Unlock()
	if was == idle {
		l.runPosted()
		l.drv.release()
	}
}

// runPosted runs the functions of Do, for the goroutine of Run or Discard.
func (l *Loop) runPosted() {
	l.drv.enter()
	defer l.drv.leave()
	for {
		l.mu.Lock()
		fns := l.mu.posted
		l.mu.posted, l.mu.rung = l.spare[:0], false
		l.mu.Unlock()
		if len(fns) == 0 {
			l.spare = fns
			return
		}
		for i, fn := range fns {
			fn()
			fns[i] = nil
		}
		l.spare = fns
	}
}

// tick calls Tick when it is due.
func (l *Loop) tick(now time.Time) {
	if now.Before(l.nextTick) {
		return
	}
	l.nextTick = now.Add(l.cfg.Interval)
	if l.cfg.Tick != nil {
		l.cfg.Tick(now)
	}
}
