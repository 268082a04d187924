package farm

import (
	"bytes"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// TestB37EchoReturnsEveryPacket: 600 answers at once and returns payloads, markers, events, distances of sequence numbers
// and time stamps, on a stream of its own.
func TestB37EchoReturnsEveryPacket(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	p := newPhone(t, f, "1001")
	d := p.dial("600", p.sdp("sendrecv"), "Record-Route: <sip:127.0.0.9:5060;lr;c=AbC%20d>;x=1").answered()
	v := p.listen(d.body)
	for range 20 {
		v.sendTone(440, 6000)
		time.Sleep(time.Millisecond)
	}
	v.sendPacket(ptEvent, true, []byte{5, 10, 0, 160})
	v.seq++ // a packet is lost on the way
	v.sendTone(440, 6000)
	eventually(t, "22 packets back", func() bool { return len(v.got()) == 22 })
	got := v.got()
	for i, pkt := range got {
		if pkt.ssrc == v.ssrc || pkt.ssrc != got[0].ssrc {
			t.Fatalf("packet %d has SSRC %x", i, pkt.ssrc)
		}
	}
	if ev := got[20]; ev.pt != ptEvent || !ev.marker || !bytes.Equal(ev.payload, []byte{5, 10, 0, 160}) {
		t.Errorf("the event came back as %+v", ev)
	}
	if d := got[21].seq - got[20].seq; d != 2 {
		t.Errorf("the gap of one lost packet came back as a step of %d", d)
	}
	if d := got[19].ts - got[0].ts; d != 19*160 {
		t.Errorf("19 frames came back %d samples apart", d)
	}
	if own, other := level(v.heard(), 440), level(v.heard(), 1000); own-other < 30 {
		t.Errorf("the tone came back at %.0f dB, another frequency at %.0f dB", own, other)
	}
	info := f.Calls()
	if len(info) != 1 || info[0].Number != "600" || info[0].Received != 22 || info[0].Sent != 22 {
		t.Errorf("Calls: %+v", info)
	}
	d.hangup()
	eventually(t, "no call left", func() bool { return len(f.Calls()) == 0 })
}

// TestRecordRouteIsKept: what the edge writes into Record-Route comes back byte for byte, in the answer and as Route.
func TestRecordRouteIsKept(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	p := newPhone(t, f, "1001")
	cookie := "<sip:" + p.addr() + ";lr;ck=AbC%20d~*;Xy>;hp=1"
	d := p.dial("600", p.sdp("sendrecv"), "Record-Route: "+cookie, "Record-Route: <sip:127.0.0.9:1;lr>, <sip:127.0.0.8:2;lr>")
	res := d.response("INVITE", 200)
	if got := values(res, "Record-Route"); len(got) != 3 || !strings.HasPrefix(got[0], "<sip:"+p.addr()+";lr;ck=AbC%20d~*;Xy>") {
		t.Fatalf("Record-Route of the 200: %q", got)
	}
	d.to, d.target = res.To().Value(), res.Contact().Address.String()
	d.send("ACK", "")
	eventually(t, "the call", func() bool { return len(f.Calls()) == 1 })
	f.snapshot()[0].post(event{kind: evHangup, cause: causeNormal})
	bye := p.request("BYE")
	if got := values(bye, "Route"); len(got) != 3 || !strings.HasPrefix(got[0], "<sip:"+p.addr()+";lr;ck=AbC%20d~*;Xy>") {
		t.Errorf("Route of the BYE: %q", got)
	}
	if r := bye.GetHeader("Reason"); r == nil || r.Value() != "Q.850;cause=16" {
		t.Errorf("Reason: %v", r)
	}
	p.reply(bye, 200, "", "")
}

// TestMusic: 601 plays, paced, one SSRC, no gaps.
func TestMusic(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	p := newPhone(t, f, "1001")
	d := p.dial("601", p.sdp("sendrecv")).answered()
	v := p.listen(d.body)
	start := time.Now()
	eventually(t, "25 packets", func() bool { return len(v.got()) >= 25 })
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("25 packets of 20 ms within %v", took)
	}
	got := v.got()
	if !got[0].marker {
		t.Error("the first packet has no marker")
	}
	for i := 1; i < len(got); i++ {
		if got[i].seq != got[i-1].seq+1 || got[i].ts != got[i-1].ts+160 || got[i].ssrc != got[0].ssrc {
			t.Fatalf("packet %d does not follow %d: %+v after %+v", i, i-1, got[i], got[i-1])
		}
	}
	if l := level(v.heard()[800:4000], 261.63); l < 40 {
		t.Errorf("the first note is at %.0f dB", l)
	}
	d.hangup()
}

