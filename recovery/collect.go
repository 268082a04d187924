package recovery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rtcedge/recovery/homer"
)

// Capture answers for many Call-IDs at once: our own store, or a HOMER.
type Capture interface {
	Messages(ctx context.Context, callIDs []string) ([]homer.Message, error)
}

// CollectorConfig is what a Collector needs. One capture must be given.
type CollectorConfig struct {
	Own   Capture       // what the edges sent us; asked first, and taken as complete since it began
	Homer Capture       // asked for what Own cannot tell; nil: nobody else is asked
	Lag   time.Duration // after it, HOMER is asked once more: rows show up late. Default 4 s, negative is off

	// Wait is for an ACK that is on its way. Default 200 ms.
	Wait   time.Duration
	Logger *slog.Logger // default: none
}

// Chosen by us.
const (
	defaultLag  = 4 * time.Second // heplify-server's DBTimer; 2.1 to 3.6 s were measured
	defaultWait = 200 * time.Millisecond
	homerTries  = 2 * time.Second // for one question
	maxKnown    = 200_000
)

// Collector is the History of what was captured.
type Collector struct {
	cfg CollectorConfig

	mu    sync.Mutex // guards the rest
	farm  func() []string
	local map[string]string // the farm's tag, of dialogs that were asked for
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
	return &Collector{cfg: cfg, local: map[string]string{}}, nil
}

// Farm tells where to read the SIP addresses of all farm nodes (udp:IP:PORT): a dialog that was recovered before has been spoken by several.
func (c *Collector) Farm(addresses func() []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.farm = addresses
}

// Dialogs implements History.
func (c *Collector) Dialogs(ctx context.Context, sip string, legs []Asked) map[string]Rebuilt {
	out := make(map[string]Rebuilt, len(legs))
	node, ok := sipAddr(sip)
	if !ok {
		for _, l := range legs {
			out[l.CallID] = Rebuilt{Err: refuse(ReasonNoMessages, "the node's SIP address %q is not PROTO:IP:PORT", sip)}
		}
		return out
	}
	ask := newQuestion(c, node, legs, out)
	if left := ask.own(ctx, slices.Collect(maps.Keys(ask.records))); c.cfg.Homer != nil && len(left) > 0 {
		ask.homer(ctx, left)
	}
	return out
}

