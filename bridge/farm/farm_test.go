package farm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"rtcedge/bridge/ari"
	"rtcedge/sip/auth"
)

// TestB08RegisterWithDigest: challenge, right and wrong passwords, another's name.
func TestB08RegisterWithDigest(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{Realm: "test", Auth: auth.NewUsers(
		auth.User{Name: "1001", Realm: "test", Credential: auth.NewCredential("1001", "test", "secret")},
		auth.User{Name: "1002", Realm: "test", Credential: auth.NewCredential("1002", "test", "other")},
	)})
	p := newPhone(t, f, "1001")
	contact := "Contact: <sip:1001@" + p.addr() + ">"
	login := func(user, password string, want int) {
		t.Helper()
		res := p.register(401, contact)
		chal, err := digest.ParseChallenge(res.GetHeader("WWW-Authenticate").Value())
		if err != nil {
			t.Fatal(err)
		}
		cred, err := digest.Digest(chal, digest.Options{Method: "REGISTER", URI: "sip:127.0.0.1", Username: user, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		p.register(want, contact, "Authorization: "+cred.String())
		if want == 200 {
			p.register(401, contact, "Authorization: "+cred.String()) // the same count again is a replay
		}
	}
	login("1001", "wrong", 401)
	login("1009", "secret", 401)
	login("1002", "other", 403)
	if f.Registrations() != 0 {
		t.Errorf("%d registrations", f.Registrations())
	}
	login("1001", "secret", 200)
	if f.Registrations() != 1 {
		t.Errorf("%d registrations", f.Registrations())
	}
}

// TestFiftyEchoCalls: fifty calls at once, each gets every packet of its own back.
func TestFiftyEchoCalls(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{PortMin: 26000, PortMax: 26999})
	const calls, packets = 50, 20
	talks, voices := make([]*talk, calls), make([]*voice, calls)
	for i := range talks {
		p := newPhone(t, f, fmt.Sprint(2000+i))
		talks[i] = p.dial("600", p.sdp("sendrecv"))
	}
	for i, d := range talks {
		d.answered()
		voices[i] = d.p.listen(d.body)
	}
	if n := f.Stats().Calls; n != calls {
		t.Fatalf("%d calls", n)
	}
	for range packets {
		for i, v := range voices {
			payload := bytes.Repeat([]byte{byte(i)}, 160)
			v.ts += 160
			v.sendPacket(ptPCMU, false, payload)
		}
		time.Sleep(5 * time.Millisecond)
	}
	for i, v := range voices {
		eventually(t, "all packets back", func() bool { return v.received.Load() == packets })
		for _, pkt := range v.got() {
			if len(pkt.payload) != 160 || pkt.payload[7] != byte(i) {
				t.Fatalf("call %d got a packet of call %d", i, pkt.payload[7])
			}
		}
	}
	for _, d := range talks {
		d.hangup()
	}
	eventually(t, "no call left", func() bool { return f.Stats().Calls == 0 })
}

