// Package transport is the socket side of the stateless SIP edge: it turns datagrams, byte streams and WebSocket frames
// into SIP messages, and sends messages to an address or down an open connection.
//
// It is not a parser (it looks for the end of the header block and for Content-Length, nothing else), it is not a
// transaction layer, and it never decides where a message goes: the Handler does.
//
// A message's way:
//
//  1. New opens every listener or none. Run starts the workers and accept loops and ends when all are gone.
//  2. UDP on Linux: one worker per core owns one SO_REUSEPORT socket of every UDP listener and one epoll set. It reads
//     up to 64 datagrams with one recvmmsg into its own buffers and hands each to the Handler (udp_linux.go, worker_linux.go).
//  3. TCP and TLS: one goroutine per connection reads, cuts the stream by Content-Length (frame.go) and calls the Handler.
//  4. WS and WSS: one SIP message per WebSocket message, RFC 7118 (websocket.go).
//  5. The Handler answers with Worker.Send on the same goroutine. Datagrams are collected and leave with one sendmmsg after
//     the read batch; stream messages enter the bounded queue of their connection (conn.go).
//  6. Goroutines that are not a worker use Transport.Send.
//
// Addressing. A Target without a Flow means "a datagram to Addr" on a UDP listener, and "a connection to Addr, an open one
// or a new one" on TCP and TLS. A Target with a Flow means exactly that connection; when it is gone the answer is
// ErrFlowGone and nothing is dialled. A Flow is 64 random bits, valid in this process only; a caller that puts it into a
// message must sign it.
//
// Bounds. A stranger can hold at most Config.MaxConns connections, MaxConnsPerSource of them from one address, each with a
// small buffer while idle. A connection that has not sent its first message, that stays inside a message, a TLS handshake or
// an HTTP upgrade for longer than MessageTimeout, is closed. Everything refused is counted by reason (stats.go).
//
// Locks. Transport.conns.mu and then conn.mu; never the other way, and no lock is held while the Handler runs.
//
// RFC 3261 section 18 (transport), 3581 (symmetric response routing needs the socket it came in on), 5626 section 3.5 (CRLF
// and STUN keep-alive) and 4 (flows), 7118 (WebSocket), 5922 and 8446 (TLS), 7983 (first byte classes, to know STUN).
package transport
