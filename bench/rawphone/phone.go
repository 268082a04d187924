package rawphone

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Config is where a phone is and whom it talks to.
type Config struct {
	User   string         // user part of its address
	Listen netip.AddrPort // its own socket; port 0: any
	Hop    netip.AddrPort // socket of the proxies in front of it; zero: none, and the phone sends from its own
	Next   netip.AddrPort // where its requests go first
	TCP    bool           // one connection to Next carries everything, both ways
	WSS    bool           // the same over a secure WebSocket (RFC 7118); whose certificate it is does not matter here
	Accept bool           // with TCP: Next connects to Listen, and the newest connection carries everything
	Frame  time.Duration  // audio of a packet; default 20 ms
	Pacer  *Pacer         // of that Frame, and run by somebody; nil: the phone has a clock of its own
}

// Phone is one telephone. Its methods may be called from any goroutine.
type Phone struct {
	cfg   Config
	own   net.PacketConn // nil with TCP
	hop   net.PacketConn // nil without
	door  net.Listener   // nil unless the far end connects
	media *Media

	mu    sync.Mutex
	tcp   net.Conn   // TCP or WSS; nil without
	queue []*Message // not yet taken
	log   []*Message
	seen  map[string]bool
	wake  chan struct{} // closed and replaced at each message
}

// New binds the phone's sockets; Run reads them.
func New(cfg Config) (*Phone, error) {
	p := &Phone{cfg: cfg, seen: map[string]bool{}, wake: make(chan struct{})}
	var err error
	if p.media, err = newMedia(cfg.Listen.Addr(), cmp.Or(cfg.Frame, frame), cfg.Pacer); err != nil {
		return nil, err
	}
	switch {
	case cfg.WSS:
		p.tcp, err = dialWSS(cfg.Next)
	case cfg.TCP && cfg.Accept:
		p.door, err = net.Listen("tcp", cfg.Listen.String())
	case cfg.TCP:
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(cfg.Listen), Timeout: 5 * time.Second}
		p.tcp, err = d.Dial("tcp", cfg.Next.String())
	default:
		return p, p.bind()
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// dialWSS opens a WebSocket of subprotocol sip; each Write is one message of it.
func dialWSS(to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test phone
	ws, res, err := websocket.Dial(ctx, "wss://"+to.String()+"/ws", &websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPClient: client})
	if err != nil {
		return nil, err
	}
	if res.Body != nil {
		_ = res.Body.Close()
	}
	ws.SetReadLimit(1 << 20)
	return websocket.NetConn(context.Background(), ws, websocket.MessageText), nil
}

// bind opens the UDP sockets.
func (p *Phone) bind() (err error) {
	if p.own, err = net.ListenPacket("udp", p.cfg.Listen.String()); err == nil && p.cfg.Hop.IsValid() {
		p.hop, err = net.ListenPacket("udp", p.cfg.Hop.String())
	}
	if err != nil {
		return errors.Join(err, p.Close())
	}
	return nil
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
		wg.Go(func() { p.stream(p.tcp) })
	}
	if p.door != nil {
		wg.Go(func() { p.accept(&wg) })
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
	if p.own != nil {
		errs = append(errs, p.own.Close())
	}
	if p.hop != nil {
		errs = append(errs, p.hop.Close())
	}
	if p.door != nil {
		errs = append(errs, p.door.Close())
	}
	if c := p.conn(); c != nil {
		_ = c.SetDeadline(time.Now()) // a WebSocket's Close waits for the far end's
		_ = c.Close()
	}
	return errors.Join(append(errs, p.media.rtp.Close())...)
}

// conn is the connection, or nil.
func (p *Phone) conn() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tcp
}

// Addr is the phone's own SIP address.
func (p *Phone) Addr() netip.AddrPort {
	switch {
	case p.cfg.WSS:
		return netip.AddrPortFrom(p.cfg.Listen.Addr(), 5060) // nobody connects to it
	case p.door != nil:
		return p.door.Addr().(*net.TCPAddr).AddrPort()
	case p.cfg.TCP:
		return p.conn().LocalAddr().(*net.TCPAddr).AddrPort()
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
	switch {
	case p.cfg.WSS:
		return "WSS"
	case p.cfg.TCP:
		return "TCP"
	}
	return "UDP"
}

func (p *Phone) identity() string {
	return fmt.Sprintf("%q <sip:%s@%s>", p.cfg.User, p.cfg.User, p.Addr().Addr())
}

func (p *Phone) contact() string {
	switch {
	case p.cfg.WSS:
		return fmt.Sprintf("<sip:%s@%s;transport=ws>", p.cfg.User, p.Addr())
	case p.cfg.TCP:
		return fmt.Sprintf("<sip:%s@%s;transport=tcp>", p.cfg.User, p.Addr())
	}
	return fmt.Sprintf("<sip:%s@%s>", p.cfg.User, p.Addr())
}

// Send writes a message: a request to the next hop, a response to where its request came from.
func (p *Phone) Send(m *Message) error {
	if p.cfg.TCP || p.cfg.WSS {
		c := p.conn()
		if c == nil {
			return fmt.Errorf("phone %s: nobody has connected", p.cfg.User)
		}
		_, err := c.Write(m.Bytes())
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

// accept takes connections until the door is closed.
func (p *Phone) accept(wg *sync.WaitGroup) {
	for {
		c, err := p.door.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		old := p.tcp
		p.tcp = c
		p.mu.Unlock()
		if old != nil {
			_ = old.Close()
		}
		wg.Go(func() { p.stream(c) })
	}
}

func (p *Phone) stream(c net.Conn) {
	var have []byte
	buf := make([]byte, 65536)
	for {
		n, err := c.Read(buf)
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
			return nil, fmt.Errorf("phone %s: %w; received: %s", p.cfg.User, ctx.Err(), p.Summary())
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

// Summary is everything that came, a line each.
func (p *Phone) Summary() string {
	s := ""
	for _, m := range p.Messages() {
		s += "\n  " + m.At.Format("05.000 ") + m.Start + " (" + m.Get("CSeq") + ")"
	}
	return s
}
