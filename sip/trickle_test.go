package sip

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestB34TrickledCandidates: a phone's INFO with candidates (RFC 8840) goes by the media node, whose answer takes the body's place: no address of
// the phone's network reaches the farm. Other INFOs pass as they are, and who has no Route of the call changes nothing.
func TestB34TrickledCandidates(t *testing.T) {
	media := &fakeMedia{}
	r := newRig(t, Config{Media: media})
	req := r.one(r.put(phone, invite(sdp)), node1)
	r.one(r.putOn(0, 0, node1, answer(req, 200, "tt", sdp)), phone)
	media.took()
	const fragment = "Content-Type: application/trickle-ice-sdpfrag\n\na=ice-ufrag:abcd\na=candidate:1 1 udp 2130706431 10.1.2.3 4000 typ host\n"
	info := "INFO sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKi\nMax-Forwards: 70\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\n" +
		"Call-ID: call-1@phone\nCSeq: 2 INFO\n"
	route := "Route: " + lines(req, "Record-Route")[0] + "\n"
	got := r.one(r.put(phone, info+route+fragment), node1)
	q := media.took()
	if len(q) != 1 || !slices.Contains(q[0].Flags, "fragment") || q[0].Transport != "" || !strings.Contains(string(q[0].SDP), "10.1.2.3") {
		t.Fatalf("asked %+v", q)
	}
	if diff := cmp.Diff([]string{"offer ft>tt"}, brief(q)); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(got, "10.1.2.3") || !strings.Contains(got, "changed") {
		t.Errorf("the farm reads\n%s", got)
	}
	if out := r.put(phone, strings.Replace(info, "z9hG4bKi", "z9hG4bKj", 1)+fragment); len(media.took()) != 0 {
		t.Errorf("a forged fragment was taken: %v", out)
	}
	digit := "Content-Type: application/dtmf-relay\n\nSignal=5\n"
	if got := r.one(r.put(phone, info+route+digit), node1); !strings.Contains(got, "Signal=5") || len(media.took()) != 0 {
		t.Errorf("an INFO with a key became\n%s", got)
	}
}
