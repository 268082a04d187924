package recovery

import (
	"maps"
	"slices"
	"strings"
)

// numbers finds CSeq of both directions: of ours the highest that the node sent, told also by an answer that it received; of theirs the highest that
// the node answered, since one that it did not is sent again and would be refused as old.
func (b *builder) numbers() error {
	local, remote := map[uint32]int{}, map[uint32]int{} // and which node it was
	for i := range b.seen {
		s := &b.seen[i]
		switch {
		case b.mine(s) && (s.request() && s.sent || !s.request() && s.received):
			local[s.cseq] = s.holder
			b.d.CSeq = max(b.d.CSeq, s.cseq)
		case b.theirs(s) && s.status == 481: // the node said that it is none of its dialog's
		case b.theirs(s) && !s.request() && s.sent:
			remote[s.cseq] = 0
			b.d.RemoteCSeq = max(b.d.RemoteCSeq, s.cseq)
		case b.theirs(s) && s.request() && s.received:
			remote[s.cseq] = 0
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
	if b.ev.Lossy {
		if n := b.hole(local); n != 0 {
			return refuse(ReasonHole, "the node's request %d is missing", n)
		}
		if n := b.hole(remote); n != 0 {
			return refuse(ReasonHole, "the far end's request %d is missing", n)
		}
	}
	return nil
}

// hole returns a number that is missing between the lowest and the highest: each side counts by one (RFC 3261 section 12.2.1.1). Only recovery leaves numbers
// out, in front of the INVITE of the next node: what may be missing there has no effect any more once that INVITE, or one behind it, has a 2xx.
func (b *builder) hole(numbers map[uint32]int) uint32 {
	list := slices.Sorted(maps.Keys(numbers))
	for i := 1; i < len(list); i++ {
		before, after := list[i-1], list[i]
		if after == before+1 || numbers[before] != numbers[after] && b.tookOver(after) {
			continue
		}
		return before + 1
	}
	return 0
}

// tookOver tells whether the far end took an INVITE of the node with that number or a higher one.
func (b *builder) tookOver(cseq uint32) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.status/100 == 2 && s.received && s.cseqMethod == "INVITE" && s.cseq >= cseq && s.contact != "" && b.mine(&s)
	})
}

// refresh lets the newest Contact win (RFC 3261 section 12.2): of a re-INVITE or UPDATE of the far end that the node accepted (RFC 6141 section 4.4: it
// counts from the 2xx on; one that a stranger sends into the gap leads nobody to him), and of the far end's 2xx to one of the node. Within one direction
// CSeq is the order; only between the two directions it is the time.
func (b *builder) refresh() error {
	var theirs, ours *sighting
	for i := range b.seen {
		s := &b.seen[i]
		if s.cseqMethod != "INVITE" && s.cseqMethod != "UPDATE" || s.contact == "" {
			continue
		}
		var last **sighting
		switch {
		case s.request() && s.to.tag != "" && s.received && b.theirs(s) && b.accepted(s):
			last = &theirs
		case s.status/100 == 2 && s.received && b.mine(s):
			last = &ours
		default:
			continue
		}
		if old := *last; old != nil && old.cseq == s.cseq && old.cseqMethod == s.cseqMethod && old.contact != s.contact {
			return refuse(ReasonConflict, "two copies of the %s %d differ", s.cseqMethod, s.cseq)
		}
		*last = newer(*last, s)
	}
	switch {
	case theirs != nil && (ours == nil || theirs.at.After(ours.at)):
		b.d.Target = theirs.contact
	case ours != nil:
		b.d.Target = ours.contact
	}
	if b.ev.Lossy {
		if err := b.lostRefresh(theirs, ours); err != nil {
			return err
		}
	}
	b.d.Pending = b.pending()
	lower := strings.ToLower(b.d.Target)
	if !strings.HasPrefix(lower, "sip:") && !strings.HasPrefix(lower, "sips:") {
		return refuse(ReasonTarget, "Contact is %q, allowed are sip: and sips:", b.d.Target)
	}
	return nil
}

