package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// A Listener is one open listener.
type Listener struct {
	// Constant after New.
	t          *Transport
	cfg        ListenerConfig
	index      int // in Transport.listeners
	addr       netip.AddrPort
	recvBuffer int
	packet     packetSocket // UDP only
	stream     net.Listener // all others

	counters []counters // one per worker, and the shared slot at the end
	conns    connCounters
}

// A packetSocket is the UDP side of a listener: the kernel's sockets of all workers (udp_linux.go), or one net.PacketConn
// (udp_portable.go).
type packetSocket interface {
	send(b []byte, to netip.AddrPort, slot int) error
	close()
}

// Proto returns the listener's protocol.
func (l *Listener) Proto() Proto { return l.cfg.Proto }

// Addr returns the address that is really bound.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Advertise returns host[:port] as others reach this listener; empty if that is Addr.
func (l *Listener) Advertise() string { return l.cfg.Advertise }

// Internal tells whether the farms see this listener.
func (l *Listener) Internal() bool { return l.cfg.Internal }

// Index returns the listener's place in Transport.Listeners.
func (l *Listener) Index() int { return l.index }

// String returns proto:ip:port.
func (l *Listener) String() string { return l.cfg.Proto.String() + ":" + l.addr.String() }

// reaches tells whether an address is of the listener's family.
func (l *Listener) reaches(a netip.Addr) bool {
	return a.IsValid() && a.Unmap().Is4() == l.addr.Addr().Unmap().Is4()
}

// open binds one listener.
func (t *Transport) open(lc ListenerConfig, index int) (*Listener, error) {
	l := &Listener{t: t, cfg: lc, index: index, addr: lc.Addr, counters: make([]counters, t.cfg.Workers+1)}
	if lc.Proto == UDP {
		return l, l.openUDP()
	}
	network := "tcp4"
	if !lc.Addr.Addr().Unmap().Is4() {
		network = "tcp6"
	}
	var cfg net.ListenConfig
	ln, err := cfg.Listen(context.Background(), network, lc.Addr.String())
	if err != nil {
		// The outer error already names protocol and address.
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err
		}
		return nil, err
	}
	l.stream = ln
	l.addr = addrPortOf(ln.Addr())
	return l, nil
}

// start begins to accept connections, or to read a portable packet socket. Kernel sockets are read by the workers.
func (l *Listener) start(ctx context.Context) {
	if l.stream != nil {
		l.t.tasks.Go(l.accept)
		if l.cfg.Proto == WS || l.cfg.Proto == WSS {
			l.t.tasks.Go(func() { l.pingAll(ctx) })
		}
		return
	}
	if p, ok := l.packet.(*portableSocket); ok {
		l.t.tasks.Go(p.read)
	}
}

func (l *Listener) close() {
	if l.packet != nil {
		l.packet.close()
	}
	if l.stream != nil {
		l.stream.Close()
	}
}

// accept takes connections until the listener closes. When the process is out of descriptors (F16) it waits a moment, since
// the kernel would report the same connection again at once.
func (l *Listener) accept() {
	for {
		nc, err := l.stream.Accept()
		if err == nil {
			l.t.serve(l, nc)
			continue
		}
		if l.t.closing.Load() || errors.Is(err, net.ErrClosed) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// addrPortOf converts an address of package net; the zero AddrPort if it is of another kind.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	case nil:
		return ap
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
