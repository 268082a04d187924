package media

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

var updateGolden = flag.Bool("update", false, "write testdata/golden anew from what the engine makes of testdata/recorded")

// recorded is SDP of a real peer (testdata/recorded/SOURCES.txt), as TestRecordSDP of e2e took it.
func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", name+".sdp"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fromFarm is what the sip role asks for an offer from the farm to a phone.
func fromFarm(callID, from, body string) ng.Request {
	return ng.Request{Command: ng.CmdOffer, CallID: callID, FromTag: from, SDP: []byte(body), Transport: "RTP/AVP", ICE: "remove",
		Direction: [2]string{"priv", "pub"}, Replace: []string{"origin", "session-connection"}, Codec: ng.Codec{Transcode: []string{"opus", "G722", "PCMU", "PCMA"}}}
}

// toWebRTC is the same for one that came by WebSocket.
func toWebRTC(callID, from, body string) ng.Request {
	req := fromFarm(callID, from, body)
	req.Transport, req.ICE, req.RTCPMux, req.Flags = "UDP/TLS/RTP/SAVPF", "force", []string{"require"}, []string{"generate-mid"}
	return req
}

var goldenCases = []struct {
	name, offer, answer string // "": not answered
	request             func(callID, from, body string) ng.Request
}{
	{"baresip-to-farm", "baresip-offer", "asterisk22-answer", toFarm},
	{"baresip-sdes-to-farm", "baresip-sdes-offer", "asterisk22-answer", toFarm},
	{"baresip-dtls-ice-to-farm", "baresip-dtls-ice-offer", "asterisk22-answer", toFarm},
	{"chromium-to-farm", "chromium-offer", "asterisk22-answer", toFarm},
	{"asterisk-to-chromium", "asterisk22-offer", "chromium-answer", toWebRTC},
	{"asterisk-to-baresip", "asterisk22-offer", "baresip-answer", fromFarm},
	{"chromium-video-relayed", "chromium-video-offer", "", relayed},
	{"rtpengine-relayed", "rtpengine26-offer-of-chromium", "rtpengine26-answer-to-chromium", relayed},
	{"rtpengine-webrtc-to-farm", "rtpengine26-offer-of-asterisk", "asterisk22-answer", toFarm},
}

