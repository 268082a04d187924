// Package ng is the NG control protocol of rtpengine, both ends: the message, its bencode and JSON forms, the server
// that the media role listens with and the client that the sip role drives a media node with. It is the border between
// sip and media: neither knows more of the other than Request and Response.
//
// It is not a media engine: what an offer means is the business of the Handler behind the server.
//
// A request on its way:
//
//  1. The client ranks the nodes by a hash of the Call-ID, so that all edges agree without talking, and puts those that
//     do not answer pings at the end.
//  2. It writes "COOKIE SP DICTIONARY" as a datagram and repeats it, with the same cookie, until an answer comes.
//  3. The server takes it from UDP, TCP, HTTP or WebSocket. A cookie that was answered before gets the same answer; one
//     that is in work gets none.
//  4. The dictionary is read with bounded depth and size. Keys are matched without case, and spaces, hyphens and
//     underscores are one; list words, single-string flags (rtpp-flags) and the codec dictionary end in the same fields.
//     A key that nobody understands is counted; a value that cannot be is refused by an error-reason that names the
//     key, what came and what is allowed.
//  5. The Handler answers; the answer goes back in the form that the request had.
//
// The protocol has no RFC; its reference is rtpengine's documentation (docs/ng_control_protocol.md). HTTP is RFC 9110,
// WebSocket RFC 6455, JSON RFC 8259.
package ng
