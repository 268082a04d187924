package main

import (
	"context"
	"fmt"

	"rtcedge/sip/auth"
)

// accounts are the users of a role: those of a file, or the demo's.
type accounts struct {
	provider auth.Provider
	plain    []account // the demo's only: to be printed
	parts    []part    // what must run: the file's reload
}

func loadAccounts(path, realm string, e *env) (accounts, error) {
	if path == "" {
		demo := demoAccounts()
		users := make([]auth.User, len(demo))
		for i, a := range demo {
			users[i] = auth.User{Name: a.User, Realm: realm, Credential: auth.NewCredential(a.User, realm, a.Password)}
		}
		return accounts{provider: auth.NewUsers(users...), plain: demo}, nil
	}
	file, err := auth.OpenFile(path, e.log)
	if err != nil {
		return accounts{}, fmt.Errorf("--auth: %w (allowed: lines of user:realm:hash or user:realm:password=secret)", err)
	}
	reload := part{"accounts", func(ctx context.Context) error { return file.Run(ctx, 0) }}
	return accounts{provider: file, parts: []part{reload}}, nil
}

// edgeAuth makes the edge's verifier. Edges that share the secret check each other's challenges.
func (a accounts) edgeAuth(secret []byte) (*auth.Verifier, error) {
	return auth.New(auth.Config{Provider: a.provider, Secret: secret})
}

// print shows the demo's accounts. Those of a file are nobody's business.
func (a accounts) print(e *env) {
	if len(a.plain) == 0 {
		return
	}
	fmt.Fprint(e.out, "accounts (user password)\n")
	for _, p := range a.plain {
		fmt.Fprintf(e.out, "  %s %s\n", p.User, p.Password)
	}
}
