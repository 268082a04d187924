package auth

import (
	"crypto/hmac"
	"crypto/md5" // RFC 3261 section 22 has nothing else, and phones neither
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/rand/v2"
	"time"
)

// Credential is what the server knows of a user: H(user:realm:password) per algorithm (RFC 7616 section 3.4.2), as the hex
// digits that enter the response. It serves as password for its realm, so it is kept as secret as one.
type Credential struct {
	md5    [2 * md5.Size]byte
	sha256 [2 * sha256.Size]byte
	has    [algorithms]bool
}

// NewCredential hashes a password for every algorithm.
func NewCredential(user, realm, password string) Credential {
	a1 := []byte(user + ":" + realm + ":" + password)
	c := Credential{has: [algorithms]bool{true, true}}
	m, s := md5.Sum(a1), sha256.Sum256(a1)
	hex.Encode(c.md5[:], m[:])
	hex.Encode(c.sha256[:], s[:])
	return c
}

// Has tells whether the credential can check an algorithm.
func (c *Credential) Has(a Algorithm) bool { return a < algorithms && c.has[a] }

// HA1 is the hash of an algorithm in hex; false: the credential has none.
func (c *Credential) HA1(a Algorithm) (string, bool) {
	if !c.Has(a) {
		return "", false
	}
	return string(c.ha1(a)), true
}

func (c *Credential) ha1(a Algorithm) []byte {
	if a == SHA256 {
		return c.sha256[:]
	}
	return c.md5[:]
}

// Sizes of a nonce: 4 bytes of seconds since 1970, 4 that name the source, 4 random ones, 16 of the HMAC.
const (
	nonceClear = 4 + 4 + 4
	nonceMAC   = 16
	nonceText  = ((nonceClear+nonceMAC)*8 + 5) / 6 // in base64 without padding
)

// scratch is the memory of one computation.
type scratch struct {
	mac   hash.Hash
	sum   []byte
	buf   []byte
	ha2   [2 * sha256.Size]byte
	want  [2 * sha256.Size]byte
	given [2 * sha256.Size]byte
	nonce [nonceClear + nonceMAC + 2]byte
}

func newScratch(secret []byte) *scratch {
	return &scratch{mac: hmac.New(sha256.New, secret), sum: make([]byte, 0, sha256.Size), buf: make([]byte, 0, 512)}
}

func (s *scratch) appendNonce(dst []byte, alg Algorithm, realm string, source uint64, now time.Time) []byte {
	n := s.nonce[:nonceClear]
	binary.BigEndian.PutUint32(n, uint32(now.Unix()))
	// Random, so that two clients never share a nonce-count; math/rand is enough since the HMAC is what cannot be guessed.
	binary.BigEndian.PutUint32(n[4:], uint32(source))
	binary.BigEndian.PutUint32(n[8:], rand.Uint32())
	s.buf = append(s.buf[:0], realm...)
	n = append(n, s.seal(n, alg, s.buf)...)
	return base64.RawURLEncoding.AppendEncode(dst, n)
}

// readNonce proves a nonce and returns when and for which source it was made, and a number that no other nonce has.
func (s *scratch) readNonce(text []byte, alg Algorithm, realm []byte) (issued time.Time, source uint32, id uint64, ok bool) {
	if len(text) != nonceText {
		return time.Time{}, 0, 0, false
	}
	n, err := base64.RawURLEncoding.Decode(s.nonce[:], text)
	if err != nil || n != nonceClear+nonceMAC {
		return time.Time{}, 0, 0, false
	}
	clear, mac := s.nonce[:nonceClear], s.nonce[nonceClear:n]
	if !hmac.Equal(mac, s.seal(clear, alg, realm)) {
		return time.Time{}, 0, 0, false
	}
	return time.Unix(int64(binary.BigEndian.Uint32(clear)), 0), binary.BigEndian.Uint32(clear[4:]), binary.BigEndian.Uint64(mac), true
}

// seal computes the HMAC of a nonce. The first byte keeps it apart from other uses of the same secret.
func (s *scratch) seal(clear []byte, alg Algorithm, realm []byte) []byte {
	s.mac.Reset()
	s.sum = append(s.sum[:0], 'N', byte(alg))
	s.mac.Write(s.sum)
	s.mac.Write(clear)
	s.mac.Write(realm)
	s.sum = s.mac.Sum(s.sum[:0])
	return s.sum[:nonceMAC]
}

// response computes request-digest of RFC 7616 section 3.4.1, and that of RFC 2069 where the client sent no qop.
func (s *scratch) response(alg Algorithm, c *Credential, method []byte, h *header) []byte {
	s.buf = append(append(append(s.buf[:0], method...), ':'), unquote(h.uri)...)
	ha2 := s.hash(s.ha2[:], alg)
	s.buf = append(append(s.buf[:0], c.ha1(alg)...), ':')
	s.buf = append(append(s.buf, unquote(h.nonce)...), ':')
	if h.qop != nil {
		s.buf = append(append(s.buf, h.count...), ':')
		s.buf = append(append(s.buf, unquote(h.cnonce)...), ':')
		s.buf = append(append(s.buf, h.qop...), ':')
	}
	s.buf = append(s.buf, ha2...)
	return s.hash(s.want[:], alg)
}

// hash writes the hex digest of buf to the front of dst.
func (s *scratch) hash(dst []byte, alg Algorithm) []byte {
	if alg == SHA256 {
		sum := sha256.Sum256(s.buf)
		return dst[:hex.Encode(dst, sum[:])]
	}
	sum := md5.Sum(s.buf)
	return dst[:hex.Encode(dst, sum[:])]
}
