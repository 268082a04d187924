package siptest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/emiago/sipgo"
	sipmsg "github.com/emiago/sipgo/sip"
)

// Config of a user agent. User is required, and Proxy or Domain where calls are to be placed.
type Config struct {
	// User is the user part of the address of record and of the contact, and the digest's user name.
	User string
	// Password for digest challenges. Empty: a challenge ends the request with its 401 or 407.
	Password string
	// Domain is the host (and port) of request URIs without one. Default: Proxy.
	Domain string
	// Proxy gets every request that starts a dialog or stands alone, whatever its URI says (an outbound proxy without a
	// Route header). Default: none, requests go where their URI points.
	Proxy netip.AddrPort
	// Transport is "udp" or "tcp". Default "udp".
	Transport string
	// Local is the address to listen on and to send from. Default 127.0.0.1 and a free port.
	Local netip.AddrPort
	// Algorithm limits the digest to one algorithm ("MD5", "SHA-256"). Default: the first challenge that can be answered,
	// as RFC 8760 section 2.4 asks.
	Algorithm string
	// OnCall handles a new call. The context ends with the user agent. When OnCall returns without a final answer, the
	// caller gets 480. Default: 486 to everybody.
	OnCall func(ctx context.Context, in *Incoming)
	// OnReinvite answers an offer inside a call: it returns the SDP for the 200, or nil for 488. Default: the SDP that the
	// call was set up with.
	OnReinvite func(call *Call, offer []byte) []byte
	// OnNotice is told what a transfer that the call asked for has come to. Default: nobody is.
	OnNotice func(call *Call, n Notice)
	// Logger gets what sipgo reports. Default: none.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	if c.User == "" {
		return errors.New("user agent: no user")
	}
	c.Transport = strings.ToLower(c.Transport)
	switch c.Transport {
	case "":
		c.Transport = "udp"
	case "udp", "tcp":
	default:
		return fmt.Errorf("user agent: transport %q: want udp or tcp", c.Transport)
	}
	if !c.Local.IsValid() {
		c.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	if c.Domain == "" && c.Proxy.IsValid() {
		c.Domain = c.Proxy.String()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// UA is a user agent with one listening socket. Its methods may be called from any goroutine while Run runs.
type UA struct {
	cfg    Config
	local  netip.AddrPort
	stack  *sipgo.UserAgent
	srv    *sipgo.Server
	udp    *net.UDPConn
	tcp    net.Listener
	regID  string // Call-ID and From tag of all REGISTERs of this agent, RFC 3261 section 10.2
	regTag string

	mu     sync.Mutex
	closed bool
	calls  map[dialogID]*Call
	subs   map[string]*Subscription // by Call-ID
	regSeq uint32

	ready chan struct{} // closed when sipgo reads the socket; before that it would open another one to send from

	work sync.WaitGroup // request handlers
	ctx  context.Context
	stop context.CancelFunc
}

// New binds the socket. Nothing is read before Run.
func New(cfg Config) (*UA, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	u := &UA{
		cfg: cfg, calls: map[dialogID]*Call{}, subs: map[string]*Subscription{}, regID: newToken(), regTag: newToken(),
		ready: make(chan struct{}),
	}
	u.ctx, u.stop = context.WithCancel(context.Background())
	if err := u.bind(); err != nil {
		u.stop()
		return nil, err
	}
	stack, err := sipgo.NewUA(
		sipgo.WithUserAgent("siptest"),
		sipgo.WithUserAgentTransportLayerOptions(sipmsg.WithTransportLayerLogger(cfg.Logger)),
		sipgo.WithUserAgentTransactionLayerOptions(sipmsg.WithTransactionLayerLogger(cfg.Logger)),
	)
	if err != nil {
		u.release()
		return nil, fmt.Errorf("user agent: %w", err)
	}
	u.stack = stack
	u.srv, err = sipgo.NewServer(stack, sipgo.WithServerLogger(cfg.Logger))
	if err != nil {
		u.release()
		return nil, fmt.Errorf("user agent: %w", err)
	}
	u.srv.OnInvite(u.owned(u.handleInvite))
	u.srv.OnAck(u.owned(u.handleAck))
	u.srv.OnBye(u.owned(u.handleBye))
	u.srv.OnCancel(u.owned(u.handleCancel))
	for _, m := range []sipmsg.RequestMethod{sipmsg.OPTIONS, sipmsg.INFO, sipmsg.UPDATE, sipmsg.NOTIFY, sipmsg.MESSAGE} {
		u.srv.OnRequest(m, u.owned(u.handleOther))
	}
	return u, nil
}

func (u *UA) bind() error {
	var err error
	if u.cfg.Transport == "udp" {
		u.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(u.cfg.Local))
		if err != nil {
			return fmt.Errorf("user agent: %w", err)
		}
		u.local = u.udp.LocalAddr().(*net.UDPAddr).AddrPort()
		return nil
	}
	u.tcp, err = net.Listen("tcp", u.cfg.Local.String())
	if err != nil {
		return fmt.Errorf("user agent: %w", err)
	}
	u.local = u.tcp.Addr().(*net.TCPAddr).AddrPort()
	return nil
}

func (u *UA) release() {
	u.stop()
	if u.stack != nil {
		u.stack.Close()
	}
	if u.udp != nil {
		u.udp.Close()
	}
	if u.tcp != nil {
		u.tcp.Close()
	}
}

// Run serves the socket until ctx ends; then it ends what is left of calls without telling the far end, closes the
// socket and waits for all handlers. It must be called once, also to release an agent that is not needed.
func (u *UA) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() {
		if u.udp != nil {
			served <- u.srv.ServeUDP(&firstRead{PacketConn: u.udp, seen: u.ready})
			return
		}
		close(u.ready)
		served <- u.srv.ServeTCP(u.tcp)
	}()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		if err == nil {
			err = errors.New("the listener ended")
		}
		err = fmt.Errorf("user agent %s: serve: %w", u.local, err)
		served <- nil
	}
	u.mu.Lock()
	u.closed = true
	for _, c := range u.calls {
		c.end(false)
	}
	clear(u.calls)
	u.mu.Unlock()
	u.release()
	<-served
	u.work.Wait()
	return err
}

