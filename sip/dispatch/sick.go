package dispatch

import (
	"sync/atomic"
	"time"
)

// A node may answer OPTIONS and be of no use all the same: its call threads hang, its database does, or everything takes seconds. So one INVITE at
// a time is watched: the first answer, 100 as a rule, must come soon. Two in a row without it, one may have been lost, and the node takes nothing new
// for a while; then it is tried again.
//
// What a node refuses is no sign: Asterisk says 503 also where a provider behind it is full.

// stall is how late a Tick may be, when it is due within 50 ms, before we are what is slow and not the node. Chosen by us.
const stall = 200 * time.Millisecond

// watch is a node's INVITE that is watched. Atomics, written by every worker.
type watch struct {
	hash   atomic.Uint64 // of its Call-ID, odd; 0: none is watched
	since  atomic.Int64  // unix nanoseconds
	misses atomic.Int32  // in a row
}

// Invited notes that the node got the INVITE of a new dialog.
func (n *Node) Invited(hash uint64, now time.Time) {
	if n.watch.hash.Load() != 0 {
		return
	}
	n.watch.since.Store(now.UnixNano()) // before the hash: the time of one that is watched must never be an old one
	n.watch.hash.CompareAndSwap(0, hash|1)
}

// Responded notes an answer of the node to the INVITE of a new dialog.
func (n *Node) Responded(hash uint64) {
	if n.watch.hash.Load() == hash|1 && n.watch.hash.CompareAndSwap(hash|1, 0) {
		n.watch.misses.Store(0)
	}
}

// sickLocked looks at the watched INVITE and at the end of a node's time out; changed tells if the node's state has.
func (s *Set) sickLocked(n *Node, now time.Time) (changed bool) {
	if n.sick.Load() {
		if now.Before(n.wellAt) {
			return false
		}
		n.sick.Store(false)
		n.watch.misses.Store(1) // on trial: one miss more is enough
		n.watch.hash.Store(0)
		return true
	}
	hash := n.watch.hash.Load()
	if hash == 0 || now.UnixNano()-n.watch.since.Load() < int64(s.cfg.SickAfter) || !n.watch.hash.CompareAndSwap(hash, 0) {
		return false
	}
	if n.watch.misses.Add(1) < 2 || s.lastLocked(n) { // a sick node is better than none
		return false
	}
	n.sick.Store(true)
	n.wellAt = now.Add(s.cfg.SickFor)
	return true
}
