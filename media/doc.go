// Package media is the RTP proxy: the box that RTPEngine is in the stack that rtcedge replaces. It holds the sessions
// of calls, rewrites their SDP on offer and answer, and carries their packets between two parties.
//
// It is not a user agent (it never invents media), not a SIP element (sip asks it through the messages of media/ng)
// and not a codec (transcode is). It knows no farm and no phone: two parties of a call, and which interface faces each.
//
// # A packet, in steps
//
//  1. A worker's epoll loop (media/udp) reads it from the socket of a port; the socket's slot is the port, no look-up.
//  2. Class by the first byte (RFC 7983): RTP and RTCP go on, STUN goes to the ICE agent of the leg, DTLS to its association.
//  3. The route of the stream is loaded once. A new route resets what it changes: latch, header offsets, pipe.
//  4. The header is checked (RFC 3550 A.1), so that the steps behind may index without looking.
//  5. Source check: ICE where the party has it, else nat.Latch. An SRTP packet is authenticated before anything is learnt from it.
//  6. SRTP is opened in place (RFC 3711, RFC 7714); DTLS-SRTP without keys yet lets nothing through.
//  7. Counters: sequence, loss (RFC 3550 A.3), jitter (A.8), last packet. Gates (block, silence) and the tap of a recording.
//  8. The payload type is mapped. Only where the codecs of the two legs differ it goes through a transcode.Pipe.
//  9. SSRC, sequence number and timestamp become those of our own outgoing stream: who listens sees one source from the
//     first packet to the last, whatever happens behind us.
//  10. SRTP is sealed in place and the packet leaves by the socket that faces the other party.
//
// RTCP leaves after step 6: on relay it is rewritten and forwarded, on transcoded streams it ends here and own reports
// go out about every five seconds. The files forward.go and rtcp.go hold the steps in this order,
// connect.go those of STUN and DTLS.
//
// # Who owns what
//
//   - A call's description (parties, codecs, keys, ports) belongs to the control side and is guarded by call.mu.
//   - A worker owns its loop, its buffers and the packet state of each leg on it (latch, SRTP contexts, pipe, header
//     offsets). Both directions of a call are on one worker. Nobody else writes them, so there is no lock per packet.
//   - Control changes a stream by publishing an immutable *route through stream.route. Objects with packet state that a
//     route points to (srtpContext, transcode.Pipe) are made by control and touched by the worker only, once published.
//   - Counters have one writer, the worker, and are read with atomic loads.
//   - A handshake of DTLS computes on a goroutine of its own, which dtlsAgent bounds and waits for; its packets go through the worker.
//     The association and the ICE agent are the worker's, as a srtpContext is.
//   - Ports are taken, given a route, counted and given back by the session table of a worker (table.go: Install, Update, Counters,
//     Remove); whether a port is a socket is the layer's matter, behind udp.Loop.
//   - Sockets are closed on the worker's goroutine (udp.Loop.Do), so a reused descriptor is never read by accident.
//     A port pair goes back to its pool after that. Under rtcp-mux the socket for RTCP is closed and the pair kept.
//
// Lock order: Engine.mu, then call.mu, then portPool.mu. A hook runs with no lock held.
//
// # Beside the packets
//
//   - Recording (recording.go): taps copy opened packets into a ring per worker; one writer makes WAV and pcap files.
//   - Taking over (snapshot.go, export.go, restore.go): a session record holds what another node needs to go on with a call.
//   - Commands in a call (control.go, inject.go, dtmf.go): block, silence, DTMF.
//   - Copies of what parties say: to subscribers, in streams of their own (subscribe.go, copy.go; publish.go is one who only sends), and as PCM
//     over TCP (forwarding.go).
//   - Sides that are away (join.go, joint.go): the parties of two calls that stay hear each other. What this node says itself, comfort
//     noise (speaker.go), has the one clock beside the packets, which runs only while somebody needs it (metronome.go).
//
// # Drops
//
// A dropped packet is a counter with a reason (dropReason in drop.go), never a log line. "Why is there no audio" is a
// number per leg in a query and per node in Stats.
//
// RFC list: 3264 (offer/answer), 3550 (RTP, RTCP), 3551 (AVP), 3605 (a=rtcp), 3711 (SRTP), 4145 (setup), 4566 (SDP), 4568 (SDES),
// 4585 (AVPF), 4733 (telephone-event), 4961 (symmetric RTP), 5124 (SAVPF), 5761 (rtcp-mux), 5763 and 5764 (DTLS-SRTP), 6263
// (keep-alive), 6347 (DTLS), 7675 (consent), 7714 (GCM for SRTP), 7983 (demultiplexing), 8122 (fingerprint), 8445 and 8839 (ICE, as a
// lite agent, or a full one by nat/ice), 8643 (OSRTP), 8842 (DTLS and SDP), 9143 (BUNDLE, of one m= line).
package media
