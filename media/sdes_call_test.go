package media

import (
	"fmt"
	"testing"

	"rtcedge/media/ng"
)

// TestB21SDESToRTP: pion's SRTP on one side, plain RTP on the other, in each suite; garbage is counted and changes nothing.
func TestB21SDESToRTP(t *testing.T) {
	for _, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"} {
		for _, codec := range []string{"0", "8"} {
			t.Run(suite+"/"+codec, func(t *testing.T) {
				r := newRig(t, Config{})
				a, b := newPeer(t, 1), newPeer(t, 2)
				pt := codec[0] - '0'
				unknown := "crypto:9 F8_128_HMAC_SHA1_80 inline:" + fmt.Sprintf("%040d", 0)
				_, toA := r.connect(toFarm("c", "a", a.body("RTP/SAVP", codec, unknown, a.key(suite, 5))), a, b, b.body("RTP/AVP", "0"))
				if m := toA.Media[0]; m.Protocol() != "RTP/SAVP" || m.Crypto()[0].Suite != suite || m.Crypto()[0].Tag != 1 {
					t.Fatalf("answer %v %v", m.Protocol(), m.Crypto())
				}
				evil := newPeerAt(t, "127.0.0.9", 1)
				evil.to = a.to
				for range 10 {
					evil.send(evil.packet(pt, make([]byte, 170))) // ahead of the party, and not authenticated
				}
				for i := range 5 {
					a.send(a.packet(pt, make([]byte, 160)))
					if got := b.recv(); len(got.Payload) != 160 || got.PayloadType != 0 {
						t.Fatalf("%d: %v", i, got)
					}
					b.send(b.packet(0, make([]byte, 160)))
					if got := a.recv(); len(got.Payload) != 160 || got.PayloadType != pt {
						t.Fatalf("%d: %v", i, got)
					}
				}
				evil.silence()
				if n := r.Stats().Drops["auth"]; n != 10 {
					t.Errorf("%d refused, want 10", n)
				}
				if c := r.query("c").Tags[0].Medias[0].Streams[0].Crypto; c != suite {
					t.Errorf("query says %q", c)
				}
			})
		}
	}
}

// TestB21RekeyOnReinvite: another key of the party in a re-INVITE.
func TestB21RekeyOnReinvite(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	for i := range 3 {
		r.connect(toFarm("c", "a", a.body("RTP/SAVP", "0", a.key("AES_CM_128_HMAC_SHA1_80", byte(10*i)))), a, b,
			b.body("RTP/AVP", "0"))
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
		b.send(b.packet(0, make([]byte, 160)))
		a.recv()
	}
}

// TestB20SDESOfferedAndAnswered: the farm calls a TLS phone.
func TestB20SDESOfferedAndAnswered(t *testing.T) {
	r := newRig(t, Config{})
	farm, phone := newPeer(t, 1), newPeer(t, 2)
	req := relayed("c", "f", farm.body("RTP/AVP", "0"))
	req.Transport, req.SDES = "RTP/SAVPF", []string{"only-aead_aes_128_gcm"}
	toPhone, toFarmBody := r.connect(req, farm, phone, phone.body("RTP/SAVPF", "0", phone.key("AEAD_AES_128_GCM", 1)))
	if m := toPhone.Media[0]; m.Protocol() != "RTP/SAVPF" || len(m.Crypto()) != 1 {
		t.Fatalf("%s %v", m.Protocol(), m.Crypto())
	}
	if m := toFarmBody.Media[0]; m.Protocol() != "RTP/AVP" || len(m.Crypto()) != 0 {
		t.Fatalf("%s %v", m.Protocol(), m.Crypto())
	}
	farm.send(farm.packet(0, []byte("hello")))
	if got := phone.recv(); string(got.Payload) != "hello" {
		t.Fatalf("%v", got)
	}
	phone.send(phone.packet(0, []byte("hi")))
	if got := farm.recv(); string(got.Payload) != "hi" {
		t.Fatalf("%v", got)
	}
	resp := r.do(answered("c", "f", "b2", phone.body("RTP/SAVPF", "0")))
	if resp.Result != ng.ResultError {
		t.Errorf("an answer without a key: %+v", resp)
	}
}
