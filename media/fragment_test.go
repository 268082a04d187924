package media

import (
	"strings"
	"testing"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// TestB34TrickledCandidate: the candidate of a lite peer comes after its offer, in a fragment (RFC 8840), and is checked then.
func TestB34TrickledCandidate(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newLitePeer(t, 1), newPeer(t, 2)
	var kept, fragment []string
	for line := range strings.Lines(web.liteBody("actpass")) {
		if strings.HasPrefix(line, "a=candidate") {
			fragment = append(fragment, line)
		} else {
			kept = append(kept, line)
		}
	}
	farm.take(r.must(toFarm("c", "web", strings.Join(kept, ""))))
	s, err := sdp.Parse(r.must(answered("c", "web", "farm", farm.body("RTP/AVP", "0"))))
	if err != nil || len(fragment) == 0 {
		t.Fatal(err, fragment)
	}
	req := ng.Request{Command: ng.CmdOffer, CallID: "c", FromTag: "web", Flags: []string{"fragment"},
		SDP: []byte("a=ice-ufrag:" + web.ufrag + "\r\nm=audio 9 RTP/AVP 0\r\n" + strings.Join(fragment, ""))}
	if got := string(r.must(req)); !strings.Contains(got, "end-of-candidates") || strings.Contains(got, "a=candidate") {
		t.Errorf("answered with %q", got)
	}
	want := s.Media[0].Candidates()[0]
	if got := web.answerChecks(t); got.Port() != uint16(want.Port) {
		t.Errorf("nominated %v, our port is %d", got, want.Port)
	}
	req.FromTag = "nobody"
	if resp := r.do(req); resp.Result != ng.ResultError {
		t.Errorf("%+v", resp)
	}
}