// Local is the bound address, with the port that the system chose.
func (u *UA) Local() netip.AddrPort { return u.local }

// AOR is the address of record, RFC 3261 section 10: no port, no parameters.
func (u *UA) AOR() string { return "sip:" + u.cfg.User + "@" + u.host() }

// host is Domain without its port, or the local address where there is no domain.
func (u *UA) host() string {
	if u.cfg.Domain == "" {
		return u.local.Addr().String()
	}
	if h, _, err := net.SplitHostPort(u.cfg.Domain); err == nil {
		return h
	}
	return u.cfg.Domain
}

// Contact is the URI at which this agent listens.
func (u *UA) Contact() string {
	uri := "sip:" + u.cfg.User + "@" + u.local.String()
	if u.cfg.Transport != "udp" {
		uri += ";transport=" + u.cfg.Transport
	}
	return uri
}

// owned makes Run wait for a handler that sipgo calls on a goroutine of its own.
func (u *UA) owned(h func(*sipmsg.Request, sipmsg.ServerTransaction)) sipgo.RequestHandler {
	return func(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
		u.mu.Lock()
		if u.closed {
			u.mu.Unlock()
			return
		}
		u.work.Add(1)
		u.mu.Unlock()
		defer u.work.Done()
		h(req, tx)
	}
}

// firstRead tells when a packet socket is read for the first time.
type firstRead struct {
	net.PacketConn
	once sync.Once
	seen chan struct{}
}

func (f *firstRead) ReadFrom(b []byte) (int, net.Addr, error) {
	f.once.Do(func() { close(f.seen) })
	return f.PacketConn.ReadFrom(b)
}
