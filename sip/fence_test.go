package sip

import (
	"strings"
	"testing"

	"rtcedge/sip/transport"
)

// TestB54Fence: a farm node that was cut off speaks into no dialog and gets no request, by UDP and by connections, until it is up again.
func TestB54Fence(t *testing.T) {
	cfg := Config{Farms: farms(node1, node2)}
	cfg.Farms.NoProbes = true
	r := newRig(t, cfg, udpOn("127.0.0.1"), internal(udpOn("127.0.0.1")), internal(tcpOn("127.0.0.1")))
	r.p.farms.Drain(node2, r.now)
	fwd := r.one(r.put(phone, invite("")), node1)
	r.p.farms.Up(node2, r.now)
	ok := answer(fwd, 200, "tt", "Contact: <sip:600@"+node1+">\n")
	got := r.one(r.putOn(1, 0, node1, ok), phone)
	routes := ""
	for _, v := range lines(got, "Record-Route") {
		routes += "Route: " + v + "\n"
	}
	fromPhone := func(method string) string {
		return method + " sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bK" + method + "\nMax-Forwards: 70\nFrom: \"A\" <sip:1001@E0>;tag=ft\nTo: <sip:600@E0>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 " + method + "\nUser-Agent: " + strings.Repeat("x", 200) + "\n" + routes
	}
	r.one(r.put(phone, fromPhone("INFO")), node1)
	bye := "BYE sip:1001@127.0.2.1:5070 SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKb\nMax-Forwards: 70\nFrom: <sip:600@E0>;tag=tt\nTo: <sip:1001@E0>;tag=ft\nCall-ID: call-1@phone\nCSeq: 1 BYE\n"
	r.one(r.putOn(1, 0, node1, r.text(bye)), phone)

	if n := r.p.farms.Fence(node1, r.now); n != 1 {
		t.Fatalf("fenced %d nodes", n)
	}
	for what, out := range map[string][]sentMessage{
		"a BYE":                           r.putOn(1, 0, node1, r.text(bye)),
		"a response":                      r.putOn(1, 0, node1, ok),
		"a BYE by a connection":           r.putOn(2, 7, "127.0.1.1:40000", r.text(bye)),
		"a BYE from another of its ports": r.putOn(1, 0, "127.0.1.1:5999", r.text(bye)),
	} {
		if len(out) != 0 {
			t.Errorf("%s of a fenced node goes on: %v", what, out)
		}
	}
	if n := r.drops()["fenced"]; n != 4 {
		t.Errorf("%d drops, want 4", n)
	}
	// It gets nothing: a new call goes elsewhere, one of its dialog gets an answer that ends no dialog, its ACK goes nowhere.
	r.one(r.put(phone, strings.ReplaceAll(invite(""), "call-1@", "call-3@")), node2)
	if got := r.status(r.put(phone, fromPhone("INFO")), 503); len(lines(got, "Retry-After")) != 1 {
		t.Errorf("no Retry-After:\n%s", got)
	}
	if out := r.put(phone, fromPhone("ACK")); len(out) != 0 {
		t.Errorf("an ACK reaches a fenced node: %v", out)
	}
	r.p.farms.Up(node1, r.now)
	r.one(r.put(phone, fromPhone("INFO")), node1)
	r.one(r.putOn(1, 0, node1, r.text(bye)), phone)
}

// TestB54FenceInQueue: what a node said before its fence and still waits is dropped too.
func TestB54FenceInQueue(t *testing.T) {
	media := &fakeMedia{}
	cfg := Config{Farms: farms(node1), Media: media}
	cfg.Farms.NoProbes = true
	r := newRig(t, cfg)
	raw := r.text(strings.Replace(strings.ReplaceAll(invite(sdp), "127.0.2.1:5070;branch", node1+";branch"), "INVITE sip:600@E0", "INVITE sip:1002@127.0.2.2:5072", 1))
	r.sent = nil
	m := rigMessage(r, []byte(raw))
	m.From = parseAddr(node1)
	r.p.Handle(m)
	r.p.farms.Fence(node1, r.now)
	r.work()
	if len(r.sent) != 0 || len(media.took()) != 0 || r.drops()["fenced"] != 1 {
		t.Errorf("sent %v, drops %v", r.sent, r.drops())
	}
}

func internal(l transport.ListenerConfig) transport.ListenerConfig {
	l.Internal = true
	return l
}
