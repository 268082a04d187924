// Package dispatch knows the farms: which nodes each has, which of them live, and which one a new dialog goes to.
//
// It sends nothing and has no clock of its own: the caller hands it the time and what was heard, and is told which node
// to probe. No state is kept per call.
//
//  1. A Set is made from the configured nodes of the three farms; each node starts up.
//  2. Pick chooses by rendezvous hashing over the nodes that are up, by weight: every edge node with the same list and
//     the same key chooses alike, a lost node's share spreads evenly and nobody else moves.
//  3. Sent, Heard and Unreachable tell what happened with a node; Tick probes at intervals, at once when a node is silent
//     although something was sent to it, and takes a node out whose probe stays unanswered.
//  4. A change of membership starts an epoch. PickSame follows the former one for 64*T1, since the CANCEL or ACK of a
//     running transaction must reach the node that has its INVITE (RFC 3261 section 16.11).
//
// Pick, PickSame, ByAddr, Sent and Heard take no lock and allocate nothing: they read an immutable table.
package dispatch
