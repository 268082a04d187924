package media

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// subscribe gets an offer for the subscriber and answers it with its body; the peer sends to no place, it listens.
func (r *rig) subscribe(req ng.Request, answer func(offer *sdp.Session) string, flags ...string) (*sdp.Session, *ng.Subscribed) {
	r.t.Helper()
	req.Command = ng.CmdSubscribe
	resp := r.do(req)
	if resp.Result != ng.ResultOK || resp.Subscribed == nil {
		r.t.Fatalf("subscribe request: %+v", resp)
	}
	body, err := sdp.Parse(resp.SDP)
	if err != nil {
		r.t.Fatal(err)
	}
	r.must(ng.Request{Command: ng.CmdSubscribeAnswer, CallID: req.CallID, ToTag: resp.Subscribed.ToTag, SDP: []byte(answer(body)), Flags: flags})
	return body, resp.Subscribed
}

// twoLines answers an offer of two m= lines, one to each peer.
func twoLines(a, b *peer, format string) string {
	return strings.Replace(a.body("RTP/AVP", format, "recvonly"), "t=0 0\r\n", "t=0 0\r\n", 1) +
		"m=audio " + strings.Split(b.addr().String(), ":")[1] + " RTP/AVP " + format + "\r\na=recvonly\r\n"
}

// TestB22Subscribe: a recorder gets what both parties of a call say, each in a stream of its own, and they notice nothing; block media
// holds it back from all; unsubscribe ends it and gives the ports back.
func TestB22Subscribe(t *testing.T) {
	r := newRig(t, Config{})
	a, b, ra, rb := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3), newPeer(t, 4)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0 101", "rtpmap:101 telephone-event/8000")), a, b,
		b.body("RTP/AVP", "0 101", "rtpmap:101 telephone-event/8000"))
	before := r.Stats().Ports[0].Used
	offer, told := r.subscribe(ng.Request{CallID: "c", All: "all", SetLabel: "recorder"}, func(*sdp.Session) string { return twoLines(ra, rb, "0 101") })
	if len(offer.Media) != 2 || offer.Media[0].Direction() != sdp.SendOnly || names(offer.Media[1].Codecs()) != "PCMU, telephone-event" ||
		!offer.Media[0].Connection().IsLoopback() {
		t.Fatalf("%s", offer.Bytes())
	}
	if !slices.Equal(told.FromTags, []string{"a", "b"}) || len(told.Medias) != 2 || told.Medias[1][0].Label != "1" || told.ToTag == "" {
		t.Errorf("%+v", told)
	}
	if label, _ := offer.Media[1].Attr("label"); label != "1" {
		t.Errorf("a=label:%s (RFC 7866 section 7.1.1)", label)
	}
	word := func(p *peer, first byte, listeners ...*peer) {
		t.Helper()
		payload := make([]byte, 160)
		payload[0] = first
		p.send(p.packet(0, payload))
		for _, l := range listeners {
			if got := l.recv(); got.Payload[0] != first || got.PayloadType != 0 {
				t.Errorf("%v", got)
			}
		}
	}
	word(a, 11, b, ra)
	word(b, 22, a, rb)
	a.send(a.packet(101, []byte{5, 10, 0, 160}))
	if got := ra.recv(); got.PayloadType != 101 || got.Payload[0] != 5 {
		t.Errorf("event: %v", got)
	}
	b.recv()
	word(a, 12, b, ra)
	ra.to = netPort(offer.Media[0])
	ra.send(ra.packet(0, make([]byte, 160))) // the recorder has nothing to say
	a.silence()
	b.silence()

	info := r.query("c")
	if n := len(info.Tags); n != 3 || info.Tags[2].Label != "recorder" || !slices.Equal(info.Tags[2].Subscriptions, []string{"a", "b"}) {
		t.Errorf("query: %+v", info.Tags)
	}
	r.must(ng.Request{Command: ng.CmdBlockMedia, CallID: "c", FromTag: "a"})
	a.send(a.packet(0, make([]byte, 160)))
	b.silence()
	ra.silence()
	r.must(ng.Request{Command: ng.CmdUnblockMedia, CallID: "c", FromTag: "a"})

	r.must(ng.Request{Command: ng.CmdUnsubscribe, CallID: "c", ToTag: told.ToTag})
	word(a, 13, b)
	ra.silence()
	r.barrier()
	if after := r.Stats().Ports[0].Used; after != before {
		t.Errorf("%d port pairs, before %d", after, before)
	}
	for _, req := range []ng.Request{
		{Command: ng.CmdUnsubscribe, CallID: "c", ToTag: told.ToTag}, {Command: ng.CmdSubscribe, CallID: "c", FromTag: "x"},
		{Command: ng.CmdSubscribeAnswer, CallID: "c", ToTag: "x", SDP: []byte(a.body("RTP/AVP", "0"))}, {Command: ng.CmdSubscribe, CallID: "x"},
	} {
		if resp := r.do(req); resp.Result != ng.ResultError || len(resp.ErrorReason) < 15 {
			t.Errorf("%s: %+v", req.Command, resp)
		}
	}
}

