package main

import (
	"rtcedge/internal/obs"
	"rtcedge/internal/store"
)

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
			counter("store_written", "records written in the background", st.Written),
			counter("store_failed", "tries of those that did not succeed, and were repeated", st.Failed),
			counter("store_dropped", "records that the store will never take: too large", st.Dropped),
		}
	}
}
