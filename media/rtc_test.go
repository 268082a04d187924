package media

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// toBrowser is what the sip role asks for an offer from a farm to a WebSocket.
func toBrowser(callID, from, body string) ng.Request {
	return ng.Request{
		Command: ng.CmdOffer, CallID: callID, FromTag: from, SDP: []byte(body), Transport: "UDP/TLS/RTP/SAVPF", ICE: "force",
		RTCPMux: []string{"require"}, Direction: [2]string{"priv", "pub"}, Flags: []string{"generate-mid"}, Codec: ng.Codec{Transcode: []string{"opus"}},
	}
}

// fromBrowser connects a browser's offer with a farm's answer in PCMU.
func (r *rig) fromBrowser(callID string, web *rtcPeer, farm *peer) (toFarmBody []byte, m *sdp.Media) {
	r.t.Helper()
	req := toFarm(callID, "web", web.rtcBody("actpass"))
	toFarmBody = r.must(req)
	farm.take(toFarmBody)
	return toFarmBody, web.takeRTC(r.must(answered(callID, "web", "farm", farm.body("RTP/AVP", "0"))))
}

// TestB34BrowserCallsFarm is a whole WebRTC call: ICE removed towards the farm, a check finds the way, the browser is DTLS client, Opus
// becomes PCMU and back.
func TestB34BrowserCallsFarm(t *testing.T) {
	for _, portable := range []bool{false, true} {
		r := newRig(t, Config{Portable: portable})
		web, farm := newRTCPeer(t, 1), newPeer(t, 2)
		sent, m := r.fromBrowser("c", web, farm)
		for _, line := range []string{"ice-", "candidate", "fingerprint", "setup", "BUNDLE", "rtcp-mux", "0.0.0.0", "SAVP"} {
			if strings.Contains(string(sent), line) {
				t.Errorf("%s went to the farm:\n%s", line, sent)
			}
		}
		if m.Protocol() != "UDP/TLS/RTP/SAVPF" || m.Setup() != "passive" || m.MID() != "7" || !m.RTCPMux() || len(m.Crypto()) != 0 {
			t.Errorf("answer:\n%s", web.far.Bytes())
		}
		if g := web.far.Groups("BUNDLE"); len(g) != 1 || strings.Join(g[0], " ") != "7" {
			t.Errorf("BUNDLE %v", g)
		}
		// Before the check nothing goes to the browser, and nothing in plain ever.
		farm.send(farm.packet(0, make([]byte, 160)))
		web.silence()
		if got := web.check(true); got != stun.BindingSuccess {
			t.Fatalf("check answered with %v", got)
		}
		farm.send(farm.packet(0, make([]byte, 160)))
		web.silence()
		web.secure(true)
		if got := web.talk(web.pt, web.frame, farm); got.PayloadType != 0 || len(got.Payload) != 160 {
			t.Errorf("the farm hears %v", got)
		}
		if got := web.hears(0, make([]byte, 160), farm); got.PayloadType != web.pt {
			t.Errorf("the browser hears %v", got)
		}
		info := r.query("c").Tags[0].Medias[0].Streams[0]
		if info.Crypto != "AEAD_AES_128_GCM" || info.Endpoint != web.addr() || !info.Latched {
			t.Errorf("query: %+v", info)
		}
		r.barrier()
		if d := r.Stats().Drops; d["no-key"] != 1 || d["hold"] != 1 {
			t.Errorf("drops %v", d)
		}
		r.stop()
	}
}

