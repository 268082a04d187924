//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rtcedge/bench/rawphone"
)

// TestB56RecoversDialog kills the Asterisk that held the calls. Another one has each of them, as if it had always been its own; then
// that one is killed, too, comes back, and has them again.
func TestB56RecoversDialog(t *testing.T) {
	a, b := startPatched(t), startPatched(t)
	var lines []*line
	for _, r := range bothRoles {
		for hops := range 4 {
			l := newLine(t, a.SIP, hops)
			l.call(t, a, r)
			l.echoes(t)
			lines = append(lines, l)
		}
	}
	a.kill(t)
	for round := range 2 {
		for i, l := range lines {
			l.id = fmt.Sprintf("r%d-%d", round, i)
			before := *l.d
			inv := l.recover(t, b, nil)
			if n, _ := inv.CSeq(); n != before.FarCSeq+1 {
				t.Errorf("CSeq %d, want %d", n, before.FarCSeq+1)
			}
			if from, to := inv.Get("From"), inv.Get("To"); !strings.HasPrefix(from, before.Remote) || !strings.HasPrefix(to, before.Local) {
				t.Errorf("From %s, To %s: want %s and %s", from, to, before.Remote, before.Local)
			}
			if !strings.Contains(inv.Get("Contact"), b.SIP.String()) {
				t.Errorf("Contact %s is not that of the new Asterisk", inv.Get("Contact"))
			}
			if media, err := rawphone.Remote(inv.Body); err != nil || media.Addr() != b.SIP.Addr() {
				t.Errorf("media at %s (%v), want that of the new Asterisk", media, err)
			}
			l.viaRoute(t, inv)
			l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv"))
			l.viaRoute(t, l.take(t, "ACK", 5*time.Second, isRequest("ACK")))
			l.echoes(t)
			var ch struct {
				ProtocolID string `json:"protocol_id"`
			}
			if _, err := b.ari("GET", "channels/"+l.id, nil, &ch); err != nil || ch.ProtocolID != l.d.CallID {
				t.Errorf("protocol_id of %s is %q (%v), want the Call-ID %s", l.id, ch.ProtocolID, err, l.d.CallID)
			}
		}
		if round == 0 {
			b.kill(t)
			b.start(t)
		}
	}
	for _, l := range lines {
		l.Aim(b.SIP)
		if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
			t.Errorf("BYE after the second crash: %s", ok.Start)
		}
		l.gone(t, b)
	}
}

// random is what differs between any two INVITEs, and clock what differs between any two logs: time, thread, call number.
var (
	random = regexp.MustCompile(`branch=[^;\s]+|tag=[^;\s]+|Call-ID: \S+|CSeq: \d+|o=- \d+ \d+|Content-Length:\s+\d+|m=audio \d+|127\.\d+\.\d+\.\d+`)
	clock  = regexp.MustCompile(`(?m)^\[[^]]*\] |\[\d+\](\[C-\w+\])?|127\.\d+\.\d+\.\d+(:\d+)?|0x[0-9a-f]+|\(\d+ bytes\)`)
)

