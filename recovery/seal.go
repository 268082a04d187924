package recovery

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"rtcedge/internal/store"
)

// book is the bucket of crashes. With a key each record is sealed: who can write into the store and does not have the key can neither tell of a crash, so
// that calls are moved, nor hide one behind a record that says that it is over (F34). What does not have a seal that is right is as if it were not there,
// and is written over.
type book struct {
	*store.Bucket
	key    []byte // none: what stands there is believed
	forged func(key string)
}

// KeyOf makes Config.Key of a site's secret.
func KeyOf(secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("rtcedge crash records"))
	return h.Sum(nil)
}

// sealed is what stands in the store: the seal is over the key and the text of the crash, so that a record holds in its own place only.
type sealed struct {
	Seal  string          `json:"seal"`
	Crash json.RawMessage `json:"crash"`
}

var errForged = errors.New("crash record without a right seal")

func (b *book) sealOf(key string, text []byte) []byte {
	h := hmac.New(sha256.New, b.key)
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(text)
	return h.Sum(nil)
}

func (b *book) close(key string, c Crash) ([]byte, error) {
	c.Legs = nil // they have a bucket of their own
	text, err := json.Marshal(c)
	if err != nil || len(b.key) == 0 {
		return text, err
	}
	return json.Marshal(sealed{hex.EncodeToString(b.sealOf(key, text)), text})
}

// open reads a record. errForged is told to nobody but the counter.
func (b *book) open(key string, value []byte) (c Crash, err error) {
	var s sealed
	if err := json.Unmarshal(value, &s); err != nil {
		return c, b.refuse(key, err)
	}
	if len(b.key) > 0 {
		seal, err := hex.DecodeString(s.Seal)
		if err != nil || !hmac.Equal(seal, b.sealOf(key, s.Crash)) {
			return c, b.refuse(key, errForged)
		}
	}
	text := value
	if len(s.Crash) > 0 {
		text = s.Crash // of a controller that has a key, also for one that has none
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, b.refuse(key, err)
	}
	return c, nil
}

func (b *book) refuse(key string, err error) error {
	if len(b.key) == 0 {
		return fmt.Errorf("crash %s: %w", key, err)
	}
	b.forged(key)
	return fmt.Errorf("crash %s: %w", key, errForged)
}

// read is store.ErrNotFound for a record that is not there, or is forged.
func (b *book) read(ctx context.Context, key string) (c Crash, err error) {
	e, err := b.Get(ctx, key)
	if err != nil {
		return c, err
	}
	if c, err = b.open(key, e.Value); errors.Is(err, errForged) {
		err = fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return c, err
}

// all are the records with their keys, without those that are forged.
func (b *book) all(ctx context.Context) (list []Crash, keys []string, err error) {
	entries, err := b.List(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		c, err := b.open(e.Key, e.Value)
		if errors.Is(err, errForged) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		list, keys = append(list, c), append(keys, e.Key)
	}
	return list, keys, nil
}

// change reads a record, or begins one (there is false), has it changed, and writes it, again if somebody was faster. A change that returns false leaves
// everything as it is.
func (b *book) change(ctx context.Context, key string, f func(c *Crash, there bool) bool) error {
	return b.Modify(ctx, key, func(old []byte) ([]byte, error) {
		var c Crash
		there := old != nil
		if there {
			var err error
			if c, err = b.open(key, old); errors.Is(err, errForged) {
				c, there = Crash{}, false
			} else if err != nil {
				return nil, err
			}
		}
		if !f(&c, there) {
			return old, nil
		}
		return b.close(key, c)
	})
}

// maxForged bounds the keys that are remembered so as to log each once.
const maxForged = 1000

// forgeries counts records that were not believed.
type forgeries struct {
	mu   sync.Mutex // guards the rest
	n    int
	keys map[string]bool
}

// add tells whether the key is new.
func (f *forgeries) add(key string) (first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.keys == nil {
		f.keys = map[string]bool{}
	}
	if f.keys[key] || len(f.keys) >= maxForged {
		return false
	}
	f.keys[key] = true
	return true
}

func (f *forgeries) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
