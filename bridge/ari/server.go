package ari

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Limits of the server, chosen by us: a client of ARI is a program nearby.
const (
	headerTimeout   = 5 * time.Second
	shutdownTimeout = time.Second
	maxBody         = 64 << 10 // of a request and of a WebSocket message
	defaultClients  = 64
	defaultQueue    = 4096
)

// Config is what a server needs. Listen, User, Password and Routes must be given.
type Config struct {
	Listen   netip.AddrPort // address of the HTTP listener; port 0 takes a free one
	User     string         // of the Basic authentication
	Password string         // of the Basic authentication; must not be empty
	NodeID   string         // asterisk_id of every event
	Routes   []Route        // what is answered under /ari, besides events and applications, which are the server's own

	Clients      int           // event sockets at a time; more are refused with 503; default 64
	Queue        int           // events that wait for one client; one that is slower is cut; default 4096
	WriteTimeout time.Duration // of one message to an event socket; a client that takes longer is cut; default 5 s

	Logger *slog.Logger // default: none
}

func (c *Config) validate() error {
	switch {
	case !c.Listen.IsValid():
		return errors.New("ari: listen: an address IP:PORT is needed")
	case c.User == "" || c.Password == "":
		return errors.New("ari: a user and a password are needed")
	case len(c.Routes) == 0:
		return errors.New("ari: routes are needed")
	case c.Clients < 0 || c.Queue < 0:
		return fmt.Errorf("ari: %d clients with a queue of %d: neither may be negative", c.Clients, c.Queue)
	}
	if c.Clients == 0 {
		c.Clients = defaultClients
	}
	if c.WriteTimeout <= 0 {
		c.WriteTimeout = socketWrite
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Server answers ARI requests for a farm and tells its clients what happens there.
type Server struct {
	// Constant after New.
	cfg    Config
	ln     net.Listener
	http   *http.Server
	routes []compiled
	life   context.Context // of the event sockets
	kill   context.CancelFunc

	sockets sync.WaitGroup
	hub     hub
}

// New binds the listener. Nothing is answered before Run.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("ari: listen on %s: %w", cfg.Listen, err)
	}
	s := &Server{cfg: cfg, ln: ln}
	s.hub.apps = make(map[string]*application)
	s.life, s.kill = context.WithCancel(context.Background())
	s.routes = compile(append(s.ownRoutes(), cfg.Routes...))
	s.http = &http.Server{
		Handler:           s.authenticated(http.HandlerFunc(s.serve)),
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the bound address.
func (s *Server) Addr() netip.AddrPort { return s.ln.Addr().(*net.TCPAddr).AddrPort() }

// Close releases the listener of a server that was never run.
func (s *Server) Close() error {
	s.kill()
	return s.ln.Close()
}

// Run answers until ctx ends and has closed the listener and all connections when it returns.
func (s *Server) Run(ctx context.Context) error {
	defer s.sockets.Wait()
	defer s.kill()
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("ari: serve: %w", err)
	case <-ctx.Done():
	}
	s.kill()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		_ = s.http.Close() // a client holds its request open: it is cut
	}
	<-served
	return nil
}

// serve finds what a request is for. The event socket is the one resource that is no plain answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ari/events" && r.Method == http.MethodGet {
		s.events(w, r)
		return
	}
	s.answer(w, r)
}

// authenticated lets requests with the right name and password through: Basic, or api_key=USER:PASSWORD in the query, which
// is how a browser's WebSocket says it.
func (s *Server) authenticated(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(s.cfg.User + ":" + s.cfg.Password))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok {
			user, password, ok = strings.Cut(r.URL.Query().Get("api_key"), ":")
		}
		got := sha256.Sum256([]byte(user + ":" + password)) // digests have one length: the comparison tells nothing
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="Asterisk REST Interface"`)
			refuse(w, http.StatusUnauthorized, "Authentication required")
			return
		}
		next.ServeHTTP(w, r)
	})
}
