package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	if len(c.Transport.Listeners) > 64 {
		return fmt.Errorf("%d listeners: at most 64", len(c.Transport.Listeners))
	}
	if c.Rules == nil {
		c.Rules = DefaultRules()
	}
	for i := range c.Rules {
		if err := c.Rules[i].validate(); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	if c.Codecs == nil {
		c.Codecs = []string{"opus", "G722", "PCMU", "PCMA"}
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
	if c.MediaTimeout < 0 || c.DNSTimeout < 0 || c.Queues < 0 || c.QueueLength < 0 {
		return errors.New("a timeout or queue size is negative")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
