//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"rtcedge/bench/rawphone"
)

// TestB61Failure has recoveries fail in every way. The phone still holds the dialog: it gets a BYE in it, but for a 481, after which
// there is nothing to end, and a 491, after which the recovery comes again.
func TestB61Failure(t *testing.T) {
	refused := func(status int, reason string, bye bool, extra ...rawphone.Field) func(*testing.T, *line, *asterisk) {
		return func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, status, reason, "", extra...)
			l.viaRoute(t, l.take(t, "ACK", 5*time.Second, isRequest("ACK")))
			l.gone(t, b)
			if !bye {
				l.silence(t, "BYE", time.Second, isRequest("BYE"))
				return
			}
			l.goodbye(t)
		}
	}
	eachRole(t, 2, map[string]func(*testing.T, *line, *asterisk){
		"481": refused(481, "Call/Transaction Does Not Exist", false),
		"408": refused(408, "Request Timeout", true),
		"486": refused(486, "Busy Here", true),
		"500": refused(500, "Server Internal Error", true),
		"603": refused(603, "Decline", true),
		"302": refused(302, "Moved Temporarily", true, rawphone.Field{Name: "Contact", Value: "<sip:elsewhere@127.9.9.9:5060>"}),
		"401": refused(401, "Unauthorized", true, rawphone.Field{Name: "WWW-Authenticate", Value: `Digest realm="r", nonce="n", algorithm=MD5`}),
		"407": refused(407, "Proxy Authentication Required", true, rawphone.Field{Name: "Proxy-Authenticate", Value: `Digest realm="r", nonce="n", algorithm=MD5`}),
		"200 with an SDP that does not fit": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, 200, "OK", strings.NewReplacer("RTP/AVP 0 101", "RTP/AVP 3", "a=rtpmap:0 PCMU/8000\r\n", "", "a=rtpmap:101 telephone-event/8000\r\n", "",
				"a=fmtp:101 0-15\r\n", "").Replace(l.Media().SDP("sendrecv"))) // GSM was not offered
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.goodbye(t)
			l.gone(t, b)
		},
		// RFC 4028 section 7.3: where the farm had called pjsip asks again by itself, with the next number, and recovery has to follow that. Else it gives up.
		"422": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			n, _ := inv.CSeq()
			l.respond(t, inv, 422, "Session Interval Too Small", "", rawphone.Field{Name: "Min-SE", Value: "3600"})
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			again := l.take(t, "INVITE or BYE", 5*time.Second, func(m *rawphone.Message) bool {
				return m.Status() == 0 && (m.Method() == "INVITE" || m.Method() == "BYE")
			})
			if again.Method() == "BYE" {
				l.viaRoute(t, again)
				l.respond(t, again, 200, "OK", "")
				l.gone(t, b)
				return
			}
			if m, _ := again.CSeq(); m != n+1 || again.Get("From") != inv.Get("From") || again.Get("To") != inv.Get("To") {
				t.Errorf("after CSeq %d: %s\nFrom: %s\nTo: %s\nCSeq: %s", n, again.Start, again.Get("From"), again.Get("To"), again.Get("CSeq"))
			}
			l.respond(t, again, 481, "Call/Transaction Does Not Exist", "")
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.gone(t, b)
		},
		"200 without SDP": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, 200, "OK", "")
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.goodbye(t)
			l.gone(t, b)
		},
		"BYE after a hangup": func(t *testing.T, l *line, b *asterisk) { // the channel is gone, the INVITE is not
			inv := l.recover(t, b, nil)
			if _, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil {
				t.Fatal(err)
			}
			l.gone(t, b)
			if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
				t.Errorf("BYE: %s", ok.Start)
			}
			l.respond(t, inv, 481, "Call/Transaction Does Not Exist", "")
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.silence(t, "BYE", 500*time.Millisecond, isRequest("BYE"))
		},
		"BYE before any answer": hungUp(0, 481, "Call/Transaction Does Not Exist"),
		"BYE after 100":         hungUp(100, 487, "Request Terminated"),
		"BYE after 180":         hungUp(180, 487, "Request Terminated"),
		"BYE, because the 200 was lost": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
				t.Errorf("BYE: %s", ok.Start)
			}
			l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv")) // sent again, for no ACK came
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.gone(t, b)
		},
		"hangup": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, 100, "Trying", "")
			l.respond(t, inv, 180, "Ringing", "")
			becomes(t, "ringing", 2*time.Second, func() bool { return len(b.channels(t)) > 0 })
			if _, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil {
				t.Fatal(err)
			}
			cancel := l.take(t, "CANCEL", 5*time.Second, isRequest("CANCEL"))
			l.respond(t, cancel, 200, "OK", "")
			l.respond(t, inv, 487, "Request Terminated", "")
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.goodbye(t)
		},
		"hangup, but the phone answers": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, 180, "Ringing", "")
			if _, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil {
				t.Fatal(err)
			}
			l.take(t, "CANCEL", 5*time.Second, isRequest("CANCEL"))
			l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv"))
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.goodbye(t)
		},
		"no answer": func(t *testing.T, l *line, b *asterisk) {
			l.recover(t, b, nil)
			l.viaRoute(t, l.take(t, "BYE after the timeout", 12*time.Second, isRequest("BYE")))
			l.gone(t, b)
		},
		"no answer, but 100": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, 100, "Trying", "")
			if _, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil {
				t.Fatal(err)
			}
			l.take(t, "CANCEL", 5*time.Second, isRequest("CANCEL"))
			l.viaRoute(t, l.take(t, "BYE after the timeout", 12*time.Second, isRequest("BYE")))
		},
		"491, then again": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			l.respond(t, inv, 491, "Request Pending", "")
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			l.gone(t, b)
			l.silence(t, "BYE", 500*time.Millisecond, isRequest("BYE"))
			// The dead dialog's transaction lives on for 32 s. It must not get what is meant for the new one.
			l.id += "again"
			l.recovered(t, b)
			l.echoes(t)
			if ok := l.ask(t, "INVITE", l.Media().SDP("sendonly")); ok.Status() != 200 {
				t.Errorf("hold after a second recovery: %s", ok.Start)
			}
			if err := l.Ack(l.d); err != nil {
				t.Fatal(err)
			}
			if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
				t.Errorf("BYE after a second recovery: %s", ok.Start)
			}
			l.gone(t, b)
		},
	})
}

