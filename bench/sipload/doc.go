//go:build linux

// Command sipload offers SIP calls to a stateless proxy at a fixed rate and measures what comes out of it: bench/compare.
//
// It plays both neighbours of the proxy, phones on one loopback address and farm nodes on others, in one goroutine that never
// sleeps, so that it can be pinned to one core while the proxy has another one. It is open loop: calls start by the clock
// and no message is sent again, so that a proxy that falls behind shows it. It knows nothing of the proxy but its address, and
// it is no conformance test: messages are scanned for the few fields that a user agent must copy.
//
//  1. The clock says how many calls are due; a phone sends INVITE (1.0 kB with SDP), or REGISTER.
//  2. A farm node answers 100, 180 and 200 with the request's Via and Record-Route.
//  3. The phone sends ACK and BYE along the recorded route, the farm node answers 200: 7 messages out of the proxy per call. A
//     registration is 401, REGISTER with a digest, 200: 3 messages.
//  4. Every message carries the time at which it left. UDP arrivals are stamped by the kernel, so that the wait in our own
//     sockets does not count.
//  5. When the time is over and the last answers are in, one line says how many messages were sent and came out, the latency,
//     and the processor time of the proxy (run time of all its threads and of the core's softirq thread).
//
// RFC 3261, RFC 2617 (the digest), RFC 6455 and RFC 7118 (WebSocket).
package main
