package transport

import "sync/atomic"

// DropReason says why something was not handed on: to the Handler if it came in, to the network if it went out.
type DropReason uint8

// The reasons. KeepAlive, STUN and Empty are no loss: they are not messages.
const (
	DropKeepAlive    DropReason = iota // only CR and LF, RFC 5626 section 3.5.1; answered on streams
	DropSTUN                           // a STUN keep-alive, RFC 5626 section 3.5.2
	DropEmpty                          // a datagram without payload
	DropTruncated                      // a datagram larger than the receive buffer
	DropTooLarge                       // out: larger than the transport carries
	DropQueueFull                      // out: the connection takes bytes too slowly
	DropConnClosed                     // out: was queued when the connection closed or could not be opened
	DropNoConnection                   // out: no connection, and none could be opened
	DropSend                           // out: the kernel refused the datagram
	dropReasons
)

var dropNames = [dropReasons]string{
	"keepalive", "stun", "empty", "truncated", "too_large", "queue_full", "conn_closed", "no_connection", "send",
}

// String returns the name for a metric's label.
func (r DropReason) String() string {
	if r < dropReasons {
		return dropNames[r]
	}
	return "unknown"
}

// CloseReason says why a connection ended, or was not accepted.
type CloseReason uint8

// The reasons.
const (
	ClosePeer      CloseReason = iota // the peer closed it, or the network did
	CloseIdle                         // nothing came in for IdleTimeout, or the peer missed its WebSocket pings
	CloseSlow                         // a message, handshake or upgrade not complete within MessageTimeout
	CloseMalformed                    // the stream is not SIP, or its Content-Length makes no sense
	CloseNoLength                     // a message without Content-Length, which RFC 3261 section 18.3 wants on streams
	CloseOversize                     // a message larger than MaxMessage
	CloseHandshake                    // the TLS handshake was refused by either side
	CloseUpgrade                      // the HTTP request was no WebSocket upgrade for SIP
	CloseWrite                        // the peer took no bytes for WriteTimeout, or the write failed
	CloseDial                         // it could not be opened
	CloseLimit                        // MaxConns was reached
	CloseSource                       // MaxConnsPerSource was reached
	CloseByUs                         // the Handler or the operator closed it
	CloseShutdown                     // this process ends
	closeReasons
)

var closeNames = [closeReasons]string{
	"peer", "idle", "slow", "malformed", "no_length", "oversize", "handshake", "upgrade", "write", "dial", "limit", "source", "by_us", "shutdown",
}

// String returns the name for a metric's label.
func (r CloseReason) String() string {
	if r < closeReasons {
		return closeNames[r]
	}
	return "unknown"
}

// Stats are the counters of one listener since the start. Connections that were dialled for a listener count there.
type Stats struct {
	MessagesIn, MessagesOut uint64
	BytesIn, BytesOut       uint64 // payload; answers to keep-alives are counted, keep-alives are drops
	Drops                   [dropReasons]uint64
	Unreachable             uint64 // ICMP errors for what was sent
	KernelDrops             uint64 // datagrams that overflowed the kernel's receive buffers (SO_RXQ_OVFL)
	RecvBuffer              int    // the kernel's receive buffer per UDP socket as granted, in bytes

	Accepted, Dialled uint64
	Closed            [closeReasons]uint64
	Open              int64 // connections now
}

// counters are one worker's part of a listener's Stats. Only one goroutine writes those of a UDP worker; the shared slot is
// written by many. The padding keeps two workers off one cache line.
type counters struct {
	messagesIn, messagesOut atomic.Uint64
	bytesIn, bytesOut       atomic.Uint64
	drops                   [dropReasons]atomic.Uint64
	unreachable             atomic.Uint64
	kernelDrops             atomic.Uint64
	_                       [64]byte
}

// connCounters are the connection part of a listener's Stats.
type connCounters struct {
	accepted, dialled atomic.Uint64
	closed            [closeReasons]atomic.Uint64
	open              atomic.Int64
}

// Stats sums up the counters of all workers.
func (l *Listener) Stats() Stats {
	s := Stats{RecvBuffer: l.recvBuffer}
	for i := range l.counters {
		c := &l.counters[i]
		s.MessagesIn += c.messagesIn.Load()
		s.MessagesOut += c.messagesOut.Load()
		s.BytesIn += c.bytesIn.Load()
		s.BytesOut += c.bytesOut.Load()
		s.Unreachable += c.unreachable.Load()
		s.KernelDrops += c.kernelDrops.Load()
		for r := range c.drops {
			s.Drops[r] += c.drops[r].Load()
		}
	}
	s.Accepted = l.conns.accepted.Load()
	s.Dialled = l.conns.dialled.Load()
	s.Open = l.conns.open.Load()
	for r := range l.conns.closed {
		s.Closed[r] = l.conns.closed[r].Load()
	}
	return s
}
