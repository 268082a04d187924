package media

import (
	"testing"

	"rtcedge/media/ng"
)

// TestB27ComfortNoiseOfACall: a phone's comfort noise (RFC 3389) passes a conversion as comfort noise where the other side has it, and is heard
// as noise where it has not.
func TestB27ComfortNoiseOfACall(t *testing.T) {
	for _, tt := range []struct {
		answer string
		pt     uint8
	}{{"0 13", 13}, {"0", 0}} {
		r := newRig(t, Config{})
		a, b := newPeer(t, 1), newPeer(t, 2)
		offer := relayed("c", "a", a.body("RTP/AVP", "8 13"))
		offer.Codec = ng.Codec{Mask: []string{"PCMA"}, Transcode: []string{"PCMU"}}
		toB, toA := r.connect(offer, a, b, b.body("RTP/AVP", tt.answer))
		if got := names(toB.Media[0].Codecs()); got != "CN, PCMU" {
			t.Errorf("offered %s", got)
		}
		want := "PCMA"
		if tt.pt == 13 {
			want = "PCMA, CN"
		}
		if got := names(toA.Media[0].Codecs()); got != want {
			t.Errorf("answered %s, want %s", got, want)
		}
		a.send(a.packet(8, make([]byte, 160)))
		b.recv()
		a.send(a.packet(13, []byte{30}))
		got := b.recv()
		if got.PayloadType != tt.pt || tt.pt == 13 && (len(got.Payload) != 1 || got.Payload[0] != 30) || tt.pt == 0 && len(got.Payload) != 160 {
			t.Errorf("the noise came as type %d with %d bytes", got.PayloadType, len(got.Payload))
		}
		r.stop()
	}
}
