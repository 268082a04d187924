package auth

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"time"
)

// sources is a table of what is known per source address, of a fixed size: a flood from a million addresses pushes out
// entries, it takes no memory. An IPv6 source is its /64, which one customer owns.
type sources struct {
	seed   maphash.Seed // so that nobody can choose addresses that fall on one place
	shards [sourceShards]sourceShard
}

const (
	sourceShards = 32
	sourceWays   = 8
	sourceTable  = 1 << 16 // entries by default: 2 MiB
)

type sourceShard struct {
	mu   sync.Mutex // guards the rest
	sets [][sourceWays]sourceEntry
	_    [24]byte
}

type sourceEntry struct {
	key   uint64 // 0: free
	until int64  // ns; what it means is the user's matter, the lowest is pushed out first
	score float64
	at    int64 // ns, when score was counted
}

func newSources(entries int) *sources {
	if entries <= 0 {
		entries = sourceTable
	}
	s := &sources{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].sets = make([][sourceWays]sourceEntry, max(1, entries/(sourceShards*sourceWays)))
	}
	return s
}

// entry finds the entry of a source, or takes the least important one for it; do runs under its lock. Without create nothing
// happens for an unknown source.
func (s *sources) entry(a netip.Addr, create bool, do func(e *sourceEntry)) {
	a = a.Unmap().WithZone("")
	if !a.Is4() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	key := maphash.Comparable(s.seed, a) | 1
	shard := &s.shards[key>>1%sourceShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	set := &shard.sets[(key>>6)%uint64(len(shard.sets))]
	at := 0
	for i := range set {
		if set[i].key == key {
			do(&set[i])
			return
		}
		if set[i].key == 0 || set[at].key != 0 && set[i].until < set[at].until {
			at = i
		}
	}
	if create {
		set[at] = sourceEntry{key: key}
		do(&set[at])
	}
}

// BanConfig is for NewBanList.
type BanConfig struct {
	// Failures is how many failed log-ins a source has before it is banned. Default 15: below the 20 of F29, above what a
	// user with a wrong password makes in a few minutes.
	Failures int
	// HalfLife is the time in which half of the failures are forgotten. Default 10 min.
	HalfLife time.Duration
	// Ban is how long a source stays banned after its last failure. Default 15 min.
	Ban time.Duration
	// Entries is the number of sources that are remembered. Default 65,536.
	Entries int
}

// A BanList locks out sources that fail too often. Count only what a forged source address cannot cause: a Result with
// Received. It may be used from any goroutine.
type BanList struct {
	cfg   BanConfig
	table *sources
}

// NewBanList fills in the defaults.
func NewBanList(cfg BanConfig) *BanList {
	if cfg.Failures <= 0 {
		cfg.Failures = 15
	}
	if cfg.HalfLife <= 0 {
		cfg.HalfLife = 10 * time.Minute
	}
	if cfg.Ban <= 0 {
		cfg.Ban = 15 * time.Minute
	}
	return &BanList{cfg: cfg, table: newSources(cfg.Entries)}
}

// Fail counts a failure and tells whether the source is banned now.
func (l *BanList) Fail(source netip.Addr, now time.Time) (banned bool) {
	t := now.UnixNano()
	l.table.entry(source, true, func(e *sourceEntry) {
		if d := t - e.at; e.at != 0 && d > 0 {
			e.score *= math.Exp2(-float64(d) / float64(l.cfg.HalfLife))
		}
		e.score++
		e.at = t
		e.until = t // the newer the more important, and a ban more than all
		if e.score > float64(l.cfg.Failures)-0.5 {
			e.until = t + int64(l.cfg.Ban)
			banned = true
		}
	})
	return banned
}

// Banned tells whether a source is locked out.
func (l *BanList) Banned(source netip.Addr, now time.Time) (banned bool) {
	t := now.UnixNano()
	l.table.entry(source, false, func(e *sourceEntry) { banned = e.until > t && e.at != e.until })
	return banned
}

// Forgive forgets a source's failures: after a log-in that was right, or by the operator.
func (l *BanList) Forgive(source netip.Addr) {
	l.table.entry(source, false, func(e *sourceEntry) { *e = sourceEntry{} })
}

// RateConfig is for NewRateLimiter.
type RateConfig struct {
	// PerSecond is how many messages a source may send in the long run. Default 200: an office behind one NAT.
	PerSecond float64
	// Burst is how many may come at once. Default: those of 5 s.
	Burst int
	// Entries is the number of sources that are remembered. Default 65,536.
	Entries int
}

// A RateLimiter bounds the messages of each source. It may be used from any goroutine.
type RateLimiter struct {
	gap, depth int64 // ns
	table      *sources
}

// NewRateLimiter fills in the defaults.
func NewRateLimiter(cfg RateConfig) *RateLimiter {
	if cfg.PerSecond <= 0 {
		cfg.PerSecond = 200
	}
	if cfg.Burst <= 0 {
		cfg.Burst = int(math.Ceil(5 * cfg.PerSecond))
	}
	gap := max(1, int64(float64(time.Second)/cfg.PerSecond))
	return &RateLimiter{gap: gap, depth: gap * int64(cfg.Burst), table: newSources(cfg.Entries)}
}

// Allow counts a message and tells whether it is within the rate. The generic cell rate algorithm: one time per source, the one
// at which its bucket is empty again.
func (l *RateLimiter) Allow(source netip.Addr, now time.Time) (ok bool) {
	t := now.UnixNano()
	l.table.entry(source, true, func(e *sourceEntry) {
		// A clock that was set back must not lock anybody out for longer than a full bucket takes.
		full := min(max(e.until, t), t+l.depth)
		if ok = full+l.gap <= t+l.depth; ok {
			full += l.gap
		}
		e.until = full
	})
	return ok
}
