package sdp

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCodecs(t *testing.T) {
	tests := []struct {
		file string
		want []Codec
	}{
		{"baresip-offer", []Codec{
			{96, "opus", 48000, 2, "stereo=1;sprop-stereo=1"},
			{97, "opus", 48000, 2, "stereo=0;sprop-stereo=0;useinbandfec=1;usedtx=1;cbr=0"},
			{9, "G722", 8000, 1, ""}, {0, "PCMU", 8000, 1, ""}, {8, "PCMA", 8000, 1, ""},
			{101, "telephone-event", 8000, 1, "0-15"},
		}},
		{"chromium-offer", []Codec{
			{111, "opus", 48000, 2, "minptime=10;useinbandfec=1"}, {63, "red", 48000, 2, "111/111"},
			{9, "G722", 8000, 1, ""}, {0, "PCMU", 8000, 1, ""}, {8, "PCMA", 8000, 1, ""}, {13, "CN", 8000, 1, ""},
			{110, "telephone-event", 48000, 1, ""}, {126, "telephone-event", 8000, 1, ""},
		}},
		// Static types without rtpmap (RFC 3551, section 6).
		{"bare-lf", []Codec{{0, "PCMU", 8000, 1, ""}, {18, "G729", 8000, 1, ""}}},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, parsed(t, tt.file).Media[0].Codecs()); d != "" {
			t.Errorf("%s: %s", tt.file, d)
		}
	}
	if c, ok := parsed(t, "chromium-offer").Media[1].Codec(96); !ok || c != (Codec{96, "VP8", 90000, 0, ""}) {
		t.Error(c, ok)
	}
}

// The internal leg is PCMU and telephone-event (B17): all other codecs' lines go, those of the two stay byte for byte.
func TestB17SetCodecsForTheFarm(t *testing.T) {
	s := parsed(t, "chromium-offer")
	m := s.Media[0]
	before := s.Bytes()
	m.SetCodecs([]Codec{{PT: 0, Name: "pcmu", Rate: 8000}, {PT: 126, Name: "telephone-event", Rate: 8000, Params: "0-15"}})
	want := "-m=audio 53834 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\n" +
		"-a=rtpmap:111 opus/48000/2\n-a=rtcp-fb:111 transport-cc\n-a=fmtp:111 minptime=10;useinbandfec=1\n" +
		"-a=rtpmap:63 red/48000/2\n-a=fmtp:63 111/111\n-a=rtpmap:9 G722/8000\n-a=rtpmap:8 PCMA/8000\n-a=rtpmap:13 CN/8000\n" +
		"-a=rtpmap:110 telephone-event/48000\n" +
		"+m=audio 53834 UDP/TLS/RTP/SAVPF 0 126\n+a=fmtp:126 0-15\n"
	if d := cmp.Diff(want, diff(before, s.Bytes())); d != "" {
		t.Error(d)
	}
	if !strings.Contains(string(s.Bytes()), "a=rtpmap:126 telephone-event/8000\r\na=fmtp:126 0-15\r\n") {
		t.Error("the new fmtp is not behind its rtpmap")
	}
}

