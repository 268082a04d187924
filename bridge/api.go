package bridge

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"rtcedge/internal/store"
)

// APIConfig is what the API needs.
type APIConfig struct {
	Listen netip.AddrPort // port 0 takes a free one
	Tokens []string       // one of them must stand in Authorization: Bearer; none: no question is asked, for loopback only
}

// API is the HTTP interface of a bridge process. Every process answers for every call: what another one controls is asked there.
type API struct {
	b   *Bridge
	cfg APIConfig
	ln  net.Listener
}

//go:embed openapi.json
var openAPI []byte

// endpoint is one route; openapi.json has one operation for each, which a test checks.
type endpoint struct {
	method, path string
	handle       func(a *API, w http.ResponseWriter, r *http.Request) error
}

func endpoints() []endpoint {
	on := func(do string) func(*API, http.ResponseWriter, *http.Request) error {
		return func(a *API, w http.ResponseWriter, r *http.Request) error { return a.command(w, r, do) }
	}
	return []endpoint{
		{"GET", "/v1/openapi.json", (*API).document},
		{"GET", "/v1/calls", (*API).listCalls},
		{"POST", "/v1/calls", (*API).placeCall},
		{"GET", "/v1/calls/{call}", (*API).getCall},
		{"DELETE", "/v1/calls/{call}", on(CmdHangup)},
		{"POST", "/v1/calls/{call}/participants", on(CmdAdd)},
		{"POST", "/v1/calls/{call}/mute-all", on(CmdMuteAll)},
		{"POST", "/v1/calls/{call}/lock", on(CmdLock)},
		{"POST", "/v1/calls/{call}/stay", on(CmdStay)},
		{"POST", "/v1/calls/{call}/move", on(CmdMove)},
		{"POST", "/v1/calls/{call}/media", on(CmdMedia)},
		{"POST", "/v1/calls/{call}/play", on(CmdPlay)},
		{"POST", "/v1/calls/{call}/record", on(CmdRecord)},
		{"DELETE", "/v1/calls/{call}/participants/{leg}", on(CmdKick)},
		{"POST", "/v1/calls/{call}/participants/{leg}/mute", on(CmdMute)},
		{"POST", "/v1/calls/{call}/participants/{leg}/hold", on(CmdHold)},
		{"POST", "/v1/calls/{call}/participants/{leg}/dtmf", on(CmdDTMF)},
		{"POST", "/v1/calls/{call}/participants/{leg}/play", on(CmdPlay)},
		{"POST", "/v1/calls/{call}/participants/{leg}/record", on(CmdRecord)},
		{"POST", "/v1/calls/{call}/participants/{leg}/transfer", on(CmdTransfer)},
		{"POST", "/v1/calls/{call}/participants/{leg}/moderator", on(CmdModerate)},
		{"GET", "/v1/conferences", (*API).listConferences},
		{"GET", "/v1/conferences/{name}", (*API).getConference},
		{"PUT", "/v1/conferences/{name}", (*API).setConference},
		{"DELETE", "/v1/conferences/{name}", (*API).endConference},
		{"GET", "/v1/recordings", (*API).listRecordings},
		{"GET", "/v1/recordings/{name}", (*API).getRecording},
		{"DELETE", "/v1/recordings/{name}", (*API).deleteRecording},
		{"GET", "/v1/flows", (*API).listFlows},
		{"PUT", "/v1/flows/{number}", (*API).setFlow},
		{"DELETE", "/v1/flows/{number}", (*API).deleteFlow},
		{"GET", "/v1/farms", (*API).listFarms},
		{"POST", "/v1/farms/{node}/drain", (*API).drainFarm},
		{"GET", "/v1/events", (*API).events},
	}
}

// NewAPI opens the port; nothing is answered before Run.
func NewAPI(b *Bridge, cfg APIConfig) (*API, error) {
	if len(cfg.Tokens) == 0 && !cfg.Listen.Addr().IsLoopback() {
		return nil, fmt.Errorf("api: %s can be reached from outside, and there is no token (allowed: a token file, or a loopback address)", cfg.Listen)
	}
	ln, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	return &API{b: b, cfg: cfg, ln: ln}, nil
}

// Addr is the bound address.
func (a *API) Addr() netip.AddrPort { return a.ln.Addr().(*net.TCPAddr).AddrPort() }

// Close releases the port of an API that was never run.
func (a *API) Close() error { return a.ln.Close() }

const (
	apiHeaderTimeout = 5 * time.Second
	maxBody          = 1 << 20
)

// Run answers until ctx ends.
func (a *API) Run(ctx context.Context) error {
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: apiHeaderTimeout, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(a.ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("api: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close()
	}
	<-served
	return nil
}

func (a *API) handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range endpoints() {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-a.b.ready:
			default:
				answerError(w, store.ErrAway) // it has never been there yet
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			if err := e.handle(a, w, r); err != nil {
				answerError(w, err)
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.allowed(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="rtcedge"`)
			answer(w, http.StatusUnauthorized, map[string]string{"error": "a token is needed (allowed: Authorization: Bearer TOKEN)"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *API) allowed(r *http.Request) bool {
	if len(a.cfg.Tokens) == 0 {
		return true
	}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got := sha256.Sum256([]byte(text))
	found := 0
	for _, token := range a.cfg.Tokens {
		want := sha256.Sum256([]byte(token))
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return ok && found == 1
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v) // a client that went away needs no answer
	}
}

type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

func answerError(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway // a node or the store did not do it
	var bad badRequest
	switch {
	case errors.As(err, &bad):
		status = http.StatusBadRequest
	case errors.Is(err, ErrNoCall), errors.Is(err, ErrNoLeg), errors.Is(err, store.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrNotAllowed):
		status = http.StatusForbidden
	case errors.Is(err, ErrState), errors.Is(err, ErrUnknown):
		status = http.StatusConflict
	case errors.Is(err, ErrBusy), errors.Is(err, ErrNoNode), errors.Is(err, errFull), errors.Is(err, store.ErrAway):
		status = http.StatusServiceUnavailable
	}
	answer(w, status, map[string]string{"error": err.Error()})
}

// body reads JSON strictly: a misspelt key is an error and not a default.
func body(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	switch err := d.Decode(into); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return badRequest{fmt.Errorf("body: %w (allowed: the JSON object of openapi.json)", err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest{errors.New("body: more than one value (allowed: the JSON object of openapi.json)")}
	}
	return nil
}

func (a *API) document(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(openAPI)
	return err
}
