// Command demo is a handful of phones that call through a running edge and say what they heard: `make demo`.
//
// It is a stranger: it speaks SIP and RTP over real sockets with sipgo and pion, and knows the edge by its address, its
// accounts and its admin port only. It is not a load generator; a row is one call.
//
//  1. It takes the edge from --edge, else from the state file of a running `rtcedge up`, else it starts one on free ports.
//  2. Every phone registers with a digest.
//  3. 16 calls to the echo (600): PCMU, PCMA, G.722 and Opus, plain RTP and SRTP with SDES, SIP over UDP and TCP. Each
//     plays a speech-like signal and records what returns.
//  4. Three phones in one conference (7000), each with a tone of its own, listen for the other two and for themselves.
//  5. One phone calls another: both talk, both listen, the caller hangs up.
//  6. A table, and exit code 1 if a row failed.
//
// RFC 3261, RFC 3550, RFC 3711, RFC 4568.
package main
