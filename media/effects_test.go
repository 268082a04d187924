package media

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// TestB22EachWordHasAnEffect: the words of offers that controllers use, as Kamailio sends them, each alone: what the SDP of the two
// parties says with the word and does not say without it. Words whose effect is on packets have tests of their own below and beside.
func TestB22EachWordHasAnEffect(t *testing.T) {
	const (
		voices = "9 0 8 101|rtpmap:101 telephone-event/8000"
		plain  = "RTP/AVP|" + voices
		ice    = "RTP/AVP|0|ice-ufrag:abcd|ice-pwd:0123456789012345678901|candidate:1 1 udp 1 127.0.0.1 4000 typ host"
		dtls   = "UDP/TLS/RTP/SAVPF|0|setup:actpass|fingerprint:sha-256 " + "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:" +
			"00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F"
		srtp = "RTP/SAVP|0|crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
		all  = "" // of the answer: PCMU alone
	)
	listed := func(s *sdp.Session) string { return names(s.Media[0].Codecs()) }
	suites := func(s *sdp.Session) string {
		var words []string
		for _, c := range s.Media[0].Crypto() {
			words = append(words, c.Suite)
		}
		return strings.Join(words, " ")
	}
	has := func(text string) func(*sdp.Session) string {
		return func(s *sdp.Session) string { return fmt.Sprint(hasAttr(s.Bytes(), text)) }
	}
	setup := func(s *sdp.Session) string { return s.Media[0].Setup() }
	proto := func(s *sdp.Session) string { return s.Media[0].Protocol() }
	mux := func(s *sdp.Session) string { return fmt.Sprint(s.Media[0].RTCPMux()) }
	at := func(s *sdp.Session) string { return s.Media[0].Connection().String() }
	const both = "G722, PCMU, PCMA, telephone-event"

	for _, c := range []struct {
		words, offer, answer string
		far                  bool // of what the answerer sees; else of what the offerer gets
		what                 func(*sdp.Session) string
		without, with        string
	}{
		{"codec-strip-PCMA", plain, all, true, listed, both, "G722, PCMU, telephone-event"},
		{"codec-strip-all codec-except-PCMU", plain, all, true, listed, both, "PCMU"},
		{"codec-strip-all codec-offer-PCMU", plain, all, true, listed, both, "PCMU"},
		{"codec-mask-G722", plain, all, true, listed, both, "PCMU, PCMA, telephone-event"},
		{"codec-mask-G722", plain, all, false, listed, "PCMU", "G722, telephone-event"}, // hidden, and converted
		{"codec-mask-all codec-except-PCMA codec-transcode-PCMU", plain, all, true, listed, both, "PCMA, PCMU, telephone-event"},
		{"codec-consume-G722", plain, all, true, listed, both, "PCMU, PCMA, telephone-event"},
		{"codec-consume-G722", plain, all, false, listed, "PCMU", "G722, telephone-event"},
		{"codec-accept-G722", plain, all, true, listed, both, both},
		{"codec-accept-G722", plain, all, false, listed, "PCMU", "G722, telephone-event"},
		{"always-transcode", plain, all, false, listed, "PCMU", "G722, telephone-event"},
		{"transcode-L16/16000", plain, all, true, listed, both, "G722, PCMU, PCMA, L16, telephone-event, telephone-event"},
		{"codec-transcode-G726-32", plain, all, true, listed, both, "G722, PCMU, PCMA, G726-32, telephone-event"},
		{"ptime=40", plain, all, true, has("a=ptime:40"), "false", "true"},
		{"media-address=192.0.2.77", plain, all, true, at, "127.0.0.1", "192.0.2.77"},
		{"direction=pub direction=priv", plain, all, true, at, "127.0.0.1", "127.0.0.2"},
		{"from-interface=pub to-interface=priv", plain, all, true, at, "127.0.0.1", "127.0.0.2"},
		{"from-interface=priv to-interface=pub", plain, all, false, at, "127.0.0.1", "127.0.0.2"},
		{"generate-mid", plain, all, true, has("a=mid:"), "false", "true"},
		{"no-rtcp-attribute", plain, all, true, has("a=rtcp:"), "true", "false"},
		{"rtcp-mux-offer", plain, all, true, mux, "false", "true"},
		{"rtcp-mux-require", plain, all, true, mux, "false", "true"},
		{"RTP/AVPF", plain, all, true, proto, "RTP/AVP", "RTP/AVPF"},
		{"RTP/SAVP", plain, all, true, proto, "RTP/AVP", "RTP/SAVP"},
		{"RTP/SAVPF", plain, all, true, proto, "RTP/AVP", "RTP/SAVPF"},
		{"UDP/TLS/RTP/SAVPF", plain, all, true, proto, "RTP/AVP", "UDP/TLS/RTP/SAVPF"},
		{"RTP/AVP", srtp, all, true, proto, "RTP/SAVP", "RTP/AVP"},
		{"OSRTP-offer", plain, all, true, has("a=crypto:"), "false", "true"},
		{"ICE=force", plain, all, true, has("a=ice-ufrag"), "false", "true"},
		{"ICE=remove", ice, all, true, has("a=ice-ufrag"), "true", "false"},
		{"ICE=default", ice, all, true, has("a=ice-ufrag"), "true", "true"},
		{"ICE=force ICE-lite=off", plain, all, true, has("a=ice-lite"), "false", "false"},
		{"ICE=force", plain, all, true, has("a=ice-lite"), "false", "true"},
		{"reject-ICE", ice, all, false, has("a=ice-ufrag"), "true", "false"},
		{"WebRTC", plain, all, true, has("a=fingerprint:sha-256"), "false", "true"},
		{"WebRTC", plain, all, true, has("a=mid:"), "false", "true"},
		{"DTLS=passive UDP/TLS/RTP/SAVPF", plain, all, true, setup, "", "passive"},
		{"DTLS=active UDP/TLS/RTP/SAVPF", plain, all, true, setup, "", "active"},
		{"UDP/TLS/RTP/SAVPF", plain, all, true, setup, "", "actpass"},
		{"RTP/AVP DTLS-reverse=active", dtls, all, false, setup, "passive", "active"},
		{"UDP/TLS/RTP/SAVP DTLS-fingerprint=sha-384", plain, all, true, has("a=fingerprint:sha-384"), "false", "true"},
		{"SDES-only-AEAD_AES_128_GCM RTP/SAVP", plain, all, true, suites, "", "AEAD_AES_128_GCM"},
		{"SDES-order:AES_CM_128_HMAC_SHA1_32;AEAD_AES_256_GCM SDES-only-AES_CM_128_HMAC_SHA1_32 SDES-only-AEAD_AES_256_GCM RTP/SAVP", plain, all, true, suites, "",
			"AES_CM_128_HMAC_SHA1_32 AEAD_AES_256_GCM"},
		{"extmap-strip-all", "RTP/AVP|0|extmap:1 urn:ietf:params:rtp-hdrext:toffset", all, true, has("a=extmap"), "true", "false"},
	} {
		r := newRig(t, Config{Interfaces: []Interface{{Name: "pub", Addr: loopback}, {Name: "priv", Addr: mustAddr("127.0.0.2")}}})
		ask := func(words string) string {
			t.Helper()
			line := strings.Split(c.offer, "|")
			a, b := newPeer(t, 1), newPeer(t, 2)
			if words == "" && line[0] == "UDP/TLS/RTP/SAVPF" {
				words = "RTP/AVP" // the answerer of this test speaks nothing else
			}
			body := fmt.Sprintf(`{"command":"offer","call-id":"c","from-tag":"a","rtpp-flags":%q}`, words)
			req, _, err := ng.ParseRequest([]byte(body))
			if err != nil {
				t.Fatalf("%s: %v", words, err)
			}
			if len(req.Unknown) > 0 {
				t.Errorf("%s: unknown %v", words, req.Unknown)
			}
			req.SDP = []byte(a.body(line[0], line[1], line[2:]...))
			out := r.must(*req)
			s, err := sdp.Parse(out)
			if err != nil {
				t.Fatal(err)
			}
			if c.far {
				r.must(ng.Request{Command: ng.CmdDelete, CallID: "c"})
				return c.what(s)
			}
			s, err = sdp.Parse(r.must(answered("c", "a", "b", b.body("RTP/AVP", "0"))))
			if err != nil {
				t.Fatal(err)
			}
			r.must(ng.Request{Command: ng.CmdDelete, CallID: "c"})
			return c.what(s)
		}
		if got := ask(""); got != c.without {
			t.Errorf("without %s: %q, want %q", c.words, got, c.without)
		}
		if got := ask(c.words); got != c.with {
			t.Errorf("with %s: %q, want %q", c.words, got, c.with)
		}
		r.stop()
	}
}

