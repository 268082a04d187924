package media

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/sdp"
)

// DTLS-SRTP (RFC 5763, RFC 5764): the keys of SRTP come from a handshake on the media path, and the SDP only carries the digest
// of the certificate that the handshake must show. The files, in the order in which a call meets them: dtls.go (what the
// handshakes of an engine share), dtls_setup.go (what SDP says), dtls_party.go (control), dtls_link.go (one association, on the
// worker), dtls_hello.go (who may begin), dtls_try.go (a handshake), dtls_record.go and dtls_certificate.go (which records are let in), dtls_conn.go (from the worker to
// the handshake and back), dtls_handshake.go.
//
// A handshake runs on a goroutine of its own, on pion/dtls. That goroutine ends with the handshake: of an association only the
// SRTP contexts stay, and of a server's the last flight, should it be lost.

// Chosen by us.
const (
	defaultDTLSTimeout    = 10 * time.Second
	defaultDTLSHandshakes = 256 // about 60 kB each while they last
	// The second that RFC 6347 section 4.2.4.1 suggests is heard as silence at the beginning of a call: a phone that is not ready yet
	// gets its second ClientHello soon.
	defaultDTLSRetransmit = 150 * time.Millisecond
	dtlsCertificateLife   = 10 * 365 * 24 * time.Hour // nobody looks: the fingerprint is what counts (RFC 8122 section 6.2)
)

// dtlsConfig configures the handshakes of an engine. The zero value works.
type dtlsConfig struct {
	Cert       *tls.Certificate // shown to all; nil makes one
	Timeout    time.Duration    // of one handshake; 10 s
	Handshakes int              // at a time, the rest waits for the next ClientHello or tick; 256
	Retransmit time.Duration    // until the first retransmission, doubled each time; 150 ms
}

func (c *dtlsConfig) fill() {
	if c.Timeout <= 0 {
		c.Timeout = defaultDTLSTimeout
	}
	if c.Handshakes <= 0 {
		c.Handshakes = defaultDTLSHandshakes
	}
	if c.Retransmit <= 0 {
		c.Retransmit = defaultDTLSRetransmit
	}
}

// dtlsFault tells why a handshake brought no keys.
type dtlsFault uint8

const (
	dtlsOK          dtlsFault = iota
	dtlsTimeout               // the peer did not finish in time
	dtlsFingerprint           // its certificate is not the one of the SDP
	dtlsProtocol              // the two could not agree, or the peer broke the protocol
	dtlsCancelled             // the call ended, or another ClientHello took its place
	numDTLSFaults
	dtlsCounted // one of those above, already
)

// dtlsAgent is the DTLS side of an engine: one certificate, and a bound for the handshakes.
type dtlsAgent struct {
	// Constant after newDTLSAgent.
	cfg    dtlsConfig
	cert   tls.Certificate
	own    sdp.Fingerprint
	secret [32]byte // of the cookies
	ctx    context.Context
	cancel context.CancelFunc

	// Counters.
	started, busy atomic.Uint64
	ended         [numDTLSFaults]atomic.Uint64 // by fault; dtlsOK counts the associations

	mu struct { // guards what follows
		sync.Mutex
		closed  bool
		running int
	}
	goroutines sync.WaitGroup
}

// newDTLSAgent makes the certificate if none is given. close releases the agent.
func newDTLSAgent(cfg dtlsConfig) (*dtlsAgent, error) {
	cfg.fill()
	if cfg.Cert == nil {
		var err error
		if cfg.Cert, err = newDTLSCertificate(); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256(cfg.Cert.Certificate[0])
	a := &dtlsAgent{cfg: cfg, cert: *cfg.Cert, own: sdp.Fingerprint{Hash: "sha-256", Sum: sum[:]}}
	rand.Read(a.secret[:]) // never fails (crypto/rand)
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

func newDTLSCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make dtls key: %w", err)
	}
	var serial [8]byte
	rand.Read(serial[:]) // never fails (crypto/rand)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		Subject:      pkix.Name{CommonName: "rtcedge"},
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.Add(dtlsCertificateLife),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make dtls certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// fingerprint is what our SDP says in a=fingerprint; "" is SHA-256.
func (a *dtlsAgent) fingerprint(hash string) sdp.Fingerprint {
	if hash == "" {
		return a.own
	}
	return sdp.Fingerprint{Hash: hash, Sum: dtlsDigest(hash, a.cert.Certificate[0])}
}

// stats counts the handshakes that ended, by how.
func (a *dtlsAgent) stats() map[string]uint64 {
	st := map[string]uint64{"busy": a.busy.Load()}
	for i, name := range [numDTLSFaults]string{"ok", "timeout", "fingerprint", "protocol", "cancelled"} {
		st[name] = a.ended[i].Load()
	}
	return st
}

// close ends all handshakes and waits for their goroutines. None starts after it.
func (a *dtlsAgent) close() {
	a.mu.Lock()
	a.mu.closed = true
	a.mu.Unlock()
	a.cancel()
	a.goroutines.Wait()
}

// start runs fn on a goroutine of its own if there is room for one more handshake. fn returns how it ended.
func (a *dtlsAgent) start(fn func(context.Context) dtlsFault) (cancel context.CancelFunc, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.closed || a.mu.running >= a.cfg.Handshakes {
		a.busy.Add(1)
		return nil, false
	}
	a.mu.running++
	a.started.Add(1)
	ctx, cancel := context.WithTimeout(a.ctx, a.cfg.Timeout)
	a.goroutines.Go(func() {
		defer cancel()
		if fault := fn(ctx); fault < numDTLSFaults {
			a.ended[fault].Add(1)
		}
		a.mu.Lock()
		a.mu.running--
		a.mu.Unlock()
	})
	return cancel, true
}
