// Package nat decides about addresses: it is the small box between sip/ and media/ in the picture. It is pure: addresses,
// bytes and the time go in, a decision comes out, and for a check the bytes of its answer; no sockets, no clocks, no allocation.
//
// It is not a NAT and opens nothing. It has no full ICE agent: nothing here begins to talk to the other end.
//
// How a media stream learns where its peer is (Latch):
//
//  1. Signalling says where the peer expects media (SDP) and where its SIP messages came from. Before the first packet, media
//     goes to the address in the SDP.
//  2. Classify tells a packet's kind by its first byte. What is authenticated (SRTP) is opened before the latch is asked.
//  3. The source of a packet is ranked against what signalling said: the SDP's address and port; its address; the address that SIP
//     came from; the SDP's port alone; a stranger.
//  4. One of the first three is taken at once, and a better one may still take over for a short while: then the latch is locked.
//  5. The other two must wait. They get in only if nobody better came, and give way to one who does.
//  6. An authenticated packet moves the latch at any time, which is how a client survives a new NAT mapping. A plain one
//     does not; a signalling update does.
//
// How it does so with ICE (ICELite), where the peer finds the way by checks and the latch is not asked:
//
//  1. A check is a STUN request that knows our password. What is not authenticated moves nothing and gets no longer answer.
//  2. The first check from a source makes it a validated pair. The pair that the peer nominates is where media goes.
//  3. Checks that go on are the consent to go on sending. New credentials are a restart: the old pair serves until a new one is nominated.
//
// RFC 3264 (offer and answer), RFC 4787 (what NATs do), RFC 7983 and RFC 5761 (kinds of packets on one port), RFC 7362 (latching
// and its dangers), RFC 8489 (STUN), RFC 8445 and RFC 8839 (ICE), RFC 7675 (consent).
package nat
