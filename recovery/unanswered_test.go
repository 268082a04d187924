package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge"
	"rtcedge/recovery/hep"
	"rtcedge/recovery/homer"
)

const earlyInvite = "INVITE sip:2@10.0.0.11:5080 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKedge;vb=signed,\r\n SIP/2.0/TCP 192.0.2.7:40000;branch=z9hG4bKphone;rport=40000\r\n" +
	"v: SIP/2.0/TCP 192.0.2.8;branch=z9hG4bKfar\r\nRoute: <sip:10.0.0.1;lr>\r\nf: <sip:1@x>;tag=a\r\nTo: \"Two, B\" <sip:2@x>\r\ni: early-1\r\nCSeq: 7 INVITE\r\n" +
	"Contact: <sip:1@192.0.2.7>\r\nMax-Forwards: 68\r\nContent-Length: 0\r\n\r\n"

// TestF6Unanswered: who called is answered along the Via fields that the node had received; who was called is told that nobody calls any more.
// What has a
// final answer already is left alone. Inside of a dialog nothing may stay open either (F5).
func TestF6Unanswered(t *testing.T) {
	edge, node := netip.MustParseAddrPort("10.0.0.1:5060"), netip.MustParseAddrPort("10.0.0.11:5080")
	ring := strings.NewReplacer("INVITE sip:2@10.0.0.11:5080 SIP/2.0", "SIP/2.0 180 Ringing", "<sip:2@x>", "<sip:2@x>;tag=node").Replace(earlyInvite)
	in := func(raw string) homer.Message {
		return homer.Message{CallID: "early-1", Raw: raw, Source: edge, Destination: node}
	}
	out := func(raw string) homer.Message {
		return homer.Message{CallID: "early-1", Raw: raw, Source: node, Destination: edge}
	}
	const response = "SIP/2.0 500 Farm Node Died\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKedge;vb=signed, SIP/2.0/TCP 192.0.2.7:40000;branch=z9hG4bKphone;rport=40000\r\n" +
		"Via: SIP/2.0/TCP 192.0.2.8;branch=z9hG4bKfar\r\nFrom: <sip:1@x>;tag=a\r\nTo: \"Two, B\" <sip:2@x>;tag=node\r\nCall-ID: early-1\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n"
	const cancel = "CANCEL sip:2@10.0.0.11:5080 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKedge;vb=signed\r\nRoute: <sip:10.0.0.1;lr>\r\nFrom: <sip:1@x>;tag=a\r\n" +
		"To: \"Two, B\" <sip:2@x>\r\nCall-ID: early-1\r\nCSeq: 7 CANCEL\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
	for name, test := range map[string]struct {
		messages []homer.Message
		want     string
	}{
		"the node was called": {[]homer.Message{out(ring), in(earlyInvite)}, response},
		"the node called":     {[]homer.Message{in(ring), out(earlyInvite)}, cancel},
		"no answer at all":    {[]homer.Message{in(earlyInvite)}, strings.Replace(response, "tag=node", "tag=rtcedge-died", 1)},
		"it was answered":     {[]homer.Message{in(earlyInvite), out(strings.Replace(ring, "180 Ringing", "200 OK", 1))}, ""},
		"it was refused":      {[]homer.Message{in(earlyInvite), out(strings.Replace(ring, "180 Ringing", "486 Busy", 1))}, ""},
		"a re-INVITE (F5)":    {[]homer.Message{in(strings.Replace(earlyInvite, "<sip:2@x>", "<sip:2@x>;tag=node", 1))}, strings.Replace(response, "500", "503", 1)},
		"a BYE (F5)": {[]homer.Message{in(strings.NewReplacer("<sip:2@x>", "<sip:2@x>;tag=node", "INVITE", "BYE").Replace(earlyInvite))},
			strings.NewReplacer("500 Farm Node Died", "200 OK", "INVITE", "BYE").Replace(response)},
		"an ACK":             {[]homer.Message{in(strings.ReplaceAll(earlyInvite, "INVITE", "ACK"))}, ""},
		"the node's own BYE": {[]homer.Message{out(strings.ReplaceAll(earlyInvite, "INVITE", "BYE"))}, ""},
		"of another node":    {[]homer.Message{{CallID: "early-1", Raw: earlyInvite, Source: edge, Destination: edge}}, ""},
		"cut":                {[]homer.Message{in(earlyInvite[:200])}, ""},
	} {
		c, err := NewCollector(CollectorConfig{Own: fixed(test.messages)})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, u := range c.Unanswered(t.Context(), "udp:"+node.String(), []string{"early-1"}) {
			if u.Edge != edge {
				t.Errorf("%s: it goes to %v, not to the edge", name, u.Edge)
			}
			if got, err = u.final(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, test.want)
		}
	}
}

