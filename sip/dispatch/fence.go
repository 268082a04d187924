package dispatch

import (
	"net/netip"
	"time"
)

// A node that was taken for dead may live: it was stopped, or a network between was cut. When it comes back it must not speak into dialogs that
// have moved on without it, so whoever moves them fences it first. The fence stands in this process only: every edge node is told.

// fence says how far the fence of an address reaches.
type fence struct {
	stream bool // a node there may open connections, which come from any port
}

// Fence cuts off the node that a name means, IP:PORT or PROTO:IP:PORT, until Up. It returns how many there are. A farm's name means none: nobody
// wants to cut off a whole farm by a slip.
func (s *Set) Fence(name string, now time.Time) int {
	return s.named(name, now, func(n *Node, whole bool) bool {
		if whole {
			return false
		}
		n.fenced.Store(true)
		n.probe.sentAt = time.Time{}
		return true
	})
}

// Unfence lets the node in again, as Up does, and leaves its drain as it is.
func (s *Set) Unfence(name string, now time.Time) int {
	return s.named(name, now, func(n *Node, whole bool) bool {
		if whole {
			return false
		}
		s.unfenceLocked(n, now)
		return true
	})
}

// unfenceLocked takes a fence down. The node must answer its probes before it gets anything: nobody knows in what state it comes back.
func (s *Set) unfenceLocked(n *Node, now time.Time) {
	if !n.fenced.Swap(false) || s.cfg.NoProbes {
		return
	}
	n.live.Store(false)
	n.owing.Store(0)
	n.probe = probe{next: now, since: now}
}

// Cut tells if what comes from an address must be dropped. inside: on a listener that only farms see; stream: on a connection. A node's own
// address is known exactly; what comes from another port of its host is cut only where no other node is there that could have sent it.
func (s *Set) Cut(from netip.AddrPort, inside, stream bool) bool {
	t := s.table.Load()
	if t.fences == nil {
		return false
	}
	if n := t.byAddr[from]; n != nil {
		return n.fenced.Load()
	}
	f, ok := t.fences[from.Addr()]
	return ok && (inside || stream && f.stream)
}

// fencesOf finds the addresses all of whose nodes are fenced. It is nil only where no node is fenced, and empty where each fenced one shares its
// address with another.
func fencesOf(nodes []*Node) map[netip.Addr]fence {
	var fences map[netip.Addr]fence
	for _, n := range nodes {
		if n == nil || !n.fenced.Load() {
			continue
		}
		if fences == nil {
			fences = map[netip.Addr]fence{}
		}
		f := fences[n.addr.Addr()]
		f.stream = f.stream || n.proto != "udp" || n.tcp.Load()
		fences[n.addr.Addr()] = f
	}
	for _, n := range nodes {
		if n != nil && !n.fenced.Load() && fences != nil {
			delete(fences, n.addr.Addr())
		}
	}
	return fences
}
