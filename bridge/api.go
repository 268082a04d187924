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
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
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
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return badRequest{fmt.Errorf("body: %w (allowed: the JSON object of openapi.json)", err)}
	}
	return nil
}

func (a *API) document(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(openAPI)
	return err
}

// stored reads the records of all processes; while the store is away, those of this one.
func (a *API) stored(ctx context.Context) []Call {
	own := a.b.Calls()
	have := map[string]bool{}
	for _, c := range own {
		have[c.ID] = true
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	entries, err := a.b.buckets.calls.List(ctx, "")
	if err == nil {
		for _, e := range entries {
			var c Call
			if json.Unmarshal(e.Value, &c) == nil && !have[c.ID] && c.Owner != a.b.cfg.Owner {
				own = append(own, c)
			}
		}
	}
	slices.SortFunc(own, func(x, y Call) int { return x.Created.Compare(y.Created) })
	return own
}

// public hides what nobody needs to read.
func public(c Call) Call {
	if c.PIN != "" {
		c.PIN = "set"
	}
	if c.ModeratorPIN != "" {
		c.ModeratorPIN = "set"
	}
	return c
}

func (a *API) listCalls(w http.ResponseWriter, r *http.Request) error {
	out := []Call{}
	for _, c := range a.stored(r.Context()) {
		out = append(out, public(c))
	}
	answer(w, http.StatusOK, out)
	return nil
}

func (a *API) getCall(w http.ResponseWriter, r *http.Request) error {
	c, err := a.find(r.Context(), r.PathValue("call"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, public(c))
	return nil
}

func (a *API) find(ctx context.Context, id string) (Call, error) {
	if s := a.b.session(id); s != nil {
		return s.record(), nil
	}
	var c Call
	e, err := a.b.buckets.calls.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return c, fmt.Errorf("%w: %s", ErrNoCall, id)
	}
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(e.Value, &c)
}

func (a *API) placeCall(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		From string `json:"from"`
		To   string `json:"to"`
		Name string `json:"name"`
	}
	if err := body(r, &in); err != nil {
		return err
	}
	if in.From == "" || in.To == "" {
		return badRequest{errors.New("from and to are needed (allowed: a number, a user, or a SIP URI)")}
	}
	c, err := a.b.Place(r.Context(), in.From, in.To, in.Name)
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, public(c))
	return nil
}

// command runs a command, here or at the process that controls the call.
func (a *API) command(w http.ResponseWriter, r *http.Request, do string) error {
	call := r.PathValue("call")
	if a.b.session(call) == nil {
		return a.elsewhere(w, r, call)
	}
	c := Command{On: true}
	if err := body(r, &c); err != nil {
		return err
	}
	c.Do, c.Leg = do, r.PathValue("leg")
	if err := checkCommand(c); err != nil {
		return badRequest{err}
	}
	if err := a.b.Command(r.Context(), call, c); err != nil {
		return err
	}
	rec, err := a.find(r.Context(), call)
	if err != nil { // it was ended by this
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	answer(w, http.StatusOK, public(rec))
	return nil
}

func checkCommand(c Command) error {
	switch c.Do {
	case CmdAdd, CmdMove, CmdTransfer:
		if c.To == "" {
			return errors.New("to is missing (allowed: a number, a user, or a SIP URI)")
		}
	case CmdMedia:
		if _, err := netip.ParseAddrPort(c.To); err != nil {
			return fmt.Errorf("to: %q (allowed: IP:PORT that gets and sends PCMU as RTP)", c.To)
		}
	case CmdDTMF:
		if c.Text == "" || strings.Trim(c.Text, "0123456789ABCD*#") != "" {
			return fmt.Errorf("text: %q (allowed: 0-9 A-D * #)", c.Text)
		}
	}
	return nil
}

// elsewhere asks the process that controls the call. The mark keeps two that each think the other has it from asking for ever.
func (a *API) elsewhere(w http.ResponseWriter, r *http.Request, call string) error {
	const mark = "Rtcedge-Forwarded"
	c, err := a.find(r.Context(), call)
	if err != nil {
		return err
	}
	if c.Owner == a.b.cfg.Owner || c.Owner == "" || r.Header.Get(mark) != "" {
		return fmt.Errorf("%w: no process controls it now", ErrNoNode)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.Owner})
	r.Header.Set(mark, "1")
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) { answerError(w, err) }
	proxy.ServeHTTP(w, r)
	return nil
}

func (a *API) listConferences(w http.ResponseWriter, r *http.Request) error {
	out := []Call{}
	for _, c := range a.stored(r.Context()) {
		if c.Conference != "" {
			out = append(out, public(c))
		}
	}
	answer(w, http.StatusOK, out)
	return nil
}

func (a *API) getConference(w http.ResponseWriter, r *http.Request) error {
	for _, c := range a.stored(r.Context()) {
		if c.Conference == r.PathValue("name") {
			answer(w, http.StatusOK, public(c))
			return nil
		}
	}
	return fmt.Errorf("%w: no conference %s is held", ErrNoCall, r.PathValue("name"))
}

