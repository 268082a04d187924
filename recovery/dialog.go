package recovery

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"rtcedge/bridge"
)

// Message is one captured SIP message.
type Message struct {
	Time        time.Time
	Source      netip.AddrPort
	Destination netip.AddrPort
	Raw         string
	Node        string // who captured it; the same message may come from several
}

// Evidence is what is known about one dialog. The order of Messages says nothing: neither arrival nor time is the order of events.
type Evidence struct {
	CallID   string
	Node     []netip.AddrPort // the SIP addresses of the farm node that held it last; port 0 is any
	Farm     []netip.AddrPort // of the other farm nodes: one that has spoken with the same tag held the dialog before, or was to hold it next
	Messages []Message
	Lossy    bool // some may be missing: a hole in the numbers is a refusal, and the next CSeq keeps a distance
}

// Dialog is one side of a SIP dialog as the dead node held it.
type Dialog struct {
	CallID     string
	Role       string // bridge.LegIn: the node had received the INVITE
	Local      Party  // the node's side
	Remote     Party  // the far end
	CSeq       uint32 // of the next request of the node
	RemoteCSeq uint32 // the highest that the node has answered; 0: none
	Routes     []string
	Target     string    // the far end's Contact
	SDPSession uint64    // of the node's own session description; 0: not known
	SDPVersion uint64    // of the next one
	Confirmed  time.Time // when the 2xx was on the wire
	Busy       bool      // the far end's own re-INVITE has no answer: 491 is to be expected
}

// Party is one side's identity.
type Party struct{ Display, URI, Tag string }

// Reason says why there is no dialog to recover.
type Reason string

// The reasons.
const (
	ReasonNoMessages  Reason = "no_messages"  // nothing of this Call-ID passed the node
	ReasonNoInvite    Reason = "no_invite"    // its beginning is not in the capture
	ReasonDamaged     Reason = "damaged"      // a message between node and edge cannot be read
	ReasonUnanswered  Reason = "unanswered"   // no 2xx: still ringing
	ReasonCancelled   Reason = "cancelled"    // by CANCEL or 487
	ReasonRejected    Reason = "rejected"     // by another final answer
	ReasonUnconfirmed Reason = "unconfirmed"  // answered, and no ACK yet
	ReasonEnded       Reason = "ended"        // a BYE is on the wire
	ReasonAmbiguous   Reason = "ambiguous"    // more than one dialog fits
	ReasonConflict    Reason = "conflict"     // two copies of one message differ: one of them is forged or damaged
	ReasonHole        Reason = "hole"         // a request is missing from a capture that may lose messages
	ReasonTarget      Reason = "target"       // the far end has no SIP address
	ReasonCSeq        Reason = "cseq"         // no number is left
	ReasonTooMany     Reason = "too_many"     // more messages than a dialog can have
	ReasonRecord      Reason = "other_record" // the store's record of the leg says otherwise
)

