package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Embedded is the URL of the server inside this process.
const Embedded = "embedded"

// Chosen by us.
const (
	maxPending   = 100_000                // keys that wait to be written: more than the calls of a site
	maxWaiting   = 256 << 20              // bytes of their values
	maxKey       = 1024                   // bytes of a key on the wire; a server's control line ends at 4096 by default
	writers      = 8                      // writes of PutLater at a time: a cluster answers after a round trip between its nodes
	copies       = 3                      // of each value in a cluster: one node of three may be lost
	swapWait     = 4 * time.Second        // a compare-and-set is given up after it
	sameWithin   = 5 * time.Second        // longer than that: the server takes two for one revision as one
	defaultAsk   = 2 * time.Second        // a cluster elects a new leader within about one second
	retryPause   = 200 * time.Millisecond // between two tries of a write that waits
	startTimeout = 15 * time.Second       // a large file store is read at start
	flushTime    = time.Second            // at the end of Run
	sweepEvery   = 10 * time.Minute       // marks of deleted keys are removed
	markerAge    = 10 * time.Minute       // younger marks stay, for watchers that lost their connection
)

// Config is what a store needs. The zero value is a server inside the process that keeps everything in memory.
type Config struct {
	URL      string         // "embedded" (default) or nats://[USER:PASSWORD@]HOST:PORT[,nats://...] of an external cluster; tls:// for TLS
	Token    string         // what the listener of the embedded server asks for, and what a server is told whose URL has no account; default: nothing
	Key      []byte         // 32 bytes, the same for all that share it: values are encrypted and sealed by it; default: whoever gets in reads them and is believed
	CA       string         // file with the certificates (PEM) that a tls:// server's is checked by; default: the system's
	Dir      string         // where the embedded server keeps its files; default: in memory, lost with the process
	Listen   netip.AddrPort // address on which the embedded server also serves other processes; the zero value is off
	Replicas int            // copies of each value in an external cluster, 1 to 5; default 3 where the server is one of a cluster, else 1
	Name     string         // of this client, as the server shows it; default rtcedge
	Timeout  time.Duration  // how long one question may take whose context has no deadline; default 2 s
	Logger   *slog.Logger   // default: none
}

func (c *Config) validate() error {
	if c.URL == "" {
		c.URL = Embedded
	}
	if c.URL != Embedded {
		for u := range strings.SplitSeq(c.URL, ",") {
			if !strings.HasPrefix(u, "nats://") && !strings.HasPrefix(u, "tls://") {
				return fmt.Errorf("store %q: allowed are %s, nats://HOST:PORT and tls://HOST:PORT, several with commas", redact(u), Embedded)
			}
		}
		if c.Dir != "" || c.Listen.IsValid() {
			return errors.New("store: a folder or a listener is of the embedded server only")
		}
	}
	if c.Listen.IsValid() && c.Token == "" && !c.Listen.Addr().IsLoopback() {
		return fmt.Errorf("store: a listener on %s needs a token: without one only an address of this machine (127.0.0.0/8, ::1) is served", c.Listen)
	}
	if c.CA != "" && !strings.Contains(c.URL, "tls://") {
		return errors.New("store: certificates are for tls:// only")
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return fmt.Errorf("store: %d replicas, allowed are 1 to 5, and 0 for 3 in a cluster", c.Replicas)
	}
	if c.Timeout < 0 {
		return fmt.Errorf("store: timeout %v is negative", c.Timeout)
	}
	if c.Timeout == 0 {
		c.Timeout = defaultAsk
	}
	if c.Name == "" {
		c.Name = "rtcedge"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// TokenOf makes the token of a site's secret. It tells nothing of the secret.
func TokenOf(secret []byte) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("rtcedge store token"))
	return hex.EncodeToString(h.Sum(nil))
}

// redact takes the password out of URLs, for logs and errors.
func redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		scheme, rest, ok := strings.Cut(u, "://")
		if at := strings.LastIndexByte(rest, '@'); ok && at >= 0 {
			list[i] = scheme + "://***@" + rest[at+1:]
		}
	}
	return strings.Join(list, ",")
}
