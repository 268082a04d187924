// Package e2e is the proof with strangers: programs that other people wrote call through the edge, and what they record
// is measured.
//
// It is not the place for rules of single packages, and nothing here looks into the edge's memory: the tests start
// bin/rtcedge (or RTCEDGE_BIN) as a user would, on loopback addresses, and read what comes out at the other side.
//
//  1. `e2e/peers.sh install` brings SIPp, baresip, sox and Chromium, and a chroot with Asterisk 22, Kamailio 6 and rtpengine 26. The
//     libraries of the web phones come by npm when a test needs them.
//  2. `go test -tags 'e2e nolibopusfile' ./e2e` runs the tests. A peer that is missing fails its test with that command
//     in the message; nothing is skipped in silence.
//  3. Each test prints the figures that it judges.
//
// Every phone has a loopback address of its own: some clients offer all addresses of a machine and send from one.
// Audio is judged by a tone: the power at its frequency against all the rest.
package e2e