// Refusal is the error of a dialog that is not recovered.
type Refusal struct {
	Reason Reason
	Detail string
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// Chosen by us.
const (
	maxMessages = 20000 // of one dialog; a day with session timers of 90 s has 8000
	lossyCSeq   = 100   // what may be missing at a capture's end. A far end takes any higher number (RFC 3261 section 12.2.2)
	lossyFirst  = 32768 // where no request of the node is left: pjsip begins at up to 0x7fff (pjsip_dlg_create_uas_and_inc_lock in sip_dialog.c)
	maxCSeq     = 1<<31 - 1000
)

// Rebuild makes the dialog from the messages, or says why not. It is pure, and the order of the messages has no influence.
//
// Which side is local is told by the node's address, and after that by the tags; never by who spoke last.
func Rebuild(ev Evidence) (Dialog, error) {
	if len(ev.Messages) > maxMessages {
		return Dialog{}, refuse(ReasonTooMany, "%d messages, allowed are %d", len(ev.Messages), maxMessages)
	}
	seen, err := read(ev)
	if err != nil {
		return Dialog{}, err
	}
	b := &builder{ev: ev, seen: seen}
	if err := b.begin(); err != nil {
		return Dialog{}, err
	}
	if err := b.answer(); err != nil {
		return Dialog{}, err
	}
	if err := b.confirm(); err != nil {
		return Dialog{}, err
	}
	if err := b.numbers(); err != nil {
		return Dialog{}, err
	}
	if err := b.refresh(); err != nil {
		return Dialog{}, err
	}
	b.description()
	return b.d, nil
}

// sighting is a message that could be read, and where it was seen.
type sighting struct {
	fields
	at       time.Time
	sent     bool // by the node
	received bool // by the node; neither: between edge and far end
}

func (s *sighting) request() bool { return s.method != "" }

// read parses what belongs to the Call-ID, in order of time where that helps and of text where time is equal, so that the result does not depend
// on the order of arrival.
func read(ev Evidence) ([]sighting, error) {
	ev.Node = holders(ev)
	var seen []sighting
	inner := 0
	list := slices.Clone(ev.Messages)
	slices.SortStableFunc(list, func(a, b Message) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Raw, b.Raw)
	})
	for _, m := range list {
		s := sighting{at: m.Time, sent: at(ev.Node, m.Source), received: at(ev.Node, m.Destination)}
		var err error
		s.fields, err = parse(m.Raw)
		switch {
		case err != nil && (s.sent || s.received || at(ev.Farm, m.Source) || at(ev.Farm, m.Destination)):
			return nil, refuse(ReasonDamaged, "%v (%.40q)", err, m.Raw)
		case err != nil && maybeBye(m.Raw):
			return nil, refuse(ReasonDamaged, "between edge and far end: %v; it may be a BYE", err)
		case err != nil, s.callID != ev.CallID:
			continue
		case s.sent && s.received:
			return nil, refuse(ReasonAmbiguous, "the node speaks with itself")
		}
		if s.sent || s.received {
			inner++
		}
		seen = append(seen, s)
	}
	if inner == 0 {
		return nil, refuse(ReasonNoMessages, "none of the Call-ID is from or to the node")
	}
	return seen, nil
}

// holders adds to the node's addresses those of farm nodes that have spoken for the same side: with the node's own tag in the same place.
func holders(ev Evidence) []netip.AddrPort {
	if len(ev.Farm) == 0 {
		return ev.Node
	}
	tagOf := func(m Message, who []netip.AddrPort) string {
		f, err := parse(m.Raw)
		switch {
		case !at(who, m.Source) || at(who, m.Destination) || err != nil || f.callID != ev.CallID:
			return ""
		case f.method != "":
			return f.from.tag
		}
		return f.to.tag
	}
	own := map[string]bool{}
	for _, m := range ev.Messages {
		if tag := tagOf(m, ev.Node); tag != "" {
			own[tag] = true
		}
	}
	all := slices.Clone(ev.Node)
	for _, a := range ev.Farm {
		one := []netip.AddrPort{a}
		if slices.ContainsFunc(ev.Messages, func(m Message) bool { return own[tagOf(m, one)] }) {
			all = append(all, a)
		}
	}
	return all
}

// maybeBye tells whether a message that cannot be read could be a BYE or the answer to one.
func maybeBye(raw string) bool {
	var f fields
	line, _, ok := strings.Cut(raw, "\n")
	return !ok || f.startLine(strings.TrimSuffix(line, "\r")) != nil || f.method == "" || f.method == "BYE"
}

func at(node []netip.AddrPort, a netip.AddrPort) bool {
	return slices.ContainsFunc(node, func(n netip.AddrPort) bool {
		return n.Addr().Unmap() == a.Addr().Unmap() && (n.Port() == 0 || n.Port() == a.Port())
	})
}

// builder goes through the messages once per question. Its steps occur in the order in which Rebuild calls them.
type builder struct {
	ev   Evidence
	seen []sighting
	d    Dialog
}

// begin finds the INVITE that began it, and so who called.
func (b *builder) begin() error {
	var in, out bool
	for i := range b.seen {
		if s := &b.seen[i]; s.cseqMethod == "INVITE" && s.request() && s.to.tag == "" {
			in, out = in || s.received, out || s.sent
		}
	}
	switch {
	case in && out:
		return refuse(ReasonAmbiguous, "the node called and was called with one Call-ID")
	case in:
		b.d.Role = bridge.LegIn
	case out:
		b.d.Role = bridge.LegOut
	default:
		return refuse(ReasonNoInvite, "the first INVITE is not in the capture")
	}
	b.d.CallID = b.ev.CallID
	return nil
}

