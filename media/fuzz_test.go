package media

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/udp"
)

// FuzzIngress: no datagram from anybody ends anything but itself.
func FuzzIngress(f *testing.F) {
	for _, seed := range [][]byte{
		{}, {0x80}, {0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7}, {0xb0, 0x80, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 9},
		{0x81, 200, 0, 12}, {0x80, 201, 0, 1, 0, 0, 0, 1}, {0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2}, {0, 1, 0, 0}, {22, 254, 255},
		{0xaf, 8, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 200},
	} {
		f.Add(seed)
	}
	var all []*lane
	for _, tt := range lanes[:4] {
		all = append(all, newLane(f, tt.proto, tt.codec, tt.payload))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		for _, l := range all {
			for _, p := range []*port{l.leg.rtp, l.leg.rtcp} {
				n := copy(l.buf, data)
				l.now = l.now.Add(time.Millisecond)
				p.Receive(&udp.Packet{Data: l.buf[:n], From: l.from, Time: l.now})
			}
		}
	})
}

// FuzzOffer: no SDP of an offer or answer breaks the engine or keeps a port.
func FuzzOffer(f *testing.F) {
	e, err := New(Config{PortMin: 64700, PortMax: 64999, NumThreads: 1, DeleteDelay: -1})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	at := netip.MustParseAddrPort("127.0.0.1:4000")
	f.Add([]byte(bodyAt(at, "RTP/AVP", "111 0 101", "rtpmap:111 opus/48000/2", "rtpmap:101 telephone-event/8000", "rtcp-mux")))
	f.Add([]byte(bodyAt(at, "RTP/SAVP", "8", "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")))
	f.Add([]byte(bodyAt(at, "UDP/TLS/RTP/SAVPF", "0", "setup:actpass", "fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13",
		"ice-ufrag:abcd", "ice-pwd:0123456789012345678901", "mid:0", "rtcp-mux")))
	f.Add([]byte(bodyAt(at, "RTP/AVP", "0") + "m=image 5000 udptl t38\r\nm=video 0 RTP/AVP 97\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &rig{Engine: e, t: t}
		for _, req := range []ng.Request{relayed("c", "a", string(body)), toFarm("c", "a", string(body))} {
			if r.do(req).Result == ng.ResultOK {
				r.do(answered("c", "a", "b", string(body)))
				r.do(ng.Request{Command: ng.CmdQuery, CallID: "c"})
			}
			r.do(ng.Request{Command: ng.CmdDelete, CallID: "c"})
		}
		r.barrier()
		if used := e.Stats().Ports[0].Used; used != 0 {
			t.Fatalf("%d pairs leaked", used)
		}
	})
}
