// Package mixer is the arithmetic of a conference: every participant hears the sum of the others and never itself
// (N-1 mixing). It is not a conference: it knows no participants, no packets, no codecs and no clock.
//
// One mix of 20 ms runs in these steps, which the owner of the conference takes:
//
//  1. Reset the Mix.
//  2. Add the frame of every participant that has one. A muted or silent participant is simply not added.
//  3. For each participant that was added, Without(own) gives what it hears; for all others All gives the same frame, so
//     that it has to be encoded only once for everybody who listens.
//
// The sum is kept in 32 bits and limited once, at the end (ITU-T G.711 has 14 bits, so 2^17 participants fit), so what one
// hears does not depend on the order in which frames were added.
package mixer
