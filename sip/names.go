package sip

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Chosen by us.
const (
	maxNames     = 4096
	nameLives    = time.Minute     // the resolver of package net tells no TTL
	absenceLives = 5 * time.Second // so that a name without an address is not asked for with every message
)

// names is a bounded cache of host names, filled in the queues only.
type names struct {
	timeout time.Duration
	now     func() time.Time

	mu    sync.RWMutex
	known map[string]nameEntry
}

type nameEntry struct {
	addr  netip.Addr // invalid: there is none
	until time.Time
}

func (n *names) init(timeout time.Duration, now func() time.Time) {
	n.timeout, n.now, n.known = timeout, now, map[string]nameEntry{}
}

// cached finds a name that is known to have an address.
func (n *names) cached(host []byte) (netip.Addr, bool) {
	n.mu.RLock()
	e, ok := n.known[string(host)]
	n.mu.RUnlock()
	return e.addr, ok && e.addr.IsValid() && n.now().Before(e.until)
}

// find asks the resolver and remembers what it says; it may take as long as the timeout.
func (n *names) find(ctx context.Context, host string) (netip.Addr, bool) {
	n.mu.RLock()
	e, ok := n.known[host]
	n.mu.RUnlock()
	if ok && n.now().Before(e.until) {
		return e.addr, e.addr.IsValid()
	}
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	e = nameEntry{until: n.now().Add(absenceLives)}
	if addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil && len(addrs) > 0 {
		e = nameEntry{addrs[0].Unmap(), n.now().Add(nameLives)}
		for _, a := range addrs { // IPv4 first: the far end is known to be reachable by it more often
			if a.Unmap().Is4() {
				e.addr = a.Unmap()
				break
			}
		}
	}
	n.mu.Lock()
	if len(n.known) >= maxNames {
		clear(n.known)
	}
	n.known[host] = e
	n.mu.Unlock()
	return e.addr, e.addr.IsValid()
}
