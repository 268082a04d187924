package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"rtcedge/media/ng"
	"rtcedge/sip/auth"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

// Media is the media node as the proxy sees it: the NG client over UDP or the engine in the same process. An error means that no
// answer came; a refusal is a Response with Result "error".
type Media interface {
	Offer(ctx context.Context, req *ng.Request) (*ng.Response, error)
	Answer(ctx context.Context, req *ng.Request) (*ng.Response, error)
	Delete(ctx context.Context, req *ng.Request) (*ng.Response, error)
	Query(ctx context.Context, req *ng.Request) (*ng.Response, error)
}

// Config is all that the proxy needs.
type Config struct {
	// Secret is shared by all edge nodes; it signs what travels in the messages. Required: 32 bytes.
	Secret []byte
	// Transport opens the listeners. At least one; those marked Internal are the side that farms see. Without an internal one
	// every listener serves both sides and a farm node is known by its source address.
	Transport transport.Config
	// NodeAddr is a UDP address of this edge node that the other edge nodes reach: one of its own UDP listeners, best an internal one, and
	// not that of the load balancer. Connections that phones opened to this node are then reached through every node. Default:
	// none, and a message for a connection of another node fails with 430.
	NodeAddr netip.AddrPort
	// Farms are the farm nodes and how they are probed.
	Farms dispatch.Config
	// Rules choose the farm of a new dialog; the first that fits counts. Default: DefaultRules.
	Rules []Rule
	// Domains are the SIP domains served here; with those below them. A request for another domain gets 404. Default: every domain
	// is served.
	Domains []string
	// Media is asked to rewrite session descriptions. Default nil: bodies pass untouched.
	Media Media
	// MediaTimeout bounds one question to Media. Default 2 s: less than the 4 s after which a client has sent its third copy.
	MediaTimeout time.Duration
	// Trunks are providers known by their address, the first that fits counts. Default: none.
	Trunks []Trunk
	// PSTN are the addresses that may call the domains pstn.*, without a digest. Default: none may from outside; farm nodes always
	// may.
	PSTN []netip.Prefix
	// RateLimit bounds the requests of each source outside; what is above it is dropped without an answer. PerSecond is in
	// requests, Burst how many of them may come at once. Default 0: no limit.
	RateLimit auth.RateConfig
	// Ban is when a source that sends wrong passwords is locked out, and for how long. Its requests that need a proof are then
	// dropped without an answer; calls that run go on. Default: 15 failures, half of them forgotten in 10 min, for 15 min.
	Ban auth.BanConfig
	// Exempt are sources that neither the rate limit, the ban nor the scanner filter touches: an office behind one NAT, a
	// monitor. Default: none.
	Exempt []netip.Prefix
	// Scanners are parts of User-Agent values and From display names, in any case, whose requests are dropped without an answer.
	// Default: DefaultScanners. An empty list that is not nil filters nothing.
	Scanners []string
	// Overload is how long messages may wait in a worker's socket, none of them for less than a tenth of it, before new dialogs from
	// outside are refused: then as many as it takes to have no queue. Default 100 ms: a stall of the machine is no overload. Negative: never.
	Overload time.Duration
	// Codecs are offered towards phones in this order when the offer comes from a farm. Default opus, G722, PCMU, PCMA. Name only
	// what the media node can encode.
	Codecs []string
	// Auth checks digests of requests from outside. Default nil: nobody is challenged.
	Auth *auth.Verifier
	// Realm is the digest realm that Auth's users belong to. Default: the first of Domains, else the first listener's address.
	Realm string
	// Queues is the number of goroutines that wait for media and DNS. Default 64.
	Queues int
	// QueueLength is how many messages may wait in each; a request beyond it gets 503. Default 64.
	QueueLength int
	// ProofLength is how many requests may wait for the users' database, and as many for their refusal; one beyond it is dropped, and comes again.
	// Default 4096.
	ProofLength int
	// DNSTimeout bounds the search for one host name. Default 2 s.
	DNSTimeout time.Duration
	// Tap sees every message in and out. Default nil.
	Tap Tap
	// Log gets what an operator should see, never once per message. Default: nothing.
	Log *slog.Logger
}

func (c *Config) validate() error {
	if len(c.Secret) != 32 {
		return fmt.Errorf("secret of %d bytes: 32 are needed", len(c.Secret))
	}
	if c.NodeAddr.IsValid() {
		c.NodeAddr = netip.AddrPortFrom(c.NodeAddr.Addr().Unmap().WithZone(""), c.NodeAddr.Port())
	}
	if len(c.Transport.Listeners) > 64 {
		return fmt.Errorf("%d listeners: at most 64", len(c.Transport.Listeners))
	}
	if c.MediaTimeout == 0 {
		c.MediaTimeout = 2 * time.Second
	}
	if c.DNSTimeout == 0 {
		c.DNSTimeout = 2 * time.Second
	}
	if c.Queues == 0 {
		c.Queues = 64
	}
	if c.QueueLength == 0 {
		c.QueueLength = 64
	}
	if c.ProofLength == 0 {
		c.ProofLength = 4096
	}
	if c.ProofLength < 0 || c.MediaTimeout < 0 || c.DNSTimeout < 0 || c.Queues < 0 || c.QueueLength < 0 {
		return errors.New("a timeout or queue size is negative")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
