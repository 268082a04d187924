package homer

import (
	"container/list"
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"rtcedge/recovery/hep"
)

// Message is one captured SIP message.
type Message struct {
	ID                  uint64
	CallID              string
	Raw                 string
	Time                time.Time
	Source, Destination netip.AddrPort
	Transport           uint8 // 17 is UDP, 6 TCP
	CaptureID           uint32
	Node                string
}

// StoreConfig are the bounds of a Store.
type StoreConfig struct {
	MaxBytes int           // of messages with what belongs to them; default 256 MiB
	MaxAge   time.Duration // of Call-IDs that are no calls, and of calls that ended, since their last message; default 10 min
	MaxCall  time.Duration // of calls that did not end, since their last message; default 24 h
}

// Chosen by us.
const (
	defaultStoreBytes = 256 << 20 // 20,000 calls of 16 messages
	defaultAge        = 10 * time.Minute
	defaultCallAge    = 24 * time.Hour
	perMessage        = 200   // bytes of what Go keeps beside the text
	maxPerCall        = 20001 // messages of one Call-ID; more are dropped, and recovery refuses a dialog of more than 20000
)

// Store keeps captured messages in memory, by Call-ID.
type Store struct {
	cfg StoreConfig

	seed maphash.Seed

	mu     sync.Mutex // guards the rest
	calls  map[string]*call
	idle   [kinds]list.List // of *call, longest idle first
	bytes  int
	held   [kinds]int // bytes of each kind
	nextID uint64
	stats  Stats
}

type call struct {
	id       string
	kind     int
	at       *list.Element
	last     time.Time // of arrival, by our clock
	bytes    int
	messages []Message
	revision uint64   // the id of the last one
	dialogs  []uint64 // that live, by their tags
}

// Stats are a Store's counters.
type Stats struct {
	Messages, Calls, Bytes int    // that are kept
	Added                  uint64 // since the start
	NoCallID               uint64 // packets without one
	Overlong               uint64 // messages of Call-IDs with too many
	Evicted                [kinds]uint64
}

// NewStore makes an empty store.
func NewStore(cfg StoreConfig) *Store {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultStoreBytes
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = defaultAge
	}
	if cfg.MaxCall <= 0 {
		cfg.MaxCall = defaultCallAge
	}
	return &Store{cfg: cfg, seed: maphash.MakeSeed(), calls: map[string]*call{}}
}

// Add keeps a captured packet. Nothing of p is kept.
func (s *Store) Add(p hep.Packet) { s.add(p, time.Now()) }

func (s *Store) add(p hep.Packet, now time.Time) {
	if p.Protocol != 0 && p.Protocol != hep.SIP {
		return
	}
	// Not the packet's correlation id: the Call-ID is what the message says.
	id := hep.CallID(p.Payload)
	if len(id) == 0 {
		id = p.CorrelationID // of a message that was cut: whoever reads must see that there was one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(id) == 0 {
		s.stats.NoCallID++
		return
	}
	c := s.calls[string(id)]
	if c == nil {
		c = &call{id: string(id)}
		c.at = s.idle[kindOther].PushBack(c)
		s.calls[c.id] = c
		s.grow(c, perMessage+2*len(id))
	}
	if len(c.messages) >= maxPerCall {
		s.stats.Overlong++
		return
	}
	if p.Time.IsZero() {
		p.Time = now
	}
	s.nextID++
	c.revision = s.nextID
	s.stats.Added++
	c.messages = append(c.messages, Message{ID: s.nextID, CallID: c.id, Raw: string(p.Payload), Time: p.Time, Source: p.Source, Destination: p.Destination,
		Transport: p.Transport, CaptureID: p.CaptureID, Node: string(p.Node)})
	size := len(p.Payload) + len(p.Node) + perMessage
	s.grow(c, size)
	s.stats.Messages++
	s.touch(c, s.kindAfter(c, &p), now)
	s.evict(now)
}

func (s *Store) grow(c *call, size int) {
	c.bytes += size
	s.bytes += size
	s.held[c.kind] += size
}

// touch moves the call to the end of its kind's list.
func (s *Store) touch(c *call, kind int, now time.Time) {
	c.last = now
	s.idle[c.kind].Remove(c.at)
	s.held[c.kind] -= c.bytes
	s.held[kind] += c.bytes
	c.kind = kind
	c.at = s.idle[kind].PushBack(c)
}

// evict drops what is too old, and then what is too much.
func (s *Store) evict(now time.Time) {
	for kind := range s.idle {
		age := s.cfg.MaxAge
		if kind == kindCall {
			age = s.cfg.MaxCall
		}
		for e := s.idle[kind].Front(); e != nil && now.Sub(e.Value.(*call).last) > age; e = s.idle[kind].Front() {
			s.drop(e.Value.(*call))
		}
	}
	for s.bytes > s.cfg.MaxBytes {
		s.drop(s.idle[s.least()].Front().Value.(*call))
	}
}

// least is the kind of which the next Call-ID goes. What is no call yet has a share for itself: where calls fill the memory a new one would go with its first
// message.
func (s *Store) least() int {
	share := s.cfg.MaxBytes / 8
	for kind := range s.idle {
		if s.held[kind] > share || kind == kindEnded && s.held[kind] > 0 {
			return kind
		}
	}
	for kind := kindCall; kind > 0; kind-- {
		if s.held[kind] > 0 {
			return kind
		}
	}
	return kindOther
}

func (s *Store) drop(c *call) {
	s.idle[c.kind].Remove(c.at)
	delete(s.calls, c.id)
	s.bytes -= c.bytes
	s.held[c.kind] -= c.bytes
	s.stats.Messages -= len(c.messages)
	s.stats.Evicted[c.kind]++
}

// Messages returns what is kept of the Call-IDs, whenever it was.
func (s *Store) Messages(_ context.Context, callIDs []string, _ time.Time) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Message
	for _, id := range callIDs {
		if c := s.calls[id]; c != nil {
			out = append(out, c.messages...)
		}
	}
	return out, nil
}

// callIDs are all that are kept, calls first, those that said something last in front.
func (s *Store) callIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.calls))
	for kind := kindCall; kind >= 0; kind-- {
		for e := s.idle[kind].Back(); e != nil; e = e.Prev() {
			out = append(out, e.Value.(*call).id)
		}
	}
	return out
}

// Revision tells whether something came of a Call-ID: it is another number then. 0: nothing is kept of it.
func (s *Store) Revision(callID string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[callID]; c != nil {
		return c.revision
	}
	return 0
}

// Stats reads the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Calls, st.Bytes = len(s.calls), s.bytes
	return st
}
