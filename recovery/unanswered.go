package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// A node that dies leaves requests without an answer, and recovery speaks for it, by what was captured: along the Via fields that the node had
// received, of which the edge signed its own.
//
//   - A call that rings has no dialog to go on with: the caller gets a final response, the callee the CANCEL that the node would have sent (F6).
//   - Inside of a dialog a BYE gets its 200, since the call is over (B46). Everything else gets 503, which ends no dialog: a phone over TCP sends its
//     re-INVITE once and would refuse recovery's with 491 until its own has timed out after 32 s (F5).
//   - A 2xx to an INVITE of the node gets its ACK: without one the far end hangs up after 32 s.

// Unanswered is a request that a node received or sent, and that nobody has answered finally, or an INVITE that it sent and whose 2xx has no ACK.
type Unanswered struct {
	CallID, Method string
	Raw            string
	SIP            string         // of the node
	Edge           netip.AddrPort // the edge's listener that it passed
	Sent           bool           // the node sent it
	Inside         bool           // of a dialog
	ToTag          string         // of the provisional responses; "" where there was none
	Accepted       string         // the 2xx that has no ACK
}

// Open tells what is unanswered.
type Open interface {
	// Unanswered tells it of the dialogs of a node, and of calls that it had placed just before.
	Unanswered(ctx context.Context, sip string, callIDs []string) []Unanswered
	// Unacknowledged tells of one dialog which 2xx to any farm node have no ACK.
	Unacknowledged(ctx context.Context, sip, callID string) []Unanswered
}

// placing is how far back a node's INVITE may be that nobody has answered (RFC 3261 section 16.6 item 11: timer C).
const placing = 3 * time.Minute

// placed tells the Call-IDs of which a host's INVITE was the first message.
type placed interface {
	Placed(by netip.Addr, since time.Time) []string
}

// Unanswered implements Open from the own capture.
func (c *Collector) Unanswered(ctx context.Context, sip string, callIDs []string) []Unanswered {
	node, ok := sipAddr(sip)
	if !ok || c.cfg.Own == nil {
		return nil
	}
	// Calls that the node was just placing: the record of such a leg has no Call-ID yet.
	if p, ok := c.cfg.Own.(placed); ok {
		callIDs = slices.Concat(callIDs, p.Placed(node.Addr(), time.Now().Add(-placing)))
		slices.Sort(callIDs)
		callIDs = slices.Compact(callIDs)
	}
	return c.open(ctx, sip, node, callIDs)
}

// Unacknowledged implements Open from the own capture.
func (c *Collector) Unacknowledged(ctx context.Context, sip, callID string) (out []Unanswered) {
	if c.cfg.Own == nil {
		return nil
	}
	c.mu.Lock()
	list := c.farm
	c.mu.Unlock()
	nodes := []string{sip}
	if list != nil {
		nodes = append(nodes, list()...)
	}
	slices.Sort(nodes)
	for _, sip := range slices.Compact(nodes) {
		if node, ok := sipAddr(sip); ok {
			out = append(out, c.open(ctx, sip, node, []string{callID})...)
		}
	}
	return slices.DeleteFunc(out, func(u Unanswered) bool { return u.Accepted == "" })
}

func (c *Collector) open(ctx context.Context, sip string, node netip.AddrPort, callIDs []string) []Unanswered {
	if len(callIDs) == 0 {
		return nil
	}
	found, err := gather(ctx, c.cfg.Own, callIDs, time.Time{})
	if err != nil {
		c.cfg.Logger.Warn("own capture does not answer", "err", err)
		return nil
	}
	var out []Unanswered
	for id, messages := range found {
		out = append(out, unanswered(id, sip, node, messages)...)
	}
	return out
}

// unanswered finds requests that a node received, and INVITEs of calls that it placed, without a final response, and its INVITEs without an ACK.
func unanswered(id, sip string, node netip.AddrPort, messages []Message) []Unanswered {
	type key struct {
		cseq   uint32
		method string
		sent   bool
	}
	nodes := []netip.AddrPort{node}
	open, done, acked, tags, accepted := map[key]Unanswered{}, map[key]bool{}, map[key]bool{}, map[key]string{}, map[key]string{}
	for _, m := range messages {
		sent := at(nodes, m.Source)
		if !sent && !at(nodes, m.Destination) {
			continue
		}
		f, err := parse(m.Raw)
		if err != nil || f.callID != id {
			continue
		}
		k := key{f.cseq, f.cseqMethod, sent}
		switch {
		case f.method == "": // the request went the other way
			k.sent = !k.sent
			done[k] = done[k] || f.status >= 200
			tags[k] = cmp.Or(f.to.tag, tags[k])
			if k.sent && f.status/100 == 2 {
				accepted[k] = m.Raw
			}
		case f.method == "ACK":
			acked[key{f.cseq, "INVITE", k.sent}] = true
		case f.method == "CANCEL", k.sent && f.method != "INVITE":
		case k.sent:
			open[k] = Unanswered{CallID: id, SIP: sip, Method: f.method, Raw: m.Raw, Edge: m.Destination, Sent: true, Inside: f.to.tag != ""}
		default:
			open[k] = Unanswered{CallID: id, SIP: sip, Method: f.method, Raw: m.Raw, Edge: m.Source, Inside: f.to.tag != ""}
		}
	}
	var out []Unanswered
	for k, u := range open {
		switch {
		case k.sent && accepted[k] != "" && !acked[k]:
			u.Accepted = accepted[k]
		case done[k], u.Sent && u.Inside: // a re-INVITE of the node is not cancelled: its answer is waited for, or the next one comes behind it
			continue
		}
		u.ToTag = tags[k]
		out = append(out, u)
	}
	return out
}

