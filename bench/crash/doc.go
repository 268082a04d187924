// Command crash kills farm nodes under real calls and measures what the callers notice: `make crash-demo`, and the figures of bench/CRASH.md.
//
// It is not a test of parts: real Asterisks with the module of asterisk-patch, edge, media, bridge and recovery run as an operator runs them
// (e2e/farms), and phones of raw SIP and RTP (bench/rawphone) call each other through them.
//
//  1. bench/lab starts a store, the farms and all roles, and has the phones: UDP, TCP and WSS, on both sides of calls, with 0 to 3
//     Record-Routes in front of them. Each scenario has a system of its own.
//  2. scenarios.go strikes calls that are up: SIGKILL, SIGSTOP, a second strike while the first is repaired. midway.go strikes while a phone waits
//     for an answer, homer.go takes HOMER away, partition.go cuts the network, forged.go attacks.
//  3. Each phone is read: how long it heard nothing, when its re-INVITE came, whether it saw a BYE or anything that is not right, and
//     whether its own BYE afterwards is answered 200.
//
// A row that misses its goal ends the command with 1.
package main