// TestB22SubscribeConverts: the subscriber wants SRTP and another codec than the party speaks. Without allow-transcoding an answer
// that leaves codecs out is refused.
func TestB22SubscribeConverts(t *testing.T) {
	r := newRig(t, Config{})
	a, b, rec := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "9")), a, b, b.body("RTP/AVP", "9"))
	req := ng.Request{Command: ng.CmdSubscribe, CallID: "c", FromTag: "a", ToTag: "rec", Transport: "RTP/SAVP", Codec: ng.Codec{Transcode: []string{"PCMA"}}}
	resp := r.do(req)
	if resp.Result != ng.ResultOK {
		t.Fatal(resp.ErrorReason)
	}
	offer := rec.take(resp.SDP)
	if names(offer.Media[0].Codecs()) != "G722, PCMA" || offer.Media[0].Protocol() != "RTP/SAVP" {
		t.Fatalf("%s", offer.Bytes())
	}
	answer := ng.Request{Command: ng.CmdSubscribeAnswer, CallID: "c", ToTag: "rec",
		SDP: []byte(rec.body("RTP/SAVP", "8", rec.key("AES_CM_128_HMAC_SHA1_80", 9), "recvonly"))}
	if resp := r.do(answer); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "allow-transcoding") {
		t.Fatalf("%+v", resp)
	}
	answer.Flags = []string{"allow-transcoding"}
	r.must(answer)
	for i := range 4 {
		a.send(a.packet(9, make([]byte, 160)))
		b.recv()
		if i > 0 { // the first frame waits for the filter's delay
			if got := rec.recv(); got.PayloadType != 8 || len(got.Payload) != 160 {
				t.Fatalf("%v", got)
			}
		}
	}
	// Its own re-INVITE: the same to-tag again, new ports.
	if resp := r.do(req); resp.Result != ng.ResultOK || resp.Subscribed.ToTag != "rec" {
		t.Fatalf("%+v", resp)
	}
	if n := len(r.query("c").Tags); n != 3 {
		t.Errorf("%d tags", n)
	}
}

// TestB22SubscriptionFollows: the parties change their codec, and the subscriber, who has accepted both, hears on.
func TestB22SubscriptionFollows(t *testing.T) {
	r := newRig(t, Config{})
	a, b, rec := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "8 0")), a, b, b.body("RTP/AVP", "8"))
	r.subscribe(ng.Request{CallID: "c", FromTag: "a"}, func(*sdp.Session) string { return rec.body("RTP/AVP", "8", "recvonly") }, "allow-transcoding")
	a.send(a.packet(8, make([]byte, 160)))
	b.recv()
	if got := rec.recv(); got.PayloadType != 8 {
		t.Errorf("%v", got)
	}
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	for range 2 {
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
		if got := rec.recv(); got.PayloadType != 8 {
			t.Errorf("PCMU was not converted: %v", got)
		}
	}
	c, _ := r.lock("c", false)
	pipe := c.subscriptions[0].dialog.streams[0].legs[0].pipe
	c.mu.Unlock()
	if pipe == nil {
		t.Error("no conversion")
	}
}