// ours are the parts of an SDP that are new each time.
var ours = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?m)^m=(\w+) [1-9]\d+ `), "m=$1 PORT "},
	{regexp.MustCompile(`(?m)^a=rtcp:\d+`), "a=rtcp:PORT"},
	{regexp.MustCompile(`(?m)^a=candidate:.* (127\.0\.0\.\d) \d+ typ host`), "a=candidate:OURS $1 PORT typ host"},
	{regexp.MustCompile(`(?m)^(a=ice-ufrag|a=ice-pwd|a=tls-id):[^\r]+`), "$1:OURS"},
	{regexp.MustCompile(`(?m)^a=fingerprint:(\S+) [^\r]+`), "a=fingerprint:$1 OURS"},
	{regexp.MustCompile(`inline:[^\r |]+`), "inline:OURS"},
}

// TestGoldenSDP: what becomes of the offers and answers of baresip, Chromium, Asterisk 22 and rtpengine 26 equals, line for line, what was
// looked through and committed (testdata/golden), and tells no address of the other side (B17, B20).
func TestGoldenSDP(t *testing.T) {
	needOpus(t)
	for _, tt := range goldenCases {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Interfaces: []Interface{{Name: "pub", Addr: loopback}, {Name: "priv", Addr: netip.MustParseAddr("127.0.0.2")}}})
			offer := recorded(t, tt.offer)
			got := "== to the answerer\n" + string(r.must(tt.request("golden", "a", string(offer))))
			from := [][]byte{offer}
			if tt.answer != "" {
				answer := recorded(t, tt.answer)
				from = append(from, answer)
				got += "== to the offerer\n" + string(r.must(answered("golden", "a", "b", string(answer))))
			}
			for _, body := range from {
				for _, at := range addresses(body) {
					if strings.Contains(got, at) {
						t.Errorf("the address %s crosses:\n%s", at, got)
					}
				}
			}
			for _, o := range ours {
				got = o.what.ReplaceAllString(got, o.with)
			}
			got = strings.ReplaceAll(got, "\r\n", "\n")
			file := filepath.Join("testdata", "golden", tt.name+".txt")
			if *updateGolden {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
				t.Error(d)
			}
		})
	}
}

// needOpus skips what a build without cgo decides otherwise.
func needOpus(t *testing.T) {
	t.Helper()
	if !transcode.CanEncode(transcode.Opus) {
		t.Skip("this build has no Opus encoder")
	}
}

// addresses are those of the lines o=, c= and a=candidate.
func addresses(body []byte) (list []string) {
	for line := range strings.Lines(string(body)) {
		for _, w := range strings.Fields(line) {
			if a, err := netip.ParseAddr(w); (err == nil && !a.IsUnspecified() && a != loopback) || strings.HasSuffix(w, ".local") {
				list = append(list, w)
			}
		}
	}
	return list
}

// TestGoldenAgreesWithRtpengine: from the same offers and answers, with the same flags, rtpengine 26 made the same kind of SDP: profile,
// direction, rtcp-mux, ICE, DTLS, and in offers the codecs. SDES beside DTLS, which rtpengine offers, is left out on purpose: browsers
// refuse it and RFC 8827 section 6.5 forbids it. Codecs of the answers are not compared: the recorded ones answer other offers.
func TestGoldenAgreesWithRtpengine(t *testing.T) {
	needOpus(t)
	in := func(callID, from, body string) ng.Request {
		req := toFarm(callID, from, body)
		req.Codec.Transcode = []string{"PCMU", "telephone-event"}
		return req
	}
	out := func(callID, from, body string) ng.Request {
		req := toWebRTC(callID, from, body)
		req.Codec = ng.Codec{}
		return req
	}
	for _, tt := range []struct {
		offer, answer, theirOffer, theirAnswer string
		request                                func(callID, from, body string) ng.Request
	}{
		{"chromium-offer", "asterisk22-answer", "rtpengine26-offer-of-chromium", "rtpengine26-answer-to-chromium", in},
		{"asterisk22-offer", "chromium-answer", "rtpengine26-offer-of-asterisk", "rtpengine26-answer-to-asterisk", out},
	} {
		r := newRig(t, Config{})
		offer := r.must(tt.request("c", "a", string(recorded(t, tt.offer))))
		answer := r.must(answered("c", "a", "b", string(recorded(t, tt.answer))))
		for name, both := range map[string][2][]byte{tt.theirOffer: {offer, recorded(t, tt.theirOffer)}, tt.theirAnswer: {answer, recorded(t, tt.theirAnswer)}} {
			var kinds [2][]string
			for i, body := range both {
				s, err := sdp.Parse(body)
				if err != nil {
					t.Fatal(err)
				}
				kinds[i] = kindOf(s, name == tt.theirOffer)
			}
			if d := cmp.Diff(kinds[1], kinds[0]); d != "" {
				t.Errorf("%s: rtpengine (-), rtcedge (+): %s", name, d)
			}
		}
		r.stop()
	}
}

// kindOf says of an SDP what two proxies should agree on.
func kindOf(s *sdp.Session, offer bool) (list []string) {
	for _, m := range s.Media {
		var codecs []string
		for _, c := range m.Codecs() {
			codecs = append(codecs, strings.ToLower(c.Name))
		}
		slices.Sort(codecs)
		codecs = slices.Compact(codecs)
		_, _, ice := m.ICE()
		list = append(list, m.Kind(), m.Protocol(), m.Direction().String())
		if offer {
			list = append(list, strings.Join(codecs, " "))
		}
		for name, has := range map[string]bool{"rtcp-mux": m.RTCPMux(), "ice": ice, "fingerprint": len(m.Fingerprints()) > 0} {
			if has {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list
}
