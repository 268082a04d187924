package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Algorithm is a digest algorithm of RFC 8760.
type Algorithm uint8

// The algorithms.
const (
	MD5 Algorithm = iota
	SHA256
	algorithms
)

// String returns the token that the header field uses.
func (a Algorithm) String() string {
	switch a {
	case MD5:
		return "MD5"
	case SHA256:
		return "SHA-256"
	}
	return "unknown"
}

// A Provider knows the users. Lookup borrows user and realm; it runs on a packet worker and must not block. Three exist: Users,
// File, and Cache for databases elsewhere.
type Provider interface {
	Lookup(user, realm []byte) (Credential, bool)
}

// Config is all that a Verifier needs.
type Config struct {
	// Provider knows the users. Required.
	Provider Provider
	// Secret makes and proves nonces; all nodes that check each other's challenges share it. Default: random, for one node.
	Secret []byte
	// Algorithms are offered in this order. Default MD5 alone: many phones (baresip 1.1, older SIPp) give up at the sight of
	// a challenge with an algorithm that they do not know, although RFC 8760 section 2.4 tells them to ignore it.
	Algorithms []Algorithm
	// NonceLife is how long a nonce may be used before the client is asked to take a new one (stale=true). Default 5 min.
	NonceLife time.Duration
	// ReplayEntries is how many nonces are remembered with their nonce-count. Default 32,768, which take 3 MiB.
	ReplayEntries int
}

// clockSkew is by how much another node's clock may be ahead of ours.
const clockSkew = 30 * time.Second

func (c *Config) validate() error {
	if c.Provider == nil {
		return errors.New("no provider")
	}
	if len(c.Secret) == 0 {
		c.Secret = make([]byte, 32)
		_, _ = rand.Read(c.Secret) // never fails, see its documentation
	}
	if len(c.Secret) < 16 {
		return fmt.Errorf("secret has %d bytes, it needs 16 at least", len(c.Secret))
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []Algorithm{MD5}
	}
	for _, a := range c.Algorithms {
		if a >= algorithms {
			return fmt.Errorf("unknown algorithm %d", a)
		}
	}
	if c.NonceLife == 0 {
		c.NonceLife = 5 * time.Minute
	}
	if c.ReplayEntries == 0 {
		c.ReplayEntries = 1 << 15
	}
	if c.NonceLife < 0 || c.ReplayEntries < 0 {
		return errors.New("nonce life and replay entries cannot be negative")
	}
	return nil
}

// A Verifier makes challenges and checks their answers. Its methods may be called from any goroutine.
type Verifier struct {
	cfg     Config
	remote  *Cache     // the provider, if it has to ask elsewhere
	dummy   Credential // stands in for an unknown user
	seen    *replay
	scratch sync.Pool // of *scratch
}

// New checks the configuration.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	v := &Verifier{cfg: cfg, seen: newReplay(cfg.ReplayEntries)}
	v.remote, _ = cfg.Provider.(*Cache)
	var password [16]byte
	_, _ = rand.Read(password[:])
	v.dummy = NewCredential("", "", string(password[:]))
	v.scratch.New = func() any { return newScratch(cfg.Secret) }
	return v, nil
}

// Algorithms are the offered ones: the caller makes one Challenge for each.
func (v *Verifier) Algorithms() []Algorithm { return v.cfg.Algorithms }

// Challenge appends the value of a WWW-Authenticate or Proxy-Authenticate field with a new nonce, for any source. stale tells
// the client that its password was right and only the nonce too old.
func (v *Verifier) Challenge(dst []byte, realm string, alg Algorithm, stale bool, now time.Time) []byte {
	return v.ChallengeTo(dst, realm, alg, stale, 0, now)
}

// ChallengeTo is Challenge with a nonce for one source only, see Request.Source.
func (v *Verifier) ChallengeTo(dst []byte, realm string, alg Algorithm, stale bool, source uint64, now time.Time) []byte {
	dst = append(dst, `Digest realm="`...)
	for i := range len(realm) {
		if realm[i] == '"' || realm[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, realm[i])
	}
	dst = append(dst, `", nonce="`...)
	s := v.scratch.Get().(*scratch)
	dst = s.appendNonce(dst, alg, realm, source, now)
	v.scratch.Put(s)
	dst = append(dst, `", algorithm=`...)
	dst = append(dst, alg.String()...)
	dst = append(dst, `, qop="auth"`...)
	if stale {
		dst = append(dst, `, stale=true`...)
	}
	return dst
}

// Request is what Check looks at. The slices are borrowed for the call.
type Request struct {
	Method []byte
	// URI is the Request-URI; empty: the digest's uri is not compared with it.
	URI []byte
	// Value is the value of the Authorization or Proxy-Authorization field, line folds included.
	Value []byte
	// Realm is the one that must be meant; empty: any for which we have made the nonce.
	Realm string
	// Tx is a hash of what a retransmission repeats and a replay cannot: best of source, Call-ID, CSeq and top branch, at
	// least of the source address. A nonce-count that was seen is accepted again for the same Tx only, since a stateless
	// edge sees every retransmission. 0: replay is not checked.
	Tx uint64
	// Source is a keyed hash of the source's address without its port: the nonce must have been made for it by ChallengeTo.
	// 0: the nonce may have been made for anybody.
	Source uint64
	// Asked says that Ask was called for this request: what is known now must do.
	Asked bool
}

