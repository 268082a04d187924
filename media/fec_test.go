package media

import (
	"testing"
	"time"

	"github.com/pion/rtcp"

	"rtcedge/media/mediatest"
	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// TestB30FECFollowsReports: our Opus carries FEC data while the party reports loss, and none before and after.
func TestB30FECFollowsReports(t *testing.T) {
	if !transcode.CanEncode(transcode.Opus) {
		t.Skip("this build has no Opus encoder")
	}
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "111", "rtpmap:111 opus/48000/2", "fmtp:111 useinbandfec=1")), a, b, b.body("RTP/AVP", "0"))
	speech := mediatest.Speech(4 * time.Second)(8000)
	var ssrc uint32
	// protected counts packets with the LBRR flag: in a packet of one SILK frame it is the second bit behind the TOC (RFC 6716 section 4.2.3).
	protected := func() (n int) {
		t.Helper()
		for i := range len(speech) / 160 {
			var payload [160]byte
			g711.EncodeULaw(payload[:], speech[160*i:160*i+160])
			r.clock.advance(20 * time.Millisecond)
			b.send(b.packet(0, payload[:]))
			p := a.recv()
			if ssrc = p.SSRC; len(p.Payload) > 1 && p.Payload[0]>>3 < 12 && p.Payload[0]&3 == 0 && p.Payload[1]&0x40 != 0 {
				n++
			}
		}
		return n
	}
	reports := int64(0)
	report := func(fraction uint8) {
		t.Helper()
		raw, err := (&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: ssrc, FractionLost: fraction}}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		a.raw(raw)
		reports++
		waitFor(t, "the report", func() bool { return r.query("c").Tags[0].Medias[0].Streams[1].Stats.Packets == reports })
	}
	if n := protected(); n != 0 {
		t.Errorf("%d packets carry FEC data before any loss", n)
	}
	report(0)
	if n := protected(); n != 0 {
		t.Errorf("%d packets carry FEC data after a report without loss", n)
	}
	report(26) // 10 %
	if n := protected(); n < 50 {
		t.Errorf("%d of 200 packets carry FEC data after 10 %% of loss, want those of the voice", n)
	}
	for range 5 {
		report(0)
	}
	protected() // one packet may still tell of the frame before
	if n := protected(); n != 0 {
		t.Errorf("%d packets carry FEC data after the loss has ended", n)
	}
}
