package media

import (
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
)

// TestB22DropTraffic: all RTP of a call is dropped until it is told to go on; stop wins over start.
func TestB22DropTraffic(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", a.body("RTP/AVP", "0 101", "rtpmap:101 telephone-event/8000"))
	offer.DropTraffic = "start"
	r.connect(offer, a, b, b.body("RTP/AVP", "0 101", "rtpmap:101 telephone-event/8000"))
	a.send(a.packet(0, make([]byte, 160)))
	a.send(a.packet(101, []byte{1, 10, 0, 160}))
	b.silence()
	b.send(b.packet(0, make([]byte, 160)))
	a.silence()
	offer.DropTraffic = "stop"
	r.connect(offer, a, b, b.body("RTP/AVP", "0 101", "rtpmap:101 telephone-event/8000"))
	a.send(a.packet(0, make([]byte, 160)))
	b.recv()
}

// TestB22NATWait: nothing goes to a party before it has sent, so that its firewall sees the way out first.
func TestB22NATWait(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	b.take(r.must(relayed("c", "a", a.body("RTP/AVP", "0"))))
	answer := answered("c", "a", "b", b.body("RTP/AVP", "0"))
	answer.Flags = []string{"nat-wait"}
	a.take(r.must(answer))
	a.send(a.packet(0, make([]byte, 160)))
	b.silence()
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	a.send(a.packet(0, make([]byte, 160)))
	b.recv()
}

// TestB22GenerateRTCP: reports end here and ours go out although nothing is transcoded; they count what passed.
func TestB22GenerateRTCP(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", a.body("RTP/AVP", "0", "rtcp-mux"))
	offer.Flags = []string{"generate-rtcp"}
	r.connect(offer, a, b, b.body("RTP/AVP", "0", "rtcp-mux"))
	for range 3 {
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
	}
	a.raw([]byte{0x80, 201, 0, 1, 0, 0, 0, 1}) // a receiver report
	b.silence()
	c, _ := r.lock("c", false)
	s := c.dialogs[0].streams[0]
	c.mu.Unlock()
	s.worker.loop.Do(func() { s.report(r.clock.now()) })
	got, ok := b.bytes(2 * time.Second)
	if !ok || got[1] != rtcpSR || got[23] != 3 {
		t.Errorf("no sender report of three packets: %x", got)
	}
}