// Fresh implements History: by the own capture, without a wait.
func (c *Collector) Fresh(ctx context.Context, sip string, leg Asked) (b Rebuilt, ok bool) {
	node, ok := sipAddr(sip)
	if !ok || c.cfg.Own == nil {
		return b, false
	}
	kept, err := gather(ctx, c.cfg.Own, []string{leg.CallID})
	if err != nil {
		return b, false
	}
	out := map[string]Rebuilt{}
	switch newQuestion(c, node, []Asked{leg}, out).rebuild(leg.CallID, kept[leg.CallID], false) {
	case ReasonNoMessages, ReasonNoInvite: // somebody else may know it
		return b, false
	}
	return out[leg.CallID], true
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

// question is one call of Dialogs.
type question struct {
	c       *Collector
	node    netip.AddrPort
	others  []netip.AddrPort
	since   time.Time
	records map[string]Asked     // by Call-ID
	kept    map[string][]Message // what the own capture had
	out     map[string]Rebuilt
}

func newQuestion(c *Collector, node netip.AddrPort, legs []Asked, out map[string]Rebuilt) *question {
	q := &question{c: c, node: node, others: c.others(node), since: time.Now(), records: make(map[string]Asked, len(legs)), out: out}
	for _, l := range legs {
		q.records[l.CallID] = l
	}
	return q
}

// own asks our capture and returns the Call-IDs of which it does not know enough. An ACK may still be on its way.
func (q *question) own(ctx context.Context, ids []string) (left []string) {
	if q.c.cfg.Own == nil {
		return ids
	}
	for todo := ids; ; {
		kept, err := gather(ctx, q.c.cfg.Own, todo)
		if err != nil {
			q.c.cfg.Logger.Warn("own capture does not answer", "err", err)
			return ids
		}
		if q.kept == nil {
			q.kept = kept
		}
		var soon []string
		for _, id := range todo {
			q.kept[id] = kept[id]
			switch why := q.rebuild(id, kept[id], false); why {
			case ReasonUnconfirmed:
				soon = append(soon, id)
			case ReasonNoMessages, ReasonNoInvite:
				left = append(left, id)
			}
		}
		if todo = soon; len(todo) == 0 || time.Since(q.since) > q.c.cfg.Wait || !sleep(ctx, askEvery) {
			return left
		}
	}
}

// homer asks HOMER for the rest. Where it says that there is a dialog it may not know yet that it ended, so it is asked again after its lag.
func (q *question) homer(ctx context.Context, ids []string) {
	for {
		ask, cancel := context.WithTimeout(ctx, homerTries)
		found, err := gather(ask, q.c.cfg.Homer, ids)
		cancel()
		last := q.c.cfg.Lag < 0 || time.Since(q.since) >= q.c.cfg.Lag
		for _, id := range ids {
			switch {
			case err != nil:
				q.out[id] = Rebuilt{Err: refuse(ReasonNoMessages, "not in the own capture, and HOMER: %v", err)}
			default:
				q.rebuild(id, append(q.kept[id], found[id]...), true)
			}
		}
		if last {
			return
		}
		pause := q.c.cfg.Lag - time.Since(q.since)
		if err != nil {
			pause = min(pause, 500*time.Millisecond)
		}
		if !sleep(ctx, max(pause, 0)) {
			return
		}
	}
}

func gather(ctx context.Context, from Capture, ids []string) (map[string][]Message, error) {
	list, err := from.Messages(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]Message, len(ids))
	for _, m := range list {
		out[m.CallID] = append(out[m.CallID], Message{Time: m.Time, Source: m.Source, Destination: m.Destination, Raw: m.Raw, Node: m.Node})
	}
	return out, nil
}

// rebuild puts the answer for one Call-ID, and tells the reason if it is a refusal.
func (q *question) rebuild(id string, messages []Message, lossy bool) Reason {
	d, err := Rebuild(Evidence{CallID: id, Node: []netip.AddrPort{q.node}, Farm: q.others, Role: q.records[id].Role, URI: q.records[id].URI,
		Messages: messages, Lossy: lossy})
	if err != nil {
		q.out[id] = Rebuilt{Err: err}
		if why := (*Refusal)(nil); errors.As(err, &why) {
			return why.Reason
		}
		return ReasonDamaged
	}
	q.out[id] = Rebuilt{RequestURI: d.Target, RemoteTag: d.Remote.Tag, CSeq: d.CSeq, Pending: d.Pending, Variables: d.Variables()}
	q.c.mu.Lock()
	if len(q.c.local) >= maxKnown {
		clear(q.c.local)
	}
	q.c.local[id] = d.Local.Tag
	q.c.mu.Unlock()
	return ""
}

// Final implements History. The far end's own re-INVITE may have the same number: the answer to ours has the farm's tag in From.
func (c *Collector) Final(ctx context.Context, callID string, cseq uint32) (status int, ok bool) {
	c.mu.Lock()
	tag := c.local[callID]
	c.mu.Unlock()
	if c.cfg.Own == nil || tag == "" {
		return 0, false
	}
	list, err := c.cfg.Own.Messages(ctx, []string{callID})
	if err != nil {
		return 0, false
	}
	number := strconv.FormatUint(uint64(cseq), 10) + " INVITE"
	for i := len(list) - 1; i >= 0; i-- {
		raw := list[i].Raw
		if !strings.HasPrefix(raw, "SIP/2.0 ") || !strings.Contains(raw, number) {
			continue
		}
		f, err := parse(raw)
		if err == nil && f.status >= 200 && f.status != 401 && f.status != 407 && f.cseq == cseq && f.cseqMethod == "INVITE" && f.from.tag == tag {
			return f.status, true
		}
	}
	return 0, false
}

var _ History = (*Collector)(nil)
