// Package sip is Kamailio's box of the picture: the stateless SIP edge proxy between phones, browsers and providers
// outside and the three farms inside.
//
// It is no user agent and no transaction layer. It keeps no dialog, transaction or registration; what it must know
// later travels in the messages, signed: in a parameter of its Via (for the response), of its Record-Route (for
// requests within the dialog) and of its Path (for requests to a registered phone). Two edge nodes with the same
// secret are interchangeable at any message.
//
// A request's way (request.go), on the goroutine of the transport worker that read it:
//
//  0. guard: a source above its rate, a scanner or a banned source gets no answer; a new dialog beyond what can be served gets 503
//  1. sane: what cannot be read gets 400, or 416, 420, 482, 483, 505
//  2. nat: where the response must go (rport, received, connection)
//  3. who: a farm node by its source; everybody else by digest, unless a signed Route proves the dialog
//  4. where: the Route cookie within a dialog, else the rules and a rendezvous hash of the Call-ID, in the registrar farm of the user
//  5. media: offer, answer and delete at the media node, if there is a body to change
//  6. record: Record-Route, Path, what the farm is told in VB-*
//  7. Via with the computed branch
//  8. send, tap
//
// A response's way (response.go): our Via verified and cut, media's answer, sent to where the Via's signed parameter says.
//
// Messages that must wait (media, DNS) change to one of a fixed number of queues, chosen by Call-ID, so that the
// messages of a call keep their order; while a queue has work, later messages that belong to it follow through it. Requests whose user must be asked
// for elsewhere wait apart from them (proof.go).
//
// A connection belongs to one edge node. A message for it that comes to another node is relayed to the owner, whose address stands in
// the cookie (relay.go).
//
// What decides about requests (rules, domains, trunks, limits) is one immutable policy; Reload swaps it between two messages.
//
// What we do not keep: no 100, no retransmissions, no forks, no timers per call, no CANCEL of our own.
//
// RFC 3261 (16 and above all 16.11, 18.1.1), 3327 (Path), 3581 (rport), 3263 (A and AAAA only), 3264 (offer and answer), 5626 (flows), 8760 (digest).
package sip