// TestB22SDPFlags: what further words do to the SDP.
func TestB22SDPFlags(t *testing.T) {
	r := newRig(t, Config{})
	a := newPeer(t, 1)
	lines := []string{"extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "extmap:2 urn:ietf:params:rtp-hdrext:toffset"}
	offer := func(change func(*ng.Request)) string {
		t.Helper()
		req := relayed(t.Name(), "a", a.body("RTP/AVP", "0 8", lines...))
		change(&req)
		return string(r.must(req))
	}
	for name, c := range map[string]struct {
		change        func(*ng.Request)
		with, without string
	}{
		"extensions pass":     {func(*ng.Request) {}, "ssrc-audio-level", "no such"},
		"strip by short name": {func(q *ng.Request) { q.Extmap = []string{"ssrc-audio-level"} }, "toffset", "audio-level"},
		"strip by URI":        {func(q *ng.Request) { q.Extmap = []string{"urn:ietf:params:rtp-hdrext:toffset"} }, "audio-level", "toffset"},
		"strip all":           {func(q *ng.Request) { q.Extmap = []string{"all"} }, "a=rtcp:", "extmap"},
		"short a=rtcp":        {func(*ng.Request) {}, "a=rtcp:", "IN IP4 127.0.0.1\r\na=ext"},
		"full a=rtcp":         {func(q *ng.Request) { q.Flags = []string{"full-rtcp-attribute"} }, " IN IP4 127.0.0.1\r\n", "no such"},
	} {
		if got := offer(c.change); !strings.Contains(got, c.with) || strings.Contains(got, c.without) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestB22TransportAccept: an answerer that speaks AVPF where AVP was offered is passed on with transport-protocol=accept, and is not
// without; another security than was offered never is.
func TestB22TransportAccept(t *testing.T) {
	for _, c := range []struct{ word, answered, want string }{
		{"", "RTP/AVPF", "RTP/AVP"}, {"accept", "RTP/AVPF", "RTP/AVPF"}, {"accept", "RTP/AVP", "RTP/AVP"},
	} {
		r := newRig(t, Config{})
		a, b := newPeer(t, 1), newPeer(t, 2)
		b.take(r.must(relayed("c", "a", a.body("RTP/AVP", "0"))))
		answer := answered("c", "a", "b", b.body(c.answered, "0"))
		answer.Transport = c.word
		if s := a.take(r.must(answer)); s.Media[0].Protocol() != c.want {
			t.Errorf("%+v: %s", c, s.Media[0].Protocol())
		}
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
		r.stop()
	}
}

// TestB28CodecOptions: codec-set and codec-transcode say bit rate, packet length and complexity of what we encode.
func TestB28CodecOptions(t *testing.T) {
	needOpus(t)
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := toFarm("c", "a", a.body("RTP/AVP", "96", "rtpmap:96 opus/48000/2"))
	offer.Codec.Set = []string{"opus/48000/1/8000", "opus/48000/2/16000/40//compression_level=2"}
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	c, _ := r.lock("c", false)
	cfg := c.dialogs[0].streams[0].legs[1].pipeConfig
	c.mu.Unlock()
	if cfg.OpusBitrate != 16000 || cfg.OpusComplexity != 2 || cfg.To.PTime != 40*time.Millisecond {
		t.Errorf("%+v", cfg)
	}
	got := 0
	for range 4 {
		b.send(b.packet(0, make([]byte, 160)))
	}
	for range 2 {
		got += len(a.recv().Payload)
	}
	if got > 2*16000/8*40/1000+40 {
		t.Errorf("%d bytes in two packets of 40 ms at 16 kbit/s", got)
	}
	for word, want := range map[string]codecOption{
		"opus/48000/2/64000":       {name: "opus", rate: 48000, channels: 2, bitrate: 64000},
		"opus/48000/2/1":           {name: "opus", rate: 48000, channels: 2},
		"iLBC/8000/1///mode=30":    {name: "iLBC", rate: 8000, channels: 1, fmtp: "mode=30"},
		"opus/48000/2//20//x y=z,": {name: "opus", rate: 48000, channels: 2, ptime: 20 * time.Millisecond},
		"opus":                     {name: "opus"},
	} {
		if got := parseOption(word); got != want {
			t.Errorf("%s: %+v", word, got)
		}
	}
}

// TestB28KeptCodec: with static-codecs a re-offer in another order keeps what is spoken; without, the new order counts.
func TestB28KeptCodec(t *testing.T) {
	for _, flag := range []string{"", "static-codecs", "reuse-codecs", "no-codec-renegotiation"} {
		r := newRig(t, Config{})
		a, b := newPeer(t, 1), newPeer(t, 2)
		r.connect(toFarm("c", "a", a.body("RTP/AVP", "9 8")), a, b, b.body("RTP/AVP", "0"))
		again := toFarm("c", "a", a.body("RTP/AVP", "8 9"))
		want := "PCMA"
		if flag != "" {
			again.Flags, want = []string{flag}, "G722"
		}
		if _, toA := r.connect(again, a, b, b.body("RTP/AVP", "0")); toA.Media[0].Codecs()[0].Name != want {
			t.Errorf("%q: %s", flag, toA.Bytes())
		}
		r.stop()
	}
}

// TestB22Reset: behind the tag of the answerer is another one now: what was learnt of the former counts no more, and its packets are
// a stranger's.
func TestB22Reset(t *testing.T) {
	r := newRig(t, Config{})
	a, b, other := newPeer(t, 1), newPeer(t, 2), newPeerAt(t, "127.0.0.2", 3)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	again := relayed("c", "a", a.body("RTP/AVP", "0"))
	again.Flags = []string{"reset"}
	other.take(r.must(again))
	a.take(r.must(answered("c", "a", "b", other.body("RTP/AVP", "0"))))
	a.send(a.packet(0, make([]byte, 160)))
	other.recv()
	b.send(b.packet(0, make([]byte, 160)))
	a.silence()
	other.send(other.packet(0, make([]byte, 160)))
	a.recv()
}

// TestB22Selection: parties are chosen by tag, tags, label or address, and a label may be given on the way.
func TestB22Selection(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeerAt(t, "127.0.0.2", 2)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	both := func(blockedA bool) {
		t.Helper()
		a.send(a.packet(0, make([]byte, 160)))
		if blockedA {
			b.silence()
		} else {
			b.recv()
		}
		b.send(b.packet(0, make([]byte, 160)))
		a.recv()
	}
	for name, req := range map[string]ng.Request{
		"tag": {FromTag: "a", SetLabel: "first"}, "tags": {FromTags: []string{"a", "x"}}, "address": {Address: loopback},
	} {
		req.CallID, req.Command = "c", "block media"
		r.must(req)
		both(true)
		req.Command = "unblock media"
		r.must(req)
		both(false)
		t.Log(name)
	}
	r.must(ng.Request{Command: "block media", CallID: "c", Label: "first"})
	both(true)
	r.must(ng.Request{Command: "unblock media", CallID: "c", All: "all"})
	both(false)
	if resp := r.do(ng.Request{Command: "block media", CallID: "c", Address: mustAddr("192.0.2.1")}); resp.Result != ng.ResultError {
		t.Errorf("%+v", resp)
	}
	if resp := r.do(ng.Request{Command: ng.CmdDelete, CallID: "nobody", Flags: []string{"fatal"}}); resp.Result != ng.ResultError {
		t.Errorf("fatal: %+v", resp)
	}
	for i := range 40 {
		r.must(relayed("list-"+string(rune('A'+i)), "a", a.body("RTP/AVP", "0")))
	}
	for limit, want := range map[int]int{0: 32, 5: 5, 100: 41} {
		if resp := r.do(ng.Request{Command: ng.CmdList, Limit: limit}); len(resp.Calls) != want {
			t.Errorf("limit %d: %d calls", limit, len(resp.Calls))
		}
	}
}
