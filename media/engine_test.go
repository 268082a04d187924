package media

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

const pcmu = "0 101"

var eventLines = []string{"rtpmap:101 telephone-event/8000", "fmtp:101 0-16"}

// TestB26RelayBothWays passes what it does not know, byte for byte of the payload, and one stream is seen per side.
func TestB26RelayBothWays(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%v", portable), func(t *testing.T) {
			r := newRig(t, Config{Portable: portable})
			a, b := newPeer(t, 1), newPeer(t, 2)
			toB, toA := r.connect(relayed("c", "a", a.body("RTP/AVP", "97", "rtpmap:97 speex/16000")), a, b,
				b.body("RTP/AVP", "97", "rtpmap:97 speex/16000"))
			for _, s := range []*sdp.Session{toA, toB} {
				if got := s.Media[0].Codecs(); len(got) != 1 || !got[0].Is("speex") {
					t.Errorf("codecs %v", got)
				}
				if s.Origin().Addr != loopback {
					t.Errorf("origin %v", s.Origin())
				}
			}
			for i := range 20 {
				payload := []byte(fmt.Sprintf("packet %d", i))
				a.send(a.packet(97, payload))
				got := b.recv()
				if string(got.Payload) != string(payload) || got.PayloadType != 97 || got.SSRC == 1 {
					t.Fatalf("b got %v %q", got.Header, got.Payload)
				}
				b.send(b.packet(97, payload))
				if got := a.recv(); string(got.Payload) != string(payload) || got.SSRC == 2 {
					t.Fatalf("a got %v", got)
				}
			}
			info := r.query("c")
			if n := info.Tags[0].Medias[0].Streams[0].Stats.Packets; n != 20 {
				t.Errorf("query says %d packets", n)
			}
			if !info.Tags[0].Medias[0].Streams[0].Latched {
				t.Error("not latched")
			}
			r.barrier()
			st := r.Stats()
			if st.Packets != 40 || st.PacketsOut != 40 || st.Calls != 1 || st.Streams != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// TestB17InternalLegIsPCMU checks what the farm and the caller see.
func TestB17InternalLegIsPCMU(t *testing.T) {
	r := newRig(t, Config{Interfaces: []Interface{
		{Name: "pub", Addr: loopback, Advertised: mustAddr("192.0.2.7")}, {Name: "priv", Addr: mustAddr("127.0.0.2")},
	}})
	a, b := newPeer(t, 1), newPeerAt(t, "127.0.0.2", 2)
	offer := strings.Replace(a.body("RTP/AVPF", "111 9 8 0 126 110 13", "rtpmap:111 opus/48000/2", "rtpmap:126 telephone-event/8000",
		"rtpmap:110 telephone-event/48000", "rtcp-mux", "rtcp-fb:111 nack", "ice-ufrag:x", "ice-pwd:0123456789012345678901",
		"candidate:1 1 udp 1 10.0.0.1 4000 typ host", "ssrc:99 cname:x", "rtcp:9 IN IP4 10.0.0.1", "mid:0"), "t=0 0\r\n",
		"t=0 0\r\na=group:BUNDLE 0\r\n", 1)
	farm := r.must(toFarm("c", "a", offer))
	s, err := sdp.Parse(farm)
	if err != nil {
		t.Fatal(err)
	}
	m := s.Media[0]
	if m.Protocol() != "RTP/AVP" || m.Connection() != mustAddr("127.0.0.2") {
		t.Errorf("m= %s, c= %s", m.Protocol(), m.Connection())
	}
	if got := m.Codecs(); len(got) != 2 || !got[0].Is("PCMU") || got[1].PT != 126 || got[1].Rate != 8000 {
		t.Errorf("codecs %v", got)
	}
	for _, not := range []string{"ice-", "candidate", "ssrc", "rtcp-mux", "10.0.0.1", "BUNDLE", "rtcp-fb", "127.0.0.1", "opus"} {
		if hasAttr(farm, not) {
			t.Errorf("the farm sees %q:\n%s", not, farm)
		}
	}
	back := r.must(answered("c", "a", "b", b.body("RTP/AVP", "0 126", "rtpmap:126 telephone-event/8000")))
	s, err = sdp.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	m = s.Media[0]
	if m.Protocol() != "RTP/AVPF" || !m.RTCPMux() || m.Connection() != mustAddr("192.0.2.7") || hasAttr(back, "127.0.0") {
		t.Errorf("the caller sees:\n%s", back)
	}
	got := m.Codecs()
	want, voice, event := "opus", uint8(111), uint8(110) // the events of Opus' clock
	if !transcode.CanEncode(transcode.Opus) {
		want, voice, event = "G722", 9, 126 // the next of the offer
	}
	if len(got) != 2 || !got[0].Is(want) || got[0].PT != voice || !isEvent(got[1]) || got[1].PT != event {
		t.Errorf("codecs %v, want %s and telephone-event %d", got, want, event)
	}
}

// TestB28PreferenceOrdersTheOffer: from the farm outwards the request's list is the order.
func TestB28PreferenceOrdersTheOffer(t *testing.T) {
	r := newRig(t, Config{})
	farm := newPeer(t, 1)
	req := relayed("c", "f", farm.body("RTP/AVP", pcmu, eventLines...))
	req.Codec.Transcode = []string{"opus", "G722", "PCMU", "PCMA", "nonsense"}
	s, err := sdp.Parse(r.must(req))
	if err != nil {
		t.Fatal(err)
	}
	want := "opus, G722, PCMU, PCMA, telephone-event, telephone-event"
	if !transcode.CanEncode(transcode.Opus) {
		want = "G722, PCMU, PCMA, telephone-event" // what cannot be encoded is not offered
	}
	if got := names(s.Media[0].Codecs()); got != want {
		t.Errorf("offered %s, want %s", got, want)
	}
	resp := r.must(answered("c", "f", "b", farm.body("RTP/AVP", "8 101", eventLines...)))
	if s, err = sdp.Parse(resp); err != nil {
		t.Fatal(err)
	}
	if got := names(s.Media[0].Codecs()); got != "PCMU, telephone-event" {
		t.Errorf("answered %s", got)
	}
}

// TestB29NoCommonCodec is an error-reason at the earliest moment, and nothing leaks.
func TestB29NoCommonCodec(t *testing.T) {
	r := newRig(t, Config{})
	a := newPeer(t, 1)
	resp := r.do(toFarm("c", "a", a.body("RTP/AVP", "18")))
	if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "no common codec") {
		t.Errorf("offer: %+v", resp)
	}
	r.must(toFarm("d", "a", a.body("RTP/AVP", "8 0")))
	resp = r.do(answered("d", "a", "b", a.body("RTP/AVP", "18")))
	if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "no common codec") {
		t.Errorf("answer: %+v", resp)
	}
	if n := r.Stats().Calls; n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// TestErrorReasons tells the operator what to change.