// answerOfFirst tells whether s is an answer, seen at the node, to the first INVITE or to one of its retries after 401 or 407.
func (b *builder) answerOfFirst(s *sighting) bool {
	return !s.request() && s.cseqMethod == "INVITE" && s.from.tag != "" && (b.d.Role == bridge.LegIn && s.sent || b.d.Role == bridge.LegOut && s.received) &&
		b.first(s.cseq, s.from.tag) != nil
}

// first returns the first INVITE of a number.
func (b *builder) first(cseq uint32, tag string) *sighting {
	for i := range b.seen {
		s := &b.seen[i]
		if s.method == "INVITE" && s.to.tag == "" && s.cseq == cseq && s.from.tag == tag && (b.d.Role == bridge.LegIn && s.received || b.d.Role == bridge.LegOut && s.sent) {
			return s
		}
	}
	return nil
}

// answer finds the 2xx that made the dialog. Of several (RFC 3261 section 13.2.2.4) it is the one that the node kept: it says BYE to others.
func (b *builder) answer() error {
	var accepted []*sighting
	last := 0
	for i := range b.seen {
		s := &b.seen[i]
		if !b.answerOfFirst(s) {
			continue
		}
		if s.status/100 != 2 {
			if s.status >= 300 && s.status != 401 && s.status != 407 {
				last = s.status
			}
			continue
		}
		if s.to.tag == "" {
			return refuse(ReasonDamaged, "a %d to INVITE without To tag", s.status)
		}
		if !slices.ContainsFunc(accepted, func(a *sighting) bool { return a.to.tag == s.to.tag && a.from.tag == s.from.tag }) {
			accepted = append(accepted, s)
		}
	}
	if len(accepted) == 0 {
		switch {
		case last == 487 || b.cancelled():
			return refuse(ReasonCancelled, "there is a CANCEL")
		case last != 0:
			return refuse(ReasonRejected, "%d", last)
		}
		return refuse(ReasonUnanswered, "no final answer")
	}
	alive := slices.DeleteFunc(slices.Clone(accepted), func(s *sighting) bool { return b.ended(s.from.tag, s.to.tag) })
	if len(alive) > 1 {
		acked := slices.DeleteFunc(slices.Clone(alive), func(s *sighting) bool { return !b.acked(s) })
		if len(acked) > 0 {
			alive = acked
		}
	}
	switch len(alive) {
	case 0:
		return refuse(ReasonEnded, "a BYE is on the wire")
	case 1:
	default:
		return refuse(ReasonAmbiguous, "%d answers of a forked INVITE live on", len(alive))
	}
	return b.establish(alive[0])
}

func (b *builder) cancelled() bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool { return s.cseqMethod == "CANCEL" && (s.sent || s.received) })
}

// ended looks on every leg: a BYE counts where it was seen, whether or not it arrived and whatever was answered (B46).
func (b *builder) ended(one, other string) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.cseqMethod == "BYE" && (s.from.tag == one && s.to.tag == other || s.from.tag == other && s.to.tag == one)
	})
}

func (b *builder) acked(answer *sighting) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.method == "ACK" && s.cseq == answer.cseq && s.from.tag == answer.from.tag && s.to.tag == answer.to.tag
	})
}

// establish takes from INVITE and 2xx what stays for the dialog's life (RFC 3261 sections 12.1.1 and 12.1.2).
func (b *builder) establish(answer *sighting) error {
	invite := b.first(answer.cseq, answer.from.tag)
	for i := range b.seen {
		s := &b.seen[i]
		if !s.sent && !s.received || s.cseq != answer.cseq || s.from.tag != answer.from.tag || s.cseqMethod != "INVITE" {
			continue
		}
		if s.request() && s.to.tag == "" && !same(s, invite) {
			return refuse(ReasonConflict, "two copies of the first INVITE differ")
		}
		if s.status/100 == 2 && s.to.tag == answer.to.tag && !same(s, answer) {
			return refuse(ReasonConflict, "two copies of the 2xx differ")
		}
	}
	caller := Party{invite.from.display, invite.from.uri, invite.from.tag}
	called := Party{invite.to.display, invite.to.uri, answer.to.tag}
	b.d.Confirmed = answer.at
	if b.d.Role == bridge.LegIn {
		b.d.Local, b.d.Remote = called, caller
		b.d.Routes = slices.Clone(invite.routes)
		b.d.Target = invite.contact
	} else {
		b.d.Local, b.d.Remote = caller, called
		b.d.Routes = slices.Clone(answer.routes)
		slices.Reverse(b.d.Routes)
		b.d.Target = answer.contact
	}
	if b.d.Local.Tag == "" || b.d.Remote.Tag == "" || b.d.Local.Tag == b.d.Remote.Tag {
		return refuse(ReasonDamaged, "the tags do not tell the sides apart")
	}
	return nil
}

