package farm

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestB39Originate: a call to a registered user and one to a URI, with their Dial events, refused, cancelled, unanswered.
func TestB39Originate(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1002")
	p.register(200)
	ch := a.do(200, "POST", "channels", `{"endpoint":"PJSIP/1002","app":"rtcedge","appArgs":"out,c1,c1.1","channelId":"c1.1",`+
		`"callerId":"Alice \"A\" <1001>","variables":{"PJSIP_HEADER(add,X-Lab)":"7","FLOW":"main"}}`)
	if at(ch, "id") != "c1.1" || at(ch, "state") != "Down" {
		t.Errorf("channel %v", ch)
	}
	a.do(409, "POST", "channels/c1.1?endpoint=PJSIP/1002&app=rtcedge", "")
	in := p.ringing()
	if h := in.invite.GetHeader("X-Lab"); h == nil || h.Value() != "7" {
		t.Errorf("no X-Lab in\n%s", in.invite)
	}
	if from := in.invite.From(); from.Address.User != "1001" {
		t.Errorf("From %s", from.Value())
	}
	for _, want := range []string{"", "RINGING"} {
		if ev := a.event("Dial"); at(ev, "dialstatus") != want || at(ev, "peer.id") != "c1.1" {
			t.Errorf("Dial %v, want %q", ev, want)
		}
	}
	in.accept()
	if ev := a.event("Dial"); at(ev, "dialstatus") != "ANSWER" {
		t.Errorf("Dial %v", ev)
	}
	if ev := a.event("StasisStart"); fmt.Sprint(ev["args"]) != "[out c1 c1.1]" || at(ev, "channel.state") != "Up" {
		t.Errorf("start %v", ev)
	}
	if v := a.do(200, "GET", "channels/c1.1/variable?variable=FLOW", ""); at(v, "value") != "main" {
		t.Errorf("variable %v", v)
	}
	a.do(204, "DELETE", "channels/c1.1", "")
	in.hungUp()
	a.event("ChannelDestroyed")

	call := func(id string) *talk {
		a.do(200, "POST", "channels/"+id+"?endpoint="+url.QueryEscape("PJSIP/edge/sip:x@"+p.addr())+"&app=rtcedge&timeout=1", "")
		return p.ringing()
	}
	in = call("busy")
	p.reply(in.invite, 486, "x", "")
	if ev := a.event("ChannelDestroyed"); at(ev, "cause") != "17" || !slices.Contains(a.types(), "Dial") {
		t.Errorf("busy: %v", ev)
	}
	in = call("late") // one second
	p.reply(p.request("CANCEL"), 200, "", "")
	p.reply(in.invite, 487, "x", "")
	if ev := a.event("ChannelDestroyed"); at(ev, "cause") != "19" {
		t.Errorf("unanswered: %v", ev)
	}
	for body, want := range map[string]int{
		`{"app":"rtcedge"}`:                                            400,
		`{"endpoint":"PJSIP/1002"}`:                                    400,
		`{"endpoint":"SIP/1002","app":"rtcedge"}`:                      400,
		`{"endpoint":"PJSIP/nobody","app":"rtcedge"}`:                  400,
		`{"endpoint":"PJSIP/edge/nothing","app":"rtcedge"}`:            400,
		`{"endpoint":"PJSIP/1002","app":"rtcedge","timeout":"soon"}`:   400,
		`{"endpoint":"PJSIP/1002","app":"rtcedge","variables":["no"]}`: 400,
		`{`: 400,
	} {
		a.do(want, "POST", "channels", body)
	}
	eventually(t, "no call", func() bool { return f.Stats().Calls == 0 })
}