func TestErrorReasons(t *testing.T) {
	r := newRig(t, Config{PortMin: 64400, PortMax: 64403, MaxSessions: 2})
	a := newPeer(t, 1)
	plain := a.body("RTP/AVP", "0")
	cases := []struct {
		name string
		req  ng.Request
		want string
	}{
		{"no call-id", ng.Request{Command: "offer", FromTag: "x", SDP: []byte(plain)}, "call-id"},
		{"no sdp", ng.Request{Command: "offer", FromTag: "x", CallID: "c"}, "sdp is needed"},
		{"bad sdp", relayed("c", "a", "v=1\r\nhello"), "sdp: "},
		{"unknown command", ng.Request{Command: "dance"}, `"dance"`},
		{"answer without offer", answered("zzz", "a", "b", plain), "unknown call-id"},
		{"dtls", relayed("c", "a", a.body("UDP/TLS/RTP/SAVPF", "0")), "DTLS-SRTP"},
		{"no key", relayed("c", "a", a.body("RTP/SAVP", "0")), "no usable line"},
		{"bad suite", relayed("c", "a", a.body("RTP/SAVP", "0", "crypto:1 F8_128_HMAC_SHA1_80 inline:"+strings.Repeat("A", 40))), "F8_128"},
		{"query", ng.Request{Command: "query", CallID: "nobody"}, "unknown call-id"},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			resp := r.do(tt.req)
			if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, tt.want) {
				t.Errorf("%+v, want %q", resp, tt.want)
			}
		})
	}
	if n := r.Stats().Calls; n != 0 {
		t.Fatalf("%d calls left over", n)
	}
	r.barrier()
	r.must(relayed("one", "a", plain))
	resp := r.do(relayed("two", "a", plain))
	if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "no free ports") {
		t.Errorf("exhausted: %+v", resp)
	}
	r.must(ng.Request{Command: "delete", CallID: "one"})
	if resp := r.do(ng.Request{Command: "delete", CallID: "one"}); resp.Result != ng.ResultOK || resp.Warning == "" {
		t.Errorf("second delete: %+v", resp)
	}
}

