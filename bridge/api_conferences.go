package bridge

import (
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

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
	if err := c.check(); err != nil {
		return badRequest{err}
	}
	if err := a.b.SetConference(r.Context(), c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *Conference) check() error {
	switch {
	case strings.Trim(c.PIN+c.ModeratorPIN, "0123456789") != "" || len(c.PIN) > 32 || len(c.ModeratorPIN) > 32:
		return errors.New("pin (allowed: up to 32 digits)")
	case c.ModeratorPIN != "" && c.PIN == "":
		return errors.New("moderator_pin without pin: nobody is asked for one")
	case c.MaxLegs < 0:
		return errors.New("max_legs (allowed: 0, no limit of its own, or more)")
	}
	return nil
}

func (a *API) endConference(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if a.b.conference(name) == nil {
		for _, c := range a.stored(r.Context()) {
			if c.Conference == name && c.From == "" {
				return a.elsewhere(w, r, c.ID) // also to say that nobody controls it in this moment
			}
		}
	}
	if err := a.b.EndConference(r.Context(), name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
