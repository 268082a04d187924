package bridgetest

import (
	"io"
	"net"
	"net/netip"
	"sync"
)

// Wire passes TCP connections on, and can be cut.
type Wire struct {
	to net.Addr
	ln net.Listener

	work sync.WaitGroup

	mu    sync.Mutex // guards the rest
	cut   bool
	conns map[net.Conn]bool
}

// NewWire opens a port that leads to another one.
func NewWire(to netip.AddrPort) (*Wire, error) {
	ln, err := net.Listen("tcp", netip.AddrPortFrom(to.Addr(), 0).String())
	if err != nil {
		return nil, err
	}
	w := &Wire{to: net.TCPAddrFromAddrPort(to), ln: ln, conns: map[net.Conn]bool{}}
	w.work.Go(w.accept)
	return w, nil
}

// Addr is the port.
func (w *Wire) Addr() netip.AddrPort { return w.ln.Addr().(*net.TCPAddr).AddrPort() }

func (w *Wire) accept() {
	for {
		c, err := w.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to.String())
		if err != nil {
			_ = c.Close()
			continue
		}
		w.mu.Lock()
		dead := w.cut
		w.conns[c], w.conns[far] = true, true
		w.mu.Unlock()
		if dead {
			_ = c.Close()
			_ = far.Close()
		}
		pass := func(from, to net.Conn) {
			_, _ = io.Copy(to, from)
			_ = from.Close()
			_ = to.Close()
			w.mu.Lock()
			delete(w.conns, from)
			w.mu.Unlock()
		}
		w.work.Go(func() { pass(c, far) })
		w.work.Go(func() { pass(far, c) })
	}
}

// Cut breaks all connections and lets none through until restore is called.
func (w *Wire) Cut() (restore func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Close()
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cut = false
	}
}

// Close ends it.
func (w *Wire) Close() {
	_ = w.ln.Close()
	w.Cut()
	w.work.Wait()
}