// hungUp has the phone say BYE while the recovery's INVITE has no final answer, or only a provisional one. Its BYE gets 200, the channel ends, and nobody
// sends another.
func hungUp(provisional, status int, reason string) func(*testing.T, *line, *asterisk) {
	return func(t *testing.T, l *line, b *asterisk) {
		inv := l.recover(t, b, nil)
		if provisional > 0 {
			l.respond(t, inv, provisional, "On its way", "")
			if _, err := b.ari("GET", "channels/"+l.id, nil, nil); err != nil { // it has come: both are read by one thread
				t.Fatal(err)
			}
		}
		if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
			t.Errorf("BYE: %s", ok.Start)
		}
		l.gone(t, b)
		l.respond(t, inv, status, reason, "")
		l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
		l.silence(t, "BYE", 500*time.Millisecond, isRequest("BYE"))
	}
}

// TestB61GivenUp gives calls back to the node that had ended them itself: its BYE found nobody, and its dialog is still there.
func TestB61GivenUp(t *testing.T) {
	b := startPatched(t)
	for _, r := range bothRoles {
		l := newLine(t, b.SIP, 2)
		l.call(t, b, r)
		for _, id := range b.channels(t) {
			if _, err := b.ari("DELETE", "channels/"+id, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		bye := l.take(t, "BYE", 5*time.Second, isRequest("BYE")) // has no answer
		becomes(t, "the channel is gone", 5*time.Second, func() bool { return len(b.channels(t)) == 0 })
		l.d.Refresh(bye)
		l.recovered(t, b)
		l.echoes(t)
		if ok := l.ask(t, "INVITE", l.Media().SDP("sendonly")); ok.Status() != 200 {
			t.Errorf("%s: hold: %s", r, ok.Start)
		}
		if err := l.Ack(l.d); err != nil {
			t.Fatal(err)
		}
		if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
			t.Errorf("%s: BYE: %s", r, ok.Start)
		}
		l.gone(t, b)
	}
}

// goodbye wants the BYE that ends the old dialog, with the next CSeq, and answers it.
func (l *line) goodbye(t *testing.T) {
	t.Helper()
	bye := l.take(t, "BYE in the old dialog", 5*time.Second, isRequest("BYE"))
	l.viaRoute(t, bye)
	if n, _ := bye.CSeq(); n != l.d.FarCSeq+1 {
		t.Errorf("BYE has CSeq %d, want %d", n, l.d.FarCSeq+1)
	}
	l.respond(t, bye, 200, "OK", "")
	l.silence(t, "another BYE", 500*time.Millisecond, func(m *rawphone.Message) bool { return m.Status() == 0 && m.Method() == "BYE" })
}

// TestB62Origin continues the o= line where it is told how far it was, also in the re-INVITE after it.
func TestB62Origin(t *testing.T) {
	b := startPatched(t)
	l := newLine(t, b.SIP, 1)
	l.d = madeUp(l)
	for _, want := range [][2]uint64{{1234567, 8}, {4294967295, 4294967294}} {
		l.id = time.Now().Format("o150405.000000")
		inv := l.recover(t, b, map[string]string{"SDP_SESSION": itoa(want[0]), "SDP_VERSION": itoa(want[1])})
		if s, v, err := rawphone.Origin(inv.Body); err != nil || s != want[0] || v != want[1] {
			t.Errorf("o= has session %d and version %d (%v), want %v", s, v, err, want)
		}
		l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv"))
		l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
		ok := l.ask(t, "INVITE", l.Media().SDP("sendonly"))
		if s, v, err := rawphone.Origin(ok.Body); err != nil || s != want[0] || v <= want[1] {
			t.Errorf("the next o= has session %d and version %d (%v), want %d and more than %d", s, v, err, want[0], want[1])
		}
		if err := l.Ack(l.d); err != nil {
			t.Fatal(err)
		}
		if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
			t.Errorf("BYE: %s", ok.Start)
		}
		l.gone(t, b)
		l.d = madeUp(l)
	}
}