// fixed is a capture that holds these.
type fixed []homer.Message

func (f fixed) Messages(context.Context, []string, time.Time) ([]homer.Message, error) { return f, nil }

// TestF5Acknowledged: a 2xx to an INVITE of a node that died before its ACK gets one: to the answer's Contact, along the dialog's route, with the INVITE's number.
// For a call whose record says that it still rings there is a BYE behind it.
func TestF5Acknowledged(t *testing.T) {
	edge, node := netip.MustParseAddrPort("10.0.0.1:5060"), netip.MustParseAddrPort("10.0.0.11:5080")
	const invite = "INVITE sip:2@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.11:5080;rport;branch=z9hG4bKn\r\nRoute: <sip:10.0.0.1;lr;vb=a>\r\nRoute: <sip:10.0.0.2;lr>\r\n" +
		"From: \"One, A\" <sip:1@x>;tag=n\r\nTo: <sip:2@x>;tag=p\r\nCall-ID: early-1\r\nCSeq: 12 INVITE\r\nContent-Length: 0\r\n\r\n"
	const ok = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.11:5080;rport;branch=z9hG4bKn\r\nFrom: \"One, A\" <sip:1@x>;tag=n\r\nTo: <sip:2@x>;tag=p\r\nRecord-Route: <sip:10.0.0.2;lr>\r\n" +
		"Record-Route: <sip:10.0.0.1;lr;vb=b>\r\nCall-ID: early-1\r\nCSeq: 12 INVITE\r\nContact: <sip:2@192.0.2.7:40000>\r\nContent-Length: 0\r\n\r\n"
	first := strings.Replace(strings.Replace(invite, ";tag=p", "", 1), "Route: <sip:10.0.0.1;lr;vb=a>\r\nRoute: <sip:10.0.0.2;lr>\r\n", "Route: <sip:10.0.0.1;lr>\r\n", 1)
	in := func(raw string) homer.Message {
		return homer.Message{CallID: "early-1", Raw: raw, Source: edge, Destination: node}
	}
	out := func(raw string) homer.Message {
		return homer.Message{CallID: "early-1", Raw: raw, Source: node, Destination: edge}
	}
	ack := func(routes, cseq string) string {
		return "Route: " + routes + "\r\nMax-Forwards: 70\r\nFrom: \"One, A\" <sip:1@x>;tag=n\r\nTo: <sip:2@x>;tag=p\r\nCall-ID: early-1\r\nCSeq: " + cseq + "\r\nContent-Length: 0\r\n\r\n"
	}
	for name, test := range map[string]struct {
		sip      string
		messages []homer.Message
		ack, bye string
	}{
		"a re-INVITE": {"udp:10.0.0.11:5080", []homer.Message{out(invite), in(ok), in(ok)}, ack("<sip:10.0.0.1;lr;vb=a>\r\nRoute: <sip:10.0.0.2;lr>", "12 ACK"), ""},
		"a call":      {"udp:10.0.0.11:5080", []homer.Message{in(ok), out(first)}, ack("<sip:10.0.0.1;lr;vb=b>\r\nRoute: <sip:10.0.0.2;lr>", "12 ACK"), ack("<sip:10.0.0.1;lr;vb=b>\r\nRoute: <sip:10.0.0.2;lr>", "13 BYE")},
		"over TCP":    {"tcp:10.0.0.11:5060", []homer.Message{out(invite), in(ok)}, ack("<sip:10.0.0.1;lr;vb=a>\r\nRoute: <sip:10.0.0.2;lr>", "12 ACK"), ""},
		"it has one":  {"udp:10.0.0.11:5080", []homer.Message{out(invite), in(ok), out(strings.ReplaceAll(invite, "INVITE", "ACK"))}, "", ""},
		"no answer":   {"udp:10.0.0.11:5080", []homer.Message{out(invite)}, "", ""},
		"refused":     {"udp:10.0.0.11:5080", []homer.Message{out(invite), in(strings.Replace(ok, "200 OK", "488 No", 1))}, "", ""},
	} {
		c, err := NewCollector(CollectorConfig{Own: fixed(test.messages)})
		if err != nil {
			t.Fatal(err)
		}
		rang := []job{{leg: bridge.Leg{SIPCallID: "early-1"}}}
		w := words{seen: map[string]bool{}, log: slog.New(slog.DiscardHandler)}
		for _, u := range c.Unanswered(t.Context(), test.sip, []string{"early-1"}) {
			if u.SIP != test.sip || u.Edge != edge {
				t.Errorf("%s: %s speaks to %v", name, u.SIP, u.Edge)
			}
			w.add(&u, rang)
			w.add(&u, rang)
		}
		var want []string
		for method, rest := range map[string]string{"ACK": test.ack, "BYE": test.bye} {
			if rest != "" {
				want = append(want, method+" sip:2@192.0.2.7:40000 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.11:5080;branch=z9hG4bKrtc* "+rest)
			}
		}
		slices.Sort(want)
		var got []string
		branch := regexp.MustCompile(`z9hG4bKrtc[0-9a-f]{16}\r\n`)
		for _, m := range w.list {
			got = append(got, branch.ReplaceAllString(m.text, "z9hG4bKrtc* "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, want)
		}
		if list := c.Unacknowledged(t.Context(), test.sip, "early-1"); (len(list) > 0) != (test.ack != "") {
			t.Errorf("%s: %d unacknowledged", name, len(list))
		}
	}
}

// TestF6Placed: a call that the node was just placing has no Call-ID in its record; what the capture has of it is ended all the same.
func TestF6Placed(t *testing.T) {
	edge, node := netip.MustParseAddrPort("10.0.0.1:5060"), netip.MustParseAddrPort("10.0.0.11:5080")
	kept := homer.NewStore(homer.StoreConfig{})
	c, err := NewCollector(CollectorConfig{Own: kept})
	if err != nil {
		t.Fatal(err)
	}
	add := func(raw string, from, to netip.AddrPort, at time.Time) {
		kept.Add(hep.Packet{Time: at, Source: from, Destination: to, Payload: []byte(raw)})
	}
	old := strings.Replace(earlyInvite, "early-1", "early-2", 1)
	other := strings.Replace(earlyInvite, "early-1", "early-3", 1)
	add(earlyInvite, node, edge, time.Now())
	add(old, node, edge, time.Now().Add(-time.Hour))
	add(other, edge, node, time.Now())
	var got []string
	for _, u := range c.Unanswered(t.Context(), "udp:"+node.String(), nil) {
		got = append(got, u.CallID)
	}
	if !slices.Equal(got, []string{"early-1"}) {
		t.Errorf("%q, want the call that was placed", got)
	}
}

// TestB50AnsweredAgain: pjsip answers 401, 407 and 422 (RFC 4028 section 7.3) by the same INVITE with the next number. What counts is what that gets.
func TestB50AnsweredAgain(t *testing.T) {
	c, err := NewCollector(CollectorConfig{Own: fixed(nil)})
	if err != nil {
		t.Fatal(err)
	}
	c.known = map[string]known{"x": {local: "n"}}
	answer := func(status, cseq int) homer.Message {
		return homer.Message{CallID: "x", Raw: fmt.Sprintf("SIP/2.0 %d X\r\nVia: SIP/2.0/UDP 10.0.0.11\r\nFrom: <sip:1@x>;tag=n\r\nTo: <sip:2@x>;tag=p\r\nCall-ID: x\r\nCSeq: %d INVITE\r\nContent-Length: 0\r\n\r\n", status, cseq)}
	}
	for _, test := range []struct {
		messages []homer.Message
		want     int
	}{
		{[]homer.Message{answer(422, 7)}, 422}, {[]homer.Message{answer(422, 7), answer(200, 8)}, 200}, {[]homer.Message{answer(407, 7), answer(486, 8)}, 486},
		{[]homer.Message{answer(401, 7), answer(422, 8), answer(491, 9)}, 491}, {[]homer.Message{answer(486, 6)}, 0}, {[]homer.Message{answer(200, 8), answer(401, 7)}, 200}, {[]homer.Message{answer(486, 10)}, 0}, {[]homer.Message{answer(486, 7)}, 486},
	} {
		c.cfg.Own = fixed(test.messages)
		if got, ok := c.Final(t.Context(), "x", 7); got != test.want || ok != (test.want != 0) {
			t.Errorf("%d, %v, want %d", got, ok, test.want)
		}
	}
}
