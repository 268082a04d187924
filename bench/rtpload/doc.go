//go:build linux

// Command rtpload offers media calls to an RTP proxy and measures what comes out of it: bench/compare/media.sh.
//
// It plays the SIP proxy in front (NG over UDP) and both parties of every call, in one goroutine that never sleeps, so that it can be pinned
// to one core while the media proxy has another one. It is open loop: each stream sends by the clock. It knows nothing of the proxy but its NG
// port and its process, so that rtpengine and rtcedge are measured alike. It is no conformance test, and what the audio sounds
// like is judged elsewhere (bench/demo, e2e).
//
//  1. Each call is set up by an offer and an answer, one after the other; the processor time that this took is the set-up's. Five calls
//     before that, ended at once, are not counted; nor is the memory that they took.
//  2. Each party sends speech that was encoded before, 50 packets a second, the streams spread evenly over the 20 ms; what
//     is due within --tick leaves together. SRTP is sealed and opened by pion.
//  3. Arrivals are stamped by the kernel, so that the wait in our own sockets does not count. A packet belongs to the one
//     that was sent with the same place in its stream; a packet counts if it arrives within 50 ms.
//  4. Warm-up does not count. In the window after it the processor time of the proxy (run time of all its threads, and of the
//     core's softirq thread) is divided by the packets that arrived.
//  5. One line of name=value tells the result. With --table it reads such lines and prints the medians and ratios.
//
// The time that a transcoder holds audio back by whole frames is not seen in 3: it is the round trip of the demo's table.
//
// RFC 3550 and 3551 (RTP), 3711 and 4568 (SRTP with SDES), 7587 (Opus).
package main
