// Package auth checks SIP digest credentials without keeping state between challenge and answer: a nonce proves itself, so any
// edge node with the same secret can check what any other has asked for.
//
// It is not a user database (a Provider is asked for the hashes), it does not read SIP messages (it is given the value of one
// header field) and it does not decide what an authenticated user may do.
//
// A request's way:
//
//  1. Without credentials the caller answers 401 or 407 with one field per Challenge.
//  2. Check parses the value, verifies that the nonce is one of ours for this realm and algorithm, asks the Provider for the
//     user's hash, computes the response and compares it in constant time. For an unknown user all of it happens as well, with
//     a hash that nobody knows: the two cases cannot be told apart by answer or time.
//  3. A right response is checked against the Request-URI, the nonce's age and the nonce-count seen before (replay.go).
//  4. Failures whose nonce was ours come from a real source address: they may be counted in a BanList (limit.go).
//
// A nonce is the time of issue, 32 bits that name the source it was given to, 32 random bits, and the first 128 bits of
// HMAC-SHA256(secret, all three, algorithm, realm). A nonce that comes from another source is answered with a new one before the
// password is looked at: so nobody can try passwords with nonces that another address fetched, nor have a victim banned by
// failing in its name.
//
// What is remembered (nonce-counts, bans, rates) is bounded and may be lost: a lost nonce-count allows one replay within the
// life of the nonce, nothing more.
//
// RFC 3261 section 22, RFC 7616 (and 2617 for phones without qop), RFC 8760 (SHA-256 in SIP). Not offered: auth-int, the -sess
// algorithms, userhash.
package auth