// TestB22Publish: one who only sends, and one who only listens; the publisher is answered with one codec and may go on hold for an
// hour or send for ever without being called idle after a minute of silence only.
func TestB22Publish(t *testing.T) {
	r := newRig(t, Config{Timeout: time.Minute})
	a, rec := newPeer(t, 1), newPeer(t, 2)
	req := ng.Request{Command: ng.CmdPublish, CallID: "p", FromTag: "a", Label: "camera",
		SDP: []byte(a.body("RTP/SAVP", "18 9 8", a.key("AEAD_AES_256_GCM", 3), "sendonly"))}
	answer := a.take(r.must(req))
	m := answer.Media[0]
	if names(m.Codecs()) != "G722" || m.Direction() != sdp.RecvOnly || m.Protocol() != "RTP/SAVP" || len(m.Crypto()) != 1 || m.Port() == discardPort ||
		!m.Connection().IsLoopback() {
		t.Fatalf("%s", answer.Bytes())
	}
	if used := r.Stats().Ports[0].Used; used != 1 {
		t.Errorf("%d port pairs for one publisher", used)
	}
	r.subscribe(ng.Request{CallID: "p", Label: "camera"}, func(*sdp.Session) string { return rec.body("RTP/AVP", "9", "recvonly") })
	a.send(a.packet(9, make([]byte, 160)))
	if got := rec.recv(); got.PayloadType != 9 {
		t.Errorf("%v", got)
	}
	for accept, want := range map[string]string{"PCMA": "PCMA", "any": "G729", "opus": "G722"} {
		again := req
		again.Codec.Accept = []string{accept}
		if got := a.take(r.must(again)); names(got.Media[0].Codecs()) != want {
			t.Errorf("accept %s: %s", accept, got.Bytes())
		}
	}
	only := req
	only.CallID, only.SDP = "q", []byte(a.body("RTP/AVP", "18", "sendonly"))
	if resp := r.do(only); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "accept=any") {
		t.Errorf("%+v", resp)
	}
	if resp := r.do(relayed("p", "a", a.body("RTP/AVP", "0"))); resp.Result != ng.ResultError {
		t.Errorf("an offer by the publisher's tag: %+v", resp)
	}
	r.clock.advance(61 * time.Second)
	r.sweep(r.clock.now())
	if n := r.Stats().Calls; n != 0 {
		t.Errorf("%d calls after a minute of silence", n)
	}
}

// TestB23SubscriptionIsTakenOver: a session record has the subscriber, too.
func TestB23SubscriptionIsTakenOver(t *testing.T) {
	first := newRig(t, Config{})
	a, b, rec := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	first.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	first.subscribe(ng.Request{CallID: "c", FromTag: "a"}, func(*sdp.Session) string { return rec.body("RTP/AVP", "0", "recvonly") })
	a.send(a.packet(0, make([]byte, 160)))
	b.recv()
	was := rec.recv()
	record, err := first.Export("c")
	if err != nil {
		t.Fatal(err)
	}
	first.stop()
	second := newRig(t, Config{})
	if err := second.Restore(record); err != nil {
		t.Fatal(err)
	}
	second.barrier()
	a.send(a.packet(0, make([]byte, 160)))
	b.recv()
	if got := rec.recv(); got.SSRC != was.SSRC || got.SequenceNumber-was.SequenceNumber > 2*snapshotSlip {
		t.Errorf("%v after %v", got, was)
	}
	if tags := second.query("c").Tags; len(tags) != 3 || len(tags[2].Subscriptions) != 1 {
		t.Errorf("%+v", tags)
	}
}

// TestB22CopiesAllocateNothing: a packet for two subscribers costs no allocation.
func TestB22CopiesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := newRig(t, Config{})
	a, b, rec := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	for range 2 {
		r.subscribe(ng.Request{CallID: "c", FromTag: "a"}, func(*sdp.Session) string { return rec.body("RTP/AVP", "0", "recvonly") })
	}
	c, _ := r.lock("c", false)
	l := &c.dialogs[0].streams[0].legs[0]
	c.mu.Unlock()
	packet, err := a.packet(0, make([]byte, 160)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan float64)
	l.stream.worker.loop.Do(func() {
		b := make([]byte, len(packet), len(packet)+srtpRoom)
		done <- testing.AllocsPerRun(100, func() {
			copy(b, packet)
			l.copyTo(*l.rarely().copies.Load(), b[:cap(b)], rtpHeaderMin, len(packet), r.clock.now())
		})
	})
	if n := <-done; n != 0 {
		t.Errorf("%v allocations", n)
	}
}
