package bridge

import (
	_ "embed"
	"encoding/json"
	"net/http"
)

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
