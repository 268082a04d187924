package recovery

import (
	"slices"
	"strings"

	"rtcedge/bridge"
)

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
	if b.ev.Role != "" && b.ev.Role != b.d.Role {
		return refuse(ReasonRecord, "the call's record says %q, the messages %q", b.ev.Role, b.d.Role)
	}
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
		if tag := b.otherFork(alive[0]); b.ev.Lossy && tag != "" {
			return refuse(ReasonAmbiguous, "the answer with tag %q of a forked INVITE was confirmed, too, and is missing", tag)
		}
	default:
		return refuse(ReasonAmbiguous, "%d answers of a forked INVITE live on", len(alive))
	}
	return b.establish(alive[0])
}

func (b *builder) cancelled() bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool { return s.cseqMethod == "CANCEL" && (s.sent || s.received) })
}

// ended looks on every leg: a BYE counts where it was seen, whether or not it arrived and whatever the node answered (B46). One that the edge refused
// is a stranger's: it has no password, or no signed Route, and went no further (F34).
func (b *builder) ended(one, other string) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.cseqMethod == "BYE" && (s.from.tag == one && s.to.tag == other || s.from.tag == other && s.to.tag == one) && !b.refusedOutside(&s) && !b.behindFence(&s)
	})
}

// behindFence tells a BYE of a node that stood still, and went on when another one had sent the dialog's last INVITE. The fence keeps it away from the far end, and
// only the node's own capture has it (B54), which is known by its one Via: on the loopback an Asterisk says that it is 127.0.0.1. One that got through is seen
// between edge and far end, too; where that sight may be missing every BYE counts.
func (b *builder) behindFence(s *sighting) bool {
	sender := s.by
	if s.sent {
		sender = s.holder
	}
	if s.method != "BYE" || sender < 0 || b.ev.Lossy {
		return false
	}
	holder := sender
	for i := range b.seen { // in order of time
		o := &b.seen[i]
		switch {
		case o.sent && o.method == "INVITE" && o.from.tag == s.from.tag && !o.at.After(s.at):
			holder = o.holder
		case !o.sent && !o.received && o.by < 0 && o.method == "BYE" && o.cseq == s.cseq && o.from.tag == s.from.tag:
			return false
		}
	}
	return holder != sender
}

// refusedOutside tells if the edge answered a request of a far end itself, as one that belongs to nobody.
func (b *builder) refusedOutside(s *sighting) bool {
	same := func(o *sighting) bool {
		return o.cseqMethod == s.cseqMethod && o.cseq == s.cseq && o.from.tag == s.from.tag && o.to.tag == s.to.tag
	}
	refused := false
	for i := range b.seen {
		o := &b.seen[i]
		if !same(o) {
			continue
		}
		if o.sent || o.received {
			return false
		}
		switch o.status {
		case 401, 403, 407, 481:
			refused = true
		case 0:
		default:
			return false
		}
	}
	return refused
}

func (b *builder) acked(answer *sighting) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.method == "ACK" && s.cseq == answer.cseq && s.from.tag == answer.from.tag && s.to.tag == answer.to.tag
	})
}

// copyOf is the first INVITE that a 2xx answers. One that was sent again may have come through another edge: the node answers along the way of the copy that
// it took, by whose Record-Route it says so (RFC 3261 section 12.1.1).
func (b *builder) copyOf(answer *sighting) *sighting {
	var taken *sighting
	clear := true
	for _, echoed := range []bool{false, true} {
		taken, clear = nil, true
		for i := range b.seen {
			s := &b.seen[i]
			if s.method != "INVITE" || s.to.tag != "" || s.cseq != answer.cseq || s.from.tag != answer.from.tag || !s.sent && !s.received ||
				echoed && !sameRoutes(s.routes, answer.routes) {
				continue
			}
			if taken == nil {
				taken = s
			}
			clear = clear && same(s, taken)
		}
		if clear || b.d.Role == bridge.LegOut {
			break
		}
	}
	if !clear {
		return nil
	}
	return taken
}

// sameRoutes compares the hosts: two stacks may write the parameters each in its own way.
func sameRoutes(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool { return strings.EqualFold(hostOf(x), hostOf(y)) })
}

// hostOf is the host and port of a route.
func hostOf(route string) string {
	_, uri, _ := strings.Cut(route, ":")
	if _, host, ok := strings.Cut(uri, "@"); ok {
		uri = host
	}
	if end := strings.IndexAny(uri, ";>?"); end >= 0 {
		uri = uri[:end]
	}
	return uri
}

// otherFork is the tag of another dialog of the same INVITE that was confirmed and did not end. It has lost its 2xx.
func (b *builder) otherFork(answer *sighting) string {
	for i := range b.seen {
		s := &b.seen[i]
		if s.method == "ACK" && s.cseq == answer.cseq && s.from.tag == answer.from.tag && s.to.tag != answer.to.tag && s.to.tag != "" && !b.ended(s.from.tag, s.to.tag) &&
			!slices.ContainsFunc(b.seen, func(r sighting) bool { // an ACK may be that of a refusal
				return r.status >= 300 && r.cseqMethod == "INVITE" && r.cseq == s.cseq && r.to.tag == s.to.tag
			}) {
			return s.to.tag
		}
	}
	return ""
}

// establish takes from INVITE and 2xx what stays for the dialog's life (RFC 3261 sections 12.1.1 and 12.1.2).
func (b *builder) establish(answer *sighting) error {
	invite := b.copyOf(answer)
	if invite == nil {
		return refuse(ReasonConflict, "two copies of the first INVITE differ")
	}
	if b.ev.Lossy && b.d.Role == bridge.LegIn && !sameRoutes(invite.routes, answer.routes) {
		return refuse(ReasonHole, "the 2xx answers another copy of the first INVITE")
	}
	for i := range b.seen {
		s := &b.seen[i]
		if (s.sent || s.received) && s.cseq == answer.cseq && s.from.tag == answer.from.tag && s.cseqMethod == "INVITE" &&
			s.status/100 == 2 && s.to.tag == answer.to.tag && !same(s, answer) {
			return refuse(ReasonConflict, "two copies of the 2xx differ")
		}
	}
	caller := Party{invite.from.display, invite.from.uri, invite.from.tag}
	called := Party{invite.to.display, invite.to.uri, answer.to.tag}
	if b.d.Role == bridge.LegIn {
		b.d.Local, b.d.Remote = called, caller
		b.d.Routes = slices.Clone(invite.routes)
		b.d.Target = invite.contact
	} else {
		if user, want := userOf(invite.to.uri), userOf(b.ev.URI); want != "" && user != want {
			return refuse(ReasonRecord, "the node called %q by the call's record, and %q by the messages", want, user)
		}
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

// userOf is the user part of a SIP URI; "" is none.
func userOf(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	user, _, ok := strings.Cut(rest, "@")
	if !ok {
		return ""
	}
	user, _, _ = strings.Cut(user, ";") // RFC 3261 section 19.1.6: parameters of a telephone number
	return user
}