func TestSetCodecs(t *testing.T) {
	const head = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\n"
	tests := []struct{ name, in, want string }{
		{"new ones behind the old", "m=audio 4000 RTP/AVP 0\na=rtpmap:0 PCMU/8000\na=sendrecv\n",
			"m=audio 4000 RTP/AVP 96 0\na=rtpmap:0 PCMU/8000\na=rtpmap:96 opus/48000/2\na=fmtp:96 useinbandfec=1\na=sendrecv\n"},
		{"first attributes of a bare m= line", "m=audio 4000 RTP/AVP 0\nc=IN IP4 192.0.2.9\na=sendrecv\n",
			"m=audio 4000 RTP/AVP 96 0\nc=IN IP4 192.0.2.9\na=rtpmap:96 opus/48000/2\na=fmtp:96 useinbandfec=1\na=sendrecv\n"},
		{"changed in place, feedback of another encoding goes, for all stays",
			"m=audio 4000 RTP/AVP 0 96\na=rtpmap:96 speex/16000\na=mid:0\na=fmtp:96 vbr=on\na=rtcp-fb:96 nack\na=rtcp-fb:* nack\na=ptime:20\n",
			"m=audio 4000 RTP/AVP 96 0\na=rtpmap:96 opus/48000/2\na=mid:0\na=fmtp:96 useinbandfec=1\na=rtcp-fb:* nack\na=ptime:20\n"},
		{"a second rtpmap goes", "m=audio 4000 RTP/AVP 96 0\na=rtpmap:96 opus/48000/2\na=rtpmap:96 speex/8000\na=fmtp:96 a=b\n",
			"m=audio 4000 RTP/AVP 96 0\na=rtpmap:96 opus/48000/2\na=fmtp:96 useinbandfec=1\n"},
		{"lines of a type that was not listed", "m=audio 4000 RTP/AVP 0\na=rtpmap:96 speex/8000\na=fmtp:96 x\n",
			"m=audio 4000 RTP/AVP 96 0\na=rtpmap:96 opus/48000/2\na=fmtp:96 useinbandfec=1\n"},
	}
	for _, tt := range tests {
		s, err := Parse([]byte(head + tt.in))
		if err != nil {
			t.Fatal(err)
		}
		s.Media[0].SetCodecs([]Codec{{PT: 96, Name: "opus", Rate: 48000, Channels: 2, Params: "useinbandfec=1"}, {PT: 0, Name: "PCMU", Rate: 8000}})
		if d := cmp.Diff(head+tt.want, string(s.Bytes())); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
	s := parsed(t, "asterisk22-offer")
	before := string(s.Bytes())
	s.Media[0].SetCodecs(nil)
	if string(s.Bytes()) != before {
		t.Error("an empty list changed the body")
	}
}

func TestFreePT(t *testing.T) {
	all := func(from, to uint8) (cs []Codec) {
		for pt := from; pt <= to; pt++ {
			cs = append(cs, Codec{PT: pt})
		}
		return cs
	}
	tests := []struct {
		prefer uint8
		used   []Codec
		want   uint8
		ok     bool
	}{
		{111, all(96, 97), 111, true},
		{96, all(96, 97), 98, true},
		{0, nil, 96, true},
		{0, all(96, 127), 35, true},
		{0, all(35, 127), 0, false},
	}
	for _, tt := range tests {
		if pt, ok := FreePT(tt.prefer, nil, tt.used); pt != tt.want || ok != tt.ok {
			t.Errorf("FreePT(%d): %d %v, want %d %v", tt.prefer, pt, ok, tt.want, tt.ok)
		}
	}
	if pt, ok := StaticPT("pcma", 8000, 1); pt != 8 || !ok {
		t.Error(pt, ok)
	}
	if _, ok := StaticPT("opus", 48000, 2); ok {
		t.Error("opus is not static")
	}
}

// SDES lines of RFC 4568 are read and printed (B21): padding, lifetime, MKI, several keys, session parameters.
func TestB21Crypto(t *testing.T) {
	for _, name := range []string{"linphone-offer", "baresip-srtp-answer"} {
		m := parsed(t, name).Media[0]
		for i, v := range m.Attrs("crypto") {
			if got := m.Crypto()[i].String(); got != v {
				t.Errorf("%q came as %q", got, v)
			}
		}
	}
	cs := parsed(t, "linphone-offer").Media[0].Crypto()
	if k := cs[3].Keys[0]; cs[3].Suite != "AEAD_AES_128_GCM" || len(k.KeySalt) != 28 || k.Lifetime != 1<<31 || hex.EncodeToString(k.MKI) != "01" {
		t.Errorf("%+v", cs[3])
	}
	const two = "9 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|1048577|258:4;inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4 FEC_ORDER=FEC_SRTP KDR=1"
	c, err := ParseCrypto(two)
	if err != nil || c.String() != two || len(c.Keys) != 2 || hex.EncodeToString(c.Keys[0].MKI) != "00000102" || len(c.Params) != 2 {
		t.Errorf("%v %+v", err, c)
	}
	if c, err := ParseCrypto("1 AES_256_CM_HMAC_SHA1_80 INLINE:bnKbvJnOKm4VYnDdhxpMpIwoTp3QwVt8cQjsbPPKFYJHSbkyf3D/tPhpuWAJ8Q"); err != nil || len(c.Keys[0].KeySalt) != 46 {
		t.Errorf("a key without padding: %v", err)
	}
	for _, bad := range []string{"", "1 X", "x AES inline:AAAA", "1 AES AAAA", "1 AES inline:", "1 AES inline:!", "1 AES inline:AAAA|2^64",
		"1 AES inline:AAAA|0", "1 AES inline:AAAA|1:0", "1 AES inline:AAAA|256:1", "1 AES inline:AAAA|1:1|2", "1 AES inline:AAAA|-1:4", "1 AES inline:AAAA;"} {
		if c, err := ParseCrypto(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, c)
		}
	}
}
