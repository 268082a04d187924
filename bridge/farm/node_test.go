package farm

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/ari"
)

// TestB39IncomingCall: a call comes to the application unanswered, rings, is answered, and ends from either side; SIP headers
// and the dialog can be asked.
func TestB39IncomingCall(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1001")
	d, id := a.inStasis(p, "4711", "VB-Source: 192.0.2.7")
	ch := a.do(200, "GET", "channels/"+id, "")
	if at(ch, "state") != "Ring" || at(ch, "protocol_id") != d.callID || at(ch, "caller.number") != "1001" || at(ch, "dialplan.app_name") != "Stasis" {
		t.Errorf("channel %v", ch)
	}
	a.do(204, "POST", "channels/"+id+"/ring", "")
	d.response("INVITE", 180)
	for name, want := range map[string]string{
		"PJSIP_HEADER(read,VB-Source)": "192.0.2.7", "CHANNEL(pjsip,call-id)": d.callID, "CALLERID(num)": "1001", "RTCEDGE_ROLES": "call,conference,registrar",
	} {
		if got := a.do(200, "GET", "channels/"+id+"/variable?variable="+url.QueryEscape(name), ""); at(got, "value") != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	a.do(404, "GET", "channels/"+id+"/variable?variable=NOTHING", "")
	a.do(204, "POST", "channels/"+id+"/answer", "")
	d.answered()
	a.event("ChannelStateChange")
	a.do(204, "POST", "channels/"+id+"/answer", "") // again: nothing to do
	d.hangup()
	a.event("ChannelHangupRequest")
	a.event("StasisEnd")
	a.do(404, "GET", "channels/"+id, "")

	d, id = a.inStasis(p, "4711")
	a.do(204, "DELETE", "channels/"+id+"?reason=busy", "")
	d.refused(486)
	a.event("StasisEnd")
	d, id = a.inStasis(p, "4711")
	d.send("CANCEL", "")
	a.event("StasisEnd")
	a.do(404, "POST", "channels/"+id+"/answer", "")
	eventually(t, "no call", func() bool { return f.Stats().Calls == 0 })
}

// TestB40MuteHoldKeys: mute in both directions, hold with music, keys both ways.
func TestB40MuteHoldKeys(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p, q := newPhone(t, f, "1001"), newPhone(t, f, "1002")
	d, one := a.up(p, "1")
	e, two := a.up(q, "1")
	v, w := p.listen(d.body), q.listen(e.body)
	a.do(200, "POST", "bridges/b", "")
	a.do(204, "POST", "bridges/b/addChannel?channel="+one+","+two, "")
	check := func(what string, pHears, qHears bool) {
		t.Helper()
		together(8, []float64{500, 1100}, v, w) // what is under way
		v.forget()
		w.forget()
		together(30, []float64{500, 1100}, v, w)
		if got := level(v.heard(), 1100) > 40; got != pHears {
			t.Errorf("%s: the first hears the second: %v (%.0f dB)", what, got, level(v.heard(), 1100))
		}
		if got := level(w.heard(), 500) > 40; got != qHears {
			t.Errorf("%s: the second hears the first: %v (%.0f dB)", what, got, level(w.heard(), 500))
		}
	}
	check("joined", true, true)
	a.do(204, "POST", "channels/"+one+"/mute?direction=in", "")
	check("muted in", true, false)
	a.do(204, "DELETE", "channels/"+one+"/mute?direction=in", "")
	a.do(204, "POST", "channels/"+one+"/mute?direction=out", "")
	check("muted out", false, true)
	a.do(204, "DELETE", "channels/"+one+"/mute", "")
	check("unmuted", true, true)
	a.do(400, "POST", "channels/"+one+"/mute?direction=up", "")

	d.send("INVITE", p.sdp("sendonly"))
	d.response("INVITE", 200)
	d.send("ACK", "")
	if ev := a.event("ChannelHold"); at(ev, "channel.id") != one {
		t.Errorf("hold: %v", ev)
	}
	w.forget()
	together(20, []float64{500, 1100}, v, w)
	if n := len(w.heard()); n < 160*12 {
		t.Errorf("no music for who was put on hold: %d samples", n)
	}
	d.send("INVITE", p.sdp("sendrecv"))
	d.response("INVITE", 200)
	d.send("ACK", "")
	a.event("ChannelUnhold")
	check("resumed", true, true)

	for k := range 5 {
		end := byte(0)
		if k > 2 {
			end = 0x80
		}
		v.sendPacket(101, k == 0, []byte{5, end | 10, byte((k + 1) * 160 >> 8), byte((k + 1) * 160)})
	}
	if ev := a.event("ChannelDtmfReceived"); at(ev, "digit") != "5" || at(ev, "channel.id") != one {
		t.Errorf("key: %v", ev)
	}
	w.forget()
	a.do(204, "POST", "channels/"+two+"/dtmf?dtmf=1%23", "")
	var keys []byte
	eventually(t, "keys", func() bool {
		keys = nil
		for _, pkt := range w.got() {
			if pkt.pt == 101 && pkt.payload[1]&0x80 != 0 && (len(keys) == 0 || keys[len(keys)-1] != pkt.payload[0]) {
				keys = append(keys, pkt.payload[0])
			}
		}
		return bytes.HasSuffix(keys, []byte{1, 11}) // before them the other phone's, relayed
	})
	a.do(400, "POST", "channels/"+two+"/dtmf?dtmf=x", "")
}

// TestB40PlayAndRecord: sounds, tones and recordings on channels and bridges, their events, their control, and the file.
func TestB40PlayAndRecord(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1001")
	d, id := a.up(p, "1")
	v := p.listen(d.body)
	if pb := a.do(201, "POST", "channels/"+id+"/play/pb1?media=sound:beep", ""); at(pb, "state") != "queued" || at(pb, "target_uri") != "channel:"+id {
		t.Errorf("playback %v", pb)
	}
	if ev := a.event("PlaybackStarted"); at(ev, "playback.state") != "playing" || at(ev, "playback.id") != "pb1" {
		t.Errorf("started %v", ev)
	}
	if ev := a.event("PlaybackFinished"); at(ev, "playback.state") != "done" {
		t.Errorf("finished %v", ev)
	}
	if l := level(v.heard(), 1000); l < 40 {
		t.Errorf("beep at %.0f dB in %d samples", l, len(v.heard()))
	}
	a.do(201, "POST", "channels/"+id+"/play/pb2?media=sound:no-such-sound", "")
	if ev := a.event("PlaybackFinished"); at(ev, "playback.state") != "failed" {
		t.Errorf("missing sound: %v", ev)
	}
	a.do(201, "POST", "channels/"+id+"/play/pb3", `{"media":["tone:!440/200,!880/200"]}`)
	a.event("PlaybackStarted")
	a.do(204, "POST", "playbacks/pb3/control?operation=pause", "")
	a.do(400, "POST", "playbacks/pb3/control?operation=dance", "")
	a.do(204, "POST", "playbacks/pb3/control?operation=unpause", "")
	a.do(204, "DELETE", "playbacks/pb3", "")
	a.event("PlaybackFinished")
	a.do(404, "GET", "playbacks/pb3", "")
	a.do(500, "POST", "channels/"+id+"/play", "")
	a.do(500, "POST", "channels/"+id+"/play?media=ftp:x", "")

	a.do(200, "POST", "bridges/b", "")
	a.do(204, "POST", "bridges/b/addChannel?channel="+id, "")
	a.event("ChannelEnteredBridge")
	a.do(201, "POST", "bridges/b/record?name=talk&format=wav", "")
	a.event("RecordingStarted")
	a.do(409, "POST", "bridges/b/record?name=talk&format=wav", "")
	a.do(422, "POST", "bridges/b/record?name=other&format=mp3", "")
	a.do(400, "POST", "bridges/b/record?name=..%2Fout", "")
	together(30, []float64{700}, v)
	a.do(204, "POST", "recordings/live/talk/stop", "")
	if ev := a.event("RecordingFinished"); at(ev, "recording.state") != "done" || at(ev, "recording.target_uri") != "bridge:b" {
		t.Errorf("recording %v", ev)
	}
	status, wav := a.ask("GET", "recordings/stored/talk/file", "")
	pcm, err := readWAV(wav)
	if status != 200 || err != nil || len(pcm) < 160*25 || level(pcm, 700) < 40 {
		t.Errorf("file: %d, %v, %d samples at %.0f dB", status, err, len(pcm), level(pcm, 700))
	}
	a.do(409, "POST", "bridges/b/record?name=talk&format=wav", "") // exists
	a.do(201, "POST", "bridges/b/record?name=talk&format=wav&ifExists=overwrite&maxDurationSeconds=1", "")
	if ev := a.event("RecordingFinished"); at(ev, "recording.duration") != "1" {
		t.Errorf("recording %v", ev)
	}
	v.forget()
	a.do(201, "POST", "bridges/b/play?media=recording:talk", "")
	a.event("PlaybackFinished")
	a.do(204, "DELETE", "recordings/stored/talk", "")
	a.do(404, "GET", "recordings/stored/talk", "")
}

// TestB40Transfer: a REFER is handed to the application, which tells the phone how it went.
func TestB40Transfer(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1001")
	d, id := a.up(p, "1")
	a.do(204, "POST", "channels/"+id+"/transfer_progress?states=channel_answered", "") // of nothing: nothing is sent
	d.send("REFER", "", "Refer-To: <sip:1003@example.com>")
	d.response("REFER", 202)
	notify := p.request("NOTIFY")
	if !strings.HasPrefix(string(notify.Body()), "SIP/2.0 100") || notify.GetHeader("Event") == nil {
		t.Errorf("NOTIFY\n%s", notify)
	}
	p.reply(notify, 200, "", "")
	ev := a.event("ChannelTransfer")
	if at(ev, "refer_to.requested_destination.destination") != "1003" || at(ev, "referred_by.source_channel.id") != id {
		t.Errorf("transfer %v", ev)
	}
	a.do(400, "POST", "channels/"+id+"/transfer_progress?states=maybe", "")
	a.do(204, "POST", "channels/"+id+"/transfer_progress?states=channel_answered", "")
	notify = p.request("NOTIFY")
	if !strings.HasPrefix(string(notify.Body()), "SIP/2.0 200") || !strings.HasPrefix(notify.GetHeader("Subscription-State").Value(), "terminated") {
		t.Errorf("NOTIFY\n%s", notify)
	}
	p.reply(notify, 200, "", "")
	d.hangup()
}

// TestB41SocketDrops: channels and bridges stay when the event socket drops, and the next one goes on; while none is open the
// farm does what it can do alone.
func TestB41SocketDrops(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p, q := newPhone(t, f, "1001"), newPhone(t, f, "1002")
	d, id := a.up(p, "1")
	a.do(200, "POST", "bridges/b", "")
	a.do(204, "POST", "bridges/b/addChannel?channel="+id, "")
	_ = a.conn.CloseNow()
	eventually(t, "the socket is gone", func() bool { return !f.ari.Active("rtcedge") })
	own := q.dial("600", q.sdp("sendrecv")).answered()
	if got := a.do(200, "GET", "bridges/b", ""); fmt.Sprint(got["channels"]) != "["+id+"]" {
		t.Errorf("bridge %v", got)
	}
	if got := a.do(200, "GET", "applications/rtcedge", ""); fmt.Sprint(got["channel_ids"]) != "["+id+"]" {
		t.Errorf("application %v", got)
	}
	a.connect("rtcedge")
	own.hangup()
	d.hangup()
	a.event("StasisEnd")

	// Another client of the same application replaces the first.
	first := a.in
	a.connect("rtcedge")
	select {
	case m := <-first:
		if m["type"] != "ApplicationReplaced" {
			t.Errorf("the first client got %v", m)
		}
	case <-time.After(patience):
		t.Error("no ApplicationReplaced")
	}
	a.do(200, "PUT", "applications/rtcedge/eventFilter", `{"disallowed":[{"type":"ChannelVarset"}]}`)
	_, id = a.up(p, "1")
	a.do(204, "POST", "channels/"+id+"/variable?variable=A&value=1", "")
	a.do(204, "POST", "channels/"+id+"/continue?context=echo", "")
	a.event("StasisEnd")
	if slices.Contains(a.types(), "ChannelVarset") {
		t.Error("a filtered event came")
	}
	a.do(409, "POST", "channels/"+id+"/answer", "")
	a.do(204, "DELETE", "channels/"+id, "")
}

// TestB32ContactsOverARI: who controls calls finds a user's contacts, with their Path, where Asterisk's registrar shows them.
func TestB32ContactsOverARI(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1002")
	path := "<sip:" + p.addr() + ";lr;c=x>"
	p.register(200, "Contact: <sip:1002@"+p.addr()+">", "Expires: 600", "Path: "+path, "Supported: path")
	c, err := ari.NewClient(ari.ClientConfig{URL: strings.TrimSuffix(a.base, "/ari/")})
	if err != nil {
		t.Fatal(err)
	}
	aor, err := c.ConfigObject(t.Context(), "res_pjsip", "aor", "1002")
	if err != nil || aor["contact"] != "sip:1002@"+p.addr() {
		t.Fatalf("aor %v, %v", aor, err)
	}
	contact, err := c.ConfigObject(t.Context(), "res_pjsip", "contact", contactName("1002", binding{uri: aor["contact"]}))
	if err != nil || contact["path"] != path || contact["expiration_time"] == "" {
		t.Errorf("contact %v, %v", contact, err)
	}
	a.do(404, "GET", "asterisk/config/dynamic/res_pjsip/aor/nobody", "")
	// The Path comes back as Route, and the call takes it.
	a.do(200, "POST", "channels", `{"endpoint":"PJSIP/edge/`+aor["contact"]+`","app":"rtcedge","variables":{"PJSIP_HEADER(add,Route)":"`+path+`"}}`)
	if inv := p.request("INVITE"); inv.GetHeader("Route").Value() != path {
		t.Errorf("INVITE\n%s", inv)
	}
}