func TestLoadLimit(t *testing.T) {
	r := newRig(t, Config{MaxSessions: 1})
	a := newPeer(t, 1)
	r.must(relayed("one", "a", a.body("RTP/AVP", "0")))
	if resp := r.do(relayed("two", "a", a.body("RTP/AVP", "0"))); resp.Result != ng.ResultLoadLimit {
		t.Errorf("%+v", resp)
	}
	r.must(relayed("one", "a", a.body("RTP/AVP", "0")))
	if resp := r.do(ng.Request{Command: "ping"}); resp.Result != ng.ResultPong {
		t.Errorf("ping: %+v", resp)
	}
	if resp := r.do(ng.Request{Command: "list"}); len(resp.Calls) != 1 || resp.Calls[0] != "one" {
		t.Errorf("list: %+v", resp)
	}
	if resp := r.do(ng.Request{Command: "statistics"}); resp.Statistics["drops"] == nil {
		t.Errorf("statistics: %+v", resp)
	}
}

// TestRetransmittedOfferIsTheSame: a repeated INVITE, and the one behind a 401, keep ports and keys (clients.md 1).
func TestRetransmittedOfferIsTheSame(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := toFarm("c", "a", a.body("RTP/SAVP", "8 101", append(eventLines, a.key("AES_CM_128_HMAC_SHA1_80", 3))...))
	first := r.must(offer)
	for range 3 {
		if again := r.must(offer); string(again) != string(first) {
			t.Fatalf("offer changed:\n%s\n%s", first, again)
		}
	}
	answer := answered("c", "a", "b", b.body("RTP/AVP", pcmu, eventLines...))
	back := r.must(answer)
	for range 3 {
		if again := r.must(answer); string(again) != string(back) {
			t.Fatalf("answer changed:\n%s\n%s", back, again)
		}
	}
}

// TestForkedAnswersNewestWins: several to-tags answer one offer.
func TestForkedAnswersNewestWins(t *testing.T) {
	r := newRig(t, Config{})
	a, b1, b2 := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	out := r.must(relayed("c", "a", a.body("RTP/AVP", "0")))
	b1.take(out)
	b2.take(out)
	first := a.take(r.must(answered("c", "a", "b1", b1.body("RTP/AVP", "0"))))
	a.send(a.packet(0, []byte("one")))
	b1.recv()
	second := a.take(r.must(answered("c", "a", "b2", b2.body("RTP/AVP", "0"))))
	if first.Media[0].Port() != second.Media[0].Port() {
		t.Error("the port moved")
	}
	b2.send(b2.packet(0, []byte("hello")))
	if got := a.recv(); string(got.Payload) != "hello" {
		t.Fatalf("%v", got)
	}
	a.send(a.packet(0, []byte("two")))
	if got := b2.recv(); string(got.Payload) != "two" {
		t.Fatalf("%v", got)
	}
	b1.silence()
}