// TestB57Recover: the variables of a dead node's dialog make an INVITE inside that dialog; ACK and BYE keep to it and to its
// route, whatever the 200 says; one bad variable and nothing is sent.
func TestB57Recover(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1001")
	vars := map[string]string{
		"FROM_URI": "sip:4711@old.example", "FROM_TAG": "ourtag", "TO_DISPLAY": "Jörg, \\\"J\\\"", "TO_URI": "sip:1001@example.com", "TO_TAG": "theirtag",
		"CALL-ID": "abc@phone", "CSEQ": "42", "ROUTES": "<sip:" + p.addr() + ";lr;c=x%2Cy>,<sip:second.example;lr>", "REQUEST_URI": "sip:1001@192.0.2.1:5062",
	}
	send := func(status int, id string, change map[string]string) {
		t.Helper()
		all := map[string]string{}
		for k, v := range vars {
			all["PJSIP_RECOVERY_"+k] = v
		}
		for k, v := range change {
			all["PJSIP_RECOVERY_"+k] = v
		}
		body, err := json.Marshal(map[string]any{"endpoint": "PJSIP/edge/sip:1001@192.0.2.1:5062", "app": "rtcedge", "appArgs": "resume,c,c.1", "channelId": id, "variables": all})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.do(status, "POST", "channels", string(body)); status == 400 && !strings.Contains(at(got, "message"), "PJSIP_RECOVERY_") {
			t.Errorf("%v names no variable", got)
		}
	}
	for name, value := range map[string]string{
		"FROM_TAG": "", "TO_TAG": "a b", "CALL-ID": "", "CSEQ": "x", "ROUTES": "nothing", "REQUEST_URI": "tel:5", "TO_URI": "<>", "FROM_URI": "x\r\nVia: y",
		"REMOTE_CSEQ": "-1",
	} {
		send(400, "bad", map[string]string{name: value})
	}
	send(200, "c.1r1", nil)
	inv := p.request("INVITE")
	to, _ := inv.To().Params.Get("tag")
	from, _ := inv.From().Params.Get("tag")
	if inv.CallID().Value() != "abc@phone" || to != "theirtag" || from != "ourtag" || inv.CSeq().SeqNo != 42 || inv.Recipient.String() != "sip:1001@192.0.2.1:5062" ||
		len(inv.GetHeaders("Route")) != 2 || inv.GetHeader("Record-Route") != nil || !strings.Contains(inv.String(), "c=x%2Cy") || len(a.ch("bad")) > 0 {
		t.Errorf("INVITE\n%s", inv)
	}
	p.reply(inv, 200, "", p.sdp("sendrecv"), "Record-Route: <sip:elsewhere.example;lr>")
	ack := p.request("ACK")
	if ack.CSeq().SeqNo != 42 || len(ack.GetHeaders("Route")) != 2 {
		t.Errorf("ACK\n%s", ack)
	}
	if ev := a.event("StasisStart"); fmt.Sprint(ev["args"]) != "[resume c c.1]" {
		t.Errorf("start %v", ev)
	}
	if v := a.do(200, "GET", "channels/c.1r1/variable?variable="+url.QueryEscape("CHANNEL(pjsip,call-id)"), ""); at(v, "value") != "abc@phone" {
		t.Errorf("call-id %v", v)
	}
	// The far end's requests in the old dialog are ours now (B58).
	d := &talk{p: p, callID: "abc@phone", from: "<sip:1001@example.com>;tag=theirtag", to: "<sip:4711@old.example>;tag=ourtag", target: "sip:4711@" + f.listeners[0].addr.String(), cseq: 7}
	d.send("INVITE", p.sdp("sendonly"))
	d.response("INVITE", 200)
	d.send("ACK", "")
	a.event("ChannelHold")
	a.do(204, "DELETE", "channels/c.1r1", "")
	bye := p.request("BYE")
	if bye.CSeq().SeqNo != 43 || len(bye.GetHeaders("Route")) != 2 || bye.CallID().Value() != "abc@phone" {
		t.Errorf("BYE\n%s", bye)
	}
	p.reply(bye, 200, "", "")

	// A refusal ends the dialog with BYE (B61), but for one that the far end does not know.
	for _, status := range []int{603, 481} {
		send(200, fmt.Sprint("r", status), map[string]string{"CALL-ID": fmt.Sprint("refused", status)})
		inv := p.request("INVITE")
		p.reply(inv, status, "", "")
		a.event("ChannelDestroyed")
		if status == 603 {
			p.reply(p.request("BYE"), 200, "", "")
		}
	}
	eventually(t, "no call", func() bool { return f.Stats().Calls == 0 })
	for len(p.in) > 0 {
		if m := <-p.in; strings.HasPrefix(m.String(), "BYE") {
			t.Errorf("BYE after 481:\n%s", m)
		}
	}
}