// TestB56WithoutVariables compares an ordinary call that is refused and one that is answered with those of the package's own module: the INVITEs byte by byte,
// and all that the two Asterisks log meanwhile.
func TestB56WithoutVariables(t *testing.T) {
	both := []*asterisk{startUnpatched(t), startPatched(t)}
	var invites [2][]string
	var from [2]int
	logged := func(i int) string {
		lines := strings.Split(random.ReplaceAllString(clock.ReplaceAllString(both[i].log(t)[from[i]:], ""), "*"), "\n")
		slices.Sort(lines) // threads take turns
		return strings.TrimSpace(strings.Join(lines, "\n"))
	}
	for i, a := range both {
		a.cli("core set verbose 5")
		time.Sleep(200 * time.Millisecond) // another thread writes the log; nothing tells when it has
		from[i] = len(a.log(t))
		for _, status := range []int{486, 200} {
			l := newLine(t, a.SIP, 1)
			l.id = fmt.Sprint("plain", status)
			// A variable of another name, and one that is empty, are no recovery either.
			if err := a.originate(l.id, "sip:alice@"+l.Hop().String(), map[string]string{"PJSIP_RECOVER": "x", "PJSIP_RECOVERY_ROUTES": ""}); err != nil {
				t.Fatal(err)
			}
			inv := l.take(t, "INVITE", 5*time.Second, isRequest("INVITE"))
			l.d = l.Called(inv)
			if status == 486 {
				l.respond(t, inv, 486, "Busy Here", "")
			} else {
				l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv"))
				l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
				becomes(t, "it is in Echo", 5*time.Second, func() bool {
					var ch struct {
						Dialplan struct {
							App string `json:"app_name"`
						}
					}
					_, err := a.ari("GET", "channels/"+l.id, nil, &ch)
					return err == nil && ch.Dialplan.App == "Echo"
				})
				if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
					t.Errorf("BYE: %s", ok.Start)
				}
			}
			l.gone(t, a)
			invites[i] = append(invites[i], random.ReplaceAllString(inv.String(), "*"))
		}
	}
	for k := range invites[0] {
		if invites[0][k] != invites[1][k] {
			t.Errorf("unpatched:\n%s\npatched:\n%s", invites[0][k], invites[1][k])
		}
	}
	for limit := time.Now().Add(3 * time.Second); logged(0) != logged(1) && time.Now().Before(limit); {
		time.Sleep(100 * time.Millisecond)
	}
	if was, is := logged(0), logged(1); was != is || is == "" {
		t.Errorf("unpatched it logs\n%s\n\npatched\n%s", was, is)
	} else {
		t.Logf("both log %d lines", strings.Count(is, "\n")+1)
	}
}