// TestDelayedOffer: the offer comes from the called side in its 200, the answer in the ACK.
func TestDelayedOffer(t *testing.T) {
	for _, tags := range [][2]string{{"callee", "caller"}, {"caller", "callee"}} {
		r := newRig(t, Config{})
		callee, caller := newPeer(t, 1), newPeer(t, 2)
		req := relayed("c", "callee", callee.body("RTP/AVP", "0"))
		req.ToTag = "caller"
		caller.take(r.must(req))
		callee.take(r.must(answered("c", tags[0], tags[1], caller.body("RTP/AVP", "0"))))
		caller.send(caller.packet(0, []byte("x")))
		callee.recv()
		callee.send(callee.packet(0, []byte("y")))
		caller.recv()
		r.stop()
	}
}

func TestHold(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	port := a.to

	hold := r.must(relayed("c", "a", a.body("RTP/AVP", "0", "sendonly")))
	if !hasAttr(hold, "a=sendonly") {
		t.Errorf("sendonly lost:\n%s", hold)
	}
	a.take(r.must(answered("c", "a", "b", b.body("RTP/AVP", "0", "recvonly"))))
	if a.to != port {
		t.Error("the port moved")
	}
	a.send(a.packet(0, []byte("music")))
	b.recv()

	// RFC 2543: c=0.0.0.0. It stays one, and nothing is sent there.
	old := strings.Replace(a.body("RTP/AVP", "0"), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1)
	if out := r.must(relayed("c", "a", old)); !hasAttr(out, "c=IN IP4 0.0.0.0") {
		t.Errorf("hold lost:\n%s", out)
	}
	r.must(answered("c", "a", "b", b.body("RTP/AVP", "0")))
	b.send(b.packet(0, []byte("x")))
	a.silence()
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	b.send(b.packet(0, []byte("back")))
	a.recv()
}

// TestB33SourceIsLearntThenLocked: the party sends from another port than its SDP says; an attacker is not heard.
func TestB33SourceIsLearntThenLocked(t *testing.T) {
	r := newRig(t, Config{})
	client, natted, attacker, farm := newPeer(t, 1), newPeer(t, 1), newPeerAt(t, "127.0.0.9", 66), newPeer(t, 2)
	r.connect(relayed("c", "a", client.body("RTP/AVP", "0")), client, farm, farm.body("RTP/AVP", "0"))
	natted.to, attacker.to = client.to, client.to
	attacker.send(attacker.packet(0, []byte("evil")))
	farm.silence()
	natted.send(natted.packet(0, []byte("good")))
	if got := farm.recv(); string(got.Payload) != "good" {
		t.Fatalf("%q", got.Payload)
	}
	for range 50 {
		attacker.send(attacker.packet(0, []byte("evil")))
	}
	natted.send(natted.packet(0, []byte("good")))
	if got := farm.recv(); string(got.Payload) != "good" {
		t.Fatalf("%q", got.Payload)
	}
	farm.send(farm.packet(0, []byte("answer")))
	natted.recv()
	attacker.silence()
	client.silence()
	if n := r.Stats().Drops["source"]; n != 51 {
		t.Errorf("%d packets dropped by source, want 51", n)
	}
	if got := r.query("c").Tags[0].Medias[0].Streams[0]; !got.Latched || got.Endpoint != natted.addr() || got.Stats.Errors != 51 {
		t.Errorf("query: %+v", got)
	}
}

