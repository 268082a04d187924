package recovery

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

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