// TestB57BadValue changes one value of a good recovery at a time. No INVITE leaves, the channel ends with a cause, and the reason names
// the variable. The dialog is not harmed: the good values recover it afterwards.
func TestB57BadValue(t *testing.T) {
	b := startPatched(t)
	l := newLine(t, b.SIP, 1)
	l.d = madeUp(l)
	ws := b.events(t)
	tests := []struct{ name, value, reason string }{
		{"FROM_URI", "", "FROM_URI is missing"},
		{"FROM_TAG", "", "FROM_TAG is missing"},
		{"TO_URI", "", "TO_URI is missing"},
		{"TO_TAG", "", "TO_TAG is missing"},
		{"CALL-ID", "", "CALL-ID is missing"},
		{"CSEQ", "", "CSEQ is missing"},
		{"REQUEST_URI", "", "REQUEST_URI is missing"},
		{"FROM_URI", "mailto:a@example.com", "FROM_URI is 'mailto:a@example.com'"},
		{"FROM_URI", "sip:a@b>;tag=x", "FROM_URI is 'sip:a@b>;tag=x'"},
		{"TO_URI", `"A" <sip:a@example.com>`, "TO_URI is"},
		{"TO_URI", "sip:", "TO_URI is 'sip:'"},
		{"TO_URI", "sip:a@b\r\nX-Evil: 1", "TO_URI is 'sip:a@b??X-Evil: 1'"},
		{"FROM_DISPLAY", `a"b`, `FROM_DISPLAY is 'a"b'`},
		{"TO_DISPLAY", `a\`, "TO_DISPLAY is"},
		{"FROM_TAG", "a b", "FROM_TAG is 'a b'"},
		{"TO_TAG", "a;b=c", "TO_TAG is 'a;b=c'"},
		{"CALL-ID", "a b", "CALL-ID is 'a b'"},
		{"CSEQ", "0", "CSEQ is '0'"},
		{"CSEQ", "-1", "CSEQ is '-1'"},
		{"CSEQ", "2147483647", "CSEQ is '2147483647', allowed: 1 to 2147483646"},
		{"CSEQ", "99999999999999999999", "CSEQ is"},
		{"REMOTE_CSEQ", "7x", "REMOTE_CSEQ is '7x'"},
		{"REQUEST_URI", "tel:+4930", "REQUEST_URI is 'tel:+4930'"},
		{"ROUTES", "1.2.3.4;lr", "ROUTES is '1.2.3.4;lr'"},
		{"ROUTES", "<sip:1.2.3.4;lr>, ", "ROUTES is"},
		{"ROUTES", "<sip:1.2.3.4;lr>\n<sip:1.2.3.5;lr>", "ROUTES is '<sip:1.2.3.4;lr>?<sip:1.2.3.5;lr>'"},
		{"ROUTES", "<tel:+4930>", "ROUTES is"},
		{"SDP_SESSION", "5", "SDP_VERSION is missing"},
		{"SDP_VERSION", "-5", "SDP_VERSION is '-5'"},
		{"SDP_VERSION", "", "SDP_VERSION is missing"},
		{"SDP_VERSION", "4294967296", "SDP_VERSION is '4294967296', allowed: 0 to 4294967295"},
		{"ROUTE", "<sip:1.2.3.4;lr>", "there is no variable PJSIP_RECOVERY_ROUTE"},
		{"X\nNOTICE[1] all is well", "1", "there is no variable PJSIP_RECOVERY_X?NOTICE[1] all is well"}, // no line of its own in the log
	}
	for i, tt := range tests {
		v := l.variables()
		if tt.name == "SDP_VERSION" {
			v["PJSIP_RECOVERY_SDP_SESSION"] = "5"
		}
		v["PJSIP_RECOVERY_"+tt.name] = tt.value
		id := fmt.Sprintf("bad%d", i)
		if err := b.originate(id, l.target(), v); err != nil {
			t.Fatal(err)
		}
		cause, reason := ended(t, ws, id)
		want := 100 // invalid information element contents
		if tt.value == "" || strings.Contains(tt.reason, "is missing") {
			want = 96 // mandatory information element is missing
		}
		if cause != want || !strings.Contains(reason, tt.reason) {
			t.Errorf("%s=%q: cause %d, %q; want %d, %q", tt.name, tt.value, cause, reason, want, tt.reason)
		}
		eventually(t, fmt.Sprintf("%s=%q: the log says %q", tt.name, tt.value, reason), 3*time.Second, func() bool { // another thread writes it
			return strings.Contains(b.log(t), "Dialog not recovered: "+strings.SplitN(reason, "\n", 2)[0])
		})
	}
	if m := l.Messages(); len(m) > 0 {
		t.Errorf("messages after refused recoveries: %s", m[0])
	}
	l.id = "good"
	l.recovered(t, b)
	l.echoes(t)

	// The same crash reported twice: the second channel fails, the first one's dialog goes on (B49).
	v := l.variables()
	v["PJSIP_RECOVERY_CSEQ"] = "50"
	if err := b.originate("twice", l.target(), v); err != nil {
		t.Fatal(err)
	}
	if cause, reason := ended(t, ws, "twice"); cause != 7 || !strings.Contains(reason, "is already here") {
		t.Errorf("the second recovery of one dialog: cause %d, %q", cause, reason)
	}
	l.silence(t, "INVITE of a second recovery", 200*time.Millisecond, isRequest("INVITE"))
	if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
		t.Errorf("BYE after a second recovery: %s", ok.Start)
	}
}

// events subscribes to everything that an Asterisk tells about its channels.
func (a *asterisk) events(t *testing.T) *websocket.Conn {
	t.Helper()
	url := fmt.Sprintf("ws://%s:8088/ari/events?app=test&subscribeAll=true&api_key=test:test", a.SIP.Addr())
	ws, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Body != nil {
		_ = res.Body.Close()
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// ended reads events up to the end of a channel: its Q.850 cause, and what its variable says of the refusal.
func ended(t *testing.T, ws *websocket.Conn, id string) (cause int, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("end of channel %s: %v", id, err)
		}
		var e struct {
			Type, Variable, Value string
			Cause                 int
			Channel               struct{ ID string }
		}
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Channel.ID != id:
		case e.Type == "ChannelVarset" && e.Variable == "PJSIP_RECOVERY_ERROR":
			reason = e.Value
		case e.Type == "ChannelDestroyed":
			return e.Cause, reason
		}
	}
}

// madeUp is a dialog that no Asterisk ever held. For a recovery there is no difference.
func madeUp(l *line) *rawphone.Dialog {
	d := l.Place("sip:echo@farm.example.com")
	d.Remote = `"Farm, \"Q\" Ünit" <sip:echo@farm.example.com>`
	d.RemoteTag, d.FarCSeq = "farm-"+d.LocalTag, 20
	d.RecordRoute = l.hops
	d.Route = nil
	d.Target = "sip:" + l.Next().String()
	return d
}