// pending tells whether the node's last INVITE has no final answer.
func (b *builder) pending() bool {
	var last *sighting
	for i := range b.seen {
		if s := &b.seen[i]; s.method == "INVITE" && s.to.tag != "" && s.sent && b.mine(s) && (last == nil || s.cseq > last.cseq) {
			last = s
		}
	}
	return last != nil && !b.answeredFar(last)
}

// answeredFar tells whether the far end has answered a request of the node finally; the ACK of an answer has the same number.
func (b *builder) answeredFar(of *sighting) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.status >= 200 && s.received && (s.cseqMethod == of.method || of.method == "ACK") && s.cseq == of.cseq && s.from.tag == of.from.tag
	})
}

// newer keeps the first sighting of the highest number: a retransmission is no news.
func newer(old, s *sighting) *sighting {
	if old == nil || s.cseq > old.cseq {
		return s
	}
	return old
}

func (b *builder) accepted(request *sighting) bool {
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.status/100 == 2 && s.sent && s.cseq == request.cseq && s.cseqMethod == request.cseqMethod && s.from.tag == request.from.tag
	})
}

// lostRefresh finds where a capture that loses messages leaves open whether the far end has a newer Contact than that of the last refresh of each side.
func (b *builder) lostRefresh(theirs, ours *sighting) error {
	for i := range b.seen {
		s := &b.seen[i]
		if s.cseqMethod != "INVITE" && s.cseqMethod != "UPDATE" && s.method != "ACK" || s.to.tag == "" {
			continue
		}
		switch {
		case b.theirs(s) && theirs != nil && s.cseq <= theirs.cseq, b.mine(s) && ours != nil && s.cseq <= ours.cseq:
		case b.theirs(s) && s.status/100 == 2 && !b.asked(s):
			return refuse(ReasonHole, "the far end's %s %d was accepted and is missing", s.cseqMethod, s.cseq)
		case b.theirs(s) && s.contact != "" && s.request() && !b.harmless(s):
			return refuse(ReasonHole, "it is not known whether the far end's %s %d, which has another Contact, was accepted", s.method, s.cseq)
		case b.mine(s) && s.sent && s.request() && !b.answeredFar(s), b.mine(s) && s.status/100 == 2 && s.contact != "" && !s.received:
			return refuse(ReasonHole, "the far end's answer to the node's %d is missing", s.cseq)
		}
	}
	return nil
}

// harmless tells of a request of the far end that it did not change its Contact. Between edge and far end it may be written otherwise.
func (b *builder) harmless(s *sighting) bool {
	if s.received && s.contact == b.d.Target || !s.received && b.asked(s) {
		return true
	}
	return slices.ContainsFunc(b.seen, func(r sighting) bool {
		return r.status >= 300 && !r.received && r.cseq == s.cseq && r.cseqMethod == s.cseqMethod && r.from.tag == s.from.tag
	})
}

// asked tells whether a request was seen at the node.
func (b *builder) asked(of *sighting) bool {
	return slices.ContainsFunc(b.seen, func(r sighting) bool {
		return r.method == of.cseqMethod && r.received && r.cseq == of.cseq && r.from.tag == of.from.tag
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
	if b.ev.Lossy && b.lostOffer() {
		b.d.SDPSession, b.d.SDPVersion = 0, 0 // the next node begins a session of its own: a version that was used before would say that nothing changed
	}
	if b.d.SDPSession != 0 {
		b.d.SDPVersion++
		if b.ev.Lossy {
			b.d.SDPVersion += lossySDP
		}
	}
}

// lostOffer tells whether the node's last INVITE is known by its answer or ACK only. A recovery may have been its reason, and have left versions out.
func (b *builder) lostOffer() bool {
	var last *sighting
	for i := range b.seen {
		s := &b.seen[i]
		if b.mine(s) && (s.cseqMethod == "INVITE" || s.method == "ACK") && (s.sent || s.received) && (last == nil || s.cseq > last.cseq) {
			last = s
		}
	}
	return last != nil && !slices.ContainsFunc(b.seen, func(s sighting) bool { return s.method == "INVITE" && s.sent && s.cseq == last.cseq && b.mine(&s) })
}
