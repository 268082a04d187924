package ng

import (
	"cmp"
	"slices"
)

// rank orders the nodes for a Call-ID by rendezvous hashing: every edge with the same list of addresses, in any order,
// finds the same order, and a node that goes moves only its own calls.
func rank(nodes []*node, callID string) []*node {
	type scored struct {
		n     *node
		score uint64
	}
	list := make([]scored, len(nodes))
	for i, n := range nodes {
		list[i] = scored{n, score(n.name, callID)}
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.n.name, b.n.name))
	})
	out := make([]*node, len(list))
	for i, s := range list {
		out[i] = s.n
	}
	return out
}

// score is FNV-1a over both texts with the final mix of SplitMix64: FNV alone leaves the scores of neighbouring
// addresses related. It must never change: edges of two releases have to agree.
func score(node, callID string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [2]string{node, callID} {
		for i := 0; i < len(s); i++ {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}
