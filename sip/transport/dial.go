package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"
)

// sendStream sends over the open connection to an address, or opens one: what is sent meanwhile waits in its queue.
func (t *Transport) sendStream(b []byte, to Target) error {
	l := to.Listener
	peer := netip.AddrPortFrom(to.Addr.Addr().Unmap(), to.Addr.Port())
	host := to.Host
	if !l.cfg.Proto.Secure() {
		host = "" // nothing proves a name
	}
	// A second try for a connection that closed after it was found.
	for range 2 {
		c := t.conns.byPeer(peerKey{l.index, peer, host})
		if c == nil {
			var err error
			if c, err = t.dial(l, peer, host, b); c == nil {
				return err
			}
		}
		if err := c.enqueue(b); !errors.Is(err, ErrFlowGone) {
			return err
		}
	}
	l.counters[t.sharedSlot()].drops[DropNoConnection].Add(1)
	return ErrNoConnection
}

// dial enters a connection into the table, queues b on it and opens it on a goroutine of its own. Where another goroutine was
// faster its connection is returned, and b is not yet queued.
func (t *Transport) dial(l *Listener, peer netip.AddrPort, host string, b []byte) (*conn, error) {
	drop := func(err error) (*conn, error) {
		l.counters[t.sharedSlot()].drops[DropNoConnection].Add(1)
		return nil, err
	}
	if l.cfg.Proto == WS || l.cfg.Proto == WSS {
		return drop(ErrNoConnection) // a browser does not listen, RFC 7118 section 5.3
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.cfg.DialTimeout)
	c := &conn{t: t, l: l, peer: peer, source: sourceOf(peer.Addr()), dialled: true, host: host, cancel: cancel}
	other, why, ok := t.conns.add(c)
	if !ok {
		cancel()
		if other != nil {
			return other, nil
		}
		l.conns.closed[why].Add(1)
		if why == CloseShutdown {
			return drop(ErrClosed)
		}
		return drop(ErrNoConnection)
	}
	err := c.enqueue(b) // before the dial can fail: what happens to b is then counted by finish
	go func() {
		defer cancel()
		c.finish(c.dialAndRead(ctx))
	}()
	return nil, err
}

func (c *conn) dialAndRead(ctx context.Context) CloseReason {
	err := c.connect(ctx)
	c.t.conns.dialDone()
	if err != nil {
		if c.t.unreachable != nil && !c.t.closing.Load() {
			c.t.unreachable.Unreachable(c.l, c.peer)
		}
		return CloseDial
	}
	c.l.conns.dialled.Add(1)
	if !c.open() {
		return CloseShutdown
	}
	return c.read(time.Time{})
}

// connect opens the connection from the listener's address, which is the one that firewalls and the peer know.
func (c *conn) connect(ctx context.Context) error {
	var d net.Dialer
	if a := c.l.addr.Addr(); !a.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	nc, err := d.DialContext(ctx, "tcp", c.peer.String())
	if err != nil {
		return err
	}
	if !c.setConn(nc) {
		return net.ErrClosed
	}
	if !c.l.cfg.Proto.Secure() {
		return nil
	}
	name := c.host
	if name == "" {
		name = c.peer.Addr().String()
	}
	tc := tls.Client(nc, c.t.certs.client(name))
	if !c.setConn(tc) {
		return net.ErrClosed
	}
	return tc.HandshakeContext(ctx)
}

// Peer tells what is known of the other end of a flow; ok is false when the flow is gone. TLS is nil without TLS; a client
// certificate in it was verified against Config.TLS.ClientCAs.
func (t *Transport) Peer(f Flow) (p Peer, ok bool) {
	c := t.conns.byFlow(f)
	if c == nil {
		return Peer{}, false
	}
	p = Peer{Listener: c.l, Addr: c.peer, Dialled: c.dialled}
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	if tc, ok := nc.(*tls.Conn); ok {
		s := tc.ConnectionState()
		p.TLS = &s
	}
	return p, true
}

// Peer is the other end of a flow.
type Peer struct {
	Listener *Listener
	Addr     netip.AddrPort
	Dialled  bool                 // we opened it
	TLS      *tls.ConnectionState // nil without TLS
}

// CloseFlow ends a connection, for the operator and for a ban. It does nothing when the flow is gone.
func (t *Transport) CloseFlow(f Flow) {
	if c := t.conns.byFlow(f); c != nil {
		c.close(CloseByUs)
	}
}