// place lets the application call a phone, and takes the call there.
func (a *app) place(b *phone) *talk {
	a.t.Helper()
	a.do(200, "POST", "channels/out?app=rtcedge&endpoint="+url.QueryEscape("PJSIP/edge/sip:"+b.user+"@"+b.addr()), "")
	return b.ringing()
}

// pair is two phones in a bridge: the first one called in, the second one was called.
func pair(t *testing.T) (f *Farm, a *app, p, q *phone, out, in *talk) {
	t.Helper()
	f, a = runNode(t, Config{})
	p, q = newPhone(t, f, "1001"), newPhone(t, f, "1002")
	out, id := a.up(p, "1002")
	in = a.place(q).accept()
	a.event("StasisStart")
	a.do(200, "POST", "bridges/b", "")
	a.do(204, "POST", "bridges/b/addChannel?channel="+id+",out", "")
	return f, a, p, q, out, in
}

// TestB29Refusals: what a node refuses by itself: no codec of ours, an extension that it does not know; and, as long as no application is
// there, every number that needs one, so that the edge asks another node.
func TestB29Refusals(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	a := newPhone(t, f, "1001")
	for _, number := range []string{"1005", "7001", "602"} {
		a.dial(number, a.sdp("sendrecv")).refused(503)
	}
	bad := a.dial("600", strings.Replace(a.sdp("sendrecv"), "RTP/AVP 0 101", "RTP/AVP 8 101", 1))
	bad.refused(488)
	a.dial("600", strings.Replace(a.sdp("sendrecv"), "RTP/AVP", "RTP/SAVP", 1)).refused(488)
	res := a.dial("600", a.sdp("sendrecv"), "Require: 100rel").refused(420)
	if h := res.GetHeader("Unsupported"); h == nil || h.Value() != "100rel" {
		t.Errorf("Unsupported: %v", h)
	}
	if n := f.Stats(); n.Calls != 0 || n.Refused != 6 {
		t.Errorf("%+v after six refusals", n)
	}
}

// TestB39CancelledTooLate: a call that the application takes back gets CANCEL with the INVITE's branch, and ACK and BYE if the phone answers
// in the same moment.
func TestB39CancelledTooLate(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1002")
	for _, late := range []bool{false, true} {
		in := a.place(p)
		a.do(204, "DELETE", "channels/out", "")
		a.event("ChannelDestroyed")
		cancel := p.request("CANCEL")
		if got, want := cancel.Via().Params.GetOr("branch", ""), in.invite.Via().Params.GetOr("branch", "-"); got != want {
			t.Errorf("CANCEL has branch %s, the INVITE %s", got, want)
		}
		p.reply(cancel, 200, "", "")
		if late {
			in.accept()
			in.hungUp()
		} else {
			p.reply(in.invite, 487, "t", "")
		}
		eventually(t, "no call left", func() bool { return f.Stats().Calls == 0 })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dialogs) != 0 {
		t.Errorf("%d dialogs left", len(f.dialogs))
	}
}

