package media

import (
	"net/netip"
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
