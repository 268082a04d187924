package dispatch

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"
)

// table is what Pick reads. It never changes; a change makes a new one.
type table struct {
	farms  [NumFarms][]member // eligible for new dialogs
	given  [NumFarms]bool     // the farm has nodes at all
	byAddr map[netip.AddrPort]*Node
	nodes  []*Node              // by Node.index
	fences map[netip.Addr]fence // addresses all of whose nodes are fenced; nil if none is
	former *epoch               // the oldest membership that CANCEL and ACK still follow; nil if none
}

type member struct {
	node   *Node
	weight float64
}

// epoch is a membership that has ended.
type epoch struct {
	farms [NumFarms][]member
	until int64 // unix nanoseconds
	next  *epoch
}

// recent is a bounded, lossy memory of picks that a former epoch would have made differently. Losing an entry sends one CANCEL
// or ACK to the former node; the transaction's own timers repair it.
type recent [4096]atomic.Uint64

func (r *recent) put(hash uint64, n *Node) {
	r[hash%uint64(len(r))].Store(hash&^0xffff | uint64(n.index+1))
}

func (r *recent) get(hash uint64) (index int, ok bool) {
	v := r[hash%uint64(len(r))].Load()
	if v == 0 || v&^0xffff != hash&^0xffff {
		return 0, false
	}
	return int(v&0xffff) - 1, true
}

// Pick chooses the node of a new dialog. hash is a keyed hash of what INVITE, CANCEL and ACK have in common (the Call-ID), the
// same on every edge node. nil: no node of the farm lives.
func (s *Set) Pick(f Farm, hash uint64, now time.Time) *Node {
	t := s.table.Load()
	f = t.serving(f)
	n := choose(t.farms[f], hash)
	if e := t.epoch(now); e != nil && n != nil && choose(e.farms[f], hash) != n {
		s.recent.put(hash, n)
	}
	return n
}

// PickSame chooses the node that Pick chose for the INVITE with the same hash, also if the membership has changed since.
func (s *Set) PickSame(f Farm, hash uint64, now time.Time) *Node {
	t := s.table.Load()
	f = t.serving(f)
	e := t.epoch(now)
	if e == nil {
		return choose(t.farms[f], hash)
	}
	if i, ok := s.recent.get(hash); ok && i < len(t.nodes) && t.nodes[i] != nil {
		return t.nodes[i]
	}
	if n := choose(e.farms[f], hash); n != nil {
		return n
	}
	return choose(t.farms[f], hash)
}

// ByAddr finds the node that a message came from, or that a Request-URI names.
func (s *Set) ByAddr(a netip.AddrPort) *Node { return s.table.Load().byAddr[a] }

// Served tells if the farm, or the call farm for it, has nodes at all.
func (s *Set) Served(f Farm) bool {
	t := s.table.Load()
	return t.given[t.serving(f)]
}

// serving lets the call farm stand in for a farm that is not given.
func (t *table) serving(f Farm) Farm {
	if f >= NumFarms || !t.given[f] {
		return Call
	}
	return f
}

// epoch is the oldest membership that still counts.
func (t *table) epoch(now time.Time) *epoch {
	e := t.former
	for e != nil && now.UnixNano() >= e.until {
		e = e.next
	}
	return e
}

// choose is weighted rendezvous hashing: the highest of -weight/ln(u), u uniform in 0..1 by the hash of key and node.
func choose(members []member, hash uint64) *Node {
	if len(members) == 1 {
		return members[0].node
	}
	if equal(members) {
		return chooseEqual(members, hash)
	}
	var best *Node
	top := math.Inf(-1)
	for i := range members {
		m := &members[i]
		u := (float64(mix(hash^m.node.seed)>>11) + 0.5) / (1 << 53)
		if score := -m.weight / math.Log(u); score > top || score == top && m.node.seed > best.seed {
			best, top = m.node, score
		}
	}
	return best
}

func equal(members []member) bool {
	for i := range members {
		if members[i].weight != members[0].weight {
			return false
		}
	}
	return true
}

// chooseEqual is choose for equal weights: the score grows with u, so that u itself can be compared and no logarithm is needed.
func chooseEqual(members []member, hash uint64) *Node {
	var best *Node
	var top uint64
	for i := range members {
		n := members[i].node
		if u := mix(hash^n.seed) >> 11; best == nil || u > top || u == top && n.seed > best.seed {
			best, top = n, u
		}
	}
	return best
}

// mix is the finaliser of splitmix64: every bit of the input moves every bit of the output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// seedOf hashes an address (FNV-1a), the same in every process.
func seedOf(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h = (h ^ uint64(a.Port()&0xff)) * 1099511628211
	h = (h ^ uint64(a.Port()>>8)) * 1099511628211
	return mix(h)
}
