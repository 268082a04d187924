package sip

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rtcedge/media/ng"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

const changed = "v=0\r\ns=changed by media\r\n"

// brief writes what a media node was asked in a few words.
func brief(reqs []ng.Request) (out []string) {
	for _, q := range reqs {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s>%s %s", q.Command, q.FromTag, q.ToTag, q.Direction[0])))
	}
	return out
}

// TestB17Offer: a call through the media node: offer, answer from the response alone, delete behind the BYE.
func TestB17Offer(t *testing.T) {
	media := &fakeMedia{}
	r := newRig(t, Config{Media: media})
	req := r.one(r.put(phone, invite(sdp)), node1)
	if !strings.HasSuffix(req, "\r\n\r\n"+changed) || lines(req, "Content-Length")[0] != fmt.Sprint(len(changed)) {
		t.Errorf("the offer was not replaced:\n%s", req)
	}
	q := media.took()
	if diff := cmp.Diff([]string{"offer ft> pub"}, brief(q)); diff != "" {
		t.Fatal(diff)
	}
	if q[0].Transport != "RTP/AVP" || q[0].ICE != "remove" || q[0].Codec.Transcode[0] != "PCMU" || q[0].Codec.Mask[0] != "all" {
		t.Errorf("offer %+v", q[0])
	}
	for _, code := range []int{183, 200, 200} {
		resp := r.one(r.putOn(0, 0, node1, answer(req, code, "tt", sdp)), phone)
		if !strings.HasSuffix(resp, "\r\n\r\n"+changed) {
			t.Errorf("the answer was not replaced:\n%s", resp)
		}
	}
	if diff := cmp.Diff([]string{"answer ft>tt", "answer ft>tt", "answer ft>tt"}, brief(media.took())); diff != "" {
		t.Error(diff)
	}
	rr := lines(req, "Record-Route")[0]
	bye := "BYE sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKx\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 BYE\nRoute: " + rr + "\n"
	r.one(r.put(phone, bye), node1)
	if diff := cmp.Diff([]string{"delete ft>tt"}, brief(media.took())); diff != "" {
		t.Error(diff)
	}
}

// TestDelayedOffer: without an offer in the INVITE it comes in the 200, and the ACK or PRACK has the answer.
func TestDelayedOffer(t *testing.T) {
	media := &fakeMedia{}
	r := newRig(t, Config{Media: media})
	req := r.one(r.put(phone, invite("")), node1)
	r.one(r.putOn(0, 0, node1, answer(req, 200, "tt", sdp)), phone)
	rr := lines(req, "Record-Route")[0]
	in := "ACK sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKx\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 1 ACK\nRoute: " + rr + "\n" + sdp
	r.one(r.put(phone, in), node1)
	r.one(r.put(phone, strings.ReplaceAll(in, "ACK", "PRACK")), node1)
	if diff := cmp.Diff([]string{"offer tt>ft priv", "answer tt>ft", "answer tt>ft"}, brief(media.took())); diff != "" {
		t.Error(diff)
	}
	// With an offer in the INVITE a PRACK's body is a new offer.
	req = r.one(r.put(phone, invite(sdp)), node1)
	media.took()
	r.one(r.put(phone, strings.ReplaceAll(strings.Replace(in, rr, lines(req, "Record-Route")[0], 1), "ACK", "PRACK")), node1)
	if diff := cmp.Diff([]string{"offer ft>tt pub"}, brief(media.took())); diff != "" {
		t.Error(diff)
	}
}

// TestF34ForgedDialogMessages: who knows Call-ID and tags of a call, but has no signed Route of it, moves and ends no media.
func TestF34ForgedDialogMessages(t *testing.T) {
	media := &fakeMedia{}
	r := newRig(t, Config{Media: media})
	req := r.one(r.put(phone, invite(sdp)), node1)
	r.one(r.putOn(0, 0, node1, answer(req, 200, "tt", sdp)), phone)
	media.took()
	forged := "ACK sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.6.6;branch=z9hG4bKx\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 1 ACK\nMax-Forwards: 70\n"
	stranger := "127.0.6.6:5060"
	if out := r.put(stranger, forged+sdp); len(out) != 0 {
		t.Errorf("a forged ACK with a description went on: %v", out)
	}
	for _, method := range []string{"INVITE", "UPDATE", "PRACK"} {
		r.status(r.put(stranger, strings.ReplaceAll(forged, "ACK", method)+sdp), 481)
	}
	for _, method := range []string{"BYE", "REFER", "INFO"} { // with no body either: a farm would take it, as it trusts the edge
		r.status(r.put(stranger, strings.ReplaceAll(forged, "ACK", method)), 481)
	}
	// With the Route of the dialog, but an offer in its INVITE, an ACK's body is no answer either.
	if out := r.put(phone, forged+"Route: "+lines(req, "Record-Route")[0]+"\n"+sdp); len(out) != 0 {
		t.Errorf("an ACK with a second answer went on: %v", out)
	}
	if q := media.took(); len(q) != 0 {
		t.Errorf("media was asked %v", brief(q))
	}
	if r.drops()["no_dialog"] != 8 {
		t.Errorf("drops %v", r.drops())
	}
}

