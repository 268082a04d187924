package media

import (
	"fmt"
	"testing"
)

// TestB28AnswerWithOtherNumbers: an answerer may number codecs and events otherwise than the offer did, and send either number (RFC 3264
// section 5.1). Both are heard; a number that neither named is not.
func TestB28AnswerWithOtherNumbers(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", a.body("RTP/AVP", "8 101", eventLines...))
	offer.Codec.Mask, offer.Codec.Transcode = []string{"all"}, []string{"L16/16000"}
	toB := b.take(r.must(offer))
	number := map[string]uint8{}
	for _, c := range toB.Media[0].Codecs() {
		number[fmt.Sprint(c.Name, c.Rate)] = c.PT
	}
	const voice, event = 120, 121
	answer := b.body("RTP/AVP", "120 121", "rtpmap:120 L16/16000", "rtpmap:121 telephone-event/16000", "fmtp:121 0-15")
	a.take(r.must(answered("c", "a", "b", answer)))
	for _, pt := range []uint8{voice, number["L1616000"], voice} {
		pkt := b.packet(pt, make([]byte, 640))
		pkt.Timestamp = uint32(b.seq) * 320
		b.send(pkt)
		if got := a.recv(); got.PayloadType != 8 || len(got.Payload) != 160 {
			t.Errorf("voice as %d became %v", pt, got.Header)
		}
	}
	digit := byte(1)
	for _, pt := range []uint8{event, number["telephone-event16000"]} {
		pkt := b.packet(pt, []byte{digit, 0x8a, 1, 0x40})
		pkt.Timestamp = uint32(b.seq) * 320
		b.send(pkt)
		if got := a.recv(); got.PayloadType != 101 || got.Payload[0] != digit {
			t.Errorf("event as %d became %v", pt, got)
		}
		digit++
	}
	b.send(b.packet(119, make([]byte, 640)))
	a.silence()
	if number["L1616000"] == voice || number["telephone-event16000"] == event || number["L1616000"] == 0 {
		t.Errorf("offered numbers %v; the test wants others", number)
	}
}
