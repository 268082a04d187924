package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
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

// Unanswered is a request that a node received or sent, and that nobody has answered finally.
type Unanswered struct {
	CallID, Method string
	Raw            string
	Edge           netip.AddrPort // the edge's listener that it passed
	Sent           bool           // the node sent it
	Inside         bool           // of a dialog
	ToTag          string         // of the provisional responses; "" where there was none
}

// Open tells what is unanswered.
type Open interface {
	Unanswered(ctx context.Context, sip string, callIDs []string) []Unanswered
}

// againAfter is when a message goes out once more: over UDP nobody says that it came. Whoever had it takes no notice (RFC 3261 section 17).
var againAfter = []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond}

// Unanswered implements Open from the own capture.
func (c *Collector) Unanswered(ctx context.Context, sip string, callIDs []string) []Unanswered {
	node, ok := sipAddr(sip)
	if !ok || c.cfg.Own == nil || len(callIDs) == 0 {
		return nil
	}
	found, err := gather(ctx, c.cfg.Own, callIDs, time.Time{})
	if err != nil {
		c.cfg.Logger.Warn("own capture does not answer", "err", err)
		return nil
	}
	var out []Unanswered
	for id, messages := range found {
		out = append(out, unanswered(id, node, messages)...)
	}
	return out
}

// unanswered finds requests that a node received, and INVITEs of calls that it placed, without a final response.
func unanswered(id string, node netip.AddrPort, messages []Message) []Unanswered {
	type key struct {
		cseq   uint32
		method string
		sent   bool
	}
	open, done, tags := map[key]Unanswered{}, map[key]bool{}, map[key]string{}
	for _, m := range messages {
		if m.Source != node && m.Destination != node {
			continue
		}
		f, err := parse(m.Raw)
		if err != nil || f.callID != id {
			continue
		}
		k := key{f.cseq, f.cseqMethod, m.Source == node}
		switch {
		case f.method == "": // the request went the other way
			k.sent = !k.sent
			done[k] = done[k] || f.status >= 200
			tags[k] = cmp.Or(f.to.tag, tags[k])
		case f.method == "ACK" || f.method == "CANCEL", k.sent && (f.method != "INVITE" || f.to.tag != ""):
		case k.sent:
			open[k] = Unanswered{CallID: id, Method: f.method, Raw: m.Raw, Edge: m.Destination, Sent: true}
		default:
			open[k] = Unanswered{CallID: id, Method: f.method, Raw: m.Raw, Edge: m.Source, Inside: f.to.tag != ""}
		}
	}
	var out []Unanswered
	for k, u := range open {
		if !done[k] {
			u.ToTag = tags[k]
			out = append(out, u)
		}
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

// final is what the node's side has to say about it: CANCEL where it had sent the INVITE, else a response.
func (u Unanswered) final() (string, error) {
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
func (r *Recoverer) speak(ctx context.Context, d Death, calls *store.Bucket, log *slog.Logger) {
	history, ok := r.cfg.History.(Open)
	if !ok {
		return
	}
	ids, rang, err := waiting(ctx, calls, d.Node)
	if err != nil {
		log.Warn("what waits for the node is not ended", "err", err)
		return
	}
	for n, pause := range againAfter {
		if !sleep(ctx, pause) {
			return
		}
		// Asked each time: until the fence stands, more may come. What was answered above is still open for the capture, which is how it is
		// answered again.
		open := history.Unanswered(ctx, d.SIP, ids)
		for _, u := range open {
			if err := u.send(); err != nil && n == 0 {
				log.Warn("a request of a dead node stays open", "call_id", u.CallID, "method", u.Method, "err", err)
			}
		}
		if n > 0 {
			continue
		}
		for _, j := range rang {
			if err := giveUp(ctx, calls, &j, d.Node); err != nil && !errors.Is(err, store.ErrNotFound) {
				log.Warn("leg is not given up", "call", j.call.ID, "leg", j.leg.ID, "err", err)
			}
		}
		if len(open) > 0 || len(rang) > 0 {
			log.Warn("ended what waited for the node", "requests", len(open), "legs_that_rang", len(rang))
		}
	}
}

func (u Unanswered) send() error {
	text, err := u.final()
	if err != nil {
		return err
	}
	c, err := net.Dial("udp", u.Edge.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}

// waiting reads the Call-IDs of all legs of a node, and the legs that nobody has answered.
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
			if l.Node != node || l.SIPCallID == "" {
				continue
			}
			ids = append(ids, l.SIPCallID)
			if l.State == bridge.LegRinging {
				rang = append(rang, job{c, l})
			}
		}
	}
	return ids, rang, nil
}
