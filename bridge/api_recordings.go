package bridge

import (
	_ "embed"
	"fmt"
	"net/http"
)

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
