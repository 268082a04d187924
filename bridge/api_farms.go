package bridge

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

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
