package recovery

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"rtcedge/recovery/homer"
)

// Capture answers for many Call-IDs at once: our own store, or a HOMER.
type Capture interface {
	// Messages returns what there is of them since a time; zero is the capture's own choice.
	Messages(ctx context.Context, callIDs []string, since time.Time) ([]homer.Message, error)
}

// revised is a Capture that tells cheaply whether something came of a Call-ID: the number is then another one; 0 is not known.
type revised interface {
	Revision(callID string) uint64
}

// CollectorConfig is what a Collector needs. One capture must be given.
type CollectorConfig struct {
	Own   Capture       // what the edges sent us; asked first, and taken as complete since it began
	Homer Capture       // asked for what Own cannot tell; nil: nobody else is asked
	Lag   time.Duration // HOMER is asked behind it: rows show up late. Default 4 s, negative is off

	// Wait is for an ACK that is on its way. Default 200 ms.
	Wait   time.Duration
	Logger *slog.Logger // default: none
}

// Chosen by us.
const (
	defaultLag  = 4 * time.Second // heplify-server's DBTimer; 2.1 to 3.6 s were measured
	defaultWait = 200 * time.Millisecond
	homerTries  = 2 * time.Second // for one question, and how long one that failed is asked again
	homerPause  = 500 * time.Millisecond
	turns       = 4 // questions at a time, to each of the two
)

// Collector is the History of what was captured.
type Collector struct {
	cfg CollectorConfig

	ownTurn, homerTurn chan struct{} // questions at a time

	mu    sync.Mutex // guards the rest
	farm  func() []string
	known map[string]known // by Call-ID
	// toldBytes is what HOMER told in all, also of those that it told of again.
	toldBytes int
}

// NewCollector checks the configuration.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	if cfg.Own == nil && cfg.Homer == nil {
		return nil, errors.New("recovery: neither an own capture nor a HOMER")
	}
	if cfg.Lag == 0 {
		cfg.Lag = defaultLag
	}
	if cfg.Wait == 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Collector{cfg: cfg, ownTurn: make(chan struct{}, turns), homerTurn: make(chan struct{}, turns), known: map[string]known{}}, nil
}

// Farm tells where to read the SIP addresses of all farm nodes (udp:IP:PORT): a dialog that was recovered before has been spoken by several.
func (c *Collector) Farm(addresses func() []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.farm = addresses
}

// Dialogs implements History: first what the own capture is sure of, then where an ACK was waited for, then what HOMER knows.
func (c *Collector) Dialogs(ctx context.Context, sip string, legs []Asked) iter.Seq[map[string]Rebuilt] {
	return func(yield func(map[string]Rebuilt) bool) {
		node, ok := sipAddr(sip)
		if !ok {
			out := make(map[string]Rebuilt, len(legs))
			for _, l := range legs {
				out[l.CallID] = Rebuilt{Err: refuse(ReasonNoMessages, "the node's SIP address %q is not PROTO:IP:PORT", sip)}
			}
			yield(out)
			return
		}
		q := newQuestion(c, node, legs)
		if left, more := q.near(ctx, yield); more && len(left) > 0 {
			q.far(ctx, left, yield)
		}
	}
}

// Fresh implements History: by the own capture and what HOMER has told before, without a wait.
func (c *Collector) Fresh(ctx context.Context, sip string, leg Asked) (b Rebuilt, ok bool) {
	node, ok := sipAddr(sip)
	if !ok || c.cfg.Own == nil {
		return b, false
	}
	q := newQuestion(c, node, []Asked{leg})
	if b, ok = q.again(leg.CallID); ok {
		return b, true
	}
	if q.look(ctx, []string{leg.CallID}) != nil {
		return b, false
	}
	told := c.told(leg.CallID)
	b, why := q.rebuild(leg.CallID, told, told != nil)
	if told == nil && lacking(why) && (c.cfg.Homer != nil || why == ReasonNoMessages || why == ReasonNoInvite) { // somebody else may know it
		return Rebuilt{Err: refuse(ReasonEnded, "a BYE is on the wire, and its beginning is not in the own capture")}, q.bye(leg.CallID)
	}
	return b, true
}

func (c *Collector) others(node netip.AddrPort) []netip.AddrPort {
	c.mu.Lock()
	list := c.farm
	c.mu.Unlock()
	var out []netip.AddrPort
	if list == nil {
		return nil
	}
	for _, text := range list() {
		if a, ok := sipAddr(text); ok && a != node {
			out = append(out, a)
		}
	}
	return out
}

// sipAddr reads udp:IP:PORT. Over TCP a node's own connections come from any port.
func sipAddr(text string) (netip.AddrPort, bool) {
	proto, addr, ok := strings.Cut(text, ":")
	a, err := netip.ParseAddrPort(addr)
	if !ok || err != nil {
		return netip.AddrPort{}, false
	}
	if proto != "udp" {
		a = netip.AddrPortFrom(a.Addr(), 0)
	}
	return a, true
}

// again tells of a status that the node may answer by the same INVITE with the next number: with credentials, or with a longer session timer (RFC 4028 section
// 7.3), as pjsip does by itself where it can.
func again(status int) bool { return status == 401 || status == 407 || status == 422 }

// againMost is how often it may do so. Chosen by us: one for credentials, one for the timer.
const againMost = 2

// Final implements History. The far end's own re-INVITE may have the same number: the answer to ours has the farm's tag in From.
func (c *Collector) Final(ctx context.Context, callID string, cseq uint32) (status int, ok bool) {
	c.mu.Lock()
	tag := c.known[callID].local
	c.mu.Unlock()
	if c.cfg.Own == nil || tag == "" {
		return 0, false
	}
	list, err := c.cfg.Own.Messages(ctx, []string{callID}, time.Time{})
	if err != nil {
		return 0, false
	}
	last := cseq
	for _, m := range list {
		if !strings.HasPrefix(m.Raw, "SIP/2.0 ") || !strings.Contains(m.Raw, " INVITE") {
			continue
		}
		f, err := parse(m.Raw)
		if err == nil && f.status >= 200 && f.cseq >= last && f.cseq-cseq <= againMost && f.cseqMethod == "INVITE" && f.from.tag == tag {
			status, last = f.status, f.cseq
		}
	}
	return status, status != 0
}

var _ History = (*Collector)(nil)
