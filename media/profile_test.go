package media

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/pion/rtcp"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

const suite80 = "AES_CM_128_HMAC_SHA1_80"

// TestB20ProfilesInAnyCombination: each of the four profiles towards each, whatever feedback and keys the others have.
func TestB20ProfilesInAnyCombination(t *testing.T) {
	profiles := []string{"RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"}
	r := newRig(t, Config{})
	for i, from := range profiles {
		for k, to := range profiles {
			id := fmt.Sprint(from, " to ", to)
			a, b := newPeer(t, 1), newPeer(t, 2)
			body := func(p *peer, profile string) string {
				lines := []string{"rtcp-fb:0 nack"}
				if secure(profile) {
					lines = append(lines, p.key(suite80, byte(1+i+k)))
				}
				return p.body(profile, "0", lines...)
			}
			offer := relayed(id, "a", body(a, from))
			offer.Transport = to
			toB, toA := r.connect(offer, a, b, body(b, to))
			for _, side := range []struct {
				s       *sdp.Session
				profile string
			}{{toB, to}, {toA, from}} {
				m := side.s.Media[0]
				_, fb := m.Attr("rtcp-fb")
				if m.Protocol() != side.profile || secure(side.profile) != (len(m.Crypto()) > 0) || strings.HasSuffix(side.profile, "F") != fb {
					t.Errorf("%s: %s with %d keys, rtcp-fb %v", id, m.Protocol(), len(m.Crypto()), fb)
				}
			}
			a.send(a.packet(0, []byte("there")))
			if got := b.recv(); string(got.Payload) != "there" {
				t.Errorf("%s: %q", id, got.Payload)
			}
			b.send(b.packet(0, []byte("back")))
			if got := a.recv(); string(got.Payload) != "back" {
				t.Errorf("%s: %q", id, got.Payload)
			}
			r.must(ng.Request{Command: "delete", CallID: id})
		}
	}
}

// TestB21OSRTP: keys under AVP (RFC 8643) are offered, taken or refused, and accepted of an offerer only if the controller says so.
func TestB21OSRTP(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		offers, answers        bool // a's offer and b's answer have a key
		words                  []string
		offered, near, farSRTP bool // b sees a key; a gets one; b speaks SRTP
	}{
		{"offered and taken", false, true, []string{"offer"}, true, false, true},
		{"offered and refused", false, false, []string{"offer"}, true, false, false},
		{"accepted", true, false, []string{"accept"}, false, true, false},
		{"accepted and offered", true, true, []string{"accept-rfc", "offer-rfc"}, true, true, true},
		{"not wanted", true, false, nil, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			a, b := newPeer(t, 1), newPeer(t, 2)
			body := func(p *peer, key bool) string {
				if !key {
					return p.body("RTP/AVP", "0")
				}
				return p.body("RTP/AVP", "0", p.key(suite80, 7))
			}
			offer := relayed("c", "a", body(a, tt.offers))
			offer.OSRTP = tt.words
			toB, toA := r.connect(offer, a, b, body(b, tt.answers))
			if got := len(toB.Media[0].Crypto()) > 0; got != tt.offered || toB.Media[0].Protocol() != "RTP/AVP" {
				t.Errorf("b sees a key: %v, %s", got, toB.Media[0].Protocol())
			}
			if got := len(toA.Media[0].Crypto()) > 0; got != tt.near || toA.Media[0].Protocol() != "RTP/AVP" {
				t.Errorf("a gets a key: %v, %s", got, toA.Media[0].Protocol())
			}
			if !tt.near {
				a.seal, a.open = nil, nil
			}
			if !tt.farSRTP {
				b.seal, b.open = nil, nil
			}
			a.send(a.packet(0, []byte("there")))
			if got := b.recv(); string(got.Payload) != "there" {
				t.Errorf("%q", got.Payload)
			}
			b.send(b.packet(0, []byte("back")))
			if got := a.recv(); string(got.Payload) != "back" {
				t.Errorf("%q", got.Payload)
			}
		})
	}
}

// TestB20RTCPMux: each word of the controller with a party that offers rtcp-mux or not, and an answerer that takes it or not. RTCP of
// both arrives where they want it.
func TestB20RTCPMux(t *testing.T) {
	for _, tt := range []struct {
		words            string
		offers, takes    bool
		asked, confirmed bool
	}{
		{"", true, true, true, true}, {"", true, false, true, false}, {"", false, false, false, false},
		{"demux", true, false, false, true}, {"accept", true, false, true, true}, {"offer", false, true, true, false},
		{"require", false, true, true, false}, {"reject", true, true, true, false}, {"offer accept", true, true, true, true},
	} {
		name := fmt.Sprintf("%s,%v,%v", tt.words, tt.offers, tt.takes)
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			a, b := newPeer(t, 1), newPeer(t, 2)
			body := func(p *peer, mux bool) string {
				if mux {
					return p.body("RTP/AVP", "0", "rtcp-mux")
				}
				return p.body("RTP/AVP", "0", fmt.Sprintf("rtcp:%d", p.addr().Port())) // the test's one socket
			}
			offer := relayed("c", "a", body(a, tt.offers))
			offer.RTCPMux = strings.Fields(tt.words)
			toB, toA := r.connect(offer, a, b, body(b, tt.takes))
			if got := toB.Media[0].RTCPMux(); got != tt.asked {
				t.Errorf("asked %v", got)
			}
			if got := toA.Media[0].RTCPMux(); got != tt.confirmed {
				t.Errorf("confirmed %v", got)
			}
			a.send(a.packet(0, []byte("x")))
			b.recv()
			b.send(b.packet(0, []byte("x")))
			a.recv()
			report, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1}})
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []struct {
				from, to *peer
				s        *sdp.Session
			}{{a, b, toA}, {b, a, toB}} {
				m := dir.s.Media[0]
				rtp := dir.from.to
				if dir.from.to = m.RTCP(); m.RTCPMux() {
					dir.from.to = rtp
				}
				dir.from.raw(report)
				if got := dir.to.recvRTCP(); len(got) != 2 {
					t.Errorf("%v", got)
				}
				dir.from.to = rtp
			}
		})
	}
}

