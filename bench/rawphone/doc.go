// Package rawphone is a telephone of raw SIP text and RTP packets, for benches and peer tests that must see and shape every message.
//
// It is not siptest: that one is a well-behaved user agent on a SIP stack. This one has no timers, no transactions and no opinion.
// It answers only what it is told to, can leave an ACK out, send a 200 again or lie about a CSeq, and keeps every message it got.
//
//  1. New binds a UDP socket, or takes one TCP or WSS connection, and an RTP socket. Where a hop is set, a second UDP socket stands for the
//     record-routing proxies in front of the phone: what comes to the phone's own socket came past them.
//  2. Run reads all of them. Messages wait in a queue; Take gets the first one that matches.
//  3. Dialog holds both ends' tags, CSeq, target and route set, and writes the requests inside of it.
//  4. Media sends and counts packets and tells when the stream of the far end stood still.
//
// RFC 3261 is the format of messages and dialogs, RFC 3550 that of the media, RFC 7118 SIP over WebSocket.
package rawphone
