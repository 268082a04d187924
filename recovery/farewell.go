package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// What is said in place of a dead node inside of its dialogs, beside the answers of unanswered.go: the BYE of one that does not come back, and the ACK that a
// 2xx to an INVITE of the node still waits for.

// againAfter is when a message goes out once more: over UDP nobody says that it came. Whoever had it takes no notice (RFC 3261 section 17).
var againAfter = []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond}

// utterance is a message in place of a dead node's.
type utterance struct {
	sip  string         // of the node
	at   netip.AddrPort // the edge's listener that it spoke to; invalid where the message itself names it
	text string
}

// say has an edge take the message for the node's own. Without an edge to ask it goes to where the node spoke to, from wherever this process is: an edge that has
// no listener for farms takes it for a stranger's.
func (r *Recoverer) say(ctx context.Context, m utterance) error {
	if len(r.cfg.Edges) == 0 {
		if !m.at.IsValid() || m.at.Addr().IsUnspecified() {
			return fmt.Errorf("no edge to say it (%s was captured as its address)", m.at)
		}
		c, err := net.Dial("udp", m.at.String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(m.text))
		return err
	}
	var all []error
	for _, edge := range r.cfg.Edges {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := edge.Speak(ask, m.sip, m.at, m.text)
		cancel()
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// farewell says BYE in the leg's dialog, in the background, and again, as nobody here sees the answer.
func (e *effort) farewell(ctx context.Context) {
	text, err := e.built.bye(e.d.SIP, max(e.built.CSeq, e.used()+1))
	if err != nil {
		e.rep.step(e.n, "no bye", "", err.Error())
		return
	}
	e.rep.step(e.n, "bye")
	e.all.Go(func() {
		for _, pause := range append(againAfter, time.Second) {
			if !sleep(ctx, pause) {
				return
			}
			if err := e.r.say(ctx, utterance{e.d.SIP, netip.AddrPort{}, text}); err != nil {
				e.log.Warn("a far end gets no BYE", "sip_call_id", e.job.leg.SIPCallID, "err", err)
			}
		}
	})
}

// followed tells whether an INVITE before ours may be answered when its node is dead.
func (e *effort) followed() bool {
	return e.job.leg.Generation > 0 || len(e.avoid) > 0 || e.built.Pending || e.former[e.job.call.ID]
}

// used is the CSeq of the last INVITE that we asked for.
func (e *effort) used() uint32 {
	if e.held == nil {
		return 0
	}
	return e.held.CSeq
}

var errUnknownDialog = errors.New("not enough is known of the dialog")

// bye is the BYE of the node with the SIP address sip.
func (b Rebuilt) bye(sip string, cseq uint32) (string, error) {
	_, node, ok := strings.Cut(sip, ":")
	v := func(name string) string { return b.Variables["PJSIP_RECOVERY_"+name] }
	if !ok || b.RequestURI == "" || v("FROM_TAG") == "" || v("TO_TAG") == "" {
		return "", errUnknownDialog
	}
	party := func(display, uri, tag string) string {
		if display != "" {
			display = `"` + display + `" `
		}
		return display + "<" + uri + ">;tag=" + tag
	}
	var routes []string
	if v("ROUTES") != "" {
		routes = []string{v("ROUTES")}
	}
	return request("BYE", b.RequestURI, node, routes, party(v("FROM_DISPLAY"), v("FROM_URI"), v("FROM_TAG")), party(v("TO_DISPLAY"), v("TO_URI"), v("TO_TAG")),
		v("CALL-ID"), fmt.Sprint(cseq)), nil
}

// request writes one of a dialog. Its branch is the same each time: who sees it again has seen it.
func request(method, target, node string, routes []string, from, to, callID, cseq string) string {
	h := fnv.New64a()
	fmt.Fprint(h, method, callID, from, to, cseq)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKrtc%016x\r\n", method, target, node, h.Sum64())
	for _, r := range routes {
		fmt.Fprintf(&b, "Route: %s\r\n", r)
	}
	fmt.Fprintf(&b, "Max-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s %s\r\nContent-Length: 0\r\n\r\n", from, to, callID, cseq, method)
	return b.String()
}

// later is what an INVITE of the node, u.Raw, has to be followed by when u.Accepted came, its 2xx: the ACK (RFC 3261 section 13.2.2.4), or a BYE after that.
func (u Unanswered) later(method string) (string, error) {
	head, _, ok := cutHead(u.Raw)
	if !ok {
		return "", errCut
	}
	invite, err := parse(u.Raw)
	if err != nil {
		return "", err
	}
	accepted, err := parse(u.Accepted)
	if err != nil {
		return "", err
	}
	var routes []string
	if invite.to.tag == "" {
		routes = slices.Clone(accepted.routes)
		slices.Reverse(routes)
	} else {
		routes = fieldsOf(head, "route")
	}
	answer, _, _ := cutHead(u.Accepted)
	from, to, via := fieldsOf(head, "from"), fieldsOf(answer, "to"), fieldsOf(head, "via")
	if len(from) == 0 || len(to) == 0 || len(via) == 0 {
		return "", errMissing
	}
	_, node, _ := strings.Cut(strings.TrimSpace(via[0]), " ") // SIP/2.0/UDP IP:PORT;branch=...
	node, _, _ = strings.Cut(strings.TrimSpace(node), ";")
	cseq := invite.cseq
	if method != "ACK" {
		cseq++
	}
	target := cmp.Or(accepted.contact, strings.Fields(head)[1])
	return request(method, target, node, routes, from[0], to[0], invite.callID, fmt.Sprint(cseq)), nil
}

// fieldsOf are the values of a field, one per line of the message.
func fieldsOf(head, name string) (values []string) {
	for _, line := range unfold(head)[1:] {
		n, value, ok := strings.Cut(line, ":")
		if ok && fieldName(n) == name {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// acknowledge says the ACKs that 2xx to INVITEs of dead nodes in this dialog wait for: a far end that gets none hangs up after 32 s (RFC 3261 section
// 13.3.1.4), also if the dialog has gone on.
func (e *effort) acknowledge(ctx context.Context) {
	history, ok := e.r.cfg.History.(Open)
	if !ok {
		return
	}
	for _, u := range history.Unacknowledged(ctx, e.d.SIP, e.job.leg.SIPCallID) {
		text, err := u.later("ACK")
		if err == nil {
			err = e.r.say(ctx, utterance{u.SIP, u.Edge, text})
		}
		if err != nil {
			e.log.Warn("a 2xx stays without an ACK", "sip_call_id", u.CallID, "err", err)
		}
	}
}

// lateAnswers is when somebody looks once more for a 2xx to an INVITE of a node that died meanwhile. Chosen by us: a phone repeats it for 32 s.
var lateAnswers = []time.Duration{time.Second, 3 * time.Second}

// watchAnswers acknowledges what is answered when the leg has been back for a while.
func (e *effort) watchAnswers(ctx context.Context) {
	for _, pause := range lateAnswers {
		if !sleep(ctx, pause) {
			return
		}
		e.acknowledge(ctx)
	}
}