// TestB34FarmCallsBrowser: our offer has ICE and actpass, the browser's answer makes us client or server.
func TestB34FarmCallsBrowser(t *testing.T) {
	for _, setup := range []string{"active", "passive"} {
		r := newRig(t, Config{})
		web, farm := newRTCPeer(t, 1), newPeer(t, 2)
		m := web.takeRTC(r.must(toBrowser("c", "farm", farm.body("RTP/AVP", "0"))))
		if m.Setup() != "actpass" || m.Protocol() != "UDP/TLS/RTP/SAVPF" || !m.RTCPMux() || m.MID() != "0" || len(m.Candidates()) != 1 {
			t.Fatalf("offer:\n%s", web.far.Bytes())
		}
		answer := strings.NewReplacer("a=group:BUNDLE 7\r\n", "", "mid:7", "mid:0", chromiumFormats, "0").Replace(web.rtcBody(setup))
		// Trickled later, or never: an address of 0.0.0.0 with ICE is no hold.
		got := r.must(answered("c", "farm", "web", answer))
		for _, line := range []string{"ice-", "candidate", "fingerprint", "setup", "mid:", "0.0.0.0", "SAVP"} {
			if strings.Contains(string(got), line) {
				t.Errorf("%s went to the farm:\n%s", line, got)
			}
		}
		farm.take(got)
		if got := web.check(true); got != stun.BindingSuccess {
			t.Fatalf("check answered with %v", got)
		}
		web.secure(setup == "active")
		for range 2 {
			web.talk(0, make([]byte, 160), farm)
			web.hears(0, make([]byte, 160), farm)
		}
		r.stop()
	}
}

// TestB34Restart: new credentials in a re-INVITE get new ones of ours; media goes on until a pair is nominated, then to that.
func TestB34Restart(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	_, m := r.fromBrowser("c", web, farm)
	ufrag, pwd, _ := m.ICE()
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)

	// The browser moves to another network: another socket with the same keys.
	old := web.conn
	moved := newPeer(t, 1)
	web.conn, web.ufrag, web.pwd = moved.conn, "NeWu", "anotherPasswordOf24chars"
	_, m = r.fromBrowser("c", web, farm)
	newUfrag, newPwd, _ := m.ICE()
	if newUfrag == ufrag || newPwd == pwd {
		t.Fatalf("credentials stay: %s %s", newUfrag, newPwd)
	}
	if got := m.Candidates()[0].Port; got != int(web.to.Port()) {
		t.Errorf("port moved to %d", got)
	}
	fresh := web.conn
	web.conn = old
	web.hears(0, make([]byte, 160), farm)
	web.conn = fresh
	if got := web.check(true); got != stun.BindingSuccess {
		t.Fatalf("check under the new credentials: %v", got)
	}
	web.hears(0, make([]byte, 160), farm)
	// A repeated offer is no restart.
	_, m = r.fromBrowser("c", web, farm)
	if again, _, _ := m.ICE(); again != newUfrag {
		t.Error("a repeated offer restarts ICE")
	}
	if got := web.checkAs(ufrag, pwd, true); got == stun.BindingSuccess {
		t.Error("former credentials are still good")
	}
}

// TestB34Consent: without a sign of the browser nothing is sent to it; a check brings the media back. Authenticated media is a sign.
func TestB34Consent(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	r.fromBrowser("c", web, farm)
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	ticks := func() { time.Sleep(3 * tickEvery) } // of the worker, which run on the wall clock

	r.clock.advance(20 * time.Second)
	web.talk(web.pt, web.frame, farm)
	ticks()
	r.clock.advance(20 * time.Second)
	ticks()
	web.hears(0, make([]byte, 160), farm)

	r.clock.advance(15 * time.Second)
	ticks()
	farm.send(farm.packet(0, make([]byte, 160)))
	if _, ok := web.mediaWithin(100 * time.Millisecond); ok {
		t.Fatal("media without consent")
	}
	if got := web.check(false); got != stun.BindingSuccess {
		t.Fatalf("check: %v", got)
	}
	web.hears(0, make([]byte, 160), farm)
}

