// Package obs is the admin port: Prometheus metrics, health, readiness, pprof and the JSON pages that `rtcedge status` and
// `rtcedge calls` read. Packages count, obs exports: it reads snapshots through Source functions and knows nobody.
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
	Pages   map[string]func() any             // path -> value printed as JSON, like "/calls"
	Actions map[string]func(url.Values) error // path -> what a POST does, like "/drain"; its error is answered as 409
}

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
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			_ = enc.Encode(page()) // the client went away: nothing to do
		})
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
	return mux
}
