// Command crash kills farm nodes under real calls and measures what the callers notice: `make crash-demo`, and the figures of bench/CRASH.md.
//
// It is not a test of parts: real Asterisks with the module of asterisk-patch, edge, media, bridge and recovery run as an operator runs them
// (e2e/farms), and phones of raw SIP and RTP (bench/rawphone) call each other through them.
//
//  1. system.go starts a store, the farms and all roles; crew.go is the phones: UDP and TCP, on both sides of calls, with 0 to 3
//     Record-Routes in front of them.
//  2. scenarios.go puts calls up and strikes: SIGKILL, SIGSTOP, a second strike while the first is repaired, a blip that is no crash.
//  3. measure.go reads each phone: how long it heard nothing, when its re-INVITE came, whether it saw a BYE, and whether its own BYE
//     afterwards is answered 200.
//
// A row that misses its goal ends the command with 1.
package main
