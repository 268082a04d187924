package dispatch

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// State is a node's state.
type State uint8

// The states.
const (
	Up     State = iota // takes new dialogs
	Down                // takes nothing new until it answers again
	Drain               // lives, takes nothing new by the operator's will
	Sick                // answers probes but no calls: takes nothing new for a while
	Fenced              // cut off: what it sends is dropped, and it gets nothing
)

// String is the state's name.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	case Drain:
		return "drain"
	case Sick:
		return "sick"
	}
	return "fenced"
}

// Node is one farm node. It is the same for as long as its address is configured, also where it serves several farms.
type Node struct {
	addr  netip.AddrPort
	proto string
	seed  uint64 // of the address: what the rendezvous hash mixes in
	index uint16

	// Atomics, written by every worker.
	sent    atomic.Uint64 // requests of new dialogs, since the start
	heard   atomic.Uint64 // messages from it
	owing   atomic.Int64  // unix nanoseconds of the first request since it was heard; 0: it owes nothing
	suspect atomic.Bool   // unreachable by ICMP or a refused connection
	live    atomic.Bool   // the last verdict of the probes
	drained atomic.Bool   // the operator's will
	fenced  atomic.Bool   // cut off, see Set.Fence
	tcp     atomic.Bool   // configured: listens for TCP besides

	sick  atomic.Bool // see sick.go
	watch watch

	probe  probe     // Set.mu guards it
	wellAt time.Time // and this: when a sick node is tried again
}

// probe is the state of the OPTIONS to one node.
type probe struct {
	next    time.Time // when the next one is due
	sentAt  time.Time // zero: none is on its way
	repeats int
	heard   uint64 // the node's count of messages when it was sent
	answers int    // in a row
	since   time.Time
}

// Addr is where the node listens.
func (n *Node) Addr() netip.AddrPort { return n.addr }

// Proto is the transport to it.
func (n *Node) Proto() string { return n.proto }

// TCP tells if large requests may go to the node over TCP.
func (n *Node) TCP() bool { return n.tcp.Load() }

// State is the node's state now.
func (n *Node) State() State {
	switch {
	case n.fenced.Load():
		return Fenced
	case !n.live.Load():
		return Down
	case n.drained.Load():
		return Drain
	case n.sick.Load():
		return Sick
	}
	return Up
}

// Sent notes a request that the node must answer.
func (n *Node) Sent(now time.Time) {
	n.sent.Add(1)
	if n.owing.Load() == 0 {
		n.owing.Store(now.UnixNano())
	}
}

// Heard notes any message of the node.
func (n *Node) Heard() {
	n.heard.Add(1)
	if n.owing.Load() != 0 {
		n.owing.Store(0)
	}
}

// Unreachable notes an ICMP error or a refused connection. As ICMP can be forged it only makes the node be probed at once.
func (n *Node) Unreachable() { n.suspect.Store(true) }

// Fenced tells if the node is cut off.
func (n *Node) Fenced() bool { return n.fenced.Load() }

// eligible tells if new dialogs may go to it.
func (n *Node) eligible() bool {
	return n.live.Load() && !n.drained.Load() && !n.fenced.Load() && !n.sick.Load()
}
