package media

import (
	"strings"
	"testing"

	"rtcedge/media/ng"
	"rtcedge/nat"
)

// TestB33LearningFlags: each word of rtpengine makes the latch that it means, and port-latching none.
func TestB33LearningFlags(t *testing.T) {
	for _, tt := range []struct {
		flags []string
		want  nat.LatchConfig
	}{
		{nil, nat.LatchConfig{}},
		{[]string{"port-latching"}, nat.LatchConfig{}},
		{[]string{"no-port-latching"}, nat.LatchConfig{}},
		{[]string{"endpoint-learning-off", "strict-source"}, nat.LatchConfig{Mode: nat.Off, StrictSource: true}},
		{[]string{"endpoint-learning-immediate"}, nat.LatchConfig{Mode: nat.Immediate}},
		{[]string{"endpoint-learning-delayed", "asymmetric"}, nat.LatchConfig{Mode: nat.Delayed, Asymmetric: true}},
		{[]string{"media-handover"}, nat.LatchConfig{Handover: true}},
	} {
		if got := latchMode(&ng.Request{Flags: tt.flags}); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.flags, got, tt.want)
		}
	}
}

// TestB33Signalling: a latch compares with where SIP came from; a farm that sent none is known by its SDP, a client behind NAT
// is not.
func TestB33Signalling(t *testing.T) {
	r := newRig(t, Config{Interfaces: []Interface{{Name: "pub", Addr: loopback, Advertised: mustAddr("192.0.2.1")},
		{Name: "priv", Addr: mustAddr("127.0.0.2")}}})
	a, b := newPeer(t, 1), newPeerAt(t, "127.0.0.2", 2)
	offer := toFarm("c", "a", a.body("RTP/AVP", "0"))
	for _, from := range []string{"", "198.51.100.9"} {
		want := mustAddr("127.0.0.2")
		if from != "" {
			offer.ReceivedFrom = mustAddr(from)
		}
		r.connect(offer, a, b, b.body("RTP/AVP", "0"))
		route := r.mu.calls["c"].dialogs[0].streams[0].route.Load()
		if got := route.flows[0].source.Signalling; got != offer.ReceivedFrom {
			t.Errorf("outside: %v, want %v", got, offer.ReceivedFrom)
		}
		if got := route.flows[1].source.Signalling; got != want {
			t.Errorf("farm: %v, want %v", got, want)
		}
	}
}

// TestB33FlagsOfReinvite: strict-source, asymmetric and handover of a re-INVITE count from then on.
func TestB33FlagsOfReinvite(t *testing.T) {
	r := newRig(t, Config{})
	a, b, far := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	offer := relayed("c", "a", a.body("RTP/AVP", "0"))
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	a.send(a.packet(0, []byte("one")))
	b.recv()
	far.to = a.to
	far.send(far.packet(0, []byte("no")))
	b.silence()
	offer.Flags = []string{"media-handover"}
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	far.send(far.packet(0, []byte("handed over")))
	if got := b.recv(); string(got.Payload) != "handed over" {
		t.Errorf("%q", got.Payload)
	}
	b.send(b.packet(0, []byte("x")))
	far.recv()
	offer.Flags = []string{"asymmetric"}
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	b.send(b.packet(0, []byte("y")))
	a.recv()
}

// TestB21SDESWords: no-, only- and order- rule what is taken of an offer as well as what is offered; "off" rules offers alone.
func TestB21SDESWords(t *testing.T) {
	gcm, cm := "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"
	for _, tt := range []struct{ words, taken string }{
		{"", cm}, {"no-" + cm, gcm}, {"only-" + gcm, gcm}, {"off", cm}, {"no-" + cm + " no-" + gcm, ""},
	} {
		r := newRig(t, Config{})
		a, b := newPeer(t, 1), newPeer(t, 2)
		req := toFarm("c", "a", a.body("RTP/SAVP", "0", a.key(cm, 1), strings.Replace(a.key(gcm, 2), "crypto:1", "crypto:2", 1)))
		req.SDES = strings.Fields(tt.words)
		resp := r.do(req)
		if tt.taken == "" {
			if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "not allowed") {
				t.Errorf("%q: %+v", tt.words, resp)
			}
		} else if resp.Result != ng.ResultOK {
			t.Errorf("%q: %s", tt.words, resp.ErrorReason)
		} else {
			s := a.take(r.must(answered("c", "a", "b", b.body("RTP/AVP", "0"))))
			if got := s.Media[0].Crypto()[0].Suite; got != tt.taken {
				t.Errorf("%q: %s, want %s", tt.words, got, tt.taken)
			}
		}
		r.stop()
	}
	r := newRig(t, Config{PortMin: 64400, PortMax: 64499})
	farm := newPeer(t, 1)
	req := relayed("c", "f", farm.body("RTP/AVP", "0"))
	req.Transport, req.SDES = "RTP/SAVP", []string{"order:" + gcm + ";" + cm}
	s := farm.take(r.must(req))
	if lines := s.Media[0].Crypto(); lines[0].Suite != gcm || lines[1].Suite != cm {
		t.Errorf("order %v", lines)
	}
}

// TestB27EventClocksOnRelay: Opus on both sides, telephone-event/8000 on one and /48000 on the other. Nothing is transcoded and
// the duration is converted.
func TestB27EventClocksOnRelay(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	opus := "rtpmap:111 opus/48000/2"
	req := relayed("c", "a", a.body("RTP/AVP", "111 96", opus, "rtpmap:96 telephone-event/8000"))
	req.Codec.Accept = []string{"all"}
	toB, toA := r.connect(req, a, b, b.body("RTP/AVP", "111 100", opus, "rtpmap:100 telephone-event/48000"))
	if got := toB.Media[0].Codecs(); len(got) != 2 || got[1].Rate != 48000 {
		t.Fatalf("offered %v", got)
	}
	if got := toA.Media[0].Codecs(); len(got) != 2 || got[1].PT != 96 || got[1].Rate != 8000 {
		t.Fatalf("answered %v", got)
	}
	a.send(a.packet(111, []byte{1, 2, 3}))
	b.recv()
	a.send(a.packet(96, []byte{5, 10, 0, 160}))
	if got := b.recv(); got.PayloadType != 100 || string(got.Payload) != string([]byte{5, 10, 960 >> 8, 960 & 0xff}) {
		t.Errorf("to 48000: %v", got)
	}
	b.send(b.packet(100, []byte{7, 138, 9600 >> 8, 9600 & 0xff}))
	if got := a.recv(); got.PayloadType != 96 || string(got.Payload) != string([]byte{7, 138, 1600 >> 8, 1600 & 0xff}) {
		t.Errorf("to 8000: %v", got)
	}
}

// TestB25QueryNamesInterfaces and the load limit its reason.
func TestB25QueryNamesInterfaces(t *testing.T) {
	r := newRig(t, Config{MaxSessions: 1, Interfaces: []Interface{{Name: "pub", Addr: loopback}, {Name: "priv", Addr: mustAddr("127.0.0.2")}}})
	a, b := newPeer(t, 1), newPeerAt(t, "127.0.0.2", 2)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "8")), a, b, b.body("RTP/AVP", "0"))
	tags := r.query("c").Tags
	if x, y := tags[0].Medias[0].Interface, tags[1].Medias[0].Interface; x != "pub" || y != "priv" {
		t.Errorf("interfaces %q, %q", x, y)
	}
	resp := r.do(relayed("d", "a", a.body("RTP/AVP", "0")))
	if resp.Result != ng.ResultLoadLimit || !strings.Contains(resp.Message, "limit of 1 calls") {
		t.Errorf("%+v", resp)
	}
}
