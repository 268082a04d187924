package media

import (
	"net/netip"
	"strings"
	"testing"

	"rtcedge/media/sdp"
)

// TestB36AdvertisedAddress: one machine behind 1:1 NAT. The outside sees the public address in o=, c=, a=rtcp and as the ICE candidate, in
// offers and in answers; the farm's side does not; and media that comes to the local address is carried.
func TestB36AdvertisedAddress(t *testing.T) {
	const public = "192.0.2.80"
	r := newRig(t, Config{Interfaces: []Interface{
		{Name: "pub", Addr: loopback, Advertised: netip.MustParseAddr(public)}, {Name: "priv", Addr: netip.MustParseAddr("127.0.0.2")},
	}})
	a, b := newPeer(t, 1), newPeer(t, 2)
	told := func(body []byte, want, never string) *sdp.Session {
		t.Helper()
		s, err := sdp.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if s.Media[0].Connection().String() != want || s.Origin().Addr.String() != want || strings.Contains(string(body), never) {
			t.Errorf("want %s and never %s: %s", want, never, body)
		}
		return s
	}
	behind := func(p *peer, s *sdp.Session, local string) { // what the NAT does
		p.to = netip.AddrPortFrom(netip.MustParseAddr(local), uint16(s.Media[0].Port()))
	}
	// From outside to the farm.
	behind(b, told(r.must(toFarm("in", "a", a.body("RTP/AVP", "8"))), "127.0.0.2", public), "127.0.0.2")
	behind(a, told(r.must(answered("in", "a", "b", b.body("RTP/AVP", "0"))), public, "127.0.0"), "127.0.0.1")
	a.send(a.packet(8, make([]byte, 160)))
	b.recv()
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	// From the farm to a browser.
	offer := told(r.must(toWebRTC("out", "a", b.body("RTP/AVP", "0"))), public, "127.0.0")
	candidates := offer.Media[0].Candidates()
	if len(candidates) == 0 || !strings.Contains(candidates[0].String(), " "+public+" ") {
		t.Errorf("candidates %v", candidates)
	}
}
