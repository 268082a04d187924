package sip

import (
	"net/netip"
	"strings"
	"testing"

	"rtcedge/sip/transport"
)

// TestB50Speak: recovery says for a node that is cut off what is still to be said: a final response, a CANCEL, a BYE. They take the way that the node's own would
// have taken, with a listener for farms and without; nobody else's do, and what names another edge is left to that.
func TestB50Speak(t *testing.T) {
	for name, listeners := range map[string][]transport.ListenerConfig{
		"one listener": {udpOn("127.0.0.1")}, "split": {udpOn("127.0.0.1"), internal(udpOn("127.0.0.1"))},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Farms: farms(node1), Media: &fakeMedia{}}
			cfg.Farms.NoProbes = true
			r := newRig(t, cfg, listeners...)
			inner := len(listeners) - 1
			node, at := netip.MustParseAddrPort(node1), r.ls[inner].Addr()
			speak := func(raw string) []sentMessage {
				t.Helper()
				r.sent = nil
				if err := r.p.Speak(node, at, []byte(raw)); err != nil {
					t.Fatal(err)
				}
				r.work()
				return r.sent
			}

			// A phone calls, the node answers, and is cut off.
			fwd := r.one(r.put(phone, invite("")), node1)
			ok := answer(fwd, 200, "tt", "Contact: <sip:600@"+node1+">\n")
			got := r.one(r.putOn(inner, 0, node1, ok), phone)
			// The node calls a phone, which rings.
			out := "INVITE sip:1002@127.0.2.2:5072 SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKout\nMax-Forwards: 70\nFrom: <sip:600@E0>;tag=n2\n" +
				"To: <sip:1002@E0>\nCall-ID: out-1@node\nCSeq: 5 INVITE\nContact: <sip:600@" + node1 + ">\n"
			rings := r.one(r.putOn(inner, 0, node1, r.text(out)), "127.0.2.2:5072")
			// Another phone calls, and nobody has answered.
			waits := r.one(r.put(phone, strings.ReplaceAll(invite(""), "call-1@", "call-2@")), node1)
			if n := r.p.farms.Fence(node1, r.now); n != 1 {
				t.Fatal("no fence")
			}

			routes := lines(got, "Record-Route")
			bye := "BYE sip:1001@127.0.2.1:5070 SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKb\nMax-Forwards: 70\nFrom: <sip:600@E0>;tag=tt\nTo: \"A\" <sip:1001@E0>;tag=ft\n" +
				"Call-ID: call-1@phone\nCSeq: 1 BYE\nRoute: " + strings.Join(lines(fwd, "Record-Route"), ", ") + "\n"
			if len(routes) == 0 {
				t.Fatal("no Record-Route")
			}
			if out := r.putOn(inner, 0, node1, r.text(bye)); len(out) != 0 {
				t.Fatalf("the node itself speaks: %v", out)
			}
			if got := r.one(speak(r.text(bye)), phone); !strings.HasPrefix(got, "BYE sip:1001@127.0.2.1:5070 ") || len(lines(got, "Route")) != 0 {
				t.Errorf("%s", got)
			}
			cancel := strings.ReplaceAll(strings.ReplaceAll(out, "INVITE sip", "CANCEL sip"), "5 INVITE", "5 CANCEL")
			branch := func(text string) string {
				_, after, _ := strings.Cut(lines(text, "Via")[0], "branch=")
				b, _, _ := strings.Cut(after, ";")
				return b
			}
			if got := r.one(speak(r.text(cancel)), "127.0.2.2:5072"); branch(got) != branch(rings) {
				t.Errorf("CANCEL with branch %s, INVITE had %s", branch(got), branch(rings))
			}
			if got := r.one(speak(answer(waits, 500, "died", "")), phone); !strings.HasPrefix(got, "SIP/2.0 500") {
				t.Errorf("%s", got)
			}

			other := strings.NewReplacer(r.edge(0), "192.0.2.77:5060", r.edge(inner), "192.0.2.77:5060")
			for what, raw := range map[string]string{"a response": other.Replace(answer(waits, 500, "died", "")), "a BYE": other.Replace(r.text(bye)), "no SIP": "hello\r\n\r\n"} {
				if err := r.p.Speak(node, at, []byte(raw)); err == nil {
					t.Errorf("%s of another edge was taken", what)
				}
			}
			if err := r.p.Speak(node, netip.MustParseAddrPort("192.0.2.77:5060"), []byte(r.text(cancel))); err == nil {
				t.Error("a CANCEL for another listener was taken")
			}
			if err := r.p.Speak(netip.MustParseAddrPort("192.0.2.9:5080"), at, []byte(r.text(bye))); (err == nil) != r.p.split {
				t.Errorf("for a node that nobody knows: %v", err)
			}
			r.work()
			if out := r.putOn(inner, 0, node1, r.text(bye)); len(out) != 0 {
				t.Errorf("the fence fell: %v", out)
			}
		})
	}
}
