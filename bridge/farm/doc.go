// Package farm is the three Asterisk farms (calls, conferences, registrations) without Asterisk: for trying the edge out,
// for tests and for small sites. It stands behind the stateless edge of package sip, which it knows by Record-Route and
// Path only, and it answers the same ARI as an Asterisk does (package ari), so that the bridge role has one code path.
//
// It is not a proxy and not a PBX: a back-to-back user agent whose media is always PCMU with telephone-event, plain RTP, in
// packets of 20 ms. NAT, other codecs, SRTP and ICE are the business of the edge and its media role. It does not
// challenge calls, as an Asterisk behind the edge does not; whoever can reach its listeners can call, so they belong on an
// internal network.
//
// What becomes of a call is decided by the ARI application named rtcedge (Config.ARI): each call that comes in is handed to it unanswered,
// as an Asterisk does with Stasis(rtcedge,in,NUMBER), as a channel (channel.go) with a call of its own. The application answers it, joins
// it in bridges (bridge.go: two are relayed, more are mixed), plays to it, records and hangs up (routes.go). It places calls, too
// (originate.go), also inside the dialog of a node that died (recover.go). When its socket drops, channels and bridges stay.
//
// While no socket is open the farm does what the dialplan of our Asterisk nodes does alone (deploy/asterisk): 600 echoes, 601 plays
// music, the rest is refused with 503.
//
// A request runs in these steps:
//
//  1. sipgo reads it, absorbs retransmissions, and hands it to Farm.onRequest on a goroutine of its own (dispatch.go).
//  2. REGISTER is checked (register.go) and goes to the location table, which is pure (registrar.go).
//  3. An INVITE without To tag makes a call (call.go). One goroutine owns a call; whatever happens to it reaches it as an event.
//  4. Everything in a dialog is found by Call-ID and our tag and posted to the call that owns the leg; 481 if there is none.
//  5. The call becomes a channel of ARI. Its reader relays packets to the one other channel of its bridge, if there is one; our SSRC,
//     sequence and time go on whatever the source does (stream.go).
//  6. The farm's clock mixes larger bridges every 20 ms, and paces music and playbacks; a small jitter buffer per channel (jitter.go)
//     hides what the network does.
//  7. Every registered contact is asked with OPTIONS once in Config.Qualify, by its stored Path and from the listener, so
//     that question and answer hold the NAT before the phone open (qualify.go). The order of it is pure (schedule.go): spread
//     over the interval, so many a second, so many at a time. The answers are shown, by Contacts, Stats and ARI, and decide
//     nothing: a silent contact keeps its registration and may be called.
//  8. When Run's context ends, new calls are refused with 503, each running call is ended with BYE, and all sockets and
//     goroutines are released.
//
// Lock order: node.mu, then Farm.mu; stream.mu, jitter buffers and the location table's lock are leaves. No lock is held while something is
// sent to a call's goroutine.
//
// RFCs: 3261 (SIP), 3264 (offer/answer), 3311 (UPDATE), 3327 (Path), 3550 and 3551 (RTP), 4733 (telephone-event, passed),
// 5626 (outbound, only its option tag is let pass and 430 understood), 6026 (INVITE transactions), 6086 (INFO), 8866 (SDP). Session timers
// (RFC 4028) are left to the far end: the farm answers refreshes and asks for none.
package farm
