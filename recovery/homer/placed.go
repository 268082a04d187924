package homer

import (
	"net/netip"
	"strings"
	"time"
)

// Placed lists the Call-IDs that a host began with an INVITE since then, by the time of the message.
func (s *Store) Placed(by netip.Addr, since time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, c := range s.calls {
		if len(c.messages) == 0 || c.last.Before(since) {
			continue
		}
		first := &c.messages[0]
		if first.Source.Addr().Unmap() == by.Unmap() && !first.Time.Before(since) && strings.HasPrefix(first.Raw, "INVITE ") {
			ids = append(ids, id)
		}
	}
	return ids
}
