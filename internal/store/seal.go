package store

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

// seal encrypts and authenticates values with Config.Key (XChaCha20-Poly1305, whose random nonces may be as many as one likes). The names of bucket and key
// belong to it: a value holds in its own place only. Who got into the server and does not have the key reads nothing, SRTP keys for instance, and what he
// writes is as if nothing stood there: he can make calls be forgotten, and put an old value of a key back, but no call is led to him.
type seal struct {
	aead   cipher.AEAD // nil: values stand as they are
	forged atomic.Uint64

	mu   sync.Mutex // guards the rest
	told map[string]bool
}

// ErrForged is an ErrNotFound: what stands there was not written with the key.
var ErrForged = fmt.Errorf("%w: what stands there has no right seal", ErrNotFound)

// maxForged bounds the keys that are remembered so as to log each once.
const maxForged = 1000

// KeyOf makes Config.Key of a site's secret. It tells nothing of the secret.
func KeyOf(secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("rtcedge store values"))
	return h.Sum(nil)
}

func (s *seal) init(key []byte) (err error) {
	if len(key) > 0 {
		s.aead, err = chacha20poly1305.NewX(key)
	}
	return err
}

// place is where a value belongs; no name of a bucket has a zero byte.
func place(b *Bucket, key string) []byte { return []byte(b.name + "\x00" + key) }

// close makes what stands in the store of a value.
func (s *seal) close(b *Bucket, key string, value []byte) []byte {
	if s.aead == nil {
		return value
	}
	out := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(value)+s.aead.Overhead())
	rand.Read(out)
	return s.aead.Seal(out, out, value, place(b, key))
}

// open reads it; what is forged is counted, and logged once per key.
func (s *seal) open(b *Bucket, key string, text []byte) (value []byte, ok bool) {
	if s.aead == nil {
		return text, true
	}
	if len(text) >= chacha20poly1305.NonceSizeX {
		value, err := s.aead.Open(nil, text[:chacha20poly1305.NonceSizeX], text[chacha20poly1305.NonceSizeX:], place(b, key))
		if err == nil {
			return value, true
		}
	}
	s.forged.Add(1)
	s.mu.Lock()
	at := b.name + " " + key
	first := !s.told[at] && len(s.told) < maxForged
	if first {
		if s.told == nil {
			s.told = map[string]bool{}
		}
		s.told[at] = true
	}
	s.mu.Unlock()
	if first {
		b.s.cfg.Logger.Warn("store: a record is not believed: its seal is wrong (is --secret the same on all roles?)", "bucket", b.name, "key", key)
	}
	return nil, false
}
