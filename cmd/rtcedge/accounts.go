package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rtcedge/internal/obs"
	"rtcedge/sip/accounts"
	"rtcedge/sip/auth"
)

// users are the accounts of a role: those of a file or a database elsewhere, or the demo's.
type users struct {
	provider auth.Provider
	plain    []account // the demo's only: to be printed
	parts    []part    // what must run: the file's reload, the database's end
	sources  []obs.Source
}

// loadAccounts knows what a role can read on the spot: a file, or nothing for the demo's accounts.
func loadAccounts(path, realm string, e *env) (users, error) {
	if path == "" {
		demo := demoAccounts()
		list := make([]auth.User, len(demo))
		for i, a := range demo {
			list[i] = auth.User{Name: a.User, Realm: realm, Credential: auth.NewCredential(a.User, realm, a.Password)}
		}
		return users{provider: auth.NewUsers(list...), plain: demo}, nil
	}
	if elsewhere(path) {
		return users{}, errors.New("--auth: a URL (allowed here: a file; the sip role takes URLs)")
	}
	file, err := auth.OpenFile(path, e.log)
	if err != nil {
		return users{}, fmt.Errorf("--auth: %w (allowed: lines of user:realm:hash or user:realm:password=secret)", err)
	}
	reload := part{"accounts", func(ctx context.Context) error { return file.Run(ctx, 0) }}
	return users{provider: file, parts: []part{reload}}, nil
}

func elsewhere(path string) bool { return strings.Contains(path, "://") }

// edgeAccounts also knows databases elsewhere, as only the edge can let a request wait.
func edgeAccounts(path, realm, sql string, e *env) (users, error) {
	if !elsewhere(path) {
		return loadAccounts(path, realm, e)
	}
	var source interface {
		auth.Source
		Close()
	}
	var err error
	switch scheme, _, _ := strings.Cut(path, "://"); scheme {
	case "http", "https":
		source, err = accounts.NewHTTP(path)
	case "postgres", "postgresql":
		source, err = accounts.NewPostgres(path, sql)
	default:
		err = fmt.Errorf("scheme %q (allowed: a file, http://, https://, postgres://)", scheme)
	}
	if err != nil {
		return users{}, fmt.Errorf("--auth: %w", err)
	}
	cache, err := auth.NewCache(auth.CacheConfig{Source: source, Log: e.log})
	if err != nil {
		return users{}, err
	}
	end := part{"accounts", func(ctx context.Context) error {
		<-ctx.Done()
		source.Close()
		return nil
	}}
	return users{provider: cache, parts: []part{end}, sources: []obs.Source{cacheSource(cache)}}, nil
}

func cacheSource(c *auth.Cache) obs.Source {
	return func() []obs.Sample {
		s := c.Stats()
		down := 0.0
		if s.Down {
			down = 1
		}
		return []obs.Sample{
			counter("accounts_asked", "questions to the users' database", s.Asked),
			counter("accounts_errors", "questions without an answer", s.Errors),
			counter("accounts_no_hash", "entries that held something else than a hash: such a user is treated as absent", s.NoHash),
			gauge("accounts_cached", "answers remembered now", float64(s.Entries)),
			gauge("accounts_down", "1 if the users' database gives no answers", down),
		}
	}
}

// edgeAuth makes the edge's verifier. Edges that share the secret check each other's challenges.
func (u users) edgeAuth(secret []byte) (*auth.Verifier, error) {
	return auth.New(auth.Config{Provider: u.provider, Secret: secret})
}

// print shows the demo's accounts. Those of a file are nobody's business.
func (u users) print(e *env) {
	if len(u.plain) == 0 {
		return
	}
	fmt.Fprint(e.out, "accounts (user password)\n")
	for _, p := range u.plain {
		fmt.Fprintf(e.out, "  %s %s\n", p.User, p.Password)
	}
}
