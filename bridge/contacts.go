package bridge

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"rtcedge/bridge/ari"
)

// Registrars is the directory of the users that register: it asks the registrar nodes themselves, over ARI. PJSIP keeps a contact under
// USER;@MD5(uri) (registrar_add_contact in res_pjsip_registrar.c), and shows it as a configuration object.
type Registrars struct{ clients []*ari.Client }

// NewRegistrars asks these nodes. One that has no registrations answers so, so that call nodes may be among them.
func NewRegistrars(urls []string) (*Registrars, error) {
	r := new(Registrars)
	for _, u := range urls {
		c, err := ari.NewClient(ari.ClientConfig{URL: u, App: App, Timeout: registrarTimeout})
		if err != nil {
			return nil, err
		}
		r.clients = append(r.clients, c)
	}
	return r, nil
}

// Add asks these, too.
func (r *Registrars) Add(clients ...*ari.Client) { r.clients = append(r.clients, clients...) }

// registrarTimeout is how long a caller waits for a registrar that is dead: the others are asked at the same time.
const registrarTimeout = 800 * time.Millisecond

// Contacts asks all nodes at once. It is an error if none could be asked, and ErrAbsent if the user is known and not registered.
func (r *Registrars) Contacts(ctx context.Context, user string) ([]Contact, error) {
	type answer struct {
		contacts []Contact
		err      error
	}
	answers := make([]answer, len(r.clients))
	var wg sync.WaitGroup
	for i, c := range r.clients {
		wg.Go(func() { answers[i].contacts, answers[i].err = contactsOf(ctx, c, user, time.Now()) })
	}
	wg.Wait()
	var all []Contact
	var errs []error
	seen := map[string]bool{} // registrars that share a database have the same ones
	absent := false
	for _, a := range answers {
		if errors.Is(a.err, ErrAbsent) {
			absent = true
			continue
		}
		if a.err != nil {
			errs = append(errs, a.err)
		}
		for _, c := range a.contacts {
			if !seen[c.URI] {
				seen[c.URI] = true
				all = append(all, c)
			}
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case absent:
		return nil, ErrAbsent
	case len(errs) == len(r.clients):
		return nil, errors.Join(errs...)
	}
	return nil, nil
}

func contactsOf(ctx context.Context, c *ari.Client, user string, now time.Time) ([]Contact, error) {
	aor, err := c.ConfigObject(ctx, "res_pjsip", "aor", user)
	if errors.Is(err, ari.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Contact
	for _, uri := range strings.FieldsFunc(aor["contact"], func(r rune) bool { return r == ',' }) {
		uri = strings.TrimSpace(uri)
		sum := md5.Sum([]byte(uri)) // Asterisk's choice of a name, nothing is protected by it
		object, err := c.ConfigObject(ctx, "res_pjsip", "contact", user+";@"+hex.EncodeToString(sum[:]))
		if errors.Is(err, ari.ErrNotFound) {
			continue // it expired between the two questions
		}
		if err != nil {
			return nil, err
		}
		if at, err := strconv.ParseInt(object["expiration_time"], 10, 64); err == nil && at > 0 && !time.Unix(at, 0).After(now) {
			continue
		}
		out = append(out, Contact{URI: uri, Path: object["path"]})
	}
	if len(out) == 0 {
		return nil, ErrAbsent
	}
	return out, nil
}
