package media

import (
	"context"
	"fmt"
	"testing"

	"rtcedge/media/ng"
)

// BenchmarkSetUp is offer, answer and delete of one call from the bytes of the requests to those of the answers, as a controller sends
// them; the sockets of NG are not in it.
func BenchmarkSetUp(b *testing.B) {
	for _, tt := range []struct{ name, proto, codec string }{
		{"relay", "RTP/AVP", "0"}, {"srtp", "RTP/SAVP", "0"}, {"pcma", "RTP/AVP", "8"}, {"g722", "RTP/AVP", "9"}, {"opus", "RTP/AVP", "111"},
	} {
		for _, l := range layers[1:] {
			b.Run(tt.name+"/"+l.name, func(b *testing.B) {
				opusLane(b, tt.codec)
				cfg := Config{NumThreads: 1, PortMin: 22400, PortMax: 29999}
				if l.steered {
					cfg.Steering = steering(b, &cfg)
				}
				r := newRig(b, cfg)
				r.cfg.Ended = nil // the rig's keeps each
				caller, called := newPeer(b, 1), newPeer(b, 2)
				var lines []string
				if secure(tt.proto) {
					lines = append(lines, caller.key(suite80, 7))
				}
				if tt.codec == "111" {
					lines = append(lines, "rtpmap:111 opus/48000/2", "fmtp:111 useinbandfec=1")
				}
				offer := relayed("", "a", caller.body(tt.proto, tt.codec, lines...))
				if tt.codec != "0" || secure(tt.proto) {
					offer = toFarm("", "a", caller.body(tt.proto, tt.codec, lines...))
				}
				answer := answered("", "a", "b", called.body("RTP/AVP", "0"))
				ctx := context.Background()
				ask := func(req ng.Request) {
					raw, err := ng.AppendRequest(nil, &req, ng.Bencode)
					if err != nil {
						b.Fatal(err)
					}
					parsed, _, err := ng.ParseRequest(raw)
					if err != nil {
						b.Fatal(err)
					}
					resp := r.Handle(ctx, parsed)
					if resp.Result != ng.ResultOK {
						b.Fatal(req.Command, resp.ErrorReason)
					}
					if _, err := ng.AppendResponse(nil, resp, ng.Bencode); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					id := fmt.Sprint("call-", i)
					offer.CallID, answer.CallID = id, id
					ask(offer)
					ask(answer)
					ask(ng.Request{Command: ng.CmdDelete, CallID: id, FromTag: "a"})
				}
			})
		}
	}
}
