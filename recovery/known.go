package recovery

import (
	"net/netip"
	"slices"
	"time"
)

// Chosen by us: more legs than are under way at a time, and what HOMER told of a few thousand.
const (
	maxKnown = 50_000
	maxTold  = 64 << 20
)

// known is what a Collector keeps of a Call-ID that it was asked for.
type known struct {
	local string    // the farm's tag; "" if there was no dialog
	told  []Message // by HOMER; nil: it was not asked

	// The last answer, and what it was made of: the next question may be the same one.
	answer   Rebuilt
	revision uint64
	node     netip.AddrPort
	others   []netip.AddrPort
	record   Asked
}

// revision is that of the own capture, 0 if it has none.
func (c *Collector) revision(id string) uint64 {
	if r, ok := c.cfg.Own.(revised); ok {
		return r.Revision(id)
	}
	return 0
}

// again is the last answer, if nothing was captured since and the question is the same one.
func (q *question) again(id string) (b Rebuilt, ok bool) {
	now := q.c.revision(id)
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	k := q.c.known[id]
	if now == 0 || now != k.revision || k.node != q.node || k.record != q.record(id) || !slices.Equal(k.others, q.others) || lacking(reasonOfAnswer(k.answer)) {
		return b, false
	}
	return k.answer, true
}

func reasonOfAnswer(b Rebuilt) Reason {
	if b.Err == nil {
		return ""
	}
	return reasonOf(b.Err)
}

// record is what an answer depends on.
func (q *question) record(id string) Asked {
	r := q.records[id]
	r.Since = time.Time{}
	return r
}

// remember keeps an answer.
func (q *question) remember(id string, b Rebuilt, local string) {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	k := q.c.know(id)
	if local != "" {
		k.local = local
	}
	k.answer, k.revision, k.node, k.others, k.record = b, q.kept[id].revision, q.node, q.others, q.record(id)
	q.c.known[id] = k
}

// tell keeps what HOMER told: Fresh has no time to ask it. Where it is too much all of it is forgotten, and Fresh looks for a BYE only.
func (c *Collector) tell(id string, messages []Message) {
	size := 0
	for _, m := range messages {
		size += len(m.Raw)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.toldBytes += size; c.toldBytes > maxTold {
		for other, k := range c.known {
			k.told = nil
			c.known[other] = k
		}
		c.toldBytes = size
	}
	k := c.know(id)
	k.told = append([]Message{}, messages...)
	c.known[id] = k
}

func (c *Collector) told(id string) []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id].told
}

// know must be called with mu held.
func (c *Collector) know(id string) known {
	if _, ok := c.known[id]; !ok && len(c.known) >= maxKnown {
		clear(c.known)
		c.toldBytes = 0
	}
	return c.known[id]
}