// TestMediaDelete: a failed first INVITE ends the media session; a challenge and a failed re-INVITE do not.
func TestMediaDelete(t *testing.T) {
	media := &fakeMedia{}
	r := newRig(t, Config{Media: media})
	req := r.one(r.put(phone, invite(sdp)), node1)
	again := r.one(r.put(phone, strings.Replace(invite(sdp), "To: <sip:600@E0>", "To: <sip:600@E0>;tag=tt\nRoute: "+lines(req, "Record-Route")[0], 1)), node1)
	media.took()
	for _, c := range []struct {
		req  string
		code int
		want []string
	}{{req, 401, nil}, {req, 407, nil}, {req, 180, nil}, {req, 486, []string{"delete ft>x"}}, {req, 487, []string{"delete ft>x"}}, {again, 488, nil}, {again, 491, nil}} {
		r.one(r.putOn(0, 0, node1, answer(c.req, c.code, "x", "")), phone)
		if diff := cmp.Diff(c.want, brief(media.took())); diff != "" {
			t.Errorf("%d: %s", c.code, diff)
		}
	}
}

// TestB29NoCommonCodec: a refusal is a 488, silence a 503: never a call without sound.
func TestB29NoCommonCodec(t *testing.T) {
	media := &fakeMedia{reason: "no common codec"}
	r := newRig(t, Config{Media: media})
	if got := r.status(r.put(phone, invite(sdp)), 488); lines(got, "Warning")[0] != `399 rtcedge "no common codec"` {
		t.Errorf("488:\n%s", got)
	}
	media.reason, media.silent = "", true
	r.status(r.put(phone, invite(sdp)), 503)
	media.silent = false
	req := r.one(r.put(phone, invite(sdp)), node1)
	media.reason = "codecs do not fit"
	got := r.status(r.putOn(0, 0, node1, answer(req, 200, "tt", sdp)), 488)
	m := parse(t, got)
	if string(m.Via().Host) != "127.0.2.1" || !r.p.ownTag(m, m.ToTag()) {
		t.Errorf("the answer that was turned down:\n%s", got)
	}
	media.reason, media.silent = "", true
	if out := r.putOn(0, 0, node1, answer(req, 200, "tt", sdp)); len(out) != 0 {
		t.Errorf("a 200 passed without media: %v", out)
	}
}

// TestOfferToPhone: an offer of the farm gets our codec list and the profile of the phone's transport.
func TestOfferToPhone(t *testing.T) {
	media := &fakeMedia{}
	ws := udpOn("127.0.0.1")
	ws.Proto = transport.WS
	r := newRig(t, Config{Media: media, Codecs: []string{"opus", "PCMU"}}, udpOn("127.0.0.1"), ws)
	reg := r.putOn(1, 9, phone, r.text(strings.ReplaceAll(invite(""), "INVITE", "REGISTER")))
	path := lines(reg[0].text, "Path")[0]
	call := "INVITE sip:1001@df7jal23ls0d.invalid;transport=ws SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKq\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=f\nTo: <sip:1001@x>\nCall-ID: out-1\nCSeq: 1 INVITE\nContact: <sip:600@" + node1 + ">\n"
	out := r.put(node1, call+"Route: "+path+"\n"+sdp)
	if len(out) != 1 || out[0].to.Flow != 9 {
		t.Fatal(out, r.drops())
	}
	q := media.took()[0]
	if q.Transport != "UDP/TLS/RTP/SAVPF" || q.ICE != "force" || q.Direction != [2]string{"priv", "pub"} {
		t.Errorf("%+v", q)
	}
	if diff := cmp.Diff([]string{"opus", "PCMU"}, q.Codec.Transcode); diff != "" {
		t.Error(diff)
	}
	if slices.Contains(q.Flags, "keep-transport") {
		t.Error("the first offer has nothing to keep")
	}
	r.put(node1, strings.Replace(call, "To: <sip:1001@x>", "To: <sip:1001@x>;tag=t", 1)+"Route: "+path+"\n"+sdp)
	if q := media.took(); len(q) != 1 || !slices.Contains(q[0].Flags, "keep-transport") {
		t.Errorf("re-INVITE: %+v", q)
	}
	// Farm to farm needs no media node.
	r.put(node1, strings.Replace(call, "sip:1001@df7jal23ls0d.invalid;transport=ws", "sip:7000@"+node1, 1)+sdp)
	if q := media.took(); len(q) != 0 {
		t.Errorf("asked %v", brief(q))
	}
}

