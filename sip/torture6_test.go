package sip

import (
	"regexp"
	"strings"
	"testing"
)

// torture6 are messages after RFC 5118, by its sections, with what becomes of them: "" is forwarded, a code is answered. %rest stands for
// the fields that are in order.
var torture6 = []struct{ section, want, text string }{
	{"4.1 reference", "", "REGISTER sip:[2001:db8::10] SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111\n" +
		"To: sip:user@example.com\nCSeq: 98176 REGISTER\n%rest"},
	{"4.2 no brackets", "400", "REGISTER sip:2001:db8::10 SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3\n" +
		"To: sip:user@example.com\nCSeq: 98176 REGISTER\n%rest"},
	{"4.3 port inside", "", "REGISTER sip:[2001:db8::10:5070] SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111\n" +
		"To: sip:user@example.com\nCSeq: 98176 REGISTER\n%rest"},
	{"4.4 port outside", "", "REGISTER sip:[2001:db8::10]:5070 SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111\n" +
		"To: sip:user@example.com\nCSeq: 98176 REGISTER\n%rest"},
	{"4.5 received in brackets", "", "OPTIONS sip:[2001:db8::10] SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111\n" +
		"To: sip:user@example.com\nCSeq: 321 OPTIONS\n%rest"},
	{"4.5 received bare", "", "OPTIONS sip:[2001:db8::10] SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3\n" +
		"To: sip:user@example.com\nCSeq: 321 OPTIONS\n%rest"},
	{"4.6 addresses in SDP", "", "INVITE sip:user@[2001:db8::10] SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111\n" +
		"To: sip:user@[2001:db8::10]\nContact: \"Caller\" <sip:caller@[2001:db8::9:1]>\nCSeq: 8612 INVITE\nContent-Type: application/sdp\n%rest" +
		"v=0\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\ns=Live video\nc=IN IP6 2001:db8::20\nt=3338481189 3370017201\nm=audio 6000 RTP/AVP 2\n"},
	{"4.7 several Vias", "", "OPTIONS sip:user@host.example.com SIP/2.0\nVia: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111\n" +
		"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144\nVia: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200\n" +
		"To: sip:user@example.com\nCSeq: 321 OPTIONS\n%rest"},
	{"4.9 mapped", "", "INVITE sip:user@example.com SIP/2.0\nVia: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19\n" +
		"Via: SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111\nTo: sip:user@example.com\nContact: <sip:caller@[::ffff:192.0.2.2]>\n" +
		"CSeq: 8612 INVITE\nContent-Type: application/sdp\n%rest" +
		"v=0\no=assistant 971731711378798081 0 IN IP6 ::ffff:192.0.2.2\ns=Live\nc=IN IP6 ::ffff:192.0.2.2\nt=0 0\nm=audio 6000 RTP/AVP 2\n"},
	// The grammar of RFC 3261 would allow it; it is no address, neither to go to nor to answer to.
	{"4.10 three colons", "drop", "OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0\nVia: SIP/2.0/UDP [2001:db8:::192.0.2.1];branch=z9hG4bKas3-111\n" +
		"To: sip:user@[2001:db8:::192.0.2.1]\nCSeq: 321 OPTIONS\n%rest"},
}

var received = regexp.MustCompile(`;received=[^;]*`)

// TestF21TortureIPv6: RFC 5118. What is forwarded keeps its addresses as they were written, but for the received parameter, which is ours to set.
func TestF21TortureIPv6(t *testing.T) {
	for _, tc := range torture6 {
		t.Run(tc.section, func(t *testing.T) {
			r := newRig(t, Config{})
			head, body, _ := strings.Cut(tc.text, "%rest")
			text := r.text(head + "From: sip:user@example.com;tag=81x2\nMax-Forwards: 70\nCall-ID: SSG9559905523997077@hlau_4100\n\n" + body)
			out := r.putOn(0, 0, phone, text)
			switch tc.want {
			case "":
				got := r.one(out, node1)
				start, _, _ := strings.Cut(got, "\r\n")
				if want, _, _ := strings.Cut(text, "\r\n"); start != want {
					t.Errorf("start line %q, want %q", start, want)
				}
				vias := lines(text, "Via")
				for i, via := range lines(got, "Via")[1:] {
					if i == 0 {
						via, vias[0] = received.ReplaceAllString(via, ""), received.ReplaceAllString(vias[0], "")
					}
					if via != vias[i] {
						t.Errorf("Via %d is %q, was %q", i, via, vias[i])
					}
				}
				if _, got, _ := strings.Cut(got, "\r\n\r\n"); got != strings.ReplaceAll(body, "\n", "\r\n") {
					t.Errorf("body %q", got)
				}
			case "drop":
				if len(out) != 0 || r.drops()["malformed"] != 1 {
					t.Errorf("sent %v, counted %v", out, r.drops())
				}
			default:
				if len(out) != 1 || !strings.HasPrefix(out[0].text, "SIP/2.0 "+tc.want+" ") {
					t.Errorf("want %s, got %v, drops %v", tc.want, out, r.drops())
				}
			}
		})
	}
}
