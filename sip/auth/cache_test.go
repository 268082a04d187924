package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a database: it takes its time, fails on demand and counts.
type slow struct {
	users *Users
	takes time.Duration
	err   error
	asked atomic.Int64
}

func (s *slow) Find(ctx context.Context, user, realm string) (Credential, bool, error) {
	s.asked.Add(1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return Credential{}, false, ctx.Err()
	}
	if s.err != nil {
		return Credential{}, false, s.err
	}
	c, ok := s.users.Lookup([]byte(user), []byte(realm))
	return c, ok, nil
}

func remote(t *testing.T, src *slow, entries int) (*Verifier, *Cache) {
	t.Helper()
	src.users = NewUsers(User{Name: "alice", Realm: "example.com", Credential: NewCredential("alice", "example.com", "secret")})
	c, err := NewCache(CacheConfig{Source: src, Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Config{Provider: c, Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

func tries(v *Verifier, user, password string) func(asked bool) Reason {
	cl := client{user: user, realm: "example.com", password: password, uri: "sip:example.com", method: "REGISTER", alg: MD5}
	value := cl.answer(string(v.Challenge(nil, "example.com", MD5, false, time.Now())), 1)
	return func(asked bool) Reason {
		r := request(cl, value, 1)
		r.Asked = asked
		if asked {
			v.Ask(context.Background(), r)
		}
		return v.Check(r, time.Now()).Reason
	}
}

// TestB08Cache: users are asked for once, existing ones as absent ones, for as long as the answer is fresh; a database that is away stops
// nobody who is known.
func TestB08Cache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &slow{takes: 20 * time.Millisecond}
		v, c := remote(t, src, 0)
		check := func(what string, got, want Reason, asked int64) {
			t.Helper()
			if got != want || src.asked.Load() != asked {
				t.Errorf("%s: %v, %d questions; want %v, %d", what, got, src.asked.Load(), want, asked)
			}
		}
		right, wrong, nobody := tries(v, "alice", "secret"), tries(v, "alice", "guess"), tries(v, "nobody", "guess")
		check("not known yet", right(false), Waiting, 0)
		check("an absent one", nobody(false), Waiting, 0)
		check("asked", right(true), OK, 1)
		check("an absent one, asked", nobody(true), Refused, 2)
		check("remembered", right(false), OK, 2)
		check("a wrong password", wrong(false), Refused, 2)
		check("absence remembered", nobody(false), Refused, 2)
		time.Sleep(time.Minute + time.Second)
		check("no more fresh", right(false), Waiting, 2)
		check("absence no more fresh", nobody(false), Waiting, 2)
		src.err = errors.New("gone")
		check("the database is away", right(true), OK, 3)
		check("a wrong password meanwhile", wrong(true), Unavailable, 4)
		check("an absent one meanwhile", nobody(true), Unavailable, 5)
		check("an unknown one meanwhile", tries(v, "who", "x")(true), Unavailable, 5) // down: not asked
		if s := c.Stats(); !s.Down || s.Errors != 3 {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Second)
		src.err = nil
		check("it is back", wrong(true), Refused, 6)
		src.err = ErrNoHash
		time.Sleep(time.Minute)
		check("a plain password in the database", right(true), Refused, 7)
		src.err = errors.New("gone")
		time.Sleep(2 * time.Hour)
		check("kept too long", right(true), Unavailable, 8)
	})
}

// TestB08CacheShares: all who wait for one user share one question, a dead database is given up after its timeout, and while it is down nobody waits.
func TestB08CacheShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &slow{takes: time.Hour}
		v, c := remote(t, src, 0)
		start := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { _ = c.Ask(context.Background(), "alice", "example.com") })
		}
		wg.Wait()
		if got := time.Since(start); got != v.Patience() || src.asked.Load() != 1 {
			t.Errorf("%v and %d questions, want %v and 1", got, src.asked.Load(), v.Patience())
		}
		for i := range 2 {
			_ = c.Ask(context.Background(), fmt.Sprint(i), "example.com")
		}
		start = time.Now()
		for i := range 1000 {
			if c.Ask(context.Background(), fmt.Sprint(i), "example.com") == nil {
				t.Fatal("an answer from a dead database")
			}
		}
		if got := time.Since(start); got != 0 || src.asked.Load() != 3 {
			t.Errorf("down: %v and %d questions, want none more", got, src.asked.Load())
		}
	})
}

// TestF28CacheIsBounded: a flood of names that nobody has costs no memory.
func TestF28CacheIsBounded(t *testing.T) {
	src := &slow{}
	_, c := remote(t, src, 1000)
	for i := range 20_000 {
		if err := c.Ask(context.Background(), fmt.Sprint("user", i), "example.com"); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Stats().Entries; n > 1000 {
		t.Errorf("%d entries, want 1000 at most", n)
	}
	if _, fresh := c.peek([]byte("user19999"), []byte("example.com")); !fresh {
		t.Error("the newest is forgotten")
	}
}