// TestB40ExternalMedia: plain RTP to an address joins a bridge.
func TestB40ExternalMedia(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1001")
	d, id := a.up(p, "1")
	v := p.listen(d.body)
	far := newPhoneSocket(t)
	ch := a.do(200, "POST", "channels/externalMedia?app=rtcedge&format=ulaw&channelId=ext&data=out,c,ext&external_host="+addrPort(far).String(), "")
	start := a.event("StasisStart")
	if at(ch, "channelvars.UNICASTRTP_LOCAL_PORT") == "<nil>" || at(start, "channel.id") != "ext" || fmt.Sprint(start["args"]) != "[out c ext]" {
		t.Errorf("external media: %v, %v", ch, start)
	}
	a.do(200, "POST", "bridges/b", "")
	a.do(204, "POST", "bridges/b/addChannel?channel=ext,"+id, "")
	together(10, []float64{500}, v)
	buf := make([]byte, 2048)
	_ = far.SetReadDeadline(time.Now().Add(patience))
	if n, err := far.Read(buf); err != nil || n != 172 {
		t.Errorf("external media got %d bytes, %v", n, err)
	}
	a.do(400, "POST", "channels/externalMedia?app=rtcedge&external_host=nowhere", "")
	a.do(204, "DELETE", "channels/ext", "")
	a.event("StasisEnd")
}

// TestB40SnoopAndRedirect: a snoop records both sides of a channel and ends with it; redirect refers the far end.
func TestB40SnoopAndRedirect(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p, q := newPhone(t, f, "1001"), newPhone(t, f, "1002")
	d, one := a.up(p, "1")
	e, two := a.up(q, "1")
	v, w := p.listen(d.body), q.listen(e.body)
	a.do(200, "POST", "bridges/b", "")
	a.do(204, "POST", "bridges/b/addChannel?channel="+one+","+two, "")
	a.do(400, "POST", "channels/"+one+"/snoop/s1?app=rtcedge&spy=up", "")
	a.do(200, "POST", "channels/"+one+"/snoop/s1?app=rtcedge&spy=both&appArgs=snoop,c,l", "")
	if ev := a.event("StasisStart"); fmt.Sprint(ev["args"]) != "[snoop c l]" {
		t.Errorf("snoop: %v", ev)
	}
	a.do(201, "POST", "channels/s1/record?name=leg&format=wav", "")
	together(40, []float64{500, 1100}, v, w)
	d.send("BYE", "")
	a.event("RecordingFinished")
	status, wav := a.ask("GET", "recordings/stored/leg/file", "")
	pcm, err := readWAV(wav)
	if status != 200 || err != nil || level(pcm, 500) < 40 || level(pcm, 1100) < 40 {
		t.Errorf("recording: %d, %v, %d samples, %.0f and %.0f dB", status, err, len(pcm), level(pcm, 500), level(pcm, 1100))
	}
	a.do(404, "GET", "channels/s1", "")
	a.do(400, "POST", "channels/"+two+"/redirect?endpoint=nowhere", "")
	a.do(204, "POST", "channels/"+two+"/redirect?endpoint=PJSIP/sip:x@192.0.2.1", "")
	if refer := q.request("REFER"); refer.GetHeader("Refer-To").Value() != "<sip:x@192.0.2.1>" {
		t.Errorf("REFER\n%s", refer)
	}
	_, three := a.inStasis(newPhone(t, f, "1003"), "2")
	a.do(204, "POST", "channels/"+three+"/redirect?endpoint=PJSIP/sip:x@192.0.2.1", "")
	a.event("StasisEnd")
	for _, name := range []string{"rtcedge/tone-5", "rtcedge/tone-star", "rtcedge/tone-hash", "rtcedge/enter", "silence/1"} {
		if builtIn(name) == nil {
			t.Errorf("no sound %s", name)
		}
	}
}
