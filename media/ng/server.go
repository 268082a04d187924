package ng

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Handler answers requests: the media engine. It is called from several goroutines at once and must return soon after
// ctx ends, which is Timeout after the call. A ping never comes here: the server answers it.
type Handler interface {
	Handle(ctx context.Context, req *Request) *Response
}

// ServerConfig says where to listen and what to allow. The zero value listens nowhere.
type ServerConfig struct {
	UDP  []netip.AddrPort // datagrams; port 0 takes a free one
	TCP  []netip.AddrPort // a stream of messages
	HTTP []netip.AddrPort // POST /ng and /ng-plain, GET /ping, WebSocket on any path

	Workers     int           // requests in the Handler at once, default 128; more wait in the sockets
	Timeout     time.Duration // for the Handler, by ctx; default 2 s
	CookieHold  time.Duration // how long an answer is kept for retransmissions, default 10 s
	CookieCount int           // answers kept, default 8192; memory for them is bounded to 64 MB as well
	Connections int           // TCP, HTTP and WebSocket connections at once, default 256; more are closed at once
	Idle        time.Duration // a connection without a message is closed after this, default 10 min

	Now func() time.Time // clock of the cookie cache, default time.Now
}

func (c *ServerConfig) validate() error {
	if c.Workers < 0 || c.Timeout < 0 || c.CookieHold < 0 || c.CookieCount < 0 || c.Connections < 0 || c.Idle < 0 {
		return errors.New("ng server: a limit is negative")
	}
	fill(&c.Workers, 128)
	fill(&c.Timeout, 2*time.Second)
	fill(&c.CookieHold, 10*time.Second)
	fill(&c.CookieCount, 8192)
	fill(&c.Connections, 256)
	fill(&c.Idle, 10*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

func fill[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Server is the NG end of a media node.
type Server struct {
	cfg     ServerConfig
	handler Handler
	seed    maphash.Seed
	slots   chan struct{} // one per request in work
	conns   chan struct{} // one per connection
	cookies *cookieCache
	stats   *serverStats

	udp  []*net.UDPConn
	tcp  []net.Listener
	http []net.Listener
}

// NewServer binds all listeners or none; an error names the one that failed.
func NewServer(cfg ServerConfig, h Handler) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, handler: h, seed: maphash.MakeSeed(),
		slots:   make(chan struct{}, cfg.Workers),
		conns:   make(chan struct{}, cfg.Connections),
		cookies: newCookieCache(cfg.CookieHold, max(cfg.CookieCount/2, 1)),
		stats:   newServerStats(),
	}
	if err := s.bind(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) bind() error {
	for _, a := range s.cfg.UDP {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
		if err != nil {
			return fmt.Errorf("ng server: listen udp %s: %w", a, err)
		}
		s.udp = append(s.udp, c)
	}
	for _, a := range s.cfg.TCP {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(a))
		if err != nil {
			return fmt.Errorf("ng server: listen tcp %s: %w", a, err)
		}
		s.tcp = append(s.tcp, l)
	}
	for _, a := range s.cfg.HTTP {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(a))
		if err != nil {
			return fmt.Errorf("ng server: listen http %s: %w", a, err)
		}
		s.http = append(s.http, l)
	}
	return nil
}

// Close releases the listeners of a server that was never run.
func (s *Server) Close() {
	closeAll(s.udp)
	closeAll(s.tcp)
	closeAll(s.http)
}

// closeAll closes sockets that hold nothing unwritten, so that an error says nothing.
func closeAll[C io.Closer](list []C) {
	for _, c := range list {
		_ = c.Close()
	}
}

// ServerAddrs are the bound addresses, in the order of the config.
type ServerAddrs struct{ UDP, TCP, HTTP []netip.AddrPort }

// Addrs returns what was bound: with port 0 in the config, the port that the system chose.
func (s *Server) Addrs() ServerAddrs {
	var a ServerAddrs
	for _, c := range s.udp {
		a.UDP = append(a.UDP, addrPort(c.LocalAddr()))
	}
	for _, l := range s.tcp {
		a.TCP = append(a.TCP, addrPort(l.Addr()))
	}
	for _, l := range s.http {
		a.HTTP = append(a.HTTP, addrPort(l.Addr()))
	}
	return a
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmapPort(a.AddrPort())
	case *net.TCPAddr:
		return unmapPort(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmapPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Run serves until ctx ends, then takes no more, lets what is in work be answered (at most Timeout), and closes all. It
// returns early if a listener fails.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	serve := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	for _, c := range s.udp {
		serve(func(ctx context.Context) error { return s.serveUDP(ctx, c) })
	}
	for _, l := range s.tcp {
		serve(func(ctx context.Context) error { return s.serveTCP(ctx, l) })
	}
	for _, l := range s.http {
		serve(func(ctx context.Context) error { return s.serveHTTP(ctx, l) })
	}
	<-ctx.Done()
	for _, c := range s.udp {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // ends the read; answers can still be written
	}
	closeAll(s.tcp)
	closeAll(s.http)
	wg.Wait()
	s.Close()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// acquire takes a slot for one request; false if ctx ended first.
func (s *Server) acquire(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) release() { <-s.slots }

// message answers one message with a cookie; nil is silence. The caller holds a slot. msg is not kept.
func (s *Server) message(ctx context.Context, from netip.Addr, msg []byte) []byte {
	cookie, body, ok := cutCookie(msg)
	if !ok {
		s.stats.refused(RefusedNoCookie)
		return nil
	}
	key := newCookieKey(s.seed, from, cookie, body)
	switch state, answer := s.cookies.begin(key, s.cfg.Now()); state {
	case cookieWorking:
		s.stats.duplicate()
		return nil
	case cookieAnswered:
		s.stats.duplicate()
		return answer
	}
	answer, _ := s.answer(ctx, from, cookie+" ", body)
	s.cookies.finish(key, answer, s.cfg.Now())
	return answer
}

// answer reads the dictionary, runs the command and writes the answer behind prefix.
func (s *Server) answer(ctx context.Context, from netip.Addr, prefix string, body []byte) ([]byte, Form) {
	req, form, err := ParseRequest(body)
	var bad *keyError
	switch {
	case errors.As(err, &bad):
		s.stats.refused(RefusedBadValue)
	case err != nil:
		s.stats.refused(RefusedMalformed)
	default:
		if err = req.Validate(); err != nil {
			s.stats.refused(RefusedMissing)
		}
	}
	var resp *Response
	if err != nil {
		resp = Error(err.Error())
	} else {
		req.Source = from
		resp = s.run(ctx, req)
	}
	// The cookie cache keeps the answer, so an ordinary one has the size that it needs.
	begin := append(make([]byte, 0, len(prefix)+resp.size()), prefix...)
	out, err := AppendResponse(begin, resp, form)
	if err != nil {
		// Only JSON can fail, on a number that it does not have (NaN) in the statistics.
		out = appendBencode(begin, Error(err.Error()).dict())
	}
	return out, form
}

func (s *Server) run(ctx context.Context, req *Request) *Response {
	start := time.Now()
	s.stats.begin(req.Unknown)
	var resp *Response
	if req.Command == CmdPing {
		resp = &Response{Result: ResultPong}
	} else {
		// The end of the server is no reason to break off a request that is half done.
		ctx := newPatience(ctx, s.cfg.Timeout)
		defer ctx.stop()
		if resp = s.handler.Handle(ctx, req); resp == nil {
			resp = Error("the command " + req.Command + " is not known here")
		}
	}
	s.stats.end(req.Command, resp.Result == ResultError, time.Since(start))
	return resp
}
