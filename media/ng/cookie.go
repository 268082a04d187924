package ng

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// cookieKey tells requests apart, by where they came from and two sums of secret seed. That of the message is part of it: a controller
// that was restarted and counts from one again is not given the answer to another question. Without pointers it is no work for the collector.
type cookieKey struct {
	from        [16]byte
	cookie, sum uint64
}

func newCookieKey(seed maphash.Seed, from netip.Addr, cookie string, body []byte) cookieKey {
	k := cookieKey{cookie: maphash.String(seed, cookie), sum: maphash.Bytes(seed, body)}
	if from.IsValid() {
		k.from = from.As16()
	}
	return k
}

// cookieCache remembers answers for retransmissions. It has two generations: the young one takes answers until it is full
// or old, then it becomes the old one and the former old one is forgotten. So an answer lives for at least the hold time,
// unless memory forbids.
type cookieCache struct {
	hold  time.Duration
	limit int // answers in a generation

	mu         sync.Mutex
	working    map[cookieKey]struct{} // bounded by the server's slots
	young, old map[cookieKey][]byte
	bytes      int // of the answers in young
	since      time.Time
}

// cookieBytes bounds the answers of one generation, chosen by us: 4096 answers of 8 KB.
const cookieBytes = 32 << 20

func newCookieCache(hold time.Duration, limit int) *cookieCache {
	return &cookieCache{hold: hold, limit: limit, working: map[cookieKey]struct{}{}, young: map[cookieKey][]byte{}}
}

type cookieState uint8

const (
	cookieNew cookieState = iota
	cookieWorking
	cookieAnswered
)

// begin tells what to do with a request: work (then finish must follow), stay silent, or send the answer.
func (c *cookieCache) begin(key cookieKey, now time.Time) (cookieState, []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnLocked(now)
	if _, ok := c.working[key]; ok {
		return cookieWorking, nil
	}
	if answer, ok := c.young[key]; ok {
		return cookieAnswered, answer
	}
	if answer, ok := c.old[key]; ok {
		return cookieAnswered, answer
	}
	c.working[key] = struct{}{}
	return cookieNew, nil
}

// finish stores the answer. It must not be changed afterwards.
func (c *cookieCache) finish(key cookieKey, answer []byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnLocked(now)
	delete(c.working, key)
	c.young[key] = answer
	c.bytes += len(answer)
}

func (c *cookieCache) turnLocked(now time.Time) {
	age := now.Sub(c.since)
	if age < c.hold && len(c.young) < c.limit && c.bytes < cookieBytes {
		return
	}
	c.old = c.young
	if age >= 2*c.hold {
		c.old = nil
	}
	c.young, c.bytes, c.since = map[cookieKey][]byte{}, 0, now
}
