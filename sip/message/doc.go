// Package message reads one SIP message as borrowed bytes and splices the outgoing one out of it.
//
// It is no parse tree and no printer: a proxied message is never taken apart and put together again. One pass
// records where the header fields stand; what a proxy changes is cut out or put in at those positions, and all
// other bytes, their order, spelling and body leave as they came.
//
//  1. Message.Parse finds the start line, every header field (compact forms, folded lines, CRLF and bare LF)
//     and the body, and reads the few values that every request needs: Via, From, To, Call-ID, CSeq.
//  2. Views (URI, Via, NameAddr, Values, Params) look into single values, still without copying.
//  3. Splice collects edits at positions of the message and writes the result behind a caller's buffer.
//
// Nothing here allocates. A Message may be used until the bytes given to Parse are reused. A fault is a number,
// never a text: malformed input is what strangers send.
//
// RFC 3261 sections 7, 20 and 25 (grammar), RFC 3581 (rport), RFC 4475 (torture tests), RFC 5118 (IPv6).
package message