// TestB40HoldWithMusic: sendonly is answered recvonly and the other party hears music; resume joins them again on the same
// SSRC; inactive, 0.0.0.0, UPDATE and a changed address work, too.
func TestB40HoldWithMusic(t *testing.T) {
	t.Parallel()
	_, _, a, b, out, in := pair(t)
	va, vb := a.listen(out.body), b.listen(in.body)
	together(10, []float64{500, 1200}, va, vb)

	for _, tt := range []struct{ method, offer, want string }{
		{"INVITE", a.sdp("sendonly"), "recvonly"},
		{"INVITE", a.sdp("inactive"), "inactive"},
		{"UPDATE", a.sdp("sendonly"), "recvonly"},
		{"INVITE", strings.Replace(a.sdp("sendrecv"), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1), "recvonly"},
	} {
		modify := func(body string) string {
			out.send(tt.method, body)
			res := out.response(tt.method, 200)
			if tt.method == "INVITE" {
				out.send("ACK", "")
			}
			return direction(string(res.Body()))
		}
		if got := modify(tt.offer); got != tt.want {
			t.Errorf("%s with %s is answered %s, want %s", tt.method, direction(tt.offer), got, tt.want)
		}
		va.forget()
		vb.forget()
		together(15, []float64{500, 1200}, va, vb)
		if n := len(va.got()); n > 1 { // one may have been on its way
			t.Errorf("%s: %d packets to who holds", tt.want, n)
		}
		music := math.Inf(-1) // the melody goes on where it was: any of its notes
		for _, note := range []float64{261.63, 293.66, 329.63, 392, 440, 523.25} {
			music = max(music, level(vb.heard(), note))
		}
		if tone := level(vb.heard(), 500); music < 30 || music-tone < 15 {
			t.Errorf("%s: the held party hears music at %.0f dB, the holder at %.0f dB", tt.want, music, tone)
		}
		if got := modify(a.sdp("sendrecv")); got != "sendrecv" {
			t.Errorf("resume is answered %s", got)
		}
		va.forget()
		vb.forget()
		together(15, []float64{500, 1200}, va, vb)
		if l := level(vb.heard(), 500); l < 40 {
			t.Errorf("after the resume the callee hears the caller at %.0f dB", l)
		}
		if l := level(va.heard(), 1200); l < 40 {
			t.Errorf("after the resume the caller hears the callee at %.0f dB", l)
		}
	}
	seen := map[uint32]bool{}
	for _, pkt := range vb.got() {
		seen[pkt.ssrc] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d SSRCs towards the callee", len(seen))
	}

	// Another address: the farm follows at once.
	other := newPhoneSocket(t)
	out.send("INVITE", sdpFor(other, "sendrecv"))
	out.response("INVITE", 200)
	out.send("ACK", "")
	vb.sendTone(1200, 6000)
	_ = other.SetReadDeadline(time.Now().Add(patience))
	if _, err := other.Read(make([]byte, 2048)); err != nil {
		t.Errorf("nothing at the new address: %v", err)
	}
}

// TestInDialog: OPTIONS, INFO (a key is told of), unknown methods, old numbers, wrong tags, late offers.
func TestInDialog(t *testing.T) {
	t.Parallel()
	_, node, a, b, out, in := pair(t)
	out.send("OPTIONS", "")
	out.response("OPTIONS", 200)
	a.write(strings.Replace(message("INFO "+out.target+" SIP/2.0", []string{
		"Via: SIP/2.0/UDP " + a.addr() + ";branch=z9hG4bKinfo1", "Max-Forwards: 70", "From: " + out.from, "To: " + out.to,
		"Call-ID: " + out.callID, "CSeq: 50 INFO", "Content-Type: application/dtmf-relay",
	}, ""), "Content-Length: 0\r\n\r\n", "Content-Length: 24\r\n\r\nSignal=5\r\nDuration=160\r\n", 1))
	out.response("INFO", 200)
	if key := node.event("ChannelDtmfReceived"); at(key, "digit") != "5" || at(key, "duration_ms") != "160" {
		t.Errorf("INFO is told of as %v", key)
	}
	out.cseq = 50
	out.send("PUBLISH", "")
	if res := out.response("PUBLISH", 405); res.GetHeader("Allow") == nil {
		t.Error("405 without Allow")
	}
	out.cseq = 3
	out.send("OPTIONS", "")
	out.response("OPTIONS", 500)
	out.cseq = 60
	right := out.to
	out.to = strings.Split(right, ";tag=")[0] + ";tag=wrong"
	out.send("BYE", "")
	out.response("BYE", 481)
	out.to = right

	// A re-INVITE without offer: ours is in the 200, the answer in the ACK.
	in.cseq = 10
	in.send("INVITE", "")
	res := in.response("INVITE", 200)
	if !strings.Contains(string(res.Body()), "PCMU/8000") {
		t.Errorf("no offer in the 200:\n%s", res.Body())
	}
	in.send("ACK", b.sdp("sendonly"))
	va := a.listen(out.body)
	eventually(t, "music for the caller", func() bool { return len(va.got()) > 3 })
	in.hangup()
	out.hangup()
}

// TestLateOffer: an INVITE without SDP gets our offer in the 200.
func TestLateOffer(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	p := newPhone(t, f, "1001")
	d := p.dial("600", "")
	res := d.response("INVITE", 200)
	d.to, d.target, d.body = res.To().Value(), res.Contact().Address.String(), string(res.Body())
	d.send("ACK", p.sdp("sendrecv"))
	v := p.listen(d.body)
	eventually(t, "echo", func() bool {
		v.sendTone(700, 5000)
		return len(v.got()) > 0
	})
	d.hangup()
}

