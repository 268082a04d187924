package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Source is a user database elsewhere: a web service, a PostgreSQL server. Find may take as long as its context lets it; false without an error
// means that there is no such user.
type Source interface {
	Find(ctx context.Context, user, realm string) (Credential, bool, error)
}

// ErrNoHash is Find's error for an entry that holds something else than a hash: a plain password, most likely. Such a user is treated as absent.
var ErrNoHash = errors.New("the entry is no HA1 hash")

// CacheConfig is all that a Cache needs.
type CacheConfig struct {
	// Source is asked for users. Required.
	Source Source
	// Timeout bounds one question, and is the time that every refusal takes. Default 500 ms: a phone repeats its request after that (RFC 3261 T1).
	Timeout time.Duration
	// Fresh is how long an answer is used without asking again, for users that exist as for those that do not. Default 1 min.
	Fresh time.Duration
	// Keep is how long an answer is used when the source gives none. Default 1 h.
	Keep time.Duration
	// Entries is how many answers are remembered. Default 65,536, which take up to 20 MB.
	Entries int
	// Log gets the source's failures, once a minute at most. Default: nothing.
	Log *slog.Logger
}

func (c *CacheConfig) validate() error {
	fill := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	fill(&c.Timeout, 500*time.Millisecond)
	fill(&c.Fresh, time.Minute)
	fill(&c.Keep, time.Hour)
	if c.Entries == 0 {
		c.Entries = 1 << 16
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Source == nil {
		return errors.New("no source")
	}
	if c.Timeout < 0 || c.Fresh < 0 || c.Keep < c.Fresh || c.Entries < 2 {
		return errors.New("a time is negative, keep is below fresh, or there are fewer than 2 entries")
	}
	return nil
}

// Cache is a Provider over a Source. Lookup never waits: a request whose user is not known yet is told so (Waiting), and its caller has it wait
// in Ask, on a goroutine that may. Users that exist and users that do not take the same way with the same times.
type Cache struct {
	cfg CacheConfig

	mu         sync.Mutex // guards the rest
	young, old map[string]answer
	asking     map[string]*question
	failed     int       // questions in a row without an answer
	trial      time.Time // while the source is down: when it is tried again
	logged     time.Time

	asked, errs, bad atomic.Uint64
}

// answer is what the source said. A user that does not exist has an answer too.
type answer struct {
	cred  Credential
	known bool
	at    time.Time
}

// question is one on its way; all who ask the same wait for it.
type question struct {
	done chan struct{}
	err  error
}

// Chosen by us: after so many questions without an answer the source counts as down. Then it gets one question a second, and nobody else waits.
const (
	downAfter  = 3
	trialEvery = time.Second
)

var errDown = errors.New("the source of accounts is down")

// NewCache checks the configuration.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("auth: cache: %w", err)
	}
	return &Cache{cfg: cfg, young: map[string]answer{}, old: map[string]answer{}, asking: map[string]*question{}}, nil
}

// Lookup finds a user among the answers that are still kept.
func (c *Cache) Lookup(user, realm []byte) (Credential, bool) {
	a, _ := c.peek(user, realm)
	return a.cred, a.known
}

// peek tells what is remembered of a user, and if that is enough to go by without asking.
func (c *Cache) peek(user, realm []byte) (a answer, fresh bool) {
	var room [128]byte
	key := append(append(append(room[:0], user...), 0), realm...)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.young[string(key)]
	if !ok {
		if a, ok = c.old[string(key)]; ok {
			c.putLocked(string(key), a)
		}
	}
	if age := now.Sub(a.at); !ok || age > c.cfg.Keep {
		return answer{}, false
	} else if age > c.cfg.Fresh {
		return a, false
	}
	return a, true
}

// putLocked remembers an answer. Two halves make a rough order of use: what is not used while one half fills up is forgotten.
func (c *Cache) putLocked(key string, a answer) {
	if len(c.young) >= c.cfg.Entries/2 {
		c.young, c.old = map[string]answer{}, c.young
	}
	c.young[key] = a
}

// Ask asks the source for a user and remembers the answer. It waits no longer than the timeout.
func (c *Cache) Ask(ctx context.Context, user, realm string) error {
	key := user + "\x00" + realm
	c.mu.Lock()
	q := c.asking[key]
	if q == nil {
		if now := time.Now(); c.failed >= downAfter {
			if now.Before(c.trial) {
				c.mu.Unlock()
				return errDown
			}
			c.trial = now.Add(trialEvery)
		}
		q = &question{done: make(chan struct{})}
		c.asking[key] = q
		c.mu.Unlock()
		c.find(ctx, q, key, user, realm)
		return q.err
	}
	c.mu.Unlock()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Cache) find(ctx context.Context, q *question, key, user, realm string) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	c.asked.Add(1)
	cred, known, err := c.cfg.Source.Find(ctx, user, realm)
	log := err
	if errors.Is(err, ErrNoHash) {
		c.bad.Add(1)
		cred, known, err = Credential{}, false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if err != nil {
		c.errs.Add(1)
		c.failed++
		c.trial = now.Add(trialEvery)
	} else {
		c.failed = 0
		c.putLocked(key, answer{cred, known, now})
	}
	if log != nil && now.Sub(c.logged) >= time.Minute {
		c.logged = now
		c.cfg.Log.Error("accounts are not found", "error", log)
	}
	q.err = err
	delete(c.asking, key)
	close(q.done)
}

// down tells if the source's last questions had no answer.
func (c *Cache) down() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed > 0
}

// CacheStats are counters since the start, and what is remembered now.
type CacheStats struct {
	Asked   uint64 // questions to the source
	Errors  uint64 // those without an answer
	NoHash  uint64 // entries that held something else than a hash
	Entries int
	Down    bool
}

// Stats reads the counters.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{c.asked.Load(), c.errs.Load(), c.bad.Load(), len(c.young) + len(c.old), c.failed >= downAfter}
}
