package ng

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Names that rtpengine gives to its HTTP interface.
const (
	contentType      = "application/x-rtpengine-ng"
	protocolNG       = "ng.rtpengine.com"
	protocolNGPlain  = "ng-plain.rtpengine.com"
	shutdownPatience = 3 * time.Second // chosen by us: longer than the Handler's default timeout
)

// serveHTTP serves POST /ng (with cookie), POST /ng-plain (without), GET /ping, and WebSocket by subprotocol.
func (s *Server) serveHTTP(ctx context.Context, l net.Listener) error {
	var sockets sync.WaitGroup
	defer sockets.Wait()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pong\n") })
	mux.HandleFunc("POST /ng", func(w http.ResponseWriter, r *http.Request) { s.post(w, r, true) })
	mux.HandleFunc("POST /ng-plain", func(w http.ResponseWriter, r *http.Request) { s.post(w, r, false) })
	// A page of another site may post text to any address that the browser reaches: it must not drive calls.
	protected := http.NewCrossOriginProtection().Handler(mux)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				protected.ServeHTTP(w, r)
				return
			}
			sockets.Add(1)
			defer sockets.Done()
			s.serveSocket(ctx, w, r)
		}),
		ReadHeaderTimeout: messageTime,
		ReadTimeout:       messageTime,
		IdleTimeout:       s.cfg.Idle,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // each line would be a stranger's
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
		defer cancel()
		if srv.Shutdown(wait) != nil {
			_ = srv.Close() // what is left had its time
		}
	}()
	err := srv.Serve(limitListener{l, s})
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		<-ctx.Done()
		<-done
		return nil
	}
	return fmt.Errorf("ng server: serve http %s: %w", l.Addr(), err)
}

// limitListener counts connections against the server's limit.
type limitListener struct {
	net.Listener
	s *Server
}

func (l limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.s.connect() {
			return &limitConn{Conn: c, s: l.s}, nil
		}
		_ = c.Close() // nothing was said yet
	}
}

type limitConn struct {
	net.Conn
	s    *Server
	once sync.Once
}

func (c *limitConn) Close() error {
	c.once.Do(c.s.disconnect)
	return c.Conn.Close()
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, cookie bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage))
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		s.stats.refused(RefusedTooBig)
		http.Error(w, errTooBig.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil || !s.acquire(r.Context()) {
		return // the peer has gone
	}
	defer s.release()
	answer, kind := s.httpMessage(r.Context(), remote(r), body, cookie)
	if answer == nil {
		http.Error(w, "no answer: want COOKIE SP DICTIONARY, and no cookie that is in work", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(answer)
}

// httpMessage answers one message of HTTP or WebSocket and names its content type.
func (s *Server) httpMessage(ctx context.Context, from netip.Addr, body []byte, cookie bool) ([]byte, string) {
	if cookie {
		return s.message(ctx, from, body), contentType
	}
	answer, form := s.answer(ctx, from, "", body)
	if form == JSON {
		return answer, "application/json"
	}
	return answer, contentType
}

func remote(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// serveSocket serves one WebSocket connection; an answer has the message type of its request.
func (s *Server) serveSocket(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:    []string{protocolNG, protocolNGPlain},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return // Accept has answered
	}
	if c.Subprotocol() == "" {
		_ = c.Close(websocket.StatusPolicyViolation, "want subprotocol "+protocolNG+" or "+protocolNGPlain)
		return
	}
	c.SetReadLimit(MaxMessage)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		cancel()
		_ = c.CloseNow()
	}()
	from, cookie := remote(r), c.Subprotocol() == protocolNG
	for {
		kind, msg, err := s.readSocket(ctx, c)
		if err != nil || !s.acquire(ctx) {
			return
		}
		wg.Go(func() {
			defer s.release()
			answer, _ := s.httpMessage(ctx, from, msg, cookie)
			if answer == nil {
				return
			}
			wctx, stop := context.WithTimeout(ctx, messageTime)
			defer stop()
			if c.Write(wctx, kind, answer) != nil {
				cancel()
			}
		})
	}
}

func (s *Server) readSocket(ctx context.Context, c *websocket.Conn) (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Idle)
	defer cancel()
	return c.Read(ctx)
}