// TestB20IPv6ToIPv4 bridges the families, by the address in the SDP and by the key address-family.
func TestB20IPv6ToIPv4(t *testing.T) {
	if c, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		c.Close()
	}
	r := newRig(t, Config{Interfaces: []Interface{{Name: "pub", Addr: loopback}, {Name: "pub", Addr: mustAddr("::1")}}})
	a, b := newPeerAt(t, "::1", 1), newPeer(t, 2)
	six := strings.ReplaceAll(a.body("RTP/AVP", "0"), "IP4", "IP6")
	offer := relayed("c", "a", six)
	offer.AddressFamily = "IP4"
	toB, toA := r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	if got := toB.Media[0].Connection(); got != loopback || hasAttr(toB.Bytes(), "IP6") || hasAttr(toB.Bytes(), "::1") {
		t.Errorf("b sees\n%s", toB.Bytes())
	}
	if got := toA.Media[0].Connection(); got != mustAddr("::1") || hasAttr(toA.Bytes(), "IP4") || hasAttr(toA.Bytes(), "127.") {
		t.Errorf("a sees\n%s", toA.Bytes())
	}
	for range 3 {
		a.send(a.packet(0, []byte("six")))
		if got := b.recv(); string(got.Payload) != "six" {
			t.Errorf("%q", got.Payload)
		}
		b.send(b.packet(0, []byte("four")))
		if got := a.recv(); string(got.Payload) != "four" {
			t.Errorf("%q", got.Payload)
		}
	}
	tags := r.query("c").Tags
	if x, y := tags[0].Medias[0].Streams[0], tags[1].Medias[0].Streams[0]; !x.Endpoint.Addr().Is6() || !y.Endpoint.Addr().Is4() || !x.Latched {
		t.Errorf("%v, %v", x.Endpoint, y.Endpoint)
	}
}

// TestB26VideoAndFax: a call with audio, video with feedback, and T.38 in a re-INVITE, each with its own ports.
func TestB26VideoAndFax(t *testing.T) {
	r := newRig(t, Config{})
	a, va, b, vb := newPeer(t, 1), newPeer(t, 11), newPeer(t, 2), newPeer(t, 12)
	with := func(p, v *peer) string {
		return p.body("RTP/AVPF", "0") + fmt.Sprintf("m=video %d RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtcp-mux\r\n", v.addr().Port())
	}
	toB, toA := r.connect(relayed("c", "a", with(a, va)), a, b, with(b, vb))
	va.to, vb.to = netPort(toA.Media[1]), netPort(toB.Media[1])
	if va.to == a.to || !toA.Media[1].RTCPMux() {
		t.Fatalf("video at %v", va.to)
	}
	frame := va.packet(96, slices.Repeat([]byte{7}, 1180))
	va.send(frame)
	got := vb.recv()
	if got.SSRC != frame.SSRC || got.SequenceNumber != frame.SequenceNumber || len(got.Payload) != 1180 {
		t.Errorf("video: %v", got.Header)
	}
	vb.send(vb.packet(96, []byte("v")))
	va.recv()
	pli, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 12}, &rtcp.PictureLossIndication{SenderSSRC: 12, MediaSSRC: 11}})
	if err != nil {
		t.Fatal(err)
	}
	vb.raw(pli)
	if pkts := va.recvRTCP(); len(pkts) != 2 || pkts[1].(*rtcp.PictureLossIndication).MediaSSRC != 11 {
		t.Errorf("feedback %v", pkts)
	}

	fax := func(p *peer) string {
		return strings.Split(p.body("RTP/AVP", "0"), "m=")[0] + fmt.Sprintf("m=image %d udptl t38\r\na=T38FaxVersion:0\r\n", p.addr().Port())
	}
	_, toA = r.connect(relayed("c", "a", fax(a)), a, b, fax(b))
	if m := toA.Media[0]; m.Kind() != "image" || m.Protocol() != "udptl" || !hasAttr(toA.Bytes(), "T38FaxVersion") {
		t.Errorf("%s", toA.Bytes())
	}
	udptl := []byte{0, 1, 5, 'f', 'a', 'x'}
	a.raw(udptl)
	if p, ok := b.bytes(1e9); !ok || string(p) != string(udptl) {
		t.Errorf("fax %x", p)
	}
	b.raw(udptl)
	if p, ok := a.bytes(1e9); !ok || string(p) != string(udptl) {
		t.Errorf("fax back %x", p)
	}
}