func same(a, b *sighting) bool {
	return a.from == b.from && a.to == b.to && a.contact == b.contact && slices.Equal(a.routes, b.routes)
}

// mine and theirs tell who sent a request, or what an answer answers, within the dialog.
func (b *builder) mine(s *sighting) bool {
	return s.from.tag == b.d.Local.Tag && (s.to.tag == b.d.Remote.Tag || s.to.tag == "" && b.d.Role == bridge.LegOut)
}

func (b *builder) theirs(s *sighting) bool {
	return s.from.tag == b.d.Remote.Tag && (s.to.tag == b.d.Local.Tag || s.to.tag == "" && b.d.Role == bridge.LegIn)
}

// confirm wants the ACK, or a request that only follows it: an UPDATE or INFO may also come before.
func (b *builder) confirm() error {
	for i := range b.seen {
		s := &b.seen[i]
		switch s.method {
		case "ACK", "INVITE", "REFER":
			if s.to.tag != "" && (b.mine(s) || b.theirs(s)) {
				return nil
			}
		}
	}
	return refuse(ReasonUnconfirmed, "the 2xx has no ACK yet")
}

// numbers finds CSeq of both directions: of ours the highest that the node sent, told also by an answer that it received; of theirs the highest that
// the node answered, since one that it did not is sent again and would be refused as old.
func (b *builder) numbers() error {
	local, remote := map[uint32]bool{}, map[uint32]bool{}
	for i := range b.seen {
		s := &b.seen[i]
		switch {
		case b.mine(s) && (s.request() && s.sent || !s.request() && s.received):
			local[s.cseq] = true
			b.d.CSeq = max(b.d.CSeq, s.cseq)
		case b.theirs(s) && !s.request() && s.sent:
			remote[s.cseq] = true
			b.d.RemoteCSeq = max(b.d.RemoteCSeq, s.cseq)
		case b.theirs(s) && s.request() && s.received:
			remote[s.cseq] = true
		}
	}
	if b.ev.Lossy {
		if n := hole(local); n != 0 {
			return refuse(ReasonHole, "the node's request %d is missing", n)
		}
		if n := hole(remote); n != 0 {
			return refuse(ReasonHole, "the far end's request %d is missing", n)
		}
	}
	if b.ev.Lossy {
		if b.d.CSeq += lossyCSeq; len(local) == 0 {
			b.d.CSeq += lossyFirst
		}
	}
	b.d.CSeq++
	if b.d.CSeq > maxCSeq {
		return refuse(ReasonCSeq, "%d is too high", b.d.CSeq)
	}
	return nil
}

// hole returns a number that is missing between the lowest and the highest: each side counts by one (RFC 3261 section 12.2.1.1).
func hole(numbers map[uint32]bool) uint32 {
	if len(numbers) == 0 {
		return 0
	}
	low, high := uint32(1<<31), uint32(0)
	for n := range numbers {
		low, high = min(low, n), max(high, n)
	}
	if uint32(len(numbers)) == high-low+1 {
		return 0
	}
	n := low
	for numbers[n] {
		n++
	}
	return n
}

