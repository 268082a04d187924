package bridge

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"rtcedge/internal/store"
)

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
	if c.Moving != nil {
		c.Legs = slices.DeleteFunc(slices.Clone(c.Legs), func(l Leg) bool { return l.Carry != "" })
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
