package ng

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	errNoAnswer = errors.New("no answer")
	errRefused  = errors.New("nobody listens there")
)

// readPause bounds the loop over a socket that cannot be read, chosen by us.
const readPause = 10 * time.Millisecond

// node is one media node: its socket and who waits for what.
type node struct {
	addr netip.AddrPort
	name string       // of addr; input of the hash
	conn *net.UDPConn // connected, so that the system tells us when nobody listens

	down                            atomic.Bool
	failures                        atomic.Int32 // in a row
	rtt                             atomic.Int64 // of the last ping, ns
	requests, timeouts, retransmits atomic.Int64
	mu                              sync.Mutex // guards the rest
	pending                         map[string]chan []byte
}

// readLoop hands answers to those who wait until the socket is closed.
func (n *node) readLoop(ctx context.Context) {
	buf := make([]byte, 1<<16)
	for {
		k, err := n.conn.Read(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n.refused() // ICMP port unreachable, usually
			if !errors.Is(err, syscall.ECONNREFUSED) {
				time.Sleep(readPause) // an interface that went away says so at each read
			}
			continue
		}
		cookie, rest, ok := cutCookie(buf[:k])
		if !ok {
			continue
		}
		n.mu.Lock()
		if ch := n.pending[cookie]; ch != nil {
			delete(n.pending, cookie)
			ch <- bytes.Clone(rest) // never blocks: room for one refusal and one answer, which is the last
		}
		n.mu.Unlock()
	}
}

// refused wakes all who wait with a nil answer. They stay in the list: the node may be starting.
func (n *node) refused() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ch := range n.pending {
		if len(ch) == 0 { // only readers change that: this lock is held by all who write
			ch <- nil
		}
	}
}

// exchange sends a message and repeats it after first, 2*first, ... until an answer comes or ctx ends. A node that refuses
// ends it too, unless patient.
func (n *node) exchange(ctx context.Context, cookie string, msg []byte, first time.Duration, patient bool) ([]byte, error) {
	ch := make(chan []byte, 2)
	n.mu.Lock()
	n.pending[cookie] = ch
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.pending, cookie)
		n.mu.Unlock()
	}()
	n.requests.Add(1)
	timer := time.NewTimer(first)
	defer timer.Stop()
	n.write(msg)
	for wait := first; ; {
		select {
		case answer := <-ch:
			if answer != nil {
				return answer, nil
			}
			if !patient {
				return nil, errRefused
			}
		case <-timer.C:
			n.retransmits.Add(1)
			n.write(msg)
			wait *= 2
			timer.Reset(wait)
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errBudget) {
				n.timeouts.Add(1)
				return nil, errNoAnswer
			}
			return nil, ctx.Err()
		}
	}
}

// write sends a datagram. An error is that of an earlier one (refused) or of a full socket buffer: the first goes to
// those who wait, the second is mended by the retransmission.
func (n *node) write(msg []byte) {
	if _, err := n.conn.Write(msg); err != nil && !errors.Is(err, net.ErrClosed) {
		n.refused()
	}
}

// mark notes the outcome of a ping or request; limit failures in a row make the node down, one success makes it up.
func (n *node) mark(err error, limit int) {
	if err == nil {
		n.failures.Store(0)
		n.down.Store(false)
		return
	}
	if f := n.failures.Add(1); int(f) >= limit || errors.Is(err, errRefused) {
		n.down.Store(true)
	}
}