// TestF26STUNFlood: checks without our password are answered seldom and shortly, and move nothing.
func TestF26STUNFlood(t *testing.T) {
	r := newRig(t, Config{})
	web, farm, stranger := newRTCPeer(t, 1), newPeer(t, 2), newRTCPeer(t, 9)
	r.fromBrowser("c", web, farm)
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)

	stranger.to, stranger.far = web.to, web.far
	ufrag, _, _ := web.far.Media[0].ICE()
	in, out := 0, 0
	forged := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":x"), stun.RawAttribute{Type: stun.AttrUseCandidate},
		stun.NewShortTermIntegrity("wrong"), stun.Fingerprint).Raw
	for i := range 2000 {
		if i%100 == 0 {
			web.hears(0, make([]byte, 160), farm)
		}
		stranger.raw(forged)
		in += len(forged)
	}
	for {
		b, ok := stranger.bytes(20 * time.Millisecond)
		if !ok {
			break
		}
		out += len(b)
	}
	t.Logf("%d bytes in, %d out", in, out)
	if out > in/10 {
		t.Errorf("%d bytes out for %d in", out, in)
	}
	web.hears(0, make([]byte, 160), farm)
	stranger.silence()
}

// TestB34LiteMeetsLite: no ICE with a lite agent without rtcp-mux, or as answer to our lite offer; SDP and latch know the way.
func TestB34LiteMeetsLite(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	body := strings.NewReplacer("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n", "m=audio 9", "m=audio "+portText(web.addr()),
		"c=IN IP4 0.0.0.0", "c=IN IP4 127.0.0.1", "rtcp-mux\r\na=", "").Replace(web.rtcBody("actpass"))
	farm.take(r.must(toFarm("c", "web", body)))
	web.far = web.take(r.must(answered("c", "web", "farm", farm.body("RTP/AVP", "0"))))
	m := web.far.Media[0]
	if _, _, ok := m.ICE(); ok || web.far.ICELite() || len(m.Candidates()) != 0 || len(m.Fingerprints()) != 1 {
		t.Errorf("answered with\n%s", web.far.Bytes())
	}
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
}

// TestB34TwoComponents: without rtcp-mux each port has its checks, as baresip wants it. Plain RTP is taken from a validated source only.
func TestB34TwoComponents(t *testing.T) {
	r := newRig(t, Config{})
	phone, control, farm, farmControl := newRTCPeer(t, 1), newRTCPeer(t, 1), newPeer(t, 2), newPeer(t, 2)
	offer := phone.body("RTP/AVP", "0", "ice-ufrag:"+phone.ufrag, "ice-pwd:"+phone.pwd, "rtcp:"+portText(control.addr()))
	sent := farm.take(r.must(toFarm("c", "a", offer)))
	farmControl.to = sent.Media[0].RTCP()
	phone.far = phone.take(r.must(answered("c", "a", "b", farm.body("RTP/AVP", "0", "rtcp:"+portText(farmControl.addr())))))
	all := phone.far.Media[0].Candidates()
	if len(all) != 2 || all[1].Component != 2 || all[1].Port != all[0].Port+1 || all[1].Priority != all[0].Priority-1 {
		t.Fatalf("candidates %v", all)
	}
	control.far, control.to = phone.far, netip.AddrPortFrom(all[1].Addr, uint16(all[1].Port))
	phone.send(phone.packet(0, []byte("too early")))
	farm.silence()
	for _, p := range []*rtcPeer{phone, control} {
		if got := p.check(true); got != stun.BindingSuccess {
			t.Fatalf("check: %v", got)
		}
	}
	phone.talk(0, []byte("hello"), farm)
	farm.send(farm.packet(0, []byte("hello")))
	if string(phone.recv().Payload) != "hello" {
		t.Error("the phone hears something else")
	}
	report := []byte{0x80, rtcpRR, 0, 1, 0, 0, 0, 1}
	control.raw(report)
	farmControl.recvRTCP()
	farmControl.raw(report)
	control.recvRTCP()
	stranger := newPeer(t, 1)
	stranger.to = phone.to
	stranger.send(stranger.packet(0, []byte("stranger")))
	farm.silence()
}

func portText(a netip.AddrPort) string { return a.String()[strings.LastIndex(a.String(), ":")+1:] }

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
