package ng

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var equateAddrs = cmpopts.EquateComparable(netip.AddrPort{})

// A query's answer passes through both forms unharmed (B25).
func TestB25QueryAnswer(t *testing.T) {
	at := time.Unix(1402064111, 0)
	resp := &Response{Result: ResultOK, Call: &CallInfo{
		Created: at, LastSignal: at.Add(5 * time.Second),
		Tags: []TagInfo{
			{Tag: "From Tag_1", InDialogueWith: "b", Label: "caller", Created: at, Medias: []MediaInfo{{Index: 1, Type: "audio", Protocol: "RTP/SAVPF", Codec: "opus",
				Streams: []StreamInfo{
					{LocalPort: 30018, Endpoint: netip.MustParseAddrPort("192.0.2.1:57370"), Advertised: netip.MustParseAddrPort("10.0.0.1:57370"),
						Crypto: "AES_CM_128_HMAC_SHA1_80", SSRC: 4000000000, LastPacket: at.Add(4 * time.Second), Latched: true,
						Stats: StreamStats{Packets: 380, Bytes: 65360, Errors: 2, Lost: 20, Jitter: 1500 * time.Microsecond, RoundTrip: 40 * time.Millisecond, MOS: 4.21}},
					{RTCP: true, LocalPort: 30019, Endpoint: netip.MustParseAddrPort("[2001:db8::1]:57371")},
				}}}},
			{Tag: "b", InDialogueWith: "From Tag_1", Created: at.Add(time.Second)},
		},
		Totals: Totals{RTP: StreamStats{Packets: 705, Bytes: 100287}, RTCP: StreamStats{Packets: 22, Bytes: 2244}},
	}}
	for _, form := range []Form{Bencode, JSON} {
		b, err := AppendResponse(nil, resp, form)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseResponse(b)
		if d := cmp.Diff(resp, got, equateAddrs); d != "" || err != nil {
			t.Errorf("%s: %v %s", form, err, d)
		}
	}
	// What Kamailio fills its MOS variables from.
	mos := resp.dict()["SSRC"].(map[string]any)["4000000000"].(map[string]any)["average MOS"]
	want := map[string]any{"MOS": int64(42), "round-trip time": int64(40000), "jitter": int64(1), "packet loss": int64(5), "samples": int64(1)}
	if d := cmp.Diff(any(want), mos); d != "" {
		t.Error(d)
	}
}

// An answer in the shape of rtpengine's documentation is read (B22): other order, keys that we do not have.
func TestB22RtpengineQueryAnswer(t *testing.T) {
	const in = `{"totals":{"RTCP":{"bytes":2244,"errors":0,"packets":22},"RTP":{"bytes":100287,"errors":1,"packets":705}},
		"last_signal":1402064116,"created":1402064111,"tags":{"cs6kn1rloc":{"created":1402064111,"tag":"cs6kn1rloc","in dialogue with":"0f0d2e18",
		"medias":[{"flags":["initialized"],"index":1,"type":"audio","protocol":"RTP/AVP","streams":[
		{"endpoint":{"port":57370,"address":"10.1.2.3","family":"IPv4"},"flags":["RTP","filled","confirmed","kernelized"],"local port":30018,
		"last packet":1402064124,"stats":{"packets":380,"bytes":65360,"errors":0},"advertised endpoint":{"family":"IPv4","port":57370,"address":"10.1.2.3"}},
		{"flags":["RTCP","filled"],"local port":30019,"stats":{"packets":8,"bytes":1000,"errors":0}}]}]}},"result":"ok"}`
	got, err := ParseResponse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := &CallInfo{
		Created: time.Unix(1402064111, 0), LastSignal: time.Unix(1402064116, 0),
		Tags: []TagInfo{{Tag: "cs6kn1rloc", InDialogueWith: "0f0d2e18", Created: time.Unix(1402064111, 0), Medias: []MediaInfo{{Index: 1, Type: "audio", Protocol: "RTP/AVP",
			Streams: []StreamInfo{
				{LocalPort: 30018, Endpoint: netip.MustParseAddrPort("10.1.2.3:57370"), Advertised: netip.MustParseAddrPort("10.1.2.3:57370"),
					LastPacket: time.Unix(1402064124, 0), Latched: true, Stats: StreamStats{Packets: 380, Bytes: 65360}},
				{RTCP: true, LocalPort: 30019, Stats: StreamStats{Packets: 8, Bytes: 1000}},
			}}}}},
		Totals: Totals{RTP: StreamStats{Packets: 705, Bytes: 100287, Errors: 1}, RTCP: StreamStats{Packets: 22, Bytes: 2244}},
	}
	if d := cmp.Diff(want, got.Call, equateAddrs); d != "" {
		t.Error(d)
	}
}

func TestResponses(t *testing.T) {
	tests := []struct {
		resp *Response
		want string
	}{
		{&Response{Result: ResultPong}, "d6:result4:ponge"},
		{Error("no"), "d12:error-reason2:no6:result5:errore"},
		{&Response{Result: ResultLoadLimit, Message: "full"}, "d7:message4:full6:result10:load limite"},
		{&Response{Result: ResultOK, SDP: []byte("v=0\xff")}, "d6:result2:ok3:sdp4:v=0\xffe"},
		{&Response{Result: ResultOK, Calls: []string{"a", "b"}}, "d5:callsl1:a1:be6:result2:oke"},
		{&Response{Result: ResultOK, Calls: []string{}}, "d5:callsle6:result2:oke"},
		{&Response{Result: ResultOK, Warning: "Call-ID not found"}, "d6:result2:ok7:warning17:Call-ID not founde"},
		{&Response{Result: ResultOK, Statistics: map[string]any{"sessions": int64(3)}}, "d6:result2:ok10:statisticsd8:sessionsi3eee"},
	}
	for _, tt := range tests {
		b, err := AppendResponse(nil, tt.resp, Bencode)
		if string(b) != tt.want || err != nil {
			t.Errorf("%q, want %q: %v", b, tt.want, err)
		}
		got, err := ParseResponse(b)
		if d := cmp.Diff(tt.resp, got); d != "" || err != nil {
			t.Errorf("%v %s", err, d)
		}
	}
	if _, err := ParseResponse([]byte("de")); err == nil {
		t.Error("an answer without result was read")
	}
}