// TestMissingAck: the 200 is repeated, and after 64 T1 the call ends with BYE.
func TestMissingAck(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{T1: 5 * time.Millisecond})
	p := newPhone(t, f, "1001")
	d := p.dial("600", p.sdp("sendrecv"))
	for range 4 {
		d.response("INVITE", 200)
	}
	d.hungUp()
	eventually(t, "no call left", func() bool { return len(f.Calls()) == 0 })
}

// TestRepeatedAnswer: a callee that repeats its 200 gets the same ACK again.
func TestRepeatedAnswer(t *testing.T) {
	t.Parallel()
	f, node := runNode(t, Config{})
	b := newPhone(t, f, "1002")
	in := node.place(b).accept()
	_, tag, _ := strings.Cut(in.from, ";tag=")
	b.reply(in.invite, 200, tag, b.sdp("sendrecv"))
	b.request("ACK")
	// Another branch of a fork answers, too: ACK and BYE for it alone.
	b.reply(in.invite, 200, "other", b.sdp("sendrecv"))
	b.request("ACK")
	bye := b.request("BYE")
	if got, _ := bye.To().Params.Get("tag"); got != "other" {
		t.Errorf("BYE for %q", got)
	}
	b.reply(bye, 200, "", "")
	node.do(204, "DELETE", "channels/out", "")
	in.hungUp()
}

// TestPathAndEdge: the INVITE to a contact goes by its Path, else by the edge, with the contact as Request-URI.
func TestPathAndEdge(t *testing.T) {
	t.Parallel()
	edge := newPhoneSocket(t)
	f, node := runNode(t, Config{Edge: addrPort(edge)})
	b := newPhone(t, f, "1002")
	contact := "Contact: <sip:1002@192.0.2.7:5060;transport=udp;ob>;expires=300"
	for _, path := range []string{"", "<sip:ck~1@" + b.addr() + ";lr;flow=xyz>"} {
		b.register(200, contact, "Path: "+path, "Supported: path")
		at := edge
		if path != "" {
			at = b.sip
		}
		node.do(200, "POST", "channels/out?app=rtcedge&endpoint=PJSIP/1002", "")
		var inv *sipmsg.Request
		if at == edge {
			buf := make([]byte, 65536)
			_ = edge.SetReadDeadline(time.Now().Add(patience))
			n, from, err := edge.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if from != sipAddr(t, f) {
				t.Errorf("the INVITE comes from %v, not from the farm's listener", from)
			}
			m, err := sipmsg.ParseMessage(buf[:n])
			if err != nil {
				t.Fatal(err)
			}
			inv = m.(*sipmsg.Request)
		} else {
			inv = b.request("INVITE")
		}
		if got := inv.Recipient.String(); got != "sip:1002@192.0.2.7:5060;transport=udp;ob" {
			t.Errorf("Request-URI %s", got)
		}
		want := path
		if want == "" {
			want = "<sip:" + addrPort(edge).String() + ";lr>"
		}
		if got := inv.GetHeader("Route").Value(); got != want {
			t.Errorf("Route %s, want %s", got, want)
		}
		node.do(204, "DELETE", "channels/out", "")
	}
}

// TestLimits: more calls than MaxCalls, and ports that run out, are 503; nothing is kept.
func TestLimits(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{MaxCalls: 3, PortMin: 28100, PortMax: 28103})
	p := newPhone(t, f, "1001")
	first := p.dial("600", p.sdp("sendrecv")).answered()
	second := p.dial("600", p.sdp("sendrecv")).answered()
	res := p.dial("600", p.sdp("sendrecv")).refused(503)
	if res.GetHeader("Retry-After") == nil {
		t.Error("503 without Retry-After")
	}
	first.hangup()
	eventually(t, "a free port", func() bool { return len(f.Calls()) == 1 })
	p.dial("600", p.sdp("sendrecv")).answered().hangup()
	second.hangup()

	g := runFarm(t, Config{MaxCalls: 1})
	q := newPhone(t, g, "1001")
	only := q.dial("600", q.sdp("sendrecv")).answered()
	q.dial("600", q.sdp("sendrecv")).refused(503)
	only.hangup()
}