// status is the response for a request that the node received.
func (u Unanswered) status() string {
	switch {
	case u.Method == "BYE":
		return "200 OK"
	case u.Inside:
		return "503 Farm Node Died"
	}
	// Not 503: it would have the phone leave this edge alone, or go to another one (RFC 3261 section 21.5.4).
	return "500 Farm Node Died"
}

// final is what the node's side has to say about it: ACK or CANCEL where it had sent the INVITE, else a response.
func (u Unanswered) final() (string, error) {
	if u.Accepted != "" {
		return u.later("ACK")
	}
	head, _, ok := cutHead(u.Raw)
	if !ok {
		return "", errCut
	}
	lines := unfold(head)
	uri := strings.Fields(lines[0])
	if len(uri) != 3 {
		return "", errStart
	}
	var b strings.Builder
	if u.Sent {
		fmt.Fprintf(&b, "CANCEL %s SIP/2.0\r\n", uri[1])
	} else {
		fmt.Fprintf(&b, "SIP/2.0 %s\r\n", u.status())
	}
	via := false
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch fieldName(name) {
		case "via":
			// A CANCEL has the one Via of its INVITE, whose branch is the transaction (RFC 3261 section 9.1).
			if u.Sent {
				if via {
					continue
				}
				value = splitList(value)[0]
			}
			via = true
			fmt.Fprintf(&b, "Via: %s\r\n", value)
		case "route":
			if u.Sent {
				fmt.Fprintf(&b, "Route: %s\r\n", value)
			}
		case "to":
			if !u.Sent && !u.Inside {
				value += ";tag=" + cmp.Or(u.ToTag, "rtcedge-died")
			}
			fmt.Fprintf(&b, "To: %s\r\n", value)
		case "from":
			fmt.Fprintf(&b, "From: %s\r\n", value)
		case "call-id":
			fmt.Fprintf(&b, "Call-ID: %s\r\n", value)
		case "cseq":
			number, _, _ := strings.Cut(value, " ")
			if u.Sent {
				fmt.Fprintf(&b, "CSeq: %s CANCEL\r\n", number)
			} else {
				fmt.Fprintf(&b, "CSeq: %s\r\n", value)
			}
		}
	}
	if !via {
		return "", errMissing
	}
	if u.Sent {
		b.WriteString("Max-Forwards: 70\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return b.String(), nil
}

// speak ends what waits for a dead node. It runs beside the recovery of the answered calls.
func (r *Recoverer) speak(ctx context.Context, d Death, calls *store.Bucket, spoke *atomic.Bool, log *slog.Logger) {
	history, ok := r.cfg.History.(Open)
	if !ok {
		return
	}
	ids, rang, err := waiting(ctx, calls, d.Node)
	for err != nil { // while the crash is open
		log.Warn("what waits for the node is not ended yet", "err", err)
		if !sleep(ctx, storePause) {
			return
		}
		ids, rang, err = waiting(ctx, calls, d.Node)
	}
	words := words{r: r, log: log, seen: map[string]bool{}}
	for n, pause := range againAfter {
		if !sleep(ctx, pause) {
			return
		}
		// Asked each time: until the fence stands, more may come.
		for _, u := range history.Unanswered(ctx, d.SIP, ids) {
			words.add(&u, rang)
		}
		words.say(ctx)
		if n > 0 {
			continue
		}
		if len(words.list) > 0 || len(rang) > 0 {
			spoke.Store(true)
			log.Warn("ends what waited for the node", "requests", len(words.list), "legs_that_rang", len(rang))
		}
		for _, j := range rang {
			r.tasks.Go(func() { insistGiveUp(ctx, calls, &j, d.Node, log) })
		}
	}
}

// words are what is said, each as often as it is.
type words struct {
	r    *Recoverer
	log  *slog.Logger
	list []utterance
	seen map[string]bool
}

// add takes what is to be said about a request.
func (w *words) add(u *Unanswered, rang []job) {
	text, err := u.final()
	if err != nil {
		if !w.seen[u.Raw] {
			w.log.Warn("a request of a dead node stays open", "call_id", u.CallID, "method", u.Method, "err", err)
		}
		w.seen[u.Raw] = true
		return
	}
	w.put(utterance{u.SIP, u.Edge, text})
	// Who answered while the record still says that he is called has a call with nobody.
	if u.Accepted != "" && !u.Inside && slices.ContainsFunc(rang, func(j job) bool { return j.leg.SIPCallID == u.CallID }) {
		if text, err := u.later("BYE"); err == nil {
			w.put(utterance{u.SIP, u.Edge, text})
		}
	}
}

func (w *words) put(m utterance) {
	if !w.seen[m.text] {
		w.seen[m.text] = true
		w.list = append(w.list, m)
	}
}

// say says all of it, once more.
func (w *words) say(ctx context.Context) {
	for _, m := range w.list {
		if err := w.r.say(ctx, m); err != nil && ctx.Err() == nil {
			line, _, _ := strings.Cut(m.text, "\r\n")
			w.log.Warn("nobody says it for a dead node", "message", line, "err", err)
		}
	}
}

// waiting reads the Call-IDs of all legs of a node, and the legs that nobody has answered; such a leg may have no Call-ID yet.
func waiting(ctx context.Context, calls *store.Bucket, node bridge.NodeID) (ids []string, rang []job, err error) {
	entries, err := calls.List(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		var c bridge.Call
		if json.Unmarshal(e.Value, &c) != nil {
			continue
		}
		for _, l := range c.Legs {
			if l.Node != node {
				continue
			}
			if l.SIPCallID != "" {
				ids = append(ids, l.SIPCallID)
			}
			if l.State == bridge.LegRinging {
				rang = append(rang, job{c, l})
			}
		}
	}
	return ids, rang, nil
}
