package media

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"

	"rtcedge/media/udp"
)

// portPool hands out the port pairs of one local address. The free ones wait in a queue that starts in random order: a pair
// that was given back is the last to be used again, so late packets of an ended call find nobody (RFC 3550 section 11 asks
// only for the even number; random ports make a spray of packets less likely to hit).
type portPool struct {
	name string // of the first interface on this address
	addr netip.Addr

	mu   sync.Mutex // guards what follows
	free []uint16   // ring: even ports
	head int
	n    int
	size int
	busy uint64
}

// errNoPorts is what a session sees when the range is used up.
var errNoPorts = errors.New("no free ports")

// Chosen by us: how many pairs taken by other processes one allocation passes over.
const maxBusy = 64

func newPortPool(name string, addr netip.Addr, portMin, portMax uint16) *portPool {
	first, pairs := udp.Pairs(portMin, portMax)
	p := &portPool{name: name, addr: addr, free: make([]uint16, pairs), n: pairs, size: pairs}
	for i, k := range rand.Perm(pairs) {
		p.free[i] = first + uint16(2*k)
	}
	return p
}

// take removes the pair that rested longest.
func (p *portPool) take() (uint16, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		return 0, false
	}
	port := p.free[p.head]
	p.head = (p.head + 1) % len(p.free)
	p.n--
	return port, true
}

// give puts a pair back.
func (p *portPool) give(port uint16, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == len(p.free) {
		panic("port pair given back twice") // an invariant of ours
	}
	p.free[(p.head+p.n)%len(p.free)] = port
	p.n++
	if busy {
		p.busy++
	}
}

// scarce tells if less than a quarter of the pairs is left.
func (p *portPool) scarce() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n < p.size/4
}

func (p *portPool) stats() PortStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PortStats{Interface: p.name, Used: p.size - p.n, Free: p.n, Busy: p.busy}
}

// open takes a pair, at its RTP port or any where that is 0, and opens its sockets. Pairs that another process holds go to the end of
// the queue.
func (p *portPool) open(t *table, at uint16, rtp, rtcp *port) (uint16, error) {
	if at != 0 {
		if !p.claim(at) {
			return 0, fmt.Errorf("port %d of %s is in use or out of range", at, p.addr)
		}
		err := p.openPair(t, at, rtp, rtcp)
		if err != nil {
			p.give(at, false)
		}
		return at, err
	}
	for range maxBusy {
		n, ok := p.take()
		if !ok {
			t.settle()
			n, ok = p.take()
		}
		if !ok {
			return 0, fmt.Errorf("%w on interface %s (%s): all %d pairs are in use", errNoPorts, p.name, p.addr, p.size)
		}
		err := p.openPair(t, n, rtp, rtcp)
		if errors.Is(err, syscall.EMFILE) { // what ended calls had may only wait for its worker
			t.settle()
			err = p.openPair(t, n, rtp, rtcp)
		}
		if err == nil {
			return n, nil
		}
		p.give(n, udp.InUse(err))
		if !udp.InUse(err) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w on interface %s (%s): %d pairs in a row are held by other processes", errNoPorts, p.name, p.addr, maxBusy)
}

func (p *portPool) openPair(t *table, n uint16, rtp, rtcp *port) error {
	var err error
	if rtp.conn, err = t.layer.Listen(netip.AddrPortFrom(p.addr, n), t.socket, rtp); err != nil {
		return err
	}
	if rtcp.conn, err = t.layer.Listen(netip.AddrPortFrom(p.addr, n+1), t.socket, rtcp); err != nil {
		first := rtp.conn
		rtp.conn = nil
		t.layer.Do(func() { _ = first.Close() })
		return err
	}
	return nil
}

// claim removes a pair from the free ones.
func (p *portPool) claim(n uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.n {
		at := (p.head + i) % len(p.free)
		if p.free[at] != n {
			continue
		}
		p.free[at] = p.free[p.head]
		p.head = (p.head + 1) % len(p.free)
		p.n--
		return true
	}
	return false
}
