// Package mediatest is the other end of package media's box: RTP peers over real sockets for tests, the demo and the load
// generators, and the measuring of what came back.
//
// It is not a user agent (sip/siptest is one: it carries the SDP that a Peer makes) and shares no code with package media
// but the SDP: RTP, RTCP and SRTP are pion's, so that a fault of ours cannot hide behind itself.
//
// The flow:
//
//  1. New binds a pair of ports. Offer or Answer make the SDP, SetAnswer takes the far end's.
//  2. Run sends the audio at the pace of its packets, receives, decodes and records, and sends RTCP, until the audio and the
//     tail behind it are over or ctx ends. Then the sockets are closed.
//  3. Report tells what was sent and received: loss, order, jitter, sources, SSRCs, DTMF, RTCP, and the recording.
//  4. Report.Echo or Match compares the recording with what was sent: delay, gain, SNR. Level tells how loud one frequency is.
//
// RFC 3550 and 3551 (RTP), 3264 (offer and answer), 3711 and 4568 (SRTP with SDES), 5763 and 5764 (with DTLS), 4733 (DTMF), 5761 (rtcp-mux), 7587 (Opus).
package mediatest