// TestB22PTimeReverse: packets to the offerer get the length that the controller wants, those from it are taken as they come.
func TestB22PTimeReverse(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := toFarm("c", "a", a.body("RTP/AVP", "8"))
	offer.PTimeReverse = 40 * time.Millisecond
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	b.send(b.packet(0, make([]byte, 160)))
	b.send(b.packet(0, make([]byte, 160)))
	if got := a.recv(); len(got.Payload) != 320 {
		t.Errorf("%d bytes to the offerer", len(got.Payload))
	}
	a.send(a.packet(8, make([]byte, 160)))
	if got := b.recv(); len(got.Payload) != 160 {
		t.Errorf("%d bytes to the answerer", len(got.Payload))
	}
}

// TestB19DeleteDelayOfACall: the key goes before the node's.
func TestB19DeleteDelayOfACall(t *testing.T) {
	r := newRig(t, Config{DeleteDelay: 30 * time.Second})
	a := newPeer(t, 1)
	seconds := func(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	for _, c := range []struct {
		key         *time.Duration
		after, left int
	}{{nil, 29, 1}, {nil, 31, 0}, {seconds(0), 0, 0}, {seconds(5), 4, 1}, {seconds(5), 6, 0}} {
		r.must(relayed("c", "a", a.body("RTP/AVP", "0")))
		r.must(ng.Request{Command: ng.CmdDelete, CallID: "c", DeleteDelay: c.key})
		r.clock.advance(time.Duration(c.after) * time.Second)
		r.sweep(r.clock.now())
		if n := len(r.do(ng.Request{Command: ng.CmdList}).Calls); n != c.left {
			t.Errorf("%v, after %d s: %d calls, want %d", c.key, c.after, n, c.left)
		}
	}
}
