package ng

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const testSDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 101\r\n"

// kamailioOffer is an offer as Kamailio's rtpengine module writes it for the flags of the stack that this project
// replaces: parsed by the module, keys in the order of its code.
var kamailioOffer = "d3:sdp" + bstr(testSDP) +
	"9:directionl4:priv3:pube" +
	"5:codecd4:maskl3:alle9:transcodel4:PCMU4:PCMA15:telephone-evente6:exceptl3:VP8e5:offerl15:telephone-eventee" +
	"3:ICE6:remove18:transport-protocol7:RTP/AVP" +
	"7:replacel6:origin18:session-connectione" +
	"8:rtcp-muxl6:accepte" +
	"7:call-id26:3c2671b3-5b2e1a@192.0.2.10" +
	"13:received-froml3:IP49:192.0.2.1e" +
	"8:from-tag8:as58f4d3" +
	"8:supportsl10:load limite" +
	"7:command5:offere"

// kamailioFlagsOffer leaves the parsing of the flags to us (Kamailio 6, rtpp_flags).
var kamailioFlagsOffer = "d3:sdp" + bstr(testSDP) +
	"7:call-id26:3c2671b3-5b2e1a@192.0.2.1013:received-froml3:IP49:192.0.2.1e8:from-tag8:as58f4d3" +
	"10:rtpp-flags" + bstr("replace-origin replace-session-connection direction=priv direction=pub codec-mask=all codec-transcode=PCMU "+
	"codec-transcode=PCMA codec-transcode-telephone-event codec-except=VP8 codec-offer=telephone-event ICE=remove RTP/AVP rtcp-mux-accept via-branch=auto") +
	"8:supportsl10:load limite7:command5:offere"

func bstr(s string) string { return string(appendText(nil, s)) }

