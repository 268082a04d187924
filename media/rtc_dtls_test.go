package media

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// phoneBody is a phone with DTLS-SRTP and without ICE or rtcp-mux, as baresip's dtls_srtp writes it.
func (p *rtcPeer) phoneBody(setup string) string {
	return p.body("UDP/TLS/RTP/SAVP", "0", p.fingerprint(), "setup:"+setup)
}

// TestB21DTLSWithoutICE: roles both ways for a phone that offers and for one that is offered to. RTCP has an association of its own.
func TestB21DTLSWithoutICE(t *testing.T) {
	for _, setup := range []string{"actpass", "active", "passive"} {
		t.Run("offers "+setup, func(t *testing.T) {
			r := newRig(t, Config{})
			phone, farm := newRTCPeer(t, 1), newPeer(t, 2)
			farm.take(r.must(toFarm("c", "a", phone.phoneBody(setup))))
			phone.far = phone.take(r.must(answered("c", "a", "b", farm.body("RTP/AVP", "0"))))
			if m := phone.far.Media[0]; m.Protocol() != "UDP/TLS/RTP/SAVP" || m.RTCPMux() {
				t.Errorf("answer:\n%s", phone.far.Bytes())
			}
			phone.secure(setup != "passive")
			phone.talk(0, make([]byte, 160), farm)
			phone.hears(0, make([]byte, 160), farm)
			// Plain RTP from the phone's own address is no way in.
			phone.seal = nil
			phone.send(phone.packet(0, []byte("plain")))
			farm.silence()
		})
	}
	for _, setup := range []string{"active", "passive"} {
		t.Run("answers "+setup, func(t *testing.T) {
			r := newRig(t, Config{})
			phone, farm := newRTCPeer(t, 1), newPeer(t, 2)
			req := relayed("c", "a", farm.body("RTP/AVP", "0"))
			req.Transport, req.ICE = "UDP/TLS/RTP/SAVP", "remove"
			phone.far = phone.take(r.must(req))
			if m := phone.far.Media[0]; m.Setup() != "actpass" || !m.RTCPMux() || len(m.Candidates()) != 0 {
				t.Errorf("offer:\n%s", phone.far.Bytes())
			}
			farm.take(r.must(answered("c", "a", "b", phone.phoneBody(setup))))
			phone.secure(setup == "active")
			phone.talk(0, make([]byte, 160), farm)
			phone.hears(0, make([]byte, 160), farm)
		})
	}
}

// TestB21DTLSDemuxedRTCP: without rtcp-mux the RTCP port has a handshake and keys of its own.
func TestB21DTLSDemuxedRTCP(t *testing.T) {
	r := newRig(t, Config{})
	phone, control, farm, farmControl := newRTCPeer(t, 1), newRTCPeer(t, 1), newPeer(t, 2), newPeer(t, 2)
	control.cert = phone.cert
	offer := phone.phoneBody("actpass") + "a=rtcp:" + portText(control.addr()) + "\r\n"
	sent := farm.take(r.must(toFarm("c", "a", offer)))
	farmControl.to = sent.Media[0].RTCP()
	answer := farm.body("RTP/AVP", "0", "rtcp:"+portText(farmControl.addr()))
	phone.far = phone.take(r.must(answered("c", "a", "b", answer)))
	control.far, control.to = phone.far, phone.far.Media[0].RTCP()
	if control.to.Port() != phone.to.Port()+1 {
		t.Fatalf("RTCP at %v, RTP at %v", control.to, phone.to)
	}
	phone.secure(true)
	control.secure(true)
	phone.talk(0, make([]byte, 160), farm)
	// A receiver report in each direction.
	report := make([]byte, 8)
	report[0], report[1] = 0x80, rtcpRR
	binary.BigEndian.PutUint16(report[2:], 1)
	sealed, err := control.seal.EncryptRTCP(nil, report, nil)
	if err != nil {
		t.Fatal(err)
	}
	control.raw(sealed)
	if b, ok := farmControl.bytes(time.Second); !ok || b[1] != rtcpRR {
		t.Fatalf("the farm got %x", b)
	}
	farmControl.raw(report)
	b, ok := control.bytes(time.Second)
	if !ok {
		t.Fatal("no report to the phone")
	}
	if opened, err := control.open.DecryptRTCP(nil, b, nil); err != nil || opened[1] != rtcpRR {
		t.Fatalf("report to the phone: %x, %v", opened, err)
	}
	control.raw(report) // plain
	farmControl.silence()
}

// TestB18DTLSReinvite: a re-INVITE of either side, hold and resume, keeps the association: the browser's SRTP contexts go on.
func TestB18DTLSReinvite(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	_, first := r.fromBrowser("c", web, farm)
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	ssrc := web.hears(0, make([]byte, 160), farm).SSRC

	_, again := r.fromBrowser("c", web, farm)
	// The farm's turn, from another node.
	next := newPeer(t, 3)
	req := toBrowser("c", "farm", next.body("RTP/AVP", "0"))
	req.ToTag = "web"
	offered := web.takeRTC(r.must(req))
	for name, m := range map[string]*sdp.Media{"again": again, "from the farm": offered} {
		u1, p1, _ := first.ICE()
		u2, p2, _ := m.ICE()
		if m.Port() != first.Port() || u1 != u2 || p1 != p2 || m.MID() != "7" {
			t.Errorf("%s: port %d, was %d; %s %s, was %s %s; mid %s", name, m.Port(), first.Port(), u2, p2, u1, p1, m.MID())
		}
	}
	if g := web.far.Groups("BUNDLE"); len(g) != 1 || offered.Setup() != "actpass" {
		t.Errorf("offer:\n%s", web.far.Bytes())
	}
	next.take(r.must(answered("c", "farm", "web", strings.Replace(web.rtcBody("active"), chromiumFormats, strconv.Itoa(int(web.pt)), 1))))
	if got := web.hears(0, make([]byte, 160), next); got.SSRC != ssrc {
		t.Errorf("SSRC %x became %x", ssrc, got.SSRC)
	}
	web.talk(web.pt, web.frame, next)
	if n := r.dtls.started.Load(); n != 1 {
		t.Errorf("%d handshakes, want 1", n)
	}
}

