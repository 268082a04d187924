// Package lab is the whole system with phones that call each other through it: real Asterisks with the module of asterisk-patch, store, edge,
// media, bridge and recovery as an operator runs them (e2e/farms), and phones of raw SIP and RTP (bench/rawphone). bench/crash measures with
// it, e2e tests with it.
//
//  1. Start brings everything up (lab.go).
//  2. Pairs and Confer put calls up (calls.go): over UDP, TCP and WSS, on both sides of the farm, with 0 to 3 Record-Routes in front.
//  3. A leg answers like a phone (leg.go) and keeps what it saw, above all what it should not have seen: a request of no dialog, past the
//     route, with a CSeq that does not rise, for another target.
//  4. Settle reads the phones after a strike (outcome.go): who hears again, when its re-INVITE came, how long it was silent.
package lab
