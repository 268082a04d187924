package auth

import (
	"sync"
	"time"
)

// replay remembers, for a bounded number of nonces, which nonce-counts were used. Only answers with the right password enter,
// so a stranger cannot push others out. A nonce that was pushed out counts as new.
type replay struct {
	shards [replayShards]replayShard
}

const (
	replayShards = 32 // locks; a worker holds one for some 50 ns
	replayWays   = 4  // nonces that share a place
	recentUses   = 4  // uses of a nonce whose retransmissions are known
)

type replayShard struct {
	mu   sync.Mutex // guards the rest
	sets [][replayWays]nonceUse
	_    [24]byte // keeps two locks off one cache line
}

// nonceUse is what is known of one nonce.
type nonceUse struct {
	nonce  uint64 // 0: free
	window uint64 // bit i: nonce-count high-i was used
	high   uint32
	at     uint32 // seconds, when it was used last
	recent [recentUses]struct {
		tx    uint64
		count uint32
	}
	next uint8
}

func newReplay(entries int) *replay {
	r := &replay{}
	sets := max(1, entries/(replayShards*replayWays))
	for i := range r.shards {
		r.shards[i].sets = make([][replayWays]nonceUse, sets)
	}
	return r
}

// accept tells whether a use is new, or the retransmission of one. Messages over UDP overtake each other, so the newest 64
// nonce-counts may come in any order; RFC 7616 section 3.4.5 leaves that to the server.
func (r *replay) accept(nonce uint64, count uint32, tx uint64, now time.Time) bool {
	s := &r.shards[nonce%replayShards]
	set := nonce / replayShards % uint64(len(s.sets))
	s.mu.Lock()
	defer s.mu.Unlock()
	ways := &s.sets[set]
	at := 0
	for i := range ways {
		if ways[i].nonce == nonce {
			ways[i].at = uint32(now.Unix())
			return ways[i].use(count, tx)
		}
		if ways[i].nonce == 0 || ways[at].nonce != 0 && ways[i].at < ways[at].at {
			at = i
		}
	}
	ways[at] = nonceUse{nonce: nonce, at: uint32(now.Unix()), high: count, window: 1}
	ways[at].remember(count, tx)
	return true
}

func (u *nonceUse) use(count uint32, tx uint64) bool {
	switch {
	case count > u.high:
		u.window = u.window<<min(count-u.high, 64) | 1
		u.high = count
	case u.high-count < 64 && u.window&(1<<(u.high-count)) == 0:
		u.window |= 1 << (u.high - count)
	default:
		for _, old := range u.recent {
			if old.tx == tx && old.count == count {
				return true
			}
		}
		return false
	}
	u.remember(count, tx)
	return true
}

func (u *nonceUse) remember(count uint32, tx uint64) {
	u.recent[u.next].tx, u.recent[u.next].count = tx, count
	u.next = (u.next + 1) % recentUses
}
