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
		from, to := which(ev.Node, m.Source), which(ev.Node, m.Destination)
		s := sighting{at: m.Time, sent: from >= 0, received: to >= 0, holder: max(from, to)}
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
