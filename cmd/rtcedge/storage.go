package main

import (
	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/internal/store"
)

// storeAccess is how a role is let into the shared store.
type storeAccess struct{ secret, ca string }

func (a *storeAccess) declare(s *config.Set) {
	s.String(&a.secret, "secret", "", "HEX|FILE", "32 bytes as 64 hex digits, or a file with them, the same for all roles of one store: recovery's own store asks for it, and all records are sealed by it")
	s.String(&a.ca, "store-ca", "", "FILE", "certificates (PEM) by which a store at tls:// is checked; none: the system's")
}

// apply puts it into the configuration.
func (a *storeAccess) apply(cfg *store.Config) error {
	cfg.CA = a.ca
	if a.secret == "" {
		return nil
	}
	secret, err := parseSecret(a.secret)
	if err != nil {
		return err
	}
	cfg.Token, cfg.Key = store.TokenOf(secret), store.KeyOf(secret)
	return nil
}

// storeCopies is the help of --store-replicas, the same on every role with a store.
const storeCopies = "copies of each record in an external store; 0: 3 where it is a cluster, else 1. A bucket that has fewer gets more, never fewer"

func storeSource(s *store.Store) obs.Source {
	return func() []obs.Sample {
		st := s.Stats()
		up := 0.0
		if st.Connected {
			up = 1
		}
		return []obs.Sample{
			gauge("store_connected", "1 while the store is there", up),
			gauge("store_pending", "records that wait to be written", float64(st.Pending)),
			counter("store_reconnects", "lost connections that are back", st.Reconnects),
			counter("store_refused", "connections that the store did not let in: secret, account or certificate", st.Refused),
			counter("store_forged", "records that were read and not believed: their seal was wrong", st.Forged),
			counter("store_written", "records written in the background", st.Written),
			counter("store_failed", "tries of those that did not succeed, and were repeated", st.Failed),
			counter("store_dropped", "records that the store will never take: too large", st.Dropped),
		}
	}
}
