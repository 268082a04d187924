package dispatch

import (
	"net/netip"
	"time"
)

// Tick sends the probes that are due and takes out the nodes whose probe stayed unanswered. It returns when to call it
// again; that is never more than 50 ms away, so that a silent node is seen soon.
func (s *Set) Tick(now time.Time, p Prober) (next time.Duration) {
	s.mu.Lock()
	var due []*Node
	changed := false
	stalled := now.Sub(s.ticked) > stall
	s.ticked = now
	for _, n := range s.nodes {
		if n != nil && stalled {
			n.watch.hash.Store(0) // the answer may be there, and we too late
		}
		if n != nil && s.sickLocked(n, now) {
			changed = true
		}
	}
	if !s.cfg.NoProbes {
		for _, n := range s.nodes {
			if n == nil || n.fenced.Load() { // its answers would be dropped
				continue
			}
			send, flip := s.tickLocked(n, now)
			if send {
				due = append(due, n)
			}
			changed = changed || flip
		}
	}
	if changed {
		s.publishLocked(now)
	}
	again := min(50*time.Millisecond, s.cfg.ProbeTimeout/4)
	s.mu.Unlock()
	for _, n := range due {
		p.Probe(n)
	}
	return again
}

// tickLocked is the life of one node's probe: due, repeated, answered (in Answered) or given up.
func (s *Set) tickLocked(n *Node, now time.Time) (send, changed bool) {
	pr := &n.probe
	if !pr.sentAt.IsZero() {
		patience := s.cfg.ProbeTimeout
		if n.live.Load() && s.lastLocked(n) {
			// Without it every new call gets 503: a moment's stall must not do that.
			patience *= 2
		}
		switch waited := now.Sub(pr.sentAt); {
		case n.live.Load() && n.heard.Load() != pr.heard:
			pr.sentAt = time.Time{} // it said something else: it lives, whatever became of the probe
		case waited >= patience:
			pr.sentAt, pr.answers = time.Time{}, 0
			if n.live.Swap(false) {
				pr.since, changed = now, true
			}
		case waited >= time.Duration(pr.repeats+1)*s.cfg.ProbeTimeout/2:
			pr.repeats++
			send = true
		}
		return send, changed
	}
	due := !now.Before(pr.next)
	if owing := n.owing.Load(); owing != 0 && n.live.Load() && now.UnixNano()-owing >= int64(s.cfg.SilentAfter) {
		due = true
		n.owing.Store(0)
	}
	if n.suspect.Swap(false) && n.live.Load() {
		due = true
	}
	if !due {
		return false, false
	}
	pr.sentAt, pr.repeats, pr.heard = now, 0, n.heard.Load()
	// The phase differs from node to node, so that a large farm's probes do not leave in one burst.
	pr.next = now.Add(s.cfg.ProbeInterval - time.Duration(n.seed%16)*s.cfg.ProbeInterval/256)
	return true, false
}

// lastLocked tells if a farm of the node has no other one that takes new dialogs.
func (s *Set) lastLocked(n *Node) bool {
	for f := range s.members {
		mine, others := false, false
		for _, m := range s.members[f] {
			if m.node == n {
				mine = true
			} else if m.node.eligible() {
				others = true
			}
		}
		if mine && !others {
			return true
		}
	}
	return false
}

// Answered notes the answer to a probe, of any status: a node that speaks SIP lives.
func (s *Set) Answered(a netip.AddrPort, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.table.Load().byAddr[a]
	if n == nil || n.probe.sentAt.IsZero() {
		return
	}
	n.probe.sentAt = time.Time{}
	n.probe.answers++
	if n.live.Load() || n.probe.answers < s.cfg.Rise {
		return
	}
	n.live.Store(true)
	n.probe.since = now
	s.publishLocked(now)
}
