package sdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// golden reads one body of testdata.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".sdp"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, name string) *Session {
	t.Helper()
	s, err := Parse(golden(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func goldenNames(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.sdp")
	if err != nil || len(files) < 9 {
		t.Fatalf("testdata: %d files, %v", len(files), err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".sdp")
	}
	return files
}

// words joins values by blanks.
func words(v ...any) string { return strings.TrimSuffix(fmt.Sprintln(v...), "\n") }

// diff shows the lines that an edit touched.
func diff(before, after []byte) string {
	a, b := strings.SplitAfter(string(before), "\n"), strings.SplitAfter(string(after), "\n")
	var out strings.Builder
	for _, l := range a {
		if !slices.Contains(b, l) {
			out.WriteString("-" + strings.TrimRight(l, "\r\n") + "\n")
		}
	}
	for _, l := range b {
		if l != "" && !slices.Contains(a, l) {
			out.WriteString("+" + strings.TrimRight(l, "\r\n") + "\n")
		}
	}
	return out.String()
}

// An unedited body prints byte for byte what came, whatever its line ends and unknown lines.
func TestRoundTrip(t *testing.T) {
	for _, name := range goldenNames(t) {
		in := golden(t, name)
		if out := parsed(t, name).Bytes(); !bytes.Equal(in, out) {
			t.Errorf("%s:\n%s", name, cmp.Diff(string(in), string(out)))
		}
		if out := parsed(t, name).Clone().Bytes(); !bytes.Equal(in, out) {
			t.Errorf("%s: the clone prints something else", name)
		}
	}
}

// Setting what is there already touches nothing, not even blanks.
func TestSameValueIsNoEdit(t *testing.T) {
	for _, name := range goldenNames(t) {
		s := parsed(t, name)
		s.SetOrigin(s.Origin())
		s.SetConnection(s.Connection())
		for _, m := range s.Media {
			if m.PortCount() == 1 {
				m.SetPort(m.Port())
			}
			m.SetProtocol(m.Protocol())
			if a := m.Connection(); a.IsValid() {
				m.SetConnection(a)
			}
			m.SetDirection(m.Direction())
			if m.PTime() > 0 {
				m.SetPTime(m.PTime())
			}
			m.SetCodecs(m.Codecs())
			m.SetRTCPMux(m.RTCPMux())
			if len(m.Crypto()) > 0 {
				m.SetCrypto(m.Crypto()...)
			}
			m.SetCandidates(m.Candidates()...)
		}
		if name == "bare-lf" || name == "chromium-offer" {
			continue // no IP address in the session's c= line, or none at all: SetConnection above is an edit
		}
		if d := diff(golden(t, name), s.Bytes()); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

func TestEditTouchesOnlyItsLine(t *testing.T) {
	addr := netip.MustParseAddr("198.51.100.1")
	tests := []struct {
		file, name string
		edit       func(*Session)
		want       string
	}{
		{"baresip-offer", "origin", func(s *Session) { o := s.Origin().Next(); o.Addr = addr; s.SetOrigin(o) },
			"-o=- 3945219385 1628405741 IN IP4 192.168.1.20\n+o=- 3945219385 1628405742 IN IP4 198.51.100.1\n"},
		{"baresip-offer", "session connection", func(s *Session) { s.SetConnection(addr) },
			"-c=IN IP4 192.168.1.20\n+c=IN IP4 198.51.100.1\n"},
		{"baresip-offer", "media connection is added", func(s *Session) { s.Media[0].SetConnection(netip.MustParseAddr("2001:db8::1")) },
			"+c=IN IP6 2001:db8::1\n"},
		{"baresip-offer", "port", func(s *Session) { s.Media[0].SetPort(30000) },
			"-m=audio 13242 RTP/AVP 96 97 9 0 8 101\n+m=audio 30000 RTP/AVP 96 97 9 0 8 101\n"},
		{"bare-lf", "port count goes, blanks stay", func(s *Session) { s.Media[0].SetPort(5000) },
			"-m=audio  49170/2   RTP/AVP 0  18\n+m=audio  5000   RTP/AVP 0  18\n"},
		{"bare-lf", "codecs", func(s *Session) { s.Media[0].SetCodecs(s.Media[0].Codecs()[:1]) },
			"-m=audio  49170/2   RTP/AVP 0  18\n+m=audio  49170/2   RTP/AVP 0\n"},
		{"baresip-offer", "protocol", func(s *Session) { s.Media[0].SetProtocol("RTP/SAVP") },
			"-m=audio 13242 RTP/AVP 96 97 9 0 8 101\n+m=audio 13242 RTP/SAVP 96 97 9 0 8 101\n"},
		{"baresip-offer", "direction", func(s *Session) { s.Media[0].SetDirection(Inactive) },
			"-a=sendrecv\n+a=inactive\n"},
		{"bare-lf", "direction against the session's", func(s *Session) { s.Media[0].SetDirection(SendRecv) },
			"+a=sendrecv\n"},
		{"baresip-offer", "ptime", func(s *Session) { s.Media[0].SetPTime(30 * time.Millisecond) },
			"-a=ptime:20\n+a=ptime:30\n"},
		{"baresip-offer", "rtcp", func(s *Session) { s.Media[0].SetRTCP(netip.AddrPortFrom(addr, 7)) },
			"-a=rtcp:13243\n+a=rtcp:7 IN IP4 198.51.100.1\n"},
		{"baresip-offer", "mux", func(s *Session) { s.Media[0].SetRTCPMux(true) }, "+a=rtcp-mux\n"},
		{"baresip-offer", "name", func(s *Session) { s.SetName("") }, ""},
		{"no-line-end", "append behind the open line", func(s *Session) { s.Media[0].AddAttr("rtcp-mux", "") },
			"-a=sendrecv\n+a=sendrecv\n+a=rtcp-mux\n"},
		{"chromium-offer", "bundle", func(s *Session) { s.SetBundle("0") }, "-a=group:BUNDLE 0 1\n+a=group:BUNDLE 0\n"},
		{"chromium-offer", "no bundle", func(s *Session) { s.SetBundle() }, "-a=group:BUNDLE 0 1\n"},
		{"chromium-offer", "header extensions", func(s *Session) {
			s.Media[0].DelAttrFunc(func(name, value string) bool {
				return name == "extmap" && strings.Contains(value, "webrtc.org")
			})
		}, "-a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\n"},
		{"baresip-offer", "a value with a line end is cut", func(s *Session) { s.SetName("x\r\na=evil") }, "-s=-\n+s=x\n"},
		{"linphone-offer", "crypto", func(s *Session) { s.Media[0].SetCrypto(s.Media[0].Crypto()[1]) },
			"-a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:VfB+M9xW3n6tSDgV3sVwgG6c9iRIT0Qk1cHqvNRq\n" +
				"-a=crypto:3 AES_256_CM_HMAC_SHA1_80 inline:bnKbvJnOKm4VYnDdhxpMpIwoTp3QwVt8cQjsbPPKFYJHSbkyf3D/tPhpuWAJ8Q==\n" +
				"-a=crypto:4 AEAD_AES_128_GCM inline:V8W5F/9JA2mLd2A1xOvzhdJJQgl0cGPwWc4bfA==|2^31|1:1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.file+"/"+tt.name, func(t *testing.T) {
			s := parsed(t, tt.file)
			before := s.Bytes()
			tt.edit(s)
			after := s.Bytes()
			if d := cmp.Diff(tt.want, diff(before, after)); d != "" {
				t.Errorf("%s\nprinted:\n%s", d, after)
			}
			if again, err := Parse(after); err != nil || !bytes.Equal(again.Bytes(), after) {
				t.Errorf("the edited body: %v", err)
			}
		})
	}
}

// New lines go where RFC 8866, section 5 wants them, also before blank lines at the end.
func TestPlaceOfNewLines(t *testing.T) {
	s, err := Parse([]byte("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\na=x\nm=audio 4000 RTP/AVP 0\ni=title\na=y\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.SetConnection(netip.MustParseAddr("192.0.2.1"))
	s.Media[0].SetConnection(netip.MustParseAddr("192.0.2.2"))
	s.AddAttr("group", "LS 1")
	s.Media[0].AddAttr("mid", "1")
	want := "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\na=x\na=group:LS 1\n" +
		"m=audio 4000 RTP/AVP 0\ni=title\nc=IN IP4 192.0.2.2\na=y\na=mid:1\n\n"
	if d := cmp.Diff(want, string(s.Bytes())); d != "" {
		t.Error(d)
	}
}

func TestAccessors(t *testing.T) {
	c := parsed(t, "chromium-offer")
	audio, video := c.Media[0], c.Media[1]
	if got := words(c.Groups("BUNDLE"), audio.MID(), c.ByMID("1") == video, c.ByMID("") == nil, video.Index()); got != "[[0 1]] 0 true true 1" {
		t.Error(got)
	}
	ufrag, pwd, ok := audio.ICE()
	if got := words(ufrag, pwd, ok, audio.ICEOptions(), c.ICELite(), audio.EndOfCandidates()); got != "EsAw P2uYro0UCOQ4zxjKXaWCBui1 true [trickle] false false" {
		t.Error(got)
	}
	if fs := audio.Fingerprints(); len(fs) != 1 || fs[0].Hash != "sha-256" || len(fs[0].Sum) != 32 || audio.Setup() != "actpass" {
		t.Error(fs, audio.Setup())
	}
	if v, _ := audio.Attr("fingerprint"); v != audio.Fingerprints()[0].String() {
		t.Error("the fingerprint does not print as it came")
	}
	for i, v := range audio.Attrs("candidate") {
		if got := audio.Candidates()[i].String(); i != 1 && got != v {
			t.Errorf("candidate %q came as %q", got, v)
		}
	}
	first := audio.Candidates()[0]
	if first.Host == "" || first.Addr.IsValid() || first.Port != 46243 || first.Type != "host" {
		t.Errorf("the mDNS candidate: %+v", first)
	}
	if second := audio.Candidates()[1]; second.Related != netip.MustParseAddrPort("0.0.0.0:0") || second.Addr != netip.MustParseAddr("203.0.113.7") {
		t.Errorf("the srflx candidate: %+v", second)
	}
	if es := audio.ExtMaps(); len(es) != 3 || es[2].ID != 3 || es[2].Direction != "recvonly" {
		t.Errorf("%+v", es)
	}
	if got := audio.RTCP().String(); got != "0.0.0.0:9" || !audio.RTCPMux() {
		t.Error(got)
	}
	if got := words(video.Kind(), video.Port(), video.IsRTP(), video.Protocol()); got != "video 9 true UDP/TLS/RTP/SAVPF" {
		t.Error(got)
	}
	if r := parsed(t, "rtpengine-offer").Media[0]; r.TLSID() != "0a1b2c3d4e5f60718293a4b5c6d7e8f9" || !r.EndOfCandidates() || r.RTCPPort() != 23450 {
		t.Error("rtpengine's offer is misread")
	}

	f := parsed(t, "fax-t38")
	if got := words(f.Media[0].Rejected(), f.Media[1].Rejected(), f.Media[1].Formats(), f.Media[1].IsRTP(), f.Media[1].Codecs()); got != "true false [t38] false []" {
		t.Error(got)
	}
	l := parsed(t, "bare-lf")
	m := l.Media[0]
	if got := words(l.Origin().Username, "|", m.ConnectionHost(), m.Connection().IsValid(), m.PortCount(), m.Direction(), m.RTCPPort()); got != "John Q Public | host.example.com false 2 sendonly 49171" {
		t.Error(got)
	}
	a := parsed(t, "asterisk22-offer").Media[0]
	if a.PTime() != 20*time.Millisecond || a.MaxPTime() != 140*time.Millisecond || a.Connection() != netip.MustParseAddr("10.0.0.5") {
		t.Error(a.PTime(), a.MaxPTime(), a.Connection())
	}
	p := parsed(t, "linphone-offer").Media[0]
	if ufrag, _, ok := p.ICE(); !ok || ufrag != "9b3d71a2" {
		t.Error("ICE of the session is not the media's")
	}
}

func TestRemoveICEAndDTLS(t *testing.T) {
	s := parsed(t, "chromium-offer")
	s.RemoveICE()
	s.RemoveDTLS()
	out := string(s.Bytes())
	for _, word := range []string{"candidate", "ice-", "fingerprint", "setup"} {
		if strings.Contains(out, word) {
			t.Errorf("%s is still there", word)
		}
	}
	if want := strings.Count(string(golden(t, "chromium-offer")), "\n") - 3 - 5 - 5; strings.Count(out, "\n") != want {
		t.Errorf("%d lines, want %d", strings.Count(out, "\n"), want)
	}
}

// The body of a user agent: built, answered, and read again.
func TestNew(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	s := New(Origin{Username: "farm", ID: "7"}, addr)
	m := s.AddMedia("audio", 4000, "RTP/AVP", Codec{PT: 0, Name: "PCMU", Rate: 8000}, Codec{PT: 96, Name: "opus", Rate: 48000, Channels: 2, Params: "useinbandfec=1"},
		Codec{PT: 101, Name: "telephone-event", Rate: 8000, Params: "0-15"})
	m.SetPTime(20 * time.Millisecond)
	m.SetDirection(SendOnly)
	s.AddRejected(parsed(t, "fax-t38").Media[1])
	want := "v=0\r\no=farm 7 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" +
		"m=audio 4000 RTP/AVP 0 96 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n" +
		"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendonly\r\nm=image 0 udptl t38\r\n"
	if d := cmp.Diff(want, string(s.Bytes())); d != "" {
		t.Error(d)
	}
	again, err := Parse(s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m.Codecs(), again.Media[0].Codecs()); d != "" {
		t.Error(d)
	}
}

// Errors name the line, what came and what is allowed.
func TestParseErrors(t *testing.T) {
	head := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"
	tests := []struct{ name, in, want string }{
		{"empty", "", "parse sdp: body is empty"},
		{"no version", "o=- 1 1 IN IP4 192.0.2.1\r\n", `parse sdp: line 1: "o=- 1 1 IN IP4 192.0.2.1", want v=0 first`},
		{"version", "v=1\r\n", `parse sdp: line 1: version "1", want v=0`},
		{"html", "<html>", `parse sdp: line 1: "<html>", want a letter and '='`},
		{"no origin", "v=0\r\ns=-\r\n", "parse sdp: no o= line"},
		{"origin", "v=0\r\no=- 1 IN IP4 192.0.2.1\r\n", `parse sdp: line 2: o="- 1 IN IP4 192.0.2.1", want o=USER ID VERSION IN IP4|IP6 ADDRESS`},
		{"two origins", head + "o=- 1 1 IN IP4 192.0.2.1\r\n", "parse sdp: line 5: a second o= line"},
		{"connection", head + "c=IN IP4\r\n", `parse sdp: line 5: c="IN IP4", want c=IN IP4|IP6 ADDRESS`},
		{"media", head + "m=audio 4000 RTP/AVP\r\n", `parse sdp: line 5: m="audio 4000 RTP/AVP", want m=KIND PORT PROTOCOL FORMATS`},
		{"port", head + "m=audio 65536 RTP/AVP 0\r\n", `parse sdp: line 5: m= line has port "65536", want 0..65535 or PORT/COUNT`},
		{"port count", head + "m=audio 5000/0 RTP/AVP 0\r\n", `parse sdp: line 5: m= line has port "5000/0", want 0..65535 or PORT/COUNT`},
		{"carriage return", head + "a=x\ra=y\r\n", "parse sdp: line 5: byte 0x0d inside the line"},
		{"zero byte", head + "a=x\x00y\r\n", "parse sdp: line 5: byte 0x00 inside the line"},
		{"size", head + strings.Repeat("a=12345678\r\n", 6000), "parse sdp: 72043 bytes, at most 65536 are allowed"},
		{"lines", head + strings.Repeat("a=x\n", 5000), "parse sdp: more than 4096 lines"},
		{"media count", head + strings.Repeat("m=audio 1 RTP/AVP 0\n", 129), "parse sdp: line 133: more than 128 m= lines"},
	}
	for _, tt := range tests {
		if _, err := Parse([]byte(tt.in)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	in := golden(b, "chromium-offer")
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}

// The edits that an edge makes to an offer on its way to the farm.
func BenchmarkOfferEdits(b *testing.B) {
	in := golden(b, "baresip-offer")
	addr := netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		s, err := Parse(in)
		if err != nil {
			b.Fatal(err)
		}
		o := s.Origin()
		o.Addr = addr
		s.SetOrigin(o)
		s.SetConnection(addr)
		m := s.Media[0]
		m.SetPort(30000)
		m.SetCodecs([]Codec{{PT: 0, Name: "PCMU", Rate: 8000}, {PT: 101, Name: "telephone-event", Rate: 8000, Params: "0-15"}})
		m.SetRTCP(netip.AddrPortFrom(addr, 30001))
		out = s.Append(out[:0])
	}
}
