package hep

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ListenAddr is where a Receiver listens.
type ListenAddr struct {
	Proto Proto
	Addr  netip.AddrPort
}

// ReceiverConfig are the knobs of a Receiver.
type ReceiverConfig struct {
	// Listen must have at least one address.
	Listen []ListenAddr

	// Allow are the senders' networks. Default: this machine, or anybody if there is an AuthKey. What others send is counted and dropped: who can forge
	// what was captured could lead a recovered call astray.
	Allow []netip.Prefix

	// AuthKey must be in every packet (chunk 0x0e). It travels in clear. Default: not asked for.
	AuthKey string

	// MaxConns bounds the TCP connections. One more ends the oldest of those that have brought no packet yet; where all have it is closed itself. Default 256.
	MaxConns int

	// Handle gets each packet, whose bytes are borrowed until it returns. It is called from several goroutines and must be fast: what it takes
	// is what the kernel's buffer must hold.
	Handle func(Packet)

	// Log is told about connections. Default: nothing is logged.
	Log *slog.Logger
}

// Chosen by us.
const (
	defaultConns  = 256
	receiveBuffer = 8 << 20 // the kernel may give less (rmem_max); its default of 208 KiB loses bursts of 2000 packets
	maxPause      = 100 * time.Millisecond
	idleTimeout   = 10 * time.Minute // a TCP sender that says nothing for so long is gone
)

// Reject says why a packet was not handed on.
type Reject uint8

// The reasons.
const (
	RejectFault  Reject = iota // no HEP3 packet
	RejectSource               // not from an allowed network
	RejectKey                  // without the key
	RejectConns                // a connection too many: it, or the oldest that said nothing, was closed
	NumRejects
)

var rejectNames = [NumRejects]string{"fault", "source", "auth_key", "connections"}

// String returns the name for a metric's label.
func (r Reject) String() string {
	if r < NumRejects {
		return rejectNames[r]
	}
	return "unknown"
}

// ReceiverStats are the counters since the start.
type ReceiverStats struct {
	Received uint64
	Rejected [NumRejects]uint64
	Conns    int
}

// Receiver takes HEP3 packets over UDP and TCP.
type Receiver struct {
	cfg     ReceiverConfig
	packets []net.PacketConn
	streams []net.Listener
	seen    atomic.Uint64
	reject  [NumRejects]atomic.Uint64

	mu    sync.Mutex // guards the rest
	conns map[net.Conn]bool
	mute  []net.Conn // those without a packet so far, oldest first
}

// NewReceiver opens the sockets; nothing is read before Run.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if len(cfg.Listen) == 0 || cfg.Handle == nil {
		return nil, errors.New("receiver: an address and a handler are needed")
	}
	if len(cfg.AuthKey) > maxText || cfg.MaxConns < 0 {
		return nil, fmt.Errorf("receiver: auth key has at most %d bytes, connections are not negative", maxText)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultConns
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{cfg: cfg, conns: map[net.Conn]bool{}}
	for _, l := range cfg.Listen {
		var err error
		switch l.Proto {
		case OverUDP:
			var c *net.UDPConn
			if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr)); err == nil {
				_ = c.SetReadBuffer(receiveBuffer) // what the kernel gives is better than nothing
				r.packets = append(r.packets, c)
			}
		case OverTCP:
			var s net.Listener
			if s, err = net.Listen("tcp", l.Addr.String()); err == nil {
				r.streams = append(r.streams, s)
			}
		default:
			err = fmt.Errorf("protocol %q: want udp or tcp", l.Proto)
		}
		if err != nil {
			r.close()
			return nil, fmt.Errorf("receiver %s:%s: %w", l.Proto, l.Addr, err)
		}
	}
	return r, nil
}

// Addrs are the addresses that it listens on, udp first.
func (r *Receiver) Addrs() []net.Addr {
	var out []net.Addr
	for _, c := range r.packets {
		out = append(out, c.LocalAddr())
	}
	for _, l := range r.streams {
		out = append(out, l.Addr())
	}
	return out
}

// Run receives until ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, c := range r.packets {
		all.Go(func() { r.datagrams(c) })
	}
	for _, l := range r.streams {
		all.Go(func() { r.accept(l, &all) })
	}
	<-ctx.Done()
	r.close()
	all.Wait()
	return nil
}

