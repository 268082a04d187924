package recovery

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// sighting is a message that could be read, and where it was seen.
type sighting struct {
	fields
	at       time.Time
	sent     bool // by the node
	received bool // by the node; neither: between edge and far end
	holder   int  // which of the nodes that have held the dialog it was
	by       int  // the node that the only Via of a request names; -1 is none
}

func (s *sighting) request() bool { return s.method != "" }

// text is a message and what it says.
type text struct {
	Message
	fields
	err error
}

// read parses what belongs to the Call-ID, in order of time where that helps and of text where time is equal, so that the result does not depend
// on the order of arrival.
func read(ev Evidence) ([]sighting, error) {
	list := make([]text, len(ev.Messages))
	for i, m := range ev.Messages {
		list[i].Message = m
		list[i].fields, list[i].err = parse(m.Raw)
	}
	slices.SortStableFunc(list, func(a, b text) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Raw, b.Raw)
	})
	nodes := holders(ev, list)
	seen := make([]sighting, 0, len(list))
	inner := 0
	for i := range list {
		m := &list[i]
		from, to := which(nodes, m.Source), which(nodes, m.Destination)
		s := sighting{fields: m.fields, at: m.Time, sent: from >= 0, received: to >= 0, holder: max(from, to), by: -1}
		if s.method != "" && s.vias == 1 {
			s.by = which(nodes, s.sentBy)
		}
		switch {
		case m.err != nil && (s.sent || s.received || at(ev.Farm, m.Source) || at(ev.Farm, m.Destination)):
			return nil, refuse(ReasonDamaged, "%v (%.40q)", m.err, m.Raw)
		case m.err != nil && maybeBye(m.Raw):
			return nil, refuse(ReasonDamaged, "between edge and far end: %v; it may be a BYE", m.err)
		case m.err != nil, s.callID != ev.CallID:
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
func holders(ev Evidence, list []text) []netip.AddrPort {
	own := map[string]bool{} // tags
	spoke := func(who []netip.AddrPort, match func(tag string) bool) bool {
		return slices.ContainsFunc(list, func(m text) bool {
			if m.err != nil || m.callID != ev.CallID || !at(who, m.Source) || at(who, m.Destination) {
				return false
			}
			tag := m.to.tag
			if m.method != "" {
				tag = m.from.tag
			}
			return tag != "" && match(tag)
		})
	}
	spoke(ev.Node, func(tag string) bool { own[tag] = true; return false })
	all := slices.Clone(ev.Node)
	for _, a := range ev.Farm {
		if spoke([]netip.AddrPort{a}, func(tag string) bool { return own[tag] }) {
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

// saysBye looks for the end of a dialog of which the rest is not at hand; with the farm's tag "" it is any dialog of the Call-ID.
func saysBye(ev Evidence, local string) bool {
	b := builder{ev: ev}
	for _, m := range ev.Messages {
		if f, err := parse(m.Raw); err == nil && f.callID == ev.CallID {
			b.seen = append(b.seen, sighting{fields: f, at: m.Time, sent: at(ev.Node, m.Source), received: at(ev.Node, m.Destination)})
		}
	}
	return slices.ContainsFunc(b.seen, func(s sighting) bool {
		return s.cseqMethod == "BYE" && (local == "" || s.from.tag == local || s.to.tag == local) && !b.refusedOutside(&s)
	})
}

func at(node []netip.AddrPort, a netip.AddrPort) bool { return which(node, a) >= 0 }

func which(node []netip.AddrPort, a netip.AddrPort) int {
	return slices.IndexFunc(node, func(n netip.AddrPort) bool {
		return n.Addr().Unmap() == a.Addr().Unmap() && (n.Port() == 0 || n.Port() == a.Port())
	})
}