// TestB18KeepTransport: the farm's re-INVITE finds a phone's DTLS-SRTP, though who sends it knows only that the phone came by UDP.
func TestB18KeepTransport(t *testing.T) {
	r := newRig(t, Config{})
	phone, farm := newRTCPeer(t, 1), newPeer(t, 2)
	farm.take(r.must(toFarm("c", "a", phone.phoneBody("actpass")+"a=rtcp-mux\r\n")))
	phone.far = phone.take(r.must(answered("c", "a", "b", farm.body("RTP/AVP", "0"))))
	phone.secure(true)
	phone.talk(0, make([]byte, 160), farm)
	req := relayed("c", "b", farm.body("RTP/AVP", "0"))
	req.ToTag, req.Transport, req.ICE, req.Flags = "a", "RTP/AVP", "remove", []string{"keep-transport"}
	s, err := sdp.Parse(r.must(req))
	if err != nil {
		t.Fatal(err)
	}
	if m := s.Media[0]; m.Protocol() != "UDP/TLS/RTP/SAVP" || !m.RTCPMux() || len(m.Candidates()) != 0 || netPort(m) != phone.to {
		t.Errorf("offer:\n%s", s.Bytes())
	}
	r.must(answered("c", "b", "a", phone.phoneBody("active")+"a=rtcp-mux\r\n"))
	phone.talk(0, make([]byte, 160), farm)
	phone.hears(0, make([]byte, 160), farm)
	if st := r.Stats().Handshakes; st["ok"] != 1 {
		t.Errorf("handshakes %v", st)
	}
}

// TestB18DTLSNewCertificate: another device takes the call over. The former association carries the media until the new one has keys.
func TestB18DTLSNewCertificate(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	r.fromBrowser("c", web, farm)
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	seal, open := web.seal, web.open

	web.cert = newRTCPeer(t, 1).cert
	r.fromBrowser("c", web, farm)
	web.seal, web.open = seal, open
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
	// What the former key sealed is nothing any more.
	web.seal = seal
	web.send(web.packet(web.pt, web.frame))
	farm.silence()
}

// TestB35HandshakeOnlyByICE: a stranger's handshake with the right form, from a source that no check has validated, is not even
// answered; the real one works before, during and after it (F25).
func TestB35HandshakeOnlyByICE(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	r.fromBrowser("c", web, farm)
	stranger := newRTCPeer(t, 9)
	stranger.to, stranger.far = web.to, web.far
	c, conn, stop := stranger.dtls(true)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- c.HandshakeContext(ctx) }()
	if got := web.check(true); got != stun.BindingSuccess {
		t.Fatal(got)
	}
	web.secure(true)
	if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the stranger's handshake: %v", err)
	}
	conn.mute()
	c.Close()
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
	if n := r.dtls.started.Load(); n != 1 {
		t.Errorf("%d handshakes, want 1", n)
	}
	if r.Stats().Drops["source"] == 0 {
		t.Error("the stranger was not counted")
	}
}

// TestB35HandshakeOnlyByLatch: without ICE it is the learnt source: a stranger sprays ClientHellos at the port before the phone does.
func TestB35HandshakeOnlyByLatch(t *testing.T) {
	r := newRig(t, Config{})
	phone, farm := newRTCPeer(t, 1), newPeer(t, 2)
	farm.take(r.must(toFarm("c", "a", phone.phoneBody("actpass"))))
	phone.far = phone.take(r.must(answered("c", "a", "b", farm.body("RTP/AVP", "0"))))
	stranger := newPeerAt(t, "127.0.0.9", 9)
	stranger.to = phone.to
	for i := range 500 {
		stranger.raw(clientHello(byte(i)))
	}
	phone.secure(true)
	phone.talk(0, make([]byte, 160), farm)
	if n := r.dtls.started.Load(); n != 1 {
		t.Errorf("%d handshakes, want 1", n)
	}
	stranger.silence()
}

// TestB35DTLSErrors tells what to change.
func TestB35DTLSErrors(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	r.must(toBrowser("out", "farm", farm.body("RTP/AVP", "0")))
	for name, tc := range map[string]struct {
		req  ng.Request
		want string
	}{
		"no fingerprint": {toFarm("x", "a", farm.body("UDP/TLS/RTP/SAVPF", "0")), "fingerprint"},
		"setup":          {toFarm("x", "a", web.rtcBody("holdconn")), "setup"},
		"plain answer":   {answered("out", "farm", "web", farm.body("RTP/AVP", "0")), "DTLS-SRTP was offered"},
	} {
		if resp := r.do(tc.req); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, tc.want) {
			t.Errorf("%s: %+v, want %q", name, resp, tc.want)
		}
	}
}
