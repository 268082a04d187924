// Package accounts finds the users of the edge in databases elsewhere: a web service or PostgreSQL. It is no cache and decides nothing: auth.Cache
// asks it, remembers the answers and bounds the time.
//
// The way of a question:
//
//  1. auth.Cache has no fresh answer and calls Find, on a goroutine that may wait.
//  2. HTTP asks by GET with user and realm in the query; Postgres runs one SELECT on a connection of its bounded pool.
//  3. HA1 comes back as hex digits (RFC 7616 section 3.4.2, RFC 8760). Anything else, a plain password above all, is refused: auth.ErrNoHash.
//
// Neither hashes nor passwords of a URL ever stand in an error.
package accounts