// TestDrain: when Run ends, running calls get BYE, ringing ones CANCEL or 503, new ones 503, and nothing is left behind.
func TestDrain(t *testing.T) {
	before := runtime.NumGoroutine()
	f, err := New(withARI(Config{Listen: []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0"}, DrainTimeout: time.Second, NodeID: "call1"}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Run("calls", func(t *testing.T) {
		a, b, c := newPhone(t, f, "1001"), newPhone(t, f, "1002"), newPhone(t, f, "1003")
		music := a.dial("601", a.sdp("sendrecv")).answered()
		v := a.listen(music.body)
		eventually(t, "media", func() bool { return v.received.Load() > 2 })
		app := appOf(t, f)
		out, id := app.inStasis(c, "1002")
		app.do(204, "POST", "channels/"+id+"/ring", "")
		out.response("INVITE", 180)
		in := app.place(b)
		cancel()
		music.hungUp()
		b.reply(b.request("CANCEL"), 200, "", "")
		out.refused(503)
		c.dial("600", c.sdp("sendrecv")).refused(503)
		b.reply(in.invite, 487, "x", "")
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("Run does not end")
		}
	})
	for _, l := range f.listeners {
		if l.proto == "udp" {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.addr))
			if err != nil {
				t.Errorf("the listener is still there: %v", err)
			} else {
				c.Close()
			}
		}
	}
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestDeafPeer: a far end that answers nothing delays Run by DrainTimeout at most.
func TestDeafPeer(t *testing.T) {
	t.Parallel()
	f, err := New(withARI(Config{DrainTimeout: 100 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	p := newPhone(t, f, "1001")
	p.dial("600", p.sdp("sendrecv")).answered()
	start := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Run took %v to end", took)
	}
}

// TestTCP: several calls, one after the other, on one connection that stays open; the farm's own requests open one to the
// contact.
func TestTCP(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{Listen: []string{"tcp:127.0.0.1:0"}})
	contact, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer contact.Close()
	conn, err := net.Dial("tcp", f.listeners[0].addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rtp := newPhoneSocket(t)
	read := func(conn net.Conn, until string) string {
		t.Helper()
		var all []byte
		buf := make([]byte, 65536)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for !strings.Contains(string(all), until) {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %q: %v after\n%s", until, err, all)
			}
			all = append(all, buf[:n]...)
		}
		return string(all)
	}
	var tag string
	ask := func(call, method, body string, cseq int) {
		fmt.Fprint(conn, message(method+" sip:600@127.0.0.1 SIP/2.0", []string{
			"Via: SIP/2.0/TCP " + contact.Addr().String() + ";branch=z9hG4bK" + call + method + fmt.Sprint(cseq), "Max-Forwards: 70",
			"From: <sip:1001@127.0.0.1>;tag=f", "To: <sip:600@127.0.0.1>" + tag, "Call-ID: " + call,
			fmt.Sprintf("CSeq: %d %s", cseq, method), "Contact: <sip:1001@" + contact.Addr().String() + ";transport=tcp>",
		}, body))
	}
	for i, call := range []string{"one", "two", "three"} {
		tag = ""
		ask(call, "INVITE", sdpFor(rtp, "sendrecv"), 1)
		ok := read(conn, "a=sendrecv")
		if !strings.Contains(ok, "transport=tcp>") {
			t.Errorf("no TCP in the Contact:\n%s", ok)
		}
		_, tag, _ = strings.Cut(ok[strings.Index(ok, "SIP/2.0 200"):], "To: <sip:600@127.0.0.1>;tag=")
		tag, _, _ = strings.Cut(tag, "\r\n")
		tag = ";tag=" + tag
		ask(call, "ACK", "", 1)
		if i < 2 {
			ask(call, "BYE", "", 2)
			read(conn, "2 BYE")
		} else {
			ask(call, "OPTIONS", "", 2) // answered behind the ACK
			read(conn, "2 OPTIONS")
			f.snapshot()[0].post(event{kind: evHangup, cause: causeNormal})
			back, err := contact.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer back.Close()
			if bye := read(back, "\r\n\r\n"); !strings.HasPrefix(bye, "BYE sip:1001@") {
				t.Errorf("the farm sends\n%s", bye)
			} else {
				fmt.Fprint(back, strings.Replace(bye, strings.SplitN(bye, "\r\n", 2)[0], "SIP/2.0 200 OK", 1))
			}
		}
		eventually(t, "no call left", func() bool { return len(f.Calls()) == 0 })
	}
}

// TestB41Alone: what a node does while no application is there can be seen and ended by ARI, and not controlled.
func TestB41Alone(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	a := &app{t: t, base: "http://rtcedge:pw@" + f.ARIAddr().String() + "/ari/"}
	p := newPhone(t, f, "1001")
	for number, application := range map[string]string{"600": "Echo", "601": "MusicOnHold"} {
		d := p.dial(number, p.sdp("sendrecv")).answered()
		_, text := a.ask("GET", "channels", "")
		var channels []ari.Channel
		if err := json.Unmarshal(text, &channels); err != nil || len(channels) != 1 {
			t.Fatalf("channels %s: %v", text, err)
		}
		ch := channels[0]
		if ch.State != ari.StateUp || ch.Caller.Number != "1001" || ch.ProtocolID != d.callID || ch.Dialplan.Exten != number || ch.Dialplan.AppName != application {
			t.Errorf("channel %+v", ch)
		}
		a.do(409, "POST", "channels/"+ch.ID+"/mute", "")
		a.do(404, "GET", "applications/rtcedge", "")
		if info := a.do(200, "GET", "asterisk/info", ""); at(info, "system.version") == "" {
			t.Errorf("info: %v", info)
		}
		a.do(204, "DELETE", "channels/"+ch.ID, "")
		d.hungUp()
		eventually(t, "no channel", func() bool { _, text := a.ask("GET", "channels", ""); return string(text) == "[]" })
	}
}

// TestBadConfig: each mistake is named, and nothing stays bound.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	taken := addrPort(newPhoneSocket(t))
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Listen: []string{"udp:127.0.0.1:0", "udp:" + taken.String()}}, taken.String()},
		{Config{Listen: []string{"sctp:127.0.0.1:5060"}}, "sctp:127.0.0.1:5060"},
		{Config{Listen: []string{"udp:0.0.0.0:5070"}}, "0.0.0.0"},
		{Config{Roles: []Role{"bridge"}}, "bridge"},
		{Config{Roles: []Role{RoleConference}}, "address is needed"},
		{Config{PortMin: 30000, PortMax: 30001}, "30000-30001"},
		{Config{ARI: taken}, "password"},
		{Config{DrainTimeout: -1}, "drain timeout"},
		{Config{MaxCalls: -1}, "max calls"},
		{Config{MinExpires: 3 * time.Hour}, "min expires"},
		{Config{Listen: []string{"udp:127.0.0.1:0"}, RTPAddr: netip.MustParseAddr("192.0.2.1")}, "192.0.2.1"},
	} {
		if tt.want != "password" && tt.want != "address is needed" {
			tt.cfg = withARI(tt.cfg)
		}
		f, err := New(tt.cfg)
		if err == nil {
			f.Close()
			t.Errorf("%+v is accepted", tt.cfg)
		} else if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q does not name %q", err, tt.want)
		}
	}
	f, err := New(Config{Listen: []string{"udp:127.0.0.1:0"}, Roles: []Role{RoleRegistrar}}) // which needs no ARI
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Addrs(); len(got) != 1 || !strings.HasPrefix(got[0], "udp:127.0.0.1:") {
		t.Errorf("Addrs: %v", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestOutOfDialog: what comes without a dialog, and what is broken.
func TestOutOfDialog(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	p := newPhone(t, f, "1001")
	d := &talk{p: p, callID: "x", from: "<sip:1001@h>;tag=1", to: "<sip:x@h>", target: "sip:x@h"}
	for method, want := range map[string]int{"OPTIONS": 200, "BYE": 481, "INFO": 481, "SUBSCRIBE": 405, "UPDATE": 481} {
		d.send(method, "")
		d.response(method, want)
	}
	d.to += ";tag=nothing"
	d.send("OPTIONS", "")
	d.response("OPTIONS", 481)
	d.send("ACK", "")
	p.write("garbage\r\n\r\n")
	p.write("\r\n\r\n")
	p.write("INVITE sip:600@h SIP/2.0\r\nVia: SIP/2.0/UDP " + p.addr() + ";branch=z9hG4bKq\r\nCSeq: 1 INVITE\r\n\r\n")
	p.expect("400", func(m sipmsg.Message) bool { return strings.HasPrefix(m.String(), "SIP/2.0 400") })
}
