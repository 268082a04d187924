package farm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
	"rtcedge/media/sdp"
	"rtcedge/transcode/g711"
)

// app is an ARI application: a socket with events, and commands over HTTP.
type app struct {
	t    *testing.T
	base string
	conn *websocket.Conn
	in   chan map[string]any
	seen []string // types of all events so far
}

func runNode(t *testing.T, cfg Config) (*Farm, *app) {
	t.Helper()
	cfg.ARI, cfg.ARIPassword, cfg.NodeID = netip.MustParseAddrPort("127.0.0.1:0"), "pw", "call1"
	if cfg.RecordingDir == "" {
		cfg.RecordingDir = t.TempDir()
	}
	f := runFarm(t, cfg)
	a := &app{t: t, base: "http://rtcedge:pw@" + f.ARIAddr().String() + "/ari/"}
	a.connect("rtcedge")
	return f, a
}

// connect opens the event socket.
func (a *app) connect(name string) {
	a.t.Helper()
	conn, res, err := websocket.Dial(a.t.Context(), a.base+"events?app="+name, &websocket.DialOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		a.t.Fatal(err)
	}
	if res.Header.Get("Sec-WebSocket-Protocol") != "ari" {
		a.t.Errorf("subprotocol %q", res.Header.Get("Sec-WebSocket-Protocol"))
	}
	conn.SetReadLimit(1 << 20)
	in, done := make(chan map[string]any, 1000), make(chan struct{})
	a.conn, a.in = conn, in
	go func() {
		defer close(done)
		for {
			_, body, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			var m map[string]any
			if err := json.Unmarshal(body, &m); err != nil {
				a.t.Errorf("event %s: %v", body, err)
			}
			in <- m
		}
	}()
	a.t.Cleanup(func() {
		_ = conn.CloseNow()
		<-done
	})
}

// do sends a command and wants a status. path may hold a query; body is JSON.
func (a *app) do(status int, method, path, body string) map[string]any {
	a.t.Helper()
	got, text := a.ask(method, path, body)
	if got != status {
		a.t.Fatalf("%s %s: %d %s, want %d", method, path, got, text, status)
	}
	var m map[string]any
	_ = json.Unmarshal(text, &m) // a list, a file or nothing
	return m
}

func (a *app) ask(method, path, body string) (int, []byte) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Close = true
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res.StatusCode, text
}

// event waits for an event of that type and drops those before it.
func (a *app) event(kind string) map[string]any {
	a.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case m := <-a.in:
			a.seen = append(a.seen, fmt.Sprint(m["type"]))
			if m["asterisk_id"] != "call1" || m["application"] == nil || m["timestamp"] == nil {
				a.t.Errorf("event without a head: %v", m)
			}
			if m["type"] == kind {
				return m
			}
		case <-limit:
			a.t.Fatalf("no %s; seen %v", kind, a.seen)
		}
	}
}

// types are those of the events since it was called last.
func (a *app) types() []string {
	out := a.seen
	a.seen = nil
	return out
}

func at(m map[string]any, path string) string {
	var v any = m
	for part := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[part]
	}
	return fmt.Sprint(v)
}

// inStasis dials a number and returns the channel that the application got.
func (a *app) inStasis(p *phone, number string, extra ...string) (*talk, string) {
	a.t.Helper()
	d := p.dial(number, p.sdp("sendrecv"), extra...)
	ev := a.event("StasisStart")
	if fmt.Sprint(ev["args"]) != "[in "+number+"]" {
		a.t.Errorf("args %v", ev["args"])
	}
	return d, at(ev, "channel.id")
}

func (a *app) up(p *phone, number string) (*talk, string) {
	a.t.Helper()
	d, id := a.inStasis(p, number)
	a.do(204, "POST", "channels/"+id+"/answer", "")
	d.answered()
	if ev := a.event("ChannelStateChange"); at(ev, "channel.state") != "Up" || at(ev, "channel.id") != id {
		a.t.Errorf("after answer: %v", ev)
	}
	return d, id
}

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

// TestB37ThirdJoins: two parties are relayed; a third joins and leaves. No re-INVITE goes out, and both technologies are told.
func TestB37ThirdJoins(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	freqs := []float64{500, 1100, 1900}
	var phones []*phone
	var ids []string
	var voices []*voice
	for i := range freqs {
		p := newPhone(t, f, fmt.Sprint(1001+i))
		d, id := a.up(p, "7001")
		phones, ids, voices = append(phones, p), append(ids, id), append(voices, p.listen(d.body))
	}
	a.do(200, "POST", "bridges/b1?type=mixing&name=call", "")
	a.do(204, "POST", "bridges/b1/addChannel?channel="+ids[0]+","+ids[1], "")
	a.event("ChannelEnteredBridge")
	if ev := a.event("ChannelEnteredBridge"); at(ev, "bridge.technology") != "native_rtp" {
		t.Errorf("two parties: %v", ev)
	}
	together(50, freqs, voices...)
	a.do(204, "POST", "bridges/b1/addChannel", `{"channel":["`+ids[2]+`"]}`)
	if ev := a.event("ChannelEnteredBridge"); at(ev, "bridge.technology") != "softmix" {
		t.Errorf("three parties: %v", ev)
	}
	together(75, freqs, voices...)
	for i, v := range voices {
		pcm := v.heard()
		tail := pcm[len(pcm)-min(len(pcm), 8000):]
		for j, freq := range freqs {
			if d := level(tail, freq) - level(tail, freqs[i]); j != i && d < 20 {
				t.Errorf("participant %d hears %d only %.1f dB above itself", i, j, d)
			}
		}
	}
	for _, p := range phones[:2] {
		for len(p.in) > 0 {
			if m := <-p.in; strings.HasPrefix(m.String(), "INVITE") {
				t.Errorf("%s got a re-INVITE", p.user)
			}
		}
	}
	a.do(204, "POST", "bridges/b1/removeChannel?channel="+ids[2], "")
	if ev := a.event("ChannelLeftBridge"); at(ev, "bridge.technology") != "native_rtp" || at(ev, "channel.id") != ids[2] {
		t.Errorf("left: %v", ev)
	}
	a.do(204, "DELETE", "bridges/b1", "")
	a.event("BridgeDestroyed")
	a.do(404, "GET", "bridges/b1", "")
	a.do(200, "GET", "channels/"+ids[0], "") // stays
}

