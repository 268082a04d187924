package homer

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// APIConfig is what an API needs.
type APIConfig struct {
	Addr  netip.AddrPort
	Token string // asked for in Auth-Token, as Bearer, or as the password of /api/v3/auth
	Store *Store
}

// API serves a Store in the form of HOMER's API version 3.
type API struct {
	cfg    APIConfig
	listen net.Listener
	bearer string // what /api/v3/auth gives out
	scan   sync.Mutex
}

const (
	maxBody    = 4 << 20
	maxSearch  = 200 // rows, as HOMER's default
	maxAnswers = 200_000
)

// NewAPI opens the listener; nothing is served before Run.
func NewAPI(cfg APIConfig) (*API, error) {
	if cfg.Token == "" || cfg.Store == nil {
		return nil, errors.New("capture API: a token and a store are needed")
	}
	l, err := net.Listen("tcp", cfg.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("capture API: %w", err)
	}
	return &API{cfg: cfg, listen: l, bearer: rand.Text()}, nil
}

// Addr is where it listens.
func (a *API) Addr() net.Addr { return a.listen.Addr() }

// Run serves until ctx ends.
func (a *API) Run(ctx context.Context) error {
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(a.listen) }()
	select {
	case err := <-done:
		return fmt.Errorf("capture API: %w", err)
	case <-ctx.Done():
	}
	err := srv.Close()
	<-done
	return err
}

func (a *API) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v3/auth", a.auth)
	mux.HandleFunc("POST /api/v3/call/transaction", a.guard(a.transaction))
	mux.HandleFunc("POST /api/v3/search/call/data", a.guard(a.search))
	return mux
}

// answer writes JSON; HOMER says 201 to every POST that it likes.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who asked may be gone
}

func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]any{"statuscode": status, "message": text})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (a *API) auth(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body) != nil || !same(body.Password, a.cfg.Token) {
		refuse(w, http.StatusUnauthorized, "incorrect password")
		return
	}
	answer(w, http.StatusCreated, map[string]any{"token": a.bearer, "scope": body.Username, "user": map[string]any{"admin": false}})
}

// guard checks the token. The refusal is a 400, as HOMER's.
func (a *API) guard(next func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !same(r.Header.Get("Auth-Token"), a.cfg.Token) && !same(bearer, a.bearer) && !same(bearer, a.cfg.Token) {
			refuse(w, http.StatusBadRequest, "missing or malformed jwt")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next(w, r)
	}
}

func (a *API) transaction(w http.ResponseWriter, r *http.Request) {
	var q transactionRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, "body is no request: "+err.Error())
		return
	}
	out := transactionAnswer{Keys: []string{"callid"}}
	out.Data.CallData = []any{}
	out.Data.Messages = rows(r.Context(), a.cfg.Store, q.Param.Search.Call.CallID, q.Timestamp.From, q.Timestamp.To)
	out.Total = len(out.Data.Messages)
	answer(w, http.StatusCreated, out)
}

// rows are the messages within the window, cut to whole seconds as HOMER does.
func rows(ctx context.Context, s *Store, ids []string, from, to int64) []row {
	list, _ := s.Messages(ctx, ids, time.Time{}) // the store has no errors
	out := make([]row, 0, len(list))
	for _, m := range list {
		if within(m.Time, from, to) && len(out) < maxAnswers {
			out = append(out, toRow(m))
		}
	}
	return out
}
