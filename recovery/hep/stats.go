package hep

import "sync/atomic"

// Drop says why a packet did not reach the collector.
type Drop uint8

// The reasons.
const (
	DropNone     Drop = iota
	DropMessages      // as many packets wait as may
	DropBytes         // as many bytes wait as may
	DropTooLarge      // longer than a HEP packet or a datagram can be
	DropRefused       // a datagram came back by ICMP: nobody listens. It is counted in Sent as well
	DropNetwork       // the system would not send the datagram
	DropEnded         // offered after the end of Run, or left over by it
	NumDrops
)

var dropNames = [NumDrops]string{"none", "queue_messages", "queue_bytes", "too_large", "refused", "network", "ended"}

// String returns the name for a metric's label.
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Stats are a Sender's counters since the start, and what is now.
type Stats struct {
	Sent       uint64 // packets that the system took over
	Dropped    [NumDrops]uint64
	Reconnects uint64 // connections opened after the first one

	Connected       bool // over UDP: there is a route
	WaitingMessages int
	WaitingBytes    int
}

// counters: dropped is written by all senders, the rest by Run's goroutine.
type counters struct {
	dropped    [NumDrops]atomic.Uint64
	sent       atomic.Uint64
	reconnects atomic.Uint64
	connected  atomic.Bool
}

// Stats reads the counters.
func (s *Sender) Stats() Stats {
	st := Stats{Sent: s.count.sent.Load(), Reconnects: s.count.reconnects.Load(), Connected: s.count.connected.Load()}
	for i := range st.Dropped {
		st.Dropped[i] = s.count.dropped[i].Load()
	}
	st.WaitingMessages, st.WaitingBytes = s.queue.waiting()
	return st
}

func (s *Sender) drop(why Drop) { s.count.dropped[why].Add(1) }