// TestPayloadTypeChangesMidCall: a re-INVITE renumbers the codec; packets that were never negotiated are dropped.
func TestPayloadTypeChangesMidCall(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "96 0", "rtpmap:96 telephone-event/8000")), a, b,
		b.body("RTP/AVP", "0 96", "rtpmap:96 telephone-event/8000"))
	a.send(a.packet(96, []byte{1, 10, 0, 160}))
	if got := b.recv(); got.PayloadType != 96 {
		t.Fatalf("%v", got)
	}
	a.send(a.packet(8, make([]byte, 160)))
	b.silence()
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "0 120", "rtpmap:120 telephone-event/8000")), a, b,
		b.body("RTP/AVP", "0 99", "rtpmap:99 telephone-event/8000"))
	a.send(a.packet(120, []byte{1, 10, 0, 160}))
	if got := b.recv(); got.PayloadType != 99 {
		t.Fatalf("%v", got)
	}
	b.send(b.packet(99, []byte{2, 10, 0, 160}))
	if got := a.recv(); got.PayloadType != 120 {
		t.Fatalf("%v", got)
	}
	if n := r.Stats().Drops["payload-type"]; n != 1 {
		t.Errorf("%d dropped", n)
	}
}

// TestB26Passes T.38 and video beside audio.
func TestB26Passes(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	video := func(p *peer) string {
		return p.body("RTP/AVP", "0") + fmt.Sprintf("m=video %d RTP/AVPF 97\r\na=rtpmap:97 VP8/90000\r\n", p.addr().Port()) +
			fmt.Sprintf("m=image %d udptl t38\r\n", p.addr().Port()) + "m=audio 0 RTP/AVP 0\r\n"
	}
	out, err := sdp.Parse(r.must(relayed("c", "a", video(a))))
	if err != nil {
		t.Fatal(err)
	}
	r.must(answered("c", "a", "b", video(b)))
	if out.Media[3].Port() != 0 {
		t.Error("a rejected line came alive")
	}
	b.to = netPort(out.Media[1])
	b.send(b.packet(97, []byte("key frame")))
	if got := a.recv(); got.SSRC != 2 || got.PayloadType != 97 || got.SequenceNumber != b.seq {
		t.Errorf("video changed: %v", got)
	}
	b.to = netPort(out.Media[2])
	b.raw([]byte{0, 0, 6, 1, 2})
	if got, ok := a.bytes(time.Second); !ok || string(got) != "\x00\x00\x06\x01\x02" {
		t.Errorf("udptl: %x", got)
	}
}

func TestOtherPacketsAreCounted(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	b.take(r.must(relayed("c", "a", a.body("RTP/AVP", "0"))))
	b.send(b.packet(0, []byte("early")))
	a.silence()
	a.take(r.must(answered("c", "a", "b", b.body("RTP/AVP", "0"))))
	for _, p := range [][]byte{{0, 1, 0, 0}, {22, 254, 253}, {64, 0}, {128}, {128, 200, 0, 9, 0, 0, 0, 0}, {}} {
		a.raw(p)
	}
	a.send(a.packet(0, []byte("x")))
	b.recv()
	want := map[string]uint64{"no-route": 1, "stun": 1, "dtls": 1, "class": 1, "short": 2, "rtcp": 1}
	got := r.Stats().Drops
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{PortMin: 30000, PortMax: 30002}, "too small"},
		{Config{PortMin: 40000, PortMax: 30000}, "too small"},
		{Config{Interfaces: []Interface{{Addr: mustAddr("203.0.113.9")}}}, "203.0.113.9"},
		{Config{TOS: 300}, "tos 300"},
		{Config{OpusComplexity: 11}, "complexity"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"pub/127.0.0.1!192.0.2.1": "{pub 127.0.0.1 192.0.2.1}", "127.0.0.1": "{default 127.0.0.1 invalid IP}", "x": "", "/::1": "",
		"a/::1!b": "",
	} {
		i, err := ParseInterface(text)
		if got := fmt.Sprint(i); err == nil && got != want || err != nil && want != "" {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

// TestRunTwice: Run is for once, and after it nothing is opened.
func TestRunTwice(t *testing.T) {
	r := newRig(t, Config{})
	r.barrier()
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run worked")
	}
	r.stop()
	if resp := r.do(relayed("c", "a", newPeer(t, 1).body("RTP/AVP", "0"))); resp.Result != ng.ResultError {
		t.Errorf("offer after the end: %+v", resp)
	}
}
