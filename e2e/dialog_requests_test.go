//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/bench/rawphone"
)

// eachRole recovers calls of both roles, killed in the middle, and runs a check with each of them at the same time.
func eachRole(t *testing.T, hops int, checks map[string]func(t *testing.T, l *line, b *asterisk)) {
	t.Helper()
	a, b := startPatched(t), startPatched(t)
	lines := map[string]*line{}
	for _, r := range bothRoles {
		for name := range checks {
			l := newLine(t, a.SIP, hops)
			l.call(t, a, r)
			l.Aim(b.SIP)
			lines[name+string(r)] = l
		}
	}
	a.kill(t)
	var all sync.WaitGroup
	limit := make(chan struct{}, 16) // they wait, most of the time: t.Parallel would take two at a time on two processors
	for _, r := range bothRoles {
		for name, check := range checks {
			limit <- struct{}{}
			all.Go(func() {
				defer func() { <-limit }()
				t.Run(name+", "+string(r), func(t *testing.T) { check(t, lines[name+string(r)], b) })
			})
		}
	}
	all.Wait()
}

// TestB58Requests sends what phones send inside of a dialog.
func TestB58Requests(t *testing.T) {
	eachRole(t, 2, map[string]func(*testing.T, *line, *asterisk){
		"BYE": func(t *testing.T, l *line, b *asterisk) {
			l.recovered(t, b)
			if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
				t.Errorf("BYE: %s", ok.Start)
			}
			l.gone(t, b)
		},
		"re-INVITE": func(t *testing.T, l *line, b *asterisk) {
			l.recovered(t, b)
			ok := l.ask(t, "INVITE", l.Media().SDP("sendonly"))
			if ok.Status() != 200 || !strings.Contains(ok.Body, "a=recvonly") {
				t.Errorf("hold: %s", ok)
			}
			if err := l.Ack(l.d); err != nil {
				t.Fatal(err)
			}
			ok = l.ask(t, "INVITE", l.Media().SDP("sendrecv"))
			if ok.Status() != 200 || !strings.Contains(ok.Body, "a=sendrecv") {
				t.Errorf("resume: %s", ok)
			}
			if err := l.Ack(l.d); err != nil {
				t.Fatal(err)
			}
			l.d.Far = ok
			l.echoes(t)
		},
		"UPDATE, INFO and an old CSeq": func(t *testing.T, l *line, b *asterisk) {
			l.recovered(t, b)
			if ok := l.ask(t, "UPDATE", l.Media().SDP("sendrecv")); ok.Status() != 200 {
				t.Errorf("UPDATE: %s", ok.Start)
			}
			if ok := l.ask(t, "INFO", "Signal=5\r\nDuration=160\r\n", rawphone.Field{Name: "Content-Type", Value: "application/dtmf-relay"}); ok.Status() != 200 {
				t.Errorf("INFO: %s", ok.Start)
			}
			l.d.CSeq -= 3 // REMOTE_CSEQ told the new Asterisk what the phone had sent
			if ok := l.ask(t, "UPDATE", ""); ok.Status() != 500 {
				t.Errorf("UPDATE with an old CSeq: %s, want 500", ok.Start)
			}
		},
		"REFER": func(t *testing.T, l *line, b *asterisk) {
			l.with = "both"
			l.recovered(t, b)
			l.echoes(t) // well, something comes from the one beside it
			if ok := l.ask(t, "REFER", "", rawphone.Field{Name: "Refer-To", Value: "<sip:echo@" + b.SIP.String() + ">"}); ok.Status() != 202 {
				t.Fatalf("REFER: %s", ok.Start)
			}
			var told []string
			for last := false; !last; {
				n := l.take(t, "NOTIFY", 5*time.Second, isRequest("NOTIFY"))
				l.viaRoute(t, n)
				l.respond(t, n, 200, "OK", "")
				state, _, _ := strings.Cut(n.Get("Subscription-State"), ";")
				told = append(told, state+" "+strings.TrimSpace(n.Body))
				last = state == "terminated"
			}
			if want := []string{"active SIP/2.0 100 Trying", "terminated SIP/2.0 200 OK"}; told[0] != want[0] || told[len(told)-1] != want[1] {
				t.Errorf("the NOTIFYs are %q, want first and last %q", told, want)
			}
			if ok := l.ask(t, "BYE", ""); ok.Status() != 200 {
				t.Errorf("BYE after the NOTIFYs: %s", ok.Start)
			}
			l.gone(t, b)
		},
		"OPTIONS": func(t *testing.T, l *line, b *asterisk) {
			// No answer, as with an unpatched Asterisk: TestB58Options compares.
			l.recovered(t, b)
			if _, err := l.Request(l.d, "OPTIONS", ""); err != nil {
				t.Fatal(err)
			}
			l.silence(t, "answer to OPTIONS", time.Second, l.answer("OPTIONS"))
		},
		"200 again": func(t *testing.T, l *line, b *asterisk) {
			inv := l.recover(t, b, nil)
			body := l.Media().SDP("sendrecv")
			ok := l.respond(t, inv, 200, "OK", body)
			l.take(t, "ACK", 5*time.Second, isRequest("ACK"))
			// To the phone the ACK was lost: it sends its 200 again, as RFC 3261 section 13.3.1.4 has it, up to 64 times T1.
			for _, wait := range []time.Duration{500 * time.Millisecond, time.Second, 5 * time.Second} {
				time.Sleep(wait)
				if err := l.Send(ok); err != nil {
					t.Fatal(err)
				}
				ack := l.take(t, "ACK of a 200 that comes again", 2*time.Second, func(m *rawphone.Message) bool { return m.Method() == "ACK" && m.Status() == 0 })
				l.viaRoute(t, ack)
			}
			l.echoes(t)
		},
		"BYE of the farm": func(t *testing.T, l *line, b *asterisk) {
			l.recovered(t, b)
			if status, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil || status != 204 {
				t.Fatalf("DELETE: %d, %v", status, err)
			}
			bye := l.take(t, "BYE", 5*time.Second, isRequest("BYE"))
			l.viaRoute(t, bye)
			if n, _ := bye.CSeq(); n != l.d.FarCSeq+1 {
				t.Errorf("BYE has CSeq %d, want %d", n, l.d.FarCSeq+1)
			}
			l.respond(t, bye, 200, "OK", "")
		},
		"session timer of the phone": func(t *testing.T, l *line, b *asterisk) {
			timer := []rawphone.Field{{Name: "Supported", Value: "timer"}, {Name: "Session-Expires", Value: "90;refresher=uac"}}
			l.recovered(t, b, rawphone.Field{Name: "Require", Value: "timer"}, rawphone.Field{Name: "Session-Expires", Value: "90;refresher=uas"})
			ok := l.ask(t, "UPDATE", "", timer...)
			if ok.Status() != 200 || !strings.HasPrefix(ok.Get("Session-Expires"), "90;refresher=uac") {
				t.Errorf("refresh: %s, Session-Expires: %s", ok.Start, ok.Get("Session-Expires"))
			}
			began := time.Now() // the phone falls silent: RFC 4028 section 10 has the other side end the session before it is over
			bye := l.take(t, "BYE of a session that nobody refreshed", 95*time.Second, isRequest("BYE"))
			if after := time.Since(began); after < 45*time.Second {
				t.Errorf("the session ended after %v", after)
			}
			l.viaRoute(t, bye)
			if n, _ := bye.CSeq(); n != l.d.FarCSeq+1 {
				t.Errorf("BYE has CSeq %d, want %d", n, l.d.FarCSeq+1)
			}
			l.respond(t, bye, 200, "OK", "")
			l.gone(t, b)
		},
		"session timer": func(t *testing.T, l *line, b *asterisk) {
			l.recovered(t, b, rawphone.Field{Name: "Require", Value: "timer"}, rawphone.Field{Name: "Session-Expires", Value: "90;refresher=uac"})
			refresh := l.take(t, "refresh of the session after half of its time", 60*time.Second, func(m *rawphone.Message) bool {
				return m.Status() == 0 && (m.Method() == "UPDATE" || m.Method() == "INVITE") && !m.Resent
			})
			l.viaRoute(t, refresh)
			number := l.d.FarCSeq + 1
			if n, _ := refresh.CSeq(); n != number {
				t.Errorf("the refresh has CSeq %d, want %d", n, number)
			}
			l.respond(t, refresh, 200, "OK", "", rawphone.Field{Name: "Require", Value: "timer"}, rawphone.Field{Name: "Session-Expires", Value: "90;refresher=uac"})
			if status, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil || status != 204 {
				t.Fatalf("DELETE: %d, %v", status, err)
			}
			bye := l.take(t, "BYE after a refresh", 5*time.Second, isRequest("BYE"))
			l.viaRoute(t, bye)
			if n, _ := bye.CSeq(); n != number+1 {
				t.Errorf("BYE has CSeq %d, want %d", n, number+1)
			}
			l.respond(t, bye, 200, "OK", "")
		},
	})
}