// Reason is the outcome of a check.
type Reason uint8

// The outcomes. For all but OK the caller challenges again, for Stale, Replayed and Moved with stale=true.
const (
	OK          Reason = iota
	Malformed          // not a Digest header field that can be understood, or a part is missing
	Unsupported        // an algorithm or qop that was not offered
	OtherRealm         // meant for somebody else, such as a proxy behind us
	Forged             // the nonce is not ours for this realm and algorithm, or the secret has changed since
	Refused            // wrong password, or no such user; nobody is told which
	URIMismatch        // the digest was made for another Request-URI
	Stale              // right, but the nonce is too old
	Replayed           // right, but its nonce-count was used by another request
	Moved              // the nonce was made for another source; the password was not looked at
	Waiting            // the user is not known yet: Ask, where waiting is allowed, then Check again
	Unavailable        // the users' database gives no answer
	reasons
)

var reasonNames = [reasons]string{
	"ok", "malformed", "unsupported", "other_realm", "forged", "refused", "uri_mismatch", "stale", "replayed", "moved", "waiting", "unavailable",
}

// String returns the name for a metric's label.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Stale tells whether the next challenge says stale=true.
func (r Reason) Stale() bool { return r == Stale || r == Replayed || r == Moved }

// Result is the outcome and who it is about. User and Realm are as sent, without quotes, and borrowed from Request.Value; with
// a reason other than OK they are claims. A name with escaped characters is a copy.
type Result struct {
	Reason Reason
	User   []byte
	Realm  []byte
	// Received means that the nonce is ours and, where Request.Source is given, was made for it: the sender has got our
	// challenge, so its source address is no forged one and a failure may be counted against it.
	Received bool
}

// Check verifies credentials.
func (v *Verifier) Check(r Request, now time.Time) Result {
	var h header
	if !h.parse(r.Value) {
		return Result{Reason: Malformed}
	}
	res := Result{User: unquote(h.user), Realm: unquote(h.realm)}
	if r.Realm != "" && string(res.Realm) != r.Realm {
		res.Reason = OtherRealm
		return res
	}
	alg, ok := h.algorithmOf()
	if !ok || !slices.Contains(v.cfg.Algorithms, alg) || !h.qopKnown() {
		res.Reason = Unsupported
		return res
	}
	s := v.scratch.Get().(*scratch)
	defer v.scratch.Put(s)
	issued, source, id, ok := s.readNonce(h.nonce, alg, res.Realm)
	if !ok {
		res.Reason = Forged
		return res
	}
	if r.Source != 0 && source != uint32(r.Source) {
		res.Reason = Moved
		return res
	}
	res.Received = true
	cred, known, why := v.find(&r, &res)
	if why != OK {
		res.Reason = why
		return res
	}
	if !known || !cred.Has(alg) {
		cred, known = v.dummy, false
	}
	want := s.response(alg, &cred, r.Method, &h)
	same := subtle.ConstantTimeCompare(want, lower(s.given[:0], h.response)) == 1
	switch {
	case !same || !known:
		res.Reason = Refused
		if v.remote != nil && v.remote.down() {
			res.Reason = Unavailable // as with a user of whom nothing is remembered: who is, is nobody's business
		}
	case !sameURI(unquote(h.uri), r.URI):
		res.Reason = URIMismatch
	case now.Sub(issued) > v.cfg.NonceLife || issued.Sub(now) > clockSkew:
		res.Reason = Stale
	case r.Tx != 0 && !v.fresh(&h, id, r.Tx, now):
		res.Reason = Replayed
	}
	return res
}

// find looks the user up, as far as that is possible at once.
func (v *Verifier) find(r *Request, res *Result) (cred Credential, known bool, why Reason) {
	if v.remote == nil {
		cred, known = v.cfg.Provider.Lookup(res.User, res.Realm)
		return cred, known, OK
	}
	a, fresh := v.remote.peek(res.User, res.Realm)
	switch {
	case !fresh && !r.Asked:
		return cred, false, Waiting
	case a.at.IsZero():
		return cred, false, Unavailable
	}
	return a.cred, a.known, OK
}

// Ask finds out about the user of a request that is Waiting. It takes no longer than Patience; Check with Asked then knows what can be known.
func (v *Verifier) Ask(ctx context.Context, r Request) {
	var h header
	if v.remote != nil && h.parse(r.Value) {
		// An error stands in what Check says then.
		_ = v.remote.Ask(ctx, string(unquote(h.user)), string(unquote(h.realm)))
	}
}

// Patience is how long after its arrival a request is refused whose password is wrong, so that the time does not tell if the user exists or has been
// looked up before. 0: at once, as all users are known here.
func (v *Verifier) Patience() time.Duration {
	if v.remote == nil {
		return 0
	}
	return v.remote.cfg.Timeout
}

// fresh tells whether the nonce-count was not used by another request.
func (v *Verifier) fresh(h *header, id, tx uint64, now time.Time) bool {
	nonce, count := h.use(id)
	return v.seen.accept(nonce, count, tx, now)
}