// TestB37NoGap: the longest gap that the first two hear while a third joins and leaves is one frame, and sequence numbers
// and SSRC go on. Packets and the clock are driven by hand, so that the machine's load is not measured.
func TestB37NoGap(t *testing.T) {
	t.Parallel()
	f, err := New(Config{Listen: []string{"udp:127.0.0.1:0"}, ARI: netip.MustParseAddrPort("127.0.0.1:0"), ARIPassword: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := f.node
	freqs := []float64{500, 1100, 1900}
	var chs []*channel
	var far []*net.UDPConn
	for i := range freqs {
		s, err := newStream(f.rtpAddr, f.cfg.PortMin, f.cfg.PortMax)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		socket := newPhoneSocket(t)
		far = append(far, socket)
		s.setRemote(remoteMedia{addr: addrPort(socket), dir: sdp.SendRecv})
		ch := &channel{node: n, id: fmt.Sprint(i), stream: s, state: ari.StateUp}
		n.add(ch)
		chs = append(chs, ch)
	}
	b := &bridge{id: "b", kind: "mixing"}
	n.bridges["b"] = b
	n.publishMediaLocked()

	heard := make([][]int16, 3)
	packets := make([][]rtpPacket, 3)
	sample := 0
	step := func(frames int) {
		for range frames {
			for i, ch := range chs {
				var pcm mixer.Frame
				for k := range pcm {
					pcm[k] = int16(6000 * math.Sin(2*math.Pi*freqs[i]*float64(sample+k)/8000))
				}
				payload := make([]byte, len(pcm))
				g711.EncodeULaw(payload, pcm[:])
				at := uint32(sample)
				ch.stream.receive(append(appendRTP(nil, ptPCMU, false, uint16(sample/160), at, uint32(i+1)), payload...), addrPort(far[i]), time.Now())
			}
			n.tick(f.clock.melody)
			sample += mixer.FrameSamples
			for i, socket := range far {
				_ = socket.SetReadDeadline(time.Now().Add(patience))
				for buf := make([]byte, 2048); ; {
					if chs[i].bridge == nil {
						break
					}
					size, err := socket.Read(buf)
					if err != nil {
						t.Fatalf("participant %d hears nothing: %v", i, err)
					}
					pkt, _ := parseRTP(slices.Clone(buf[:size]))
					pcm := make([]int16, len(pkt.payload))
					g711.DecodeULaw(pcm, pkt.payload)
					heard[i], packets[i] = append(heard[i], pcm...), append(packets[i], pkt)
					break // one packet in 20 ms
				}
			}
		}
	}
	n.putIn(chs[0], b)
	n.putIn(chs[1], b)
	step(50)
	n.putIn(chs[2], b)
	if b.technology != ari.TechnologySoftmix {
		t.Errorf("three parties: %s", b.technology)
	}
	step(50)
	n.takeOut(chs[2])
	if b.technology != ari.TechnologyNative {
		t.Errorf("two parties: %s", b.technology)
	}
	step(50)
	for i := range 2 {
		if gap := longestSilence(heard[i]); gap > mixer.FrameSamples {
			t.Errorf("participant %d hears a gap of %d samples", i, gap)
		} else {
			t.Logf("participant %d: longest gap %d samples of %d", i, gap, len(heard[i]))
		}
		for k := 1; k < len(packets[i]); k++ {
			was, is := packets[i][k-1], packets[i][k]
			if is.seq != was.seq+1 || is.ssrc != was.ssrc || int32(is.ts-was.ts) <= 0 {
				t.Fatalf("participant %d: packet %d follows %+v with %+v", i, k, was.seq, is.seq)
			}
		}
	}
	if l := level(heard[2][1600:], 500); l < 40 {
		t.Errorf("the third hears the first at %.0f dB", l)
	}
}

// longestSilence is the longest run of samples that say nothing.
func longestSilence(pcm []int16) int {
	longest, run := 0, 0
	for _, s := range pcm {
		if s > 40 || s < -40 {
			run = 0
		} else if run++; run > longest {
			longest = run
		}
	}
	return longest
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

// ch are the channels of that name.
func (a *app) ch(id string) []string {
	var out []string
	_, text := a.ask("GET", "channels", "")
	if strings.Contains(string(text), `"id":"`+id+`"`) {
		out = append(out, id)
	}
	return out
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
// farm serves calls by itself.
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

// TestB40ExternalMedia: plain RTP to an address joins a bridge.
func TestB40ExternalMedia(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	p := newPhone(t, f, "1001")
	d, id := a.up(p, "1")
	v := p.listen(d.body)
	far := newPhoneSocket(t)
	ch := a.do(200, "POST", "channels/externalMedia?app=rtcedge&format=ulaw&channelId=ext&external_host="+addrPort(far).String(), "")
	if at(ch, "channelvars.UNICASTRTP_LOCAL_PORT") == "<nil>" || at(a.event("StasisStart"), "channel.id") != "ext" {
		t.Errorf("external media: %v", ch)
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
