package udp

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// netDriver is the portable driver: a goroutine per socket reads with the net package, and a mutex makes of them the one
// goroutine that a loop promises. It is the reference that the conformance test compares with, and slower.
type netDriver struct {
	loop *Loop
	kick chan struct{}

	turn    sync.Mutex // held by whoever is "the loop's goroutine" now
	readers sync.WaitGroup
	conns   map[*Conn]struct{} // guarded by turn
}

func newNetDriver(l *Loop) *netDriver {
	return &netDriver{loop: l, kick: make(chan struct{}, 1), conns: make(map[*Conn]struct{})}
}

func (d *netDriver) steer(netip.AddrPort, Options, Receiver) (*Conn, error) { return nil, nil }

func (d *netDriver) open(addr netip.AddrPort, o Options) (socket, netip.AddrPort, error) {
	s, err := listenNet(addr, o)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return s, s.local(), nil
}

func (d *netDriver) add(c *Conn) {
	d.conns[c] = struct{}{}
	d.readers.Go(func() { d.read(c) })
}

// read is one socket's goroutine; it ends when the socket is closed.
func (d *netDriver) read(c *Conn) {
	s := c.socket.(*netSocket)
	buf := make([]byte, bufferSize+Tailroom)
	pkt := new(Packet)
	for {
		n, from, err := s.readFrom(buf[:bufferSize])
		d.turn.Lock()
		_, open := d.conns[c]
		if open && err == nil {
			pkt.Data, pkt.From, pkt.Time = buf[:n], from, d.loop.cfg.Now()
			c.recv.Receive(pkt)
		}
		d.turn.Unlock()
		if !open {
			return
		}
	}
}

func (d *netDriver) remove(c *Conn) error {
	delete(d.conns, c)
	return c.socket.close()
}

func (d *netDriver) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

func (d *netDriver) run(ctx context.Context) error {
	ticker := time.NewTicker(d.loop.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.kick:
		case <-ticker.C:
		}
		d.loop.runPosted()
		d.turn.Lock()
		d.loop.tick(d.loop.cfg.Now())
		d.turn.Unlock()
	}
}

func (d *netDriver) enter() { d.turn.Lock() }
func (d *netDriver) leave() { d.turn.Unlock() }

func (d *netDriver) release() {
	d.turn.Lock()
	for c := range d.conns {
		delete(d.conns, c)
		c.socket.close()
	}
	d.turn.Unlock()
	d.readers.Wait()
}
