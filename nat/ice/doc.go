// Package ice is the full ICE agent (RFC 8445), on pion/ice, for a socket that somebody else owns: the half of the nat box that sends
// checks of its own. nat.ICELite is the rule; a full agent is for a peer that is lite itself, which would wait for our checks for ever,
// and for a controller that asks for one.
//
// It has no socket and reads none. It gives no address of its own but the one that it is told.
//
//  1. New takes our credentials, the port's address and where to send.
//  2. Start takes the peer's credentials and candidates; the agent checks, nominates as controlling side, and keeps consent (RFC 7675).
//     Candidates may trickle in later by Add (RFC 8838). Names in .local are resolved by nobody: their owner's checks name the address.
//  3. The owner of the socket hands each STUN packet to Handle, and sends media to Selected while Consent holds.
//  4. Restart brings new credentials (RFC 8445 section 9); the pair in use stays until the new ones have found another.
//
// Goroutines are pion's; Close ends them and waits.
package ice