// TestOrderInQueue: a CANCEL does not overtake its INVITE while that waits for media; others are not held up.
func TestOrderInQueue(t *testing.T) {
	r := newRig(t, Config{Media: &fakeMedia{}})
	r.sent = nil
	give := func(s string) {
		raw := r.text(s)
		r.p.Handle(&transport.Message{Bytes: []byte(raw), From: parseAddr(phone), Listener: r.ls[0]})
	}
	give(invite(sdp))
	give(strings.ReplaceAll(invite(""), "INVITE", "CANCEL"))
	if len(r.sent) != 0 {
		t.Fatalf("sent before media answered: %v", r.sent)
	}
	give(strings.Replace(strings.ReplaceAll(invite(""), "INVITE", "MESSAGE"), "call-1", "call-of-another-queue", 1))
	if len(r.sent) != 1 {
		t.Fatalf("held up: %v", r.sent)
	}
	r.work()
	if len(r.sent) != 3 || !strings.HasPrefix(r.sent[1].text, "INVITE") || !strings.HasPrefix(r.sent[2].text, "CANCEL") {
		t.Errorf("order: %v", r.sent)
	}
}

// TestQueueFull: beyond the bound a request gets 503 and is counted.
func TestQueueFull(t *testing.T) {
	r := newRig(t, Config{Media: &fakeMedia{}, Queues: 1, QueueLength: 2})
	r.sent = nil
	for range 3 {
		r.p.Handle(&transport.Message{Bytes: []byte(r.text(invite(sdp))), From: parseAddr(phone), Listener: r.ls[0]})
	}
	r.status(r.sent, 503)
	if r.drops()["queue_full"] != 1 {
		t.Errorf("drops %v", r.drops())
	}
}

// TestBodiesLeftAlone: multipart and encoded bodies pass as they came.
func TestBodiesLeftAlone(t *testing.T) {
	media := &fakeMedia{}
	r := newRig(t, Config{Media: media})
	for _, s := range []string{strings.Replace(sdp, "application/sdp", "multipart/mixed;boundary=x", 1), strings.Replace(sdp, "Content-Type", "Content-Encoding: gzip\nContent-Type", 1),
		strings.Replace(sdp, "application/sdp", "application/sdpx", 1)} {
		got := r.one(r.put(phone, invite(s)), node1)
		if strings.Contains(got, "changed") {
			t.Errorf("changed:\n%s", got)
		}
	}
	if q := media.took(); len(q) != 0 {
		t.Errorf("asked %v", brief(q))
	}
	for _, s := range []string{strings.Replace(sdp, "application/sdp", "APPLICATION/SDP;charset=x", 1), strings.Replace(sdp, "Content-Type", "c", 1)} {
		if got := r.one(r.put(phone, invite(s)), node1); !strings.Contains(got, "changed") {
			t.Errorf("not changed:\n%s", got)
		}
	}
}

// echoMedia gives every question the same answer.
type echoMedia struct {
	fakeMedia
	sdp []byte
}

func (e *echoMedia) Offer(context.Context, *ng.Request) (*ng.Response, error) {
	return &ng.Response{Result: ng.ResultOK, SDP: e.sdp}, nil
}

// FuzzHandOver: whatever stands in a body and whatever the media node makes of it, a message that can be read leaves, with just that body.
func FuzzHandOver(f *testing.F) {
	body := []byte("v=0\r\no=- 1 1 IN IP4 127.0.2.1\r\ns=-\r\nc=IN IP4 127.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n")
	f.Add(body, body, "application/sdp")
	f.Add([]byte("v=0"), []byte{}, "application/sdp;charset=utf-8")
	f.Add([]byte("\r\n\r\n"), []byte("INVITE sip:x SIP/2.0\r\n\r\n"), "Application/SDP ")
	media := &echoMedia{}
	r := newRig(&testing.T{}, Config{Media: media, Farms: farms(node1)})
	m := new(message.Message)
	f.Fuzz(func(t *testing.T, in, out []byte, kind string) {
		if len(out) > 32<<10 || strings.ContainsAny(kind, "\r\n") {
			return
		}
		media.sdp = out
		head := strings.TrimSuffix(r.text(invite("Content-Type: "+kind+"\n")), "Content-Length: 0\r\n\r\n")
		raw := head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(in), in)
		var was message.Message
		if was.Parse([]byte(raw)) != message.FaultNone {
			return
		}
		want := in
		if hasSDP(&was) {
			want = out
		}
		for _, s := range r.putOn(0, 0, phone, raw) {
			if strings.HasPrefix(s.text, "SIP/2.0 ") {
				continue
			}
			if fault := m.Parse([]byte(s.text)); fault != message.FaultNone || string(m.Body()) != string(want) {
				t.Fatalf("%v; body %q, want %q", fault, m.Body(), want)
			}
		}
	})
}
