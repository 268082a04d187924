package recovery

import (
	"slices"
	"strings"
)

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
		case b.theirs(s) && s.status == 481: // the node said that it is none of its dialog's
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
		case s.request() && s.received && b.theirs(s) && (b.accepted(s) || b.ev.Lossy && !b.refused(s)):
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
	return last != nil && !slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.status >= 200 && s.received && s.cseqMethod == "INVITE" && s.cseq == last.cseq && s.from.tag == last.from.tag
	})
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

func (b *builder) accepted(s *sighting) bool {
	return b.answeredWith(s, func(status int) bool { return status/100 == 2 })
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