// refresh lets the newest Contact win (RFC 3261 section 12.2): of a re-INVITE or UPDATE of the far end that the node did not refuse, and of the far end's
// 2xx to one of the node. Within one direction CSeq is the order; only between the two directions it is the time.
func (b *builder) refresh() error {
	var theirs, ours *sighting
	for i := range b.seen {
		s := &b.seen[i]
		if s.cseqMethod != "INVITE" && s.cseqMethod != "UPDATE" || s.contact == "" {
			continue
		}
		switch {
		case s.request() && s.received && b.theirs(s) && !b.refused(s):
			theirs = newer(theirs, s)
		case s.status/100 == 2 && s.received && b.mine(s):
			ours = newer(ours, s)
		}
	}
	if b.ev.Lossy && b.lostRefresh() {
		return refuse(ReasonHole, "a re-INVITE of the far end was answered and is missing")
	}
	switch {
	case theirs != nil && (ours == nil || theirs.at.After(ours.at)):
		b.d.Target = theirs.contact
	case ours != nil:
		b.d.Target = ours.contact
	}
	for i := range b.seen {
		if s := &b.seen[i]; s.method == "INVITE" && s.to.tag != "" && s.received && b.theirs(s) && !b.answered(s) {
			b.d.Busy = true
		}
	}
	lower := strings.ToLower(b.d.Target)
	if !strings.HasPrefix(lower, "sip:") && !strings.HasPrefix(lower, "sips:") {
		return refuse(ReasonTarget, "Contact is %q, allowed are sip: and sips:", b.d.Target)
	}
	return nil
}

// newer keeps the first sighting of the highest number: a retransmission is no news.
func newer(old, s *sighting) *sighting {
	if old == nil || s.cseq > old.cseq {
		return s
	}
	return old
}

func (b *builder) refused(s *sighting) bool {
	return b.answeredWith(s, func(status int) bool { return status >= 300 })
}

func (b *builder) answered(s *sighting) bool {
	return b.answeredWith(s, func(status int) bool { return status >= 200 })
}

func (b *builder) answeredWith(request *sighting, match func(int) bool) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return !s.request() && s.sent && s.cseq == request.cseq && s.cseqMethod == request.cseqMethod && s.from.tag == request.from.tag && match(s.status)
	})
}

// lostRefresh finds answers of the node to a re-INVITE or UPDATE that is not in the capture.
func (b *builder) lostRefresh() bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.status/100 == 2 && s.sent && b.theirs(&s) && (s.cseqMethod == "INVITE" || s.cseqMethod == "UPDATE") &&
			!slices.ContainsFunc(b.seen, func(r sighting) bool {
				return r.method == s.cseqMethod && r.received && r.cseq == s.cseq && r.from.tag == s.from.tag
			})
	})
}

// description continues the node's own session description (RFC 3264 section 8: the same session, the version one higher).
func (b *builder) description() {
	for i := range b.seen {
		s := &b.seen[i]
		if !s.sent || s.origin == (origin{}) || !b.mine(s) && !b.theirs(s) {
			continue
		}
		// A node before this one has had another session, unless it continued it. The newest one counts.
		if s.origin.session != b.d.SDPSession {
			b.d.SDPSession, b.d.SDPVersion = s.origin.session, s.origin.version
		}
		b.d.SDPVersion = max(b.d.SDPVersion, s.origin.version)
	}
	if b.d.SDPSession != 0 {
		b.d.SDPVersion++
	}
}

// Variables are what the patched Asterisk reads (asterisk-patch/README.md). FROM is the node's side, whoever had called.
func (d Dialog) Variables() map[string]string {
	v := map[string]string{
		"FROM_DISPLAY": d.Local.Display, "FROM_URI": d.Local.URI, "FROM_TAG": d.Local.Tag,
		"TO_DISPLAY": d.Remote.Display, "TO_URI": d.Remote.URI, "TO_TAG": d.Remote.Tag,
		"CALL-ID": d.CallID, "CSEQ": strconv.FormatUint(uint64(d.CSeq), 10), "REQUEST_URI": d.Target, "ROUTES": strings.Join(d.Routes, ","),
	}
	if d.RemoteCSeq != 0 {
		v["REMOTE_CSEQ"] = strconv.FormatUint(uint64(d.RemoteCSeq), 10)
	}
	const max32 = 1<<32 - 1 // PJSIP keeps both in 32 bits
	if d.SDPSession != 0 && d.SDPSession <= max32 && d.SDPVersion <= max32 {
		v["SDP_SESSION"] = strconv.FormatUint(d.SDPSession, 10)
		v["SDP_VERSION"] = strconv.FormatUint(d.SDPVersion, 10)
	}
	out := make(map[string]string, len(v))
	for name, value := range v {
		if value != "" || name == "ROUTES" { // an empty route set is one, too: the embedded farm would go by its edge
			out["PJSIP_RECOVERY_"+name] = value
		}
	}
	return out
}
