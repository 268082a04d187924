package sip

import (
	"net/netip"
	"sync"
	"time"
)

// credit remembers for a few addresses how many bytes came in that nothing was answered to. An answer that is longer than its
// request waits until the client's retransmissions have paid for it: no address that has not proved itself ever gets more bytes
// than came from it (B16), and yet a phone with a short REGISTER is challenged, half a second later.
type credit struct {
	mu    sync.Mutex
	slots [creditSlots]creditSlot
}

type creditSlot struct {
	of    uint64 // hash of the address
	bytes int
	until time.Time
}

// Chosen by us. A slot that is taken by another address starts anew: a flood of forged addresses can delay a challenge, not
// grow memory.
const (
	creditSlots = 1 << 12
	creditLife  = 32 * time.Second // 64*T1: the client gives up then (RFC 3261 section 17.1.1.2)
)

// pays tells if in bytes from the address, with what it has left from before, cover an answer of out bytes.
func (t *credit) pays(k key, to netip.AddrPort, in, out int, now time.Time) bool {
	h := k.hasher('c')
	a := to.Addr().As16()
	h.part(a[:])
	h.word(uint64(to.Port()))
	of, _ := h.sum()
	s := &t.slots[of%creditSlots]
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.of != of || now.After(s.until) {
		*s = creditSlot{of: of}
	}
	s.until = now.Add(creditLife)
	s.bytes += in
	if s.bytes < out {
		return false
	}
	s.bytes = 0
	return true
}
