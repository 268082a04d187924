package rawphone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Config is where a phone is and whom it talks to.
type Config struct {
	User   string         // user part of its address
	Listen netip.AddrPort // its own socket; port 0: any
	Hop    netip.AddrPort // socket of the proxies in front of it; zero: none, and the phone sends from its own
	Next   netip.AddrPort // where its requests go first
	TCP    bool           // one connection to Next carries everything, both ways
}

// Phone is one telephone. Its methods may be called from any goroutine.
type Phone struct {
	cfg   Config
	own   net.PacketConn // nil with TCP
	hop   net.PacketConn // nil without
	tcp   net.Conn       // nil without
	media *Media

	mu    sync.Mutex
	queue []*Message // not yet taken
	log   []*Message
	seen  map[string]bool
	wake  chan struct{} // closed and replaced at each message
}

// New binds the phone's sockets; Run reads them.
func New(cfg Config) (*Phone, error) {
	p := &Phone{cfg: cfg, seen: map[string]bool{}, wake: make(chan struct{})}
	var err error
	if p.media, err = newMedia(cfg.Listen.Addr()); err != nil {
		return nil, err
	}
	if cfg.TCP {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(cfg.Listen), Timeout: 5 * time.Second}
		if p.tcp, err = d.Dial("tcp", cfg.Next.String()); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		return p, nil
	}
	if p.own, err = net.ListenPacket("udp", cfg.Listen.String()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if cfg.Hop.IsValid() {
		if p.hop, err = net.ListenPacket("udp", cfg.Hop.String()); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// Run reads until ctx ends, then closes everything.
func (p *Phone) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if p.own != nil {
		wg.Go(func() { p.datagrams(p.own, false) })
	}
	if p.hop != nil {
		wg.Go(func() { p.datagrams(p.hop, true) })
	}
	if p.tcp != nil {
		wg.Go(p.stream)
	}
	wg.Go(p.media.receive)
	<-ctx.Done()
	err := p.Close()
	wg.Wait()
	p.media.stop()
	return err
}

// Close frees the sockets of a phone that does not run.
func (p *Phone) Close() error {
	var errs []error
	for _, c := range []interface{ Close() error }{p.own, p.hop, p.tcp} {
		switch c := c.(type) {
		case net.PacketConn:
			errs = append(errs, c.Close())
		case net.Conn:
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(append(errs, p.media.rtp.Close())...)
}

// Addr is the phone's own SIP address.
func (p *Phone) Addr() netip.AddrPort {
	if p.tcp != nil {
		return p.tcp.LocalAddr().(*net.TCPAddr).AddrPort()
	}
	return p.own.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Hop is the address of the proxies in front of the phone.
func (p *Phone) Hop() netip.AddrPort { return p.hop.LocalAddr().(*net.UDPAddr).AddrPort() }

// Aim turns the phone's requests to another next hop, as a record-routing edge would. A TCP connection stays where it is.
func (p *Phone) Aim(next netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.Next = next
}

// Next is where the phone's requests go.
func (p *Phone) Next() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Next
}

// Media is the phone's audio.
func (p *Phone) Media() *Media { return p.media }

func (p *Phone) transport() string {
	if p.tcp != nil {
		return "TCP"
	}
	return "UDP"
}

func (p *Phone) identity() string {
	return fmt.Sprintf("%q <sip:%s@%s>", p.cfg.User, p.cfg.User, p.Addr().Addr())
}

func (p *Phone) contact() string {
	if p.tcp != nil {
		return fmt.Sprintf("<sip:%s@%s;transport=tcp>", p.cfg.User, p.Addr())
	}
	return fmt.Sprintf("<sip:%s@%s>", p.cfg.User, p.Addr())
}

// Send writes a message: a request to the next hop, a response to where its request came from.
func (p *Phone) Send(m *Message) error {
	if p.tcp != nil {
		_, err := p.tcp.Write(m.Bytes())
		return err
	}
	conn, to := p.own, p.Next()
	if m.Status() != 0 {
		to = m.From
	}
	if p.hop != nil && (m.Status() == 0 || m.AtHop) {
		conn = p.hop
	}
	_, err := conn.WriteTo(m.Bytes(), net.UDPAddrFromAddrPort(to))
	return err
}

func (p *Phone) datagrams(conn net.PacketConn, hop bool) {
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if m, _, err := parse(slices.Clone(buf[:n])); err == nil {
			m.From, m.AtHop = from.(*net.UDPAddr).AddrPort(), hop
			p.received(m)
		}
	}
}

func (p *Phone) stream() {
	var have []byte
	buf := make([]byte, 65536)
	for {
		n, err := p.tcp.Read(buf)
		if err != nil {
			return
		}
		have = append(have, buf[:n]...)
		for {
			m, rest, err := parse(have)
			if err != nil {
				break
			}
			have = rest
			p.received(m)
		}
	}
}

func (p *Phone) received(m *Message) {
	m.At = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	key := m.Start + m.Get("Via") + m.Get("CSeq") + m.Get("Call-ID")
	m.Resent, p.seen[key] = p.seen[key], true
	p.log = append(p.log, m)
	p.queue = append(p.queue, m)
	close(p.wake)
	p.wake = make(chan struct{})
}

// Take waits for the first message that matches and removes it from the queue.
func (p *Phone) Take(ctx context.Context, match func(*Message) bool) (*Message, error) {
	for {
		p.mu.Lock()
		i := slices.IndexFunc(p.queue, match)
		if i >= 0 {
			m := p.queue[i]
			p.queue = slices.Delete(p.queue, i, i+1)
			p.mu.Unlock()
			return m, nil
		}
		wake := p.wake
		p.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("phone %s: %w; received: %s", p.cfg.User, ctx.Err(), p.summary())
		}
	}
}

// Messages is everything that came, in its order.
func (p *Phone) Messages() []*Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// Forget empties log and queue, so that a phone of many calls does not grow.
func (p *Phone) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.queue = nil, nil
	clear(p.seen)
}

func (p *Phone) summary() string {
	s := ""
	for _, m := range p.Messages() {
		s += "\n  " + m.At.Format("05.000 ") + m.Start + " (" + m.Get("CSeq") + ")"
	}
	return s
}
