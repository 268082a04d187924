package ari

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Limits of the server, chosen by us: a client of ARI is a program nearby.
const (
	headerTimeout   = 5 * time.Second
	shutdownTimeout = time.Second
)

// Farm is what the server asks. Its methods are called from many goroutines; what they return belongs to the caller.
type Farm interface {
	Info() AsteriskInfo
	Channels() []Channel
	Bridges() []Bridge
	Endpoints() []Endpoint
	// Hangup ends a channel with a Q.850 cause and tells if there was one of that name.
	Hangup(id string, cause int) bool
}

// Config is what a server needs. All but Logger must be given.
type Config struct {
	Listen   netip.AddrPort // address of the HTTP listener; port 0 takes a free one
	User     string         // of the Basic authentication
	Password string         // of the Basic authentication; must not be empty
	Farm     Farm           // what is asked
	Logger   *slog.Logger   // default: none
}

func (c *Config) validate() error {
	switch {
	case !c.Listen.IsValid():
		return errors.New("ari: listen: an address IP:PORT is needed")
	case c.User == "" || c.Password == "":
		return errors.New("ari: a user and a password are needed")
	case c.Farm == nil:
		return errors.New("ari: a farm is needed")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Server answers ARI requests for a farm.
type Server struct {
	cfg  Config
	ln   net.Listener
	http *http.Server
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
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the bound address.
func (s *Server) Addr() netip.AddrPort { return s.ln.Addr().(*net.TCPAddr).AddrPort() }

// Close releases the listener of a server that was never run.
func (s *Server) Close() error { return s.ln.Close() }

// Run answers until ctx ends and has closed the listener and all connections when it returns.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("ari: serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		_ = s.http.Close() // a client holds its request open: it is cut
	}
	<-served
	return nil
}

func (s *Server) handler() http.Handler {
	farm := s.cfg.Farm
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ari/asterisk/info", func(w http.ResponseWriter, _ *http.Request) { reply(w, farm.Info()) })
	mux.HandleFunc("GET /ari/channels", func(w http.ResponseWriter, _ *http.Request) { reply(w, farm.Channels()) })
	mux.HandleFunc("GET /ari/channels/{id}", func(w http.ResponseWriter, r *http.Request) {
		all := farm.Channels()
		i := slices.IndexFunc(all, func(c Channel) bool { return c.ID == r.PathValue("id") })
		if i < 0 {
			refuse(w, http.StatusNotFound, "Channel not found")
			return
		}
		reply(w, all[i])
	})
	mux.HandleFunc("DELETE /ari/channels/{id}", func(w http.ResponseWriter, r *http.Request) {
		cause, ok := hangupCause(r)
		switch {
		case !ok:
			refuse(w, http.StatusBadRequest, "Invalid Hangup Reason")
		case !farm.Hangup(r.PathValue("id"), cause):
			refuse(w, http.StatusNotFound, "Channel not found")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("GET /ari/bridges", func(w http.ResponseWriter, _ *http.Request) { reply(w, farm.Bridges()) })
	mux.HandleFunc("GET /ari/bridges/{id}", func(w http.ResponseWriter, r *http.Request) {
		all := farm.Bridges()
		i := slices.IndexFunc(all, func(b Bridge) bool { return b.ID == r.PathValue("id") })
		if i < 0 {
			refuse(w, http.StatusNotFound, "Bridge not found")
			return
		}
		reply(w, all[i])
	})
	mux.HandleFunc("GET /ari/endpoints", func(w http.ResponseWriter, _ *http.Request) { reply(w, farm.Endpoints()) })

	// The mux alone answers 404 and 405 in plain text; these patterns are wider than all above, so they only see the rest.
	for _, known := range []string{"asterisk/info", "channels", "channels/{id}", "bridges", "bridges/{id}", "endpoints"} {
		mux.HandleFunc("/ari/"+known, func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusMethodNotAllowed, "Invalid method")
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "Resource not found")
	})
	return s.authenticated(mux)
}

// authenticated lets requests with the right name and password through.
func (s *Server) authenticated(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(s.cfg.User + ":" + s.cfg.Password))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		got := sha256.Sum256([]byte(user + ":" + password)) // digests have one length: the comparison tells nothing
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="Asterisk REST Interface"`)
			refuse(w, http.StatusUnauthorized, "Authentication required")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hangupReason knows the words that ARI takes in place of a Q.850 cause (ast_ari_channels_hangup in resource_channels.c).
func hangupReason(word string) (int, bool) {
	switch word {
	case "", "normal":
		return 16, true
	case "busy":
		return 17, true
	case "congestion", "congested":
		return 34, true
	case "no_answer":
		return 19, true
	case "timeout":
		return 18, true
	case "rejected":
		return 21, true
	case "unallocated":
		return 1, true
	case "normal_unspecified":
		return 31, true
	case "number_incomplete":
		return 28, true
	case "codec_mismatch":
		return 58, true
	case "interworking":
		return 127, true
	case "failure":
		return 38, true
	case "answered_elsewhere":
		return 26, true
	}
	return 0, false
}

func hangupCause(r *http.Request) (int, bool) {
	query := r.URL.Query()
	if code := query.Get("reason_code"); code != "" {
		n, err := strconv.Atoi(code)
		return n, err == nil && n >= 1 && n <= 127
	}
	return hangupReason(query.Get("reason"))
}

func reply(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "Internal Server Error")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that went away needs no answer
}

func refuse(w http.ResponseWriter, status int, message string) {
	body, _ := json.Marshal(errorBody{Message: message}) // a string always marshals
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