func (r *Receiver) close() {
	for _, c := range r.packets {
		_ = c.Close() // nothing was written
	}
	for _, l := range r.streams {
		_ = l.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *Receiver) datagrams(c net.PacketConn) {
	buf := make([]byte, MaxPacket)
	for pause := time.Duration(0); ; {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP error of nobody in particular; one that repeats is not asked for as fast as it comes
			time.Sleep(pause)
			pause = min(2*pause+time.Millisecond, maxPause)
			continue
		}
		pause = 0
		if !r.allowed(from) {
			r.reject[RejectSource].Add(1)
			continue
		}
		r.take(buf[:n])
	}
}

func (r *Receiver) accept(l net.Listener, all *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptor is left: others end meanwhile
			continue
		}
		if !r.allowed(c.RemoteAddr()) {
			r.reject[RejectSource].Add(1)
			_ = c.Close()
			continue
		}
		if !r.admit(c) {
			r.reject[RejectConns].Add(1)
			_ = c.Close()
			continue
		}
		all.Go(func() {
			r.stream(c)
			_ = c.Close()
			r.heard(c, true)
		})
	}
}

// admit makes room for a connection: whoever says nothing cannot keep others out.
func (r *Receiver) admit(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) >= r.cfg.MaxConns {
		if len(r.mute) == 0 {
			return false
		}
		r.reject[RejectConns].Add(1)
		_ = r.mute[0].Close()
		delete(r.conns, r.mute[0])
		r.mute = r.mute[1:]
	}
	r.conns[c] = true
	r.mute = append(r.mute, c)
	return true
}

// heard notes that a connection brought a packet, or that it is over.
func (r *Receiver) heard(c net.Conn, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = slices.DeleteFunc(r.mute, func(m net.Conn) bool { return m == c })
	if over {
		delete(r.conns, c)
	}
}

// stream reads packet after packet. After a header that is none nobody knows where the next one begins; a packet that says wrong things in itself is
// counted and left out.
func (r *Receiver) stream(c net.Conn) {
	in := bufio.NewReaderSize(c, 64<<10)
	buf := make([]byte, MaxPacket)
	for heard := false; ; {
		if c.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
			return
		}
		if _, err := io.ReadFull(in, buf[:headerLen]); err != nil {
			return
		}
		n, fault := Length(buf[:headerLen])
		if fault != FaultNone {
			r.reject[RejectFault].Add(1)
			return
		}
		if _, err := io.ReadFull(in, buf[headerLen:n]); err != nil {
			return
		}
		switch r.take(buf[:n]) {
		case taken:
			if !heard {
				heard = true
				r.heard(c, false)
			}
		case strange:
			return
		}
	}
}

// verdict is what became of a packet.
type verdict uint8

const (
	taken   verdict = iota
	faulty          // it cannot be read
	strange         // without the key
)

func (r *Receiver) take(b []byte) verdict {
	p, fault := Parse(b)
	if fault != FaultNone {
		r.reject[RejectFault].Add(1)
		return faulty
	}
	if r.cfg.AuthKey != "" && subtle.ConstantTimeCompare(p.AuthKey, []byte(r.cfg.AuthKey)) != 1 {
		r.reject[RejectKey].Add(1)
		return strange
	}
	r.seen.Add(1)
	r.cfg.Handle(p)
	return taken
}

func (r *Receiver) allowed(from net.Addr) bool {
	var ip netip.Addr
	switch a := from.(type) {
	case *net.UDPAddr:
		ip = a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		ip = a.AddrPort().Addr().Unmap()
	}
	if len(r.cfg.Allow) > 0 {
		return slices.ContainsFunc(r.cfg.Allow, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	if r.cfg.AuthKey != "" || ip.IsLoopback() {
		return true
	}
	return slices.ContainsFunc(r.cfg.Listen, func(l ListenAddr) bool { return l.Addr.Addr().Unmap() == ip })
}

// Stats reads the counters.
func (r *Receiver) Stats() ReceiverStats {
	st := ReceiverStats{Received: r.seen.Load()}
	for i := range st.Rejected {
		st.Rejected[i] = r.reject[i].Load()
	}
	r.mu.Lock()
	st.Conns = len(r.conns)
	r.mu.Unlock()
	return st
}