// Kamailio's module drives us unchanged (B22): the flags parsed there and the flags parsed here mean the same.
func TestB22KamailioOffer(t *testing.T) {
	want := &Request{
		Command: "offer", CallID: "3c2671b3-5b2e1a@192.0.2.10", FromTag: "as58f4d3", SDP: []byte(testSDP),
		Transport: "RTP/AVP", Direction: [2]string{"priv", "pub"},
		Replace: []string{"origin", "session-connection"}, RTCPMux: []string{"accept"}, Supports: []string{"load-limit"}, ICE: "remove",
		Codec:        Codec{Mask: []string{"all"}, Transcode: []string{"PCMU", "PCMA", "telephone-event"}, Except: []string{"VP8"}, Offer: []string{"telephone-event"}},
		ReceivedFrom: netip.MustParseAddr("192.0.2.1"),
	}
	for name, in := range map[string]string{"parsed there": kamailioOffer, "parsed here": kamailioFlagsOffer} {
		got, form, err := ParseRequest([]byte(in))
		if err != nil || form != Bencode {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What we send to a real rtpengine, byte for byte (B22).
func TestB22RequestBytes(t *testing.T) {
	tos, delay := 184, 30*time.Second
	req := &Request{
		Command: "offer", CallID: "c", FromTag: "f", ViaBranch: "z9hG4bK1", SDP: []byte("v=0"), Transport: "RTP/AVP",
		Direction: [2]string{"pub", "priv"}, Flags: []string{"trust-address"}, Replace: []string{"origin"}, RTCPMux: []string{"demux"},
		SDES: []string{"no-NULL_HMAC_SHA1_32"}, Supports: []string{"load-limit"}, ICE: "remove",
		Codec: Codec{Mask: []string{"all"}, Transcode: []string{"PCMU"}}, ReceivedFrom: netip.MustParseAddr("2001:db8::1"),
		TOS: &tos, DeleteDelay: &delay, PTime: 20 * time.Millisecond,
	}
	got, err := AppendRequest([]byte("1 "), req, Bencode)
	want := "1 d3:ICE6:remove4:SDESl20:no-NULL_HMAC_SHA1_32e3:TOSi184e7:call-id1:c5:codecd4:maskl3:alle9:transcodel4:PCMUee7:command5:offer" +
		"12:delete-delayi30e9:directionl3:pub4:prive5:flagsl13:trust-addresse8:from-tag1:f5:ptimei20e13:received-froml3:IP611:2001:db8::1e" +
		"7:replacel6:origine8:rtcp-muxl5:demuxe3:sdp3:v=08:supportsl10:load limite18:transport-protocol7:RTP/AVP10:via-branch8:z9hG4bK1e"
	if d := cmp.Diff(want, string(got)); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, form := range []Form{Bencode, JSON} {
		b, err := AppendRequest(nil, req, form)
		if err != nil {
			t.Fatal(err)
		}
		again, f, err := ParseRequest(b)
		if d := cmp.Diff(req, again, cmpopts.EquateComparable(netip.Addr{})); d != "" || err != nil || f != form {
			t.Error(form, err, d)
		}
	}
}

// Spellings: blanks, hyphens, case, and the places where one thing may be said (B22).
func TestB22Spellings(t *testing.T) {
	tests := []struct {
		name, in string
		want     Request
	}{
		{"blanks", `{"command":"start recording","call id":"c","transport protocol":"RTP/SAVPF","received from":["IP4","192.0.2.9"],"media address":"2001:db8::1","record call":"yes","ICE lite":"both"}`,
			Request{Command: "start recording", CallID: "c", Transport: "RTP/SAVPF", ReceivedFrom: netip.MustParseAddr("192.0.2.9"),
				MediaAddress: netip.MustParseAddr("2001:db8::1"), RecordCall: "yes", ICELite: "both"}},
		{"underscores and case", `{"Command":"OFFER","call_id":"C","FLAGS":["Trust Address","strict_source"],"replace":["Session Connection"]}`,
			Request{Command: "offer", CallID: "C", Flags: []string{"trust-address", "strict-source"}, Replace: []string{"session-connection"}}},
		{"codec forms among the flags", `{"flags":["codec-mask-all","codec-transcode-PCMU","codec-strip-G729","codec-offer-opus","codec-except-PCMA","transcode-G722","codec-accept-AMR","codec-consume-iLBC","codec-set-opus/48000/2/32000","codec-set-iLBC/8000/1///mode--30","always transcode"]}`,
			Request{Flags: []string{"always-transcode"}, Codec: Codec{Mask: []string{"all"}, Transcode: []string{"PCMU", "G722"}, Strip: []string{"G729"}, Offer: []string{"opus"},
				Except: []string{"PCMA"}, Accept: []string{"AMR", "all"}, Consume: []string{"iLBC"}, Set: []string{"opus/48000/2/32000", "iLBC/8000/1///mode=30"}}}},
		{"lists among the flags", `{"flags":["SDES-off","SDES-no-AES_256_CM_HMAC_SHA1_80","sdes-only-AEAD_AES_128_GCM","pad crypto","OSRTP-offer","rtcp-mux-require","replace-origin","record call","port latching"]}`,
			Request{Flags: []string{"port-latching"}, SDES: []string{"off", "no-AES_256_CM_HMAC_SHA1_80", "only-AEAD_AES_128_GCM", "pad"}, OSRTP: []string{"offer"},
				RTCPMux: []string{"require"}, Replace: []string{"origin"}, RecordCall: "on"}},
		{"one word for a list", `{"replace":"origin","rtcp-mux":"accept","received-from":"192.0.2.3","codec":{"mask":"all"}}`,
			Request{Replace: []string{"origin"}, RTCPMux: []string{"accept"}, ReceivedFrom: netip.MustParseAddr("192.0.2.3"), Codec: Codec{Mask: []string{"all"}}}},
		{"transport in pieces", `{"rtpp_flags":"trust-address SRTP AVPF internal external ICE=force DTLS=passive TOS=184 foo=bar SIP-source-address"}`,
			Request{Transport: "RTP/SAVPF", Direction: [2]string{"internal", "external"}, ICE: "force", DTLS: "passive", TOS: ptr(184),
				Flags: []string{"trust-address", "sip-source-address"}, Unknown: []string{"foo"}}},
		{"keys go before flags", `{"from-tag":"f","direction":["a","b"],"transport-protocol":"RTP/AVP","rtpp-flags":"from-tag=x to-tag=t direction=c RTP/SAVP"}`,
			Request{FromTag: "f", ToTag: "t", Direction: [2]string{"a", "b"}, Transport: "RTP/AVP"}},
		{"WebRTC", `{"flags":["WebRTC"],"ICE":"default"}`,
			Request{Transport: "UDP/TLS/RTP/SAVPF", ICE: "default", RTCPMux: []string{"offer", "require"}, SDES: []string{"off"}, Flags: []string{"no-rtcp-attribute", "generate-mid"}}},
		{"interfaces by name", `{"from-interface":"pub","to-interface":"priv","address family":"ip6","DTLS":"no","DTLS-reverse":"passive","DTLS-fingerprint":"SHA-384","endpoint-learning":"heuristic","generate RTCP":"on","TOS":-5,"limit":"7"}`,
			Request{Direction: [2]string{"pub", "priv"}, AddressFamily: "IP6", DTLS: "off", DTLSReverse: "passive", DTLSFingerprint: "sha-384",
				Flags: []string{"endpoint-learning-heuristic", "generate-rtcp"}, TOS: ptr(-1), Limit: 7}},
		{"unknown ones are kept by name", `{"frobnicate":"192.0.2.1","codec":{"mask":["all"],"frobnicate":["x"]},"rtcp-mux":["perhaps"],"TOS":999}`,
			Request{RTCPMux: []string{"perhaps"}, Codec: Codec{Mask: []string{"all"}}, Unknown: []string{"codec frobnicate", "frobnicate", "rtcp-mux-perhaps"}}},
	}
	for _, tt := range tests {
		got, _, err := ParseRequest([]byte(tt.in))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := cmp.Diff(&tt.want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// An impossible request is refused by a reason that names the key, what came and what is allowed.
func TestRequestErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"TOS":"abc"}`, `key "TOS" has the value "abc", want a whole number 0..255, or -1 to keep that of the call`},
		{`{"transport protocol":"RTP/FOO"}`, `key "transport protocol" has the value "RTP/FOO", want one of RTP/AVP, RTP/AVPF, RTP/SAVP, RTP/SAVPF, UDP/TLS/RTP/SAVP, UDP/TLS/RTP/SAVPF`},
		{`{"ICE":"maybe"}`, `key "ICE" has the value "maybe", want one of remove, force, default, optional, force-relay`},
		{`{"direction":["pub"]}`, `key "direction" has the value "l3:pube", want two interface names: that of the sender, that of the receiver`},
		{`{"media-address":"host"}`, `key "media-address" has the value "host", want an IPv4 or IPv6 address`},
		{`{"received-from":["IP4","x"]}`, `key "received-from" has the value "l3:IP41:xe", want an address, or a list such as ["IP4", "192.0.2.1"]`},
		{`{"address-family":"IP5"}`, `key "address-family" has the value "IP5", want IP4 or IP6`},
		{`{"delete-delay":-1}`, `key "delete-delay" has the value "-1", want whole seconds from 0`},
		{`{"ptime":1000}`, `key "ptime" has the value "1000", want milliseconds 0..240`},
		{`{"codec":["all"]}`, `key "codec" has the value "l3:alle", want a dictionary of lists: strip, offer, mask, except, transcode, accept, consume, set`},
		{`{"sdp":[]}`, `key "sdp" has the value "le", want the body as a string`},
		{`{"flags":["ICE=maybe"]}`, `key "ICE" has the value "maybe", want one of remove, force, default, optional, force-relay`},
		{`{"rtpp-flags":"DTLS=maybe"}`, `key "DTLS" has the value "maybe", want one of off, passive, active, no, disable`},
		{`[]`, `read request: starts with '[', want d (bencode) or { (JSON)`},
		{``, `read request: no dictionary`},
	}
	for _, tt := range tests {
		if _, _, err := ParseRequest([]byte(tt.in)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.in, err, tt.want)
		}
	}
	for in, want := range map[string]string{
		`{}`:                                `key "command" is missing`,
		`{"command":"offer","call-id":"c"}`: `key "from-tag" is missing: offer needs call-id, from-tag, sdp`,
		`{"command":"answer","call-id":"c","from-tag":"f","sdp":"v"}`: `key "to-tag" is missing: answer needs call-id, from-tag, to-tag, sdp`,
		`{"command":"query"}`: `key "call-id" is missing: query needs call-id`,
	} {
		req, _, err := ParseRequest([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Validate(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	if _, _, err := ParseRequest([]byte(`{"ICE":"` + strings.Repeat("x", 500) + `"}`)); len(err.Error()) > 200 {
		t.Errorf("a long value makes a long reason: %v", err)
	}
}

// A message full of words costs no more than its bytes: lists are bounded.
func TestManyWords(t *testing.T) {
	var flags []any
	for i := range maxItems - 100 {
		flags = append(flags, "f"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)))
	}
	req, _, err := ParseRequest(appendBencode(nil, map[string]any{"flags": flags}))
	if err != nil || len(req.Flags) != maxWords {
		t.Errorf("%v, %d flags", err, len(req.Flags))
	}
}

// TestB22PlayDTMFKeys: the keys of play DTMF go through both encodings; impossible values are refused.
func TestB22PlayDTMFKeys(t *testing.T) {
	want := &Request{Command: CmdPlayDTMF, CallID: "c", FromTag: "f", Code: "12#", Duration: 300 * time.Millisecond, Pause: 150 * time.Millisecond, Volume: -10}
	got, err := requestFrom(want.dict())
	if err != nil || got.Code != want.Code || got.Duration != want.Duration || got.Pause != want.Pause || got.Volume != want.Volume {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = requestFrom(map[string]any{"command": "play DTMF", "call-id": "c", "digit": int64(5)}); err != nil || got.Command != CmdPlayDTMF || got.Code != "5" {
		t.Errorf("%+v, %v", got, err)
	}
	for key, v := range map[string]any{"duration": int64(-1), "pause": "x", "volume": int64(99)} {
		if _, err := requestFrom(map[string]any{"command": "play DTMF", key: v}); err == nil {
			t.Errorf("%s %v was taken", key, v)
		}
	}
	if err := (&Request{Command: CmdPlayDTMF}).Validate(); err == nil {
		t.Error("no call-id is needed")
	}
}

// TestB22JoinKeys: the same of join and comfort.
func TestB22JoinKeys(t *testing.T) {
	for _, want := range []*Request{
		{Command: CmdJoin, CallID: "c", FromTag: "f", OtherCallID: "d", OtherTag: "g", Answered: 1764187200123456789, OtherAnswered: 7},
		{Command: CmdHeard, CallID: "c", FromTag: "f"},
		{Command: CmdComfort, CallID: "c", FromTag: "f", Comfort: "off"},
	} {
		got, err := requestFrom(want.dict())
		if err != nil || !cmp.Equal(got, want, cmpopts.EquateComparable(netip.Addr{})) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := requestFrom(map[string]any{"comfort": "maybe"}); err == nil || !strings.Contains(err.Error(), "on, off") {
		t.Errorf("comfort=maybe: %v", err)
	}
	if _, err := requestFrom(map[string]any{"answered": "soon"}); err == nil || !strings.Contains(err.Error(), "heard") {
		t.Errorf("answered=soon: %v", err)
	}
	for _, want := range []Heard{{1764187200123456789, 0, -1}, {7, time.Hour, 0}, {7, time.Second, 1500 * time.Microsecond}} {
		for _, as := range []Form{Bencode, JSON} {
			b, err := AppendResponse(nil, &Response{Result: ResultOK, Heard: &want}, as)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := ParseResponse(b); err != nil || got.Heard == nil || *got.Heard != want {
				t.Errorf("%s: %+v, %v, want %+v", b, got, err, want)
			}
		}
	}
	if err := (&Request{Command: CmdJoin, CallID: "c"}).Validate(); err == nil || !strings.Contains(err.Error(), "other-call-id") {
		t.Errorf("join without the other call: %v", err)
	}
}

// TestB22PlayMediaKeys: the keys of play media, both ways; a database that is not there is said.
func TestB22PlayMediaKeys(t *testing.T) {
	want := &Request{Command: CmdPlayMedia, CallID: "c", FromTag: "f", File: "moh.wav", Blob: []byte("RIFF"), StartPos: time.Second,
		RepeatTimes: 3, RepeatDuration: time.Minute}
	got, err := requestFrom(want.dict())
	if err != nil || !cmp.Equal(got, want, cmpopts.EquateComparable(netip.Addr{})) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := requestFrom(map[string]any{"db-id": int64(7)}); err == nil || !strings.Contains(err.Error(), "file or blob") {
		t.Errorf("db-id: %v", err)
	}
	resp := &Response{Result: ResultOK, Duration: 1500 * time.Millisecond}
	b, err := AppendResponse(nil, resp, JSON)
	if err != nil || !strings.Contains(string(b), `"duration":1500`) {
		t.Errorf("%s, %v", b, err)
	}
	if back, err := ParseResponse(b); err != nil || back.Duration != resp.Duration {
		t.Errorf("%+v, %v", back, err)
	}
}

// TestB22MustAndShouldFlags goes through the flags that controllers use (rtpengine's documentation): each must land in its field, from
// Kamailio's string as well as from the dictionary, and none may be counted as unknown.
func TestB22MustAndShouldFlags(t *testing.T) {
	seconds := func(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	for _, tt := range []struct {
		flags, dict string
		want        Request
	}{
		{"replace-origin replace-session-connection replace-SDP-version replace-username replace-session-name replace-zero-address replace-force-increment-sdp-ver",
			`"replace":["origin","session connection","SDP version","username","session name","zero address","force-increment-sdp-ver"]`,
			Request{Replace: []string{"origin", "session-connection", "sdp-version", "username", "session-name", "zero-address", "force-increment-sdp-ver"}}},
		{"ICE=remove", `"ICE":"remove"`, Request{ICE: "remove"}},
		{"ICE=force ICE-lite=off trickle-ICE", `"ICE":"force","ICE-lite":"off","flags":["trickle ICE"]`,
			Request{ICE: "force", ICELite: "off", Flags: []string{"trickle-ice"}}},
		{"RTP/SAVPF", `"transport protocol":"RTP/SAVPF"`, Request{Transport: "RTP/SAVPF"}},
		{"UDP/TLS/RTP/SAVPF", `"transport-protocol":"UDP/TLS/RTP/SAVPF"`, Request{Transport: "UDP/TLS/RTP/SAVPF"}},
		{"rtcp-mux-offer rtcp-mux-require rtcp-mux-demux rtcp-mux-accept rtcp-mux-reject", `"rtcp mux":["offer","require","demux","accept","reject"]`,
			Request{RTCPMux: []string{"offer", "require", "demux", "accept", "reject"}}},
		{"direction=priv direction=pub", `"direction":["priv","pub"]`, Request{Direction: [2]string{"priv", "pub"}}},
		{"from-interface=priv to-interface=pub", `"from-interface":"priv","to-interface":"pub"`, Request{Direction: [2]string{"priv", "pub"}}},
		{"media-address=192.0.2.1", `"media address":"192.0.2.1"`, Request{MediaAddress: netip.MustParseAddr("192.0.2.1")}},
		{"trust-address SIP-source-address", `"flags":["trust address","SIP source address"]`, Request{Flags: []string{"trust-address", "sip-source-address"}}},
		{"codec-strip-all codec-offer-PCMU codec-mask-opus codec-transcode-PCMA codec-except-GSM codec-accept-G729 codec-consume-AMR codec-set-opus/48000/2/16000",
			`"codec":{"strip":["all"],"offer":["PCMU"],"mask":["opus"],"transcode":["PCMA"],"except":["GSM"],"accept":["G729"],"consume":["AMR"],"set":["opus/48000/2/16000"]}`,
			Request{Codec: Codec{Strip: []string{"all"}, Offer: []string{"PCMU"}, Mask: []string{"opus"}, Transcode: []string{"PCMA"}, Except: []string{"GSM"},
				Accept: []string{"G729"}, Consume: []string{"AMR"}, Set: []string{"opus/48000/2/16000"}}}},
		{"single-codec allow-transcoding ptime=30 ptime-reverse=20", `"flags":["single-codec","allow transcoding"],"ptime":30,"ptime-reverse":20`,
			Request{Flags: []string{"single-codec", "allow-transcoding"}, PTime: 30 * time.Millisecond, PTimeReverse: 20 * time.Millisecond}},
		{"SDES-off SDES-pad SDES-no-AEAD_AES_256_GCM SDES-only-AES_CM_128_HMAC_SHA1_80 SDES-order:AES_CM_128_HMAC_SHA1_32;AEAD_AES_128_GCM",
			`"SDES":["off","pad","no-AEAD_AES_256_GCM","only-AES_CM_128_HMAC_SHA1_80","order:AES_CM_128_HMAC_SHA1_32;AEAD_AES_128_GCM"]`,
			Request{SDES: []string{"off", "pad", "no-AEAD_AES_256_GCM", "only-AES_CM_128_HMAC_SHA1_80", "order:AES_CM_128_HMAC_SHA1_32;AEAD_AES_128_GCM"}}},
		{"OSRTP-offer OSRTP-accept", `"OSRTP":["offer","accept"]`, Request{OSRTP: []string{"offer", "accept"}}},
		{"DTLS=passive DTLS-reverse=active DTLS-fingerprint=sha-512", `"DTLS":"passive","DTLS-reverse":"active","DTLS-fingerprint":"sha-512"`,
			Request{DTLS: "passive", DTLSReverse: "active", DTLSFingerprint: "sha-512"}},
		{"generate-mid no-rtcp-attribute loop-protect original-sendrecv pierce-NAT generate-RTCP", `"flags":["generate mid","no rtcp attribute","loop protect","original sendrecv","pierce NAT"],"generate RTCP":"on"`,
			Request{Flags: []string{"generate-mid", "no-rtcp-attribute", "loop-protect", "original-sendrecv", "pierce-nat", "generate-rtcp"}}},
		{"strict-source media-handover asymmetric port-latching endpoint-learning=heuristic", `"flags":["strict source","media handover","asymmetric","port latching"],"endpoint-learning":"heuristic"`,
			Request{Flags: []string{"strict-source", "media-handover", "asymmetric", "port-latching", "endpoint-learning-heuristic"}}},
		{"address-family=IP6 TOS=46 delete-delay=5 record-call=yes label=x metadata=m", `"address family":"IP6","TOS":46,"delete delay":5,"record call":"yes","label":"x","metadata":"m"`,
			Request{AddressFamily: "IP6", TOS: ptr(46), DeleteDelay: seconds(5), RecordCall: "yes", Label: "x", Metadata: "m"}},
		{"NAT-wait reset recrypt static-codecs reuse-codecs no-codec-renegotiation full-rtcp-attribute reject-ICE fragment provisional",
			`"flags":["NAT-wait","reset","recrypt","static codecs","reuse codecs","no codec renegotiation","full rtcp attribute","reject ICE","fragment","provisional"]`,
			Request{Flags: []string{"nat-wait", "reset", "recrypt", "static-codecs", "reuse-codecs", "no-codec-renegotiation", "full-rtcp-attribute", "reject-ice", "fragment", "provisional"}}},
		{"inject-DTMF detect-DTMF drop-traffic=start DTMF-security=zero", `"flags":["inject DTMF","detect DTMF"],"drop traffic":"start","DTMF security":"zero"`,
			Request{Flags: []string{"inject-dtmf", "detect-dtmf"}, DropTraffic: "start", DTMFSecurity: "zero"}},
		{"extmap-strip-toffset extmap-mask=mid strip-extmap", `"extmap":{"mask":["mid"],"strip":["toffset","all"]}`, Request{Extmap: []string{"toffset", "mid", "all"}}},
		{"from-tags-a from-tags-b all to-label=x set-label=y address=192.0.2.7", `"from-tags":["a","b"],"all":"all","to-label":"x","set-label":"y","address":"192.0.2.7"`,
			Request{FromTags: []string{"a", "b"}, All: "all", ToLabel: "x", SetLabel: "y", Address: netip.MustParseAddr("192.0.2.7")}},
		{"xmlrpc-callback=2001:db8::7 supports=load-limit", `"xmlrpc callback":"2001:db8::7","supports":["load limit"]`,
			Request{XMLRPCCallback: netip.MustParseAddr("2001:db8::7"), Supports: []string{"load-limit"}}},
		{"frequencies=400,800 volume=10 code=5 allow-transcoding", `"frequencies":[400,800],"volume":10,"code":"5","flags":["allow transcoding"]`,
			Request{Frequencies: []int{400, 800}, Volume: 10, Code: "5", Flags: []string{"allow-transcoding"}}},
	} {
		for _, text := range []string{fmt.Sprintf(`{"rtpp-flags":%q}`, tt.flags), "{" + tt.dict + "}"} {
			got, _, err := ParseRequest([]byte(text))
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			slices.Sort(got.Flags)
			slices.Sort(got.Extmap)
			want := tt.want
			want.Flags = slices.Sorted(slices.Values(want.Flags))
			want.Extmap = slices.Sorted(slices.Values(want.Extmap))
			if d := cmp.Diff(&want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s: %s", text, d)
			}
		}
	}
	got, _, err := ParseRequest([]byte(`{"rtpp-flags":"T.38=decode frobnicate","flags":["media echo"]}`))
	if err != nil || len(got.Unknown) != 3 {
		t.Errorf("unknown ones are counted: %v, %v", got.Unknown, err)
	}
}