func (a *API) setConference(w http.ResponseWriter, r *http.Request) error {
	var c Conference
	if err := body(r, &c); err != nil {
		return err
	}
	c.Name = r.PathValue("name")
	if strings.Trim(c.PIN+c.ModeratorPIN, "0123456789") != "" || len(c.PIN) > 32 || len(c.ModeratorPIN) > 32 {
		return badRequest{errors.New("pin (allowed: up to 32 digits)")}
	}
	if c.ModeratorPIN != "" && c.PIN == "" {
		return badRequest{errors.New("moderator_pin without pin: nobody is asked for one")}
	}
	if err := a.b.SetConference(r.Context(), c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) endConference(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if a.b.conference(name) == nil && r.Header.Get("Rtcedge-Forwarded") == "" {
		for _, c := range a.stored(r.Context()) {
			if c.Conference == name && c.Owner != a.b.cfg.Owner {
				return a.elsewhere(w, r, c.ID)
			}
		}
	}
	if err := a.b.EndConference(r.Context(), name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) listFlows(w http.ResponseWriter, _ *http.Request) error {
	answer(w, http.StatusOK, a.b.flows.list())
	return nil
}

func (a *API) setFlow(w http.ResponseWriter, r *http.Request) error {
	var f Flow
	if err := body(r, &f); err != nil {
		return err
	}
	f.Number = r.PathValue("number")
	if err := f.Check(); err != nil {
		return badRequest{err}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if _, err := a.b.buckets.flows.Put(r.Context(), f.Number, text); err != nil {
		return err
	}
	a.b.flows.set(f.Number, f.Actions) // the watch tells the others
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) deleteFlow(w http.ResponseWriter, r *http.Request) error {
	if err := a.b.buckets.flows.Delete(r.Context(), r.PathValue("number"), 0); err != nil {
		return err
	}
	a.b.flows.set(r.PathValue("number"), nil)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) listRecordings(w http.ResponseWriter, r *http.Request) error {
	type recording struct {
		Name string `json:"name"`
		Node NodeID `json:"node"`
	}
	out := []recording{}
	for _, n := range a.b.nodes {
		all, err := n.client.StoredRecordings(r.Context())
		if err != nil {
			continue // a node that is down has none to give
		}
		for _, rec := range all {
			out = append(out, recording{rec.Name, n.id()})
		}
	}
	answer(w, http.StatusOK, out)
	return nil
}

func (a *API) getRecording(w http.ResponseWriter, r *http.Request) error {
	for _, n := range a.b.nodes {
		if text, err := n.client.RecordingFile(r.Context(), r.PathValue("name")); err == nil {
			w.Header().Set("Content-Type", "audio/wav")
			_, _ = w.Write(text)
			return nil
		}
	}
	return fmt.Errorf("%w: no recording %s", ErrNoCall, r.PathValue("name"))
}

func (a *API) deleteRecording(w http.ResponseWriter, r *http.Request) error {
	for _, n := range a.b.nodes {
		if n.client.DeleteRecording(r.Context(), r.PathValue("name")) == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	return fmt.Errorf("%w: no recording %s", ErrNoCall, r.PathValue("name"))
}

func (a *API) listFarms(w http.ResponseWriter, r *http.Request) error {
	out := []Node{}
	ctx, cancel := context.WithTimeout(r.Context(), saveTimeout)
	defer cancel()
	entries, err := a.b.buckets.nodes.List(ctx, "")
	if err != nil { // the store is away: what this process knows
		for _, n := range a.b.nodes {
			out = append(out, n.record())
		}
	}
	for _, e := range entries {
		var n Node
		if json.Unmarshal(e.Value, &n) == nil {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(x, y Node) int { return strings.Compare(string(x.ID), string(y.ID)) })
	answer(w, http.StatusOK, out)
	return nil
}

func (a *API) drainFarm(w http.ResponseWriter, r *http.Request) error {
	in := struct {
		On bool `json:"on"`
	}{true}
	if err := body(r, &in); err != nil {
		return err
	}
	n := a.b.node(NodeID(r.PathValue("node")), nil)
	if n == nil {
		return fmt.Errorf("%w: no farm node %s", ErrNoCall, r.PathValue("node"))
	}
	n.drain(r.Context(), in.On)
	answer(w, http.StatusOK, n.record())
	return nil
}

// events is the stream of notices, as server-sent events.
func (a *API) events(w http.ResponseWriter, r *http.Request) error {
	flush, ok := w.(http.Flusher)
	if !ok {
		return errors.New("the connection cannot stream")
	}
	notices, stop := a.b.hub.listen()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	flush.Flush()
	alive := time.NewTicker(15 * time.Second) // proxies on the way cut what is silent
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-alive.C:
			_, _ = io.WriteString(w, ": alive\n\n")
		case n, ok := <-notices:
			if !ok {
				return nil
			}
			text, _ := json.Marshal(n) // a notice always marshals
			if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", n.Event, text); err != nil {
				return nil
			}
		}
		flush.Flush()
	}
}