// TestB58Options shows why no answer to OPTIONS is right: the package's own module gives none either.
func TestB58Options(t *testing.T) {
	a := startUnpatched(t)
	l := newLine(t, a.SIP, 0)
	l.call(t, a, farmCalled)
	if _, err := l.Request(l.d, "OPTIONS", ""); err != nil {
		t.Fatal(err)
	}
	l.silence(t, "answer to OPTIONS", time.Second, l.answer("OPTIONS"))
}

// TestB59RouteSet answers the recovery with every kind of Record-Route, wrong ones too. ACK and BYE take the route set that the dialog
// always had, with all its entries in their order.
func TestB59RouteSet(t *testing.T) {
	with := func(fields func(l *line) []rawphone.Field) func(*testing.T, *line, *asterisk) {
		return func(t *testing.T, l *line, b *asterisk) {
			l.recovered(t, b, fields(l)...)
			if _, err := b.ari("DELETE", "channels/"+l.id, nil, nil); err != nil {
				t.Fatal(err)
			}
			bye := l.take(t, "BYE", 5*time.Second, isRequest("BYE"))
			l.viaRoute(t, bye)
			l.respond(t, bye, 200, "OK", "")
		}
	}
	for _, hops := range []int{2, 3} {
		t.Run(fmt.Sprint(hops, " hops"), func(t *testing.T) {
			eachRole(t, hops, map[string]func(*testing.T, *line, *asterisk){
				"none": with(func(*line) []rawphone.Field { return nil }),
				"the same": with(func(l *line) []rawphone.Field {
					var f []rawphone.Field
					for _, r := range slices.Backward(strings.Split(l.variables()["PJSIP_RECOVERY_ROUTES"], ", ")) {
						f = append(f, rawphone.Field{Name: "Record-Route", Value: r})
					}
					return f
				}),
				"another": with(func(*line) []rawphone.Field {
					return []rawphone.Field{{Name: "Record-Route", Value: "<sip:127.8.8.8;lr>"}}
				}),
			})
		})
	}
}
