// Package obs is the admin port: Prometheus metrics, health, readiness, pprof, the JSON pages that `rtcedge status` and
// `rtcedge calls` read, and the site that shows them. Packages count, obs exports: it reads snapshots through Source functions and knows nobody.
//
// The way of a number: a package counts in a field of its own -> its Stats() is turned into samples by cmd -> a scrape
// calls the sources and prints what they say at that moment. Nothing is kept here.
package obs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config of the admin port.
type Config struct {
	Addr    netip.AddrPort                    // where to listen; port 0 takes a free one
	Sources []Source                          // what /metrics prints besides the Go runtime's and the process' own
	Pages   map[string]Page                   // path -> value printed as JSON, like "/calls"
	Actions map[string]func(url.Values) error // path -> what a POST does, like "/drain"; its error is answered as 409
	Site    http.Handler                      // what a browser gets at / and below /web/; nil: nothing
}

// Page answers with a value, within the time that its context has. Its error is answered as 503, one that wraps ErrQuery as 400.
type Page func(context.Context, url.Values) (any, error)

// ErrQuery says that a page was asked for what it does not know.
var ErrQuery = errors.New("bad query")

// pageTime is how long a page may take. Chosen by us: who asks waits for 5 s (rtcedge status and the others).
const pageTime = 4 * time.Second

// Server is the admin port of one process. New opens the port, Run serves it.
type Server struct {
	cfg      Config
	listener net.Listener
	ready    atomic.Bool
}

// New opens the port, so that a port in use is found before anything else starts.
func New(cfg Config) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("admin: listen on %s: %w (allowed: a free IP:PORT of this machine)", cfg.Addr, err)
	}
	return &Server{cfg: cfg, listener: l}, nil
}

// Close releases the port of a server that was never run.
func (s *Server) Close() error { return s.listener.Close() }

// Addr is the address that the port is open on.
func (s *Server) Addr() netip.AddrPort {
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// SetReady says if /readyz answers 200: load balancers send new calls only then (B10).
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: serve: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(sources(s.cfg.Sources))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "draining or not started", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	for path, page := range s.cfg.Pages {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), pageTime)
			defer cancel()
			value, err := page(ctx, r.URL.Query())
			switch {
			case errors.Is(err, ErrQuery):
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			case err != nil:
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Content-Type-Options", "nosniff") // what strangers wrote is in it
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			_ = enc.Encode(value) // the client went away: nothing to do
		})
	}
	if s.cfg.Site != nil {
		mux.Handle("GET /{$}", s.cfg.Site)
		mux.Handle("GET /web/", s.cfg.Site)
	}
	for path, act := range s.cfg.Actions {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := act(r.URL.Query()); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			fmt.Fprintln(w, "ok")
		})
	}
	// A page of somebody else, open in the operator's browser, cannot send the actions.
	return http.NewCrossOriginProtection().Handler(mux)
}
