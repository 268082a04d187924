package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// TestB01Rules: method, user and domain choose the farm; an unknown domain gets a final 4xx.
func TestB01Rules(t *testing.T) {
	cfg := Config{Domains: []string{"example.com"}}
	cfg.Farms = farms(node1)
	cfg.Farms.Farms[dispatch.Conference] = []dispatch.NodeConfig{{Addr: netip.MustParseAddrPort(node2)}}
	cfg.Farms.Farms[dispatch.Registrar] = []dispatch.NodeConfig{{Addr: netip.MustParseAddrPort(node3)}}
	r := newRig(t, cfg)
	for _, c := range []struct{ method, uri, want string }{
		{"INVITE", "sip:600@example.com", node1},
		{"INVITE", "sip:1001@E0", node1},
		{"INVITE", "sip:7000@example.com", node2},
		{"INVITE", "sip:7999@example.com", node2},
		{"INVITE", "sip:8000@example.com", node1},
		{"INVITE", "sip:70000@example.com", node1},
		{"INVITE", "sip:77@conference.example.com", node2},
		{"INVITE", "sip:77@CONFERENCE.example.com", node2},
		{"CANCEL", "sip:7000@example.com", node2},
		{"ACK", "sip:7000@example.com", node2},
		{"REGISTER", "sip:example.com", node3},
		{"SUBSCRIBE", "sip:1001@example.com", node3},
		{"PUBLISH", "sip:1001@example.com", node3},
		{"MESSAGE", "sip:1001@example.com", node3},
		{"NOTIFY", "sip:1001@example.com", node3},
		{"SUBSCRIBE", "sip:7000@example.com", node2},
		{"OPTIONS", "sip:1001@example.com", node1},
		{"INVITE", "tel:+49301234", node1},
		{"INVITE", "sip:600@elsewhere.org", "404"},
		{"REGISTER", "sip:elsewhere.org", "404"},
	} {
		text := strings.ReplaceAll(strings.Replace(invite(""), "sip:600@E0", c.uri, 1), "INVITE", c.method)
		out := r.put(phone, text)
		if c.want == "404" {
			r.status(out, 404)
			continue
		}
		r.one(out, c.want)
	}
}

// TestB01FallBack: a farm that is not given is served by the call farm.
func TestB01FallBack(t *testing.T) {
	r := newRig(t, Config{})
	r.one(r.put(phone, strings.Replace(invite(""), "sip:600@", "sip:7000@", 1)), node1)
	r.one(r.put(phone, strings.ReplaceAll(invite(""), "INVITE", "REGISTER")), node1)
}

// TestB02InternalFields: the farm learns what the edge saw; forged fields go in every spelling.
func TestB02InternalFields(t *testing.T) {
	r := newRig(t, Config{})
	got := r.one(r.put(phone, invite("VB-Source: forged\nvb-transport :forged\nVb-DOMAIN:\n forged\nVBOUT-Any: forged\nVB-CALL-ID: forged\nvB-confbridge-id: forged\nX-Keep: kept\n")), node1)
	if strings.Contains(got, "forged") {
		t.Errorf("a forged field passed:\n%s", got)
	}
	for name, want := range map[string]string{"VB-Source": phone, "VB-Transport": "udp", "VB-Domain": "127.0.0.1", "X-Keep": "kept"} {
		if v := lines(got, name); len(v) != 1 || v[0] != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	resp := answer(got, 180, "tt", "VB-Secret: 1\nVBOUT-X: 1\n")
	if got := r.one(r.putOn(0, 0, node1, resp), phone); strings.Contains(got, "VB-Secret") || strings.Contains(got, "VBOUT") {
		t.Errorf("an internal field left with a response:\n%s", got)
	}
}

// TestB03ToOutside: what the farm says to the edge only does not leave.
func TestB03ToOutside(t *testing.T) {
	r := newRig(t, Config{})
	text := strings.Replace(invite("VBOUT-Trunk: x\nVB-CALL-ID: y\n"), "INVITE sip:600@E0", "INVITE sip:1002@127.0.2.2:5072", 1)
	got := r.one(r.put(node1, strings.ReplaceAll(text, "127.0.2.1:5070;branch", node1+";branch")), "127.0.2.2:5072")
	if strings.Contains(got, "VB") {
		t.Errorf("an internal field left:\n%s", got)
	}
}

// TestB04AnyNode: every message of a dialog may go through another edge node with the same secret and addresses.
func TestB04AnyNode(t *testing.T) {
	cfg := Config{Farms: farms(node1, node2, node3)}
	one := newRig(t, cfg)
	addr := one.ls[0].Addr()
	// A second node behind the same load balancer advertises the same address.
	two := newRig(t, cfg, transport.ListenerConfig{Proto: transport.UDP, Addr: netip.MustParseAddrPort("127.0.0.2:0"), Advertise: addr.String()})
	out := one.put(phone, invite(""))
	if len(out) != 1 {
		t.Fatal(out)
	}
	farm := out[0].to.Addr.String()
	resp := answer(out[0].text, 200, "tt", "Contact: <sip:600@"+farm+">\n")
	ok := two.one(two.putOn(0, 0, farm, resp), phone)
	routes := lines(ok, "Record-Route")
	if len(routes) != 1 {
		t.Fatalf("Record-Route %q", routes)
	}
	for _, method := range []string{"ACK", "BYE"} {
		req := fmt.Sprintf("%s sip:600@%s SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bK%s;rport\nMax-Forwards: 70\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 %s\nRoute: %s\n",
			method, farm, method, method, routes[0])
		got := two.one(two.putOn(0, 0, phone, two.text(req)), farm)
		if len(lines(got, "Route")) != 0 {
			t.Errorf("our Route is still there:\n%s", got)
		}
	}
}

// TestB05DoubleRecordRoute: where the transport changes both sides are recorded, and requests of the dialog follow them to the exact
// farm node and to the connection.
func TestB05DoubleRecordRoute(t *testing.T) {
	r := newRig(t, Config{Farms: farms(node1, node2, node3)}, udpOn("127.0.0.1"), tcpOn("127.0.0.1"))
	in := r.text(strings.Replace(invite(""), "SIP/2.0/UDP", "SIP/2.0/TCP", 1))
	out := r.putOn(1, 77, phone, in)
	if len(out) != 1 {
		t.Fatal(out, r.drops())
	}
	farm := out[0].to.Addr.String()
	rr := lines(out[0].text, "Record-Route")
	if len(rr) != 2 || !strings.Contains(rr[0], r.edge(0)+";lr;r2>") || !strings.Contains(rr[1], r.edge(1)+";transport=tcp;lr;r2;vb=") {
		t.Fatalf("Record-Route %q", rr)
	}
	resp := r.putOn(0, 0, farm, answer(out[0].text, 200, "tt", ""))
	if len(resp) != 1 || resp[0].to.Flow != 77 || resp[0].to.Listener != r.ls[1] {
		t.Fatalf("response to %+v", resp)
	}
	// The farm hangs up: top route first.
	bye := "BYE sip:1001@127.0.2.1:5070;transport=tcp SIP/2.0\nVia: SIP/2.0/UDP " + farm + ";branch=z9hG4bKbye\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=tt\nTo: <sip:1001@x>;tag=ft\nCall-ID: call-1@phone\nCSeq: 1 BYE\nRoute: " + rr[0] + "," + rr[1] + "\n"
	got := r.put(farm, bye)
	if len(got) != 1 || got[0].to.Flow != 77 || got[0].to.Listener != r.ls[1] || len(lines(got[0].text, "Route")) != 0 {
		t.Fatalf("BYE: %+v", got)
	}
	if !strings.HasPrefix(got[0].text, "BYE sip:1001@127.0.2.1:5070;transport=tcp SIP/2.0\r\n") {
		t.Errorf("the Request-URI changed:\n%s", got[0].text)
	}
	// The phone hangs up: reversed.
	bye = "BYE sip:600@" + farm + " SIP/2.0\nVia: SIP/2.0/TCP 127.0.2.1:5070;branch=z9hG4bKbye2\nMax-Forwards: 70\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 BYE\nRoute: " + rr[1] + "\nRoute: " + rr[0] + "\n"
	r.one(r.putOn(1, 77, phone, r.text(bye)), farm)
	// The inner half may be the address of the edge node that took the INVITE (B4); it goes with the signed half only.
	foreign := strings.Replace(rr[0], r.edge(0), "127.0.0.77:5069", 1)
	elsewhere := strings.Replace(bye, rr[0], foreign, 1)
	r.one(r.putOn(1, 77, phone, r.text(elsewhere)), farm)
	r.status(r.putOn(1, 77, phone, r.text(strings.Replace(elsewhere, ";vb=", ";vb=A", 1))), 403)
	// A dialog that was moved to another farm node follows its new Contact.
	for _, n := range []string{node1, node2, node3} {
		if n != farm {
			r.one(r.putOn(1, 77, phone, r.text(strings.Replace(bye, "BYE sip:600@"+farm, "BYE sip:600@"+n, 1))), n)
		}
	}
	// No other target is a way out.
	r.one(r.putOn(1, 77, phone, r.text(strings.Replace(bye, "BYE sip:600@"+farm, "BYE sip:600@192.0.2.9", 1))), farm)
}

// TestB07CancelFollowsInvite: CANCEL and the ACK of a non-2xx get their INVITE's branch and node, also after a change of membership.
func TestB07CancelFollowsInvite(t *testing.T) {
	r := newRig(t, Config{Farms: farms(node1, node2, node3)})
	for i := range 50 {
		text := strings.ReplaceAll(invite(""), "call-1@phone", fmt.Sprintf("call-%d", i))
		if i%2 == 1 { // a branch of RFC 2543
			text = strings.Replace(text, "z9hG4bKabc1", "1", 1)
		}
		out := r.put(phone, text)
		if len(out) != 1 {
			t.Fatal(out)
		}
		farm, via := out[0].to.Addr, parse(t, out[0].text).Via().Branch
		r.p.farms.SetDrain(farm, true, r.now)
		for _, m := range []string{"CANCEL", "ACK"} {
			req := strings.ReplaceAll(text, "INVITE", m)
			if m == "ACK" {
				req = strings.Replace(req, "To: <sip:600@E0>", "To: <sip:600@E0>;tag=farm", 1)
			}
			got := r.put(phone, req)
			if len(got) != 1 || got[0].to.Addr != farm {
				t.Fatalf("%s went to %v, its INVITE to %v", m, got, farm)
			}
			if b := parse(t, got[0].text).Via().Branch; string(b) != string(via) {
				t.Errorf("%s has branch %s, its INVITE %s", m, b, via)
			}
		}
		r.p.farms.SetDrain(farm, false, r.now)
	}
}

// TestB07ForkedResponses: every response passes, any number of times.
func TestB07ForkedResponses(t *testing.T) {
	r := newRig(t, Config{})
	req := r.one(r.put(phone, invite("")), node1)
	for _, c := range []struct {
		code int
		tag  string
	}{{100, ""}, {180, "a"}, {183, "b"}, {200, "a"}, {200, "b"}, {200, "a"}} {
		resp := answer(req, c.code, c.tag, "")
		got := r.one(r.putOn(0, 0, node1, resp), phone)
		if v := lines(got, "Via"); len(v) != 1 || v[0] != "SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKabc1;rport=5070;received=127.0.2.1" {
			t.Errorf("Via %q", v)
		}
	}
}

// TestResponseNotOurs: a response goes nowhere unless our Via is on top, whole and signed.
func TestResponseNotOurs(t *testing.T) {
	r := newRig(t, Config{})
	req := r.one(r.put(phone, invite("")), node1)
	good := answer(req, 180, "a", "")
	via := lines(req, "Via")[0]
	sig := string(parse(t, req).Via().Signed)
	branch := string(parse(t, req).Via().Branch)
	for name, bad := range map[string]string{
		"foreign sent-by": strings.Replace(good, r.edge(0)+";branch", "192.0.2.1:5060;branch", 1),
		"no parameter":    strings.Replace(good, ";vb="+sig, "", 1),
		"other branch":    strings.Replace(good, branch, branch[:len(branch)-2]+"AA", 1),
		"other signature": strings.Replace(good, sig, "AAAA"+sig[4:], 1),
		"no next Via":     strings.Replace(good, "Via: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKabc1;rport=5070;received=127.0.2.1\r\n", "", 1),
	} {
		if bad == good {
			t.Fatalf("%s: nothing was changed in %s", name, via)
		}
		if out := r.putOn(0, 0, node1, bad); len(out) != 0 {
			t.Errorf("%s: forwarded", name)
		}
	}
	// Whatever the next Via claims, the response goes to where the request came from.
	r.one(r.putOn(0, 0, node1, strings.Replace(good, "received=127.0.2.1", "received=192.0.2.66", 1)), phone)
}

// TestB14Duplicates: two of a kind are answered with 400.
func TestB14Duplicates(t *testing.T) {
	r := newRig(t, Config{})
	for _, line := range []string{"From: <sip:x@y>;tag=1", "t: <sip:x@y>", "Call-ID: other", "CSeq: 1 INVITE", "Max-Forwards: 3"} {
		got := r.status(r.put(phone, invite(line+"\n")), 400)
		parse(t, got)
	}
	if n := r.p.Stats().Faults[message.FaultDuplicate]; n != 5 {
		t.Errorf("counted %d", n)
	}
}

// TestB15SameAddress: a phone on the edge's own address works; a request that comes back is a loop by its Via, not by its address.
func TestB15SameAddress(t *testing.T) {
	r := newRig(t, Config{})
	local := "127.0.0.1:59999"
	req := r.one(r.put(local, strings.ReplaceAll(invite(""), phone, local)), node1)
	r.one(r.putOn(0, 0, node1, answer(req, 200, "a", "")), local)
	// The farm sends the very same request back: it would go to the same farm again.
	got := r.putOn(0, 0, "127.0.0.1:59998", req)
	if got := r.status(got, 482); len(lines(got, "Via")) != 2 {
		t.Errorf("482:\n%s", got)
	}
	r.status(r.put(phone, strings.Replace(invite(""), "Max-Forwards: 70", "Max-Forwards: 0", 1)), 483)
	if out := r.put(phone, strings.ReplaceAll(strings.Replace(invite(""), "Max-Forwards: 70", "Max-Forwards: 0", 1), "INVITE", "ACK")); len(out) != 0 {
		t.Errorf("an ACK was answered: %v", out)
	}
}

// TestB16NoAmplifier: to an address that has not proved itself no answer is longer than its request.
func TestB16NoAmplifier(t *testing.T) {
	r := newRig(t, Config{Auth: users(t)})
	usual := "Expires: 600\nUser-Agent: softphone 1.0\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, REFER, NOTIFY, INFO\nSupported: replaces\n"
	tiny := "INVITE sip:1@E0 SIP/2.0\nv:SIP/2.0/UDP 1.1.1.1;rport\nf:<sip:1@x>;tag=1\nt:<sip:1@x>\ni:1\nCSeq:1 INVITE\n"
	if out := r.put(phone, tiny); len(out) != 0 {
		t.Errorf("%d bytes answered with %d", len(r.text(tiny)), len(out[0].text))
	}
	if r.drops()["amplification"] != 1 {
		t.Errorf("drops %v", r.drops())
	}
	// Its retransmissions pay for the challenge, so that a phone of few words gets it too, and no byte is given for nothing.
	paid, sent := len(r.text(tiny)), 0
	for range 10 {
		paid += len(r.text(tiny))
		for _, o := range r.put(phone, tiny) {
			sent += len(o.text)
		}
		if sent > paid {
			t.Fatalf("%d bytes answered with %d", paid, sent)
		}
	}
	if sent == 0 {
		t.Error("a short request is never answered")
	}
	// The same over a connection has proved its address.
	r.status(r.putOn(0, 5, phone, r.text(tiny)), 407)
	for _, s := range []string{invite(usual), strings.ReplaceAll(invite(usual), "INVITE", "REGISTER"), "OPTIONS sip:E0 SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1;branch=z9hG4bKx;rport\nFrom: <sip:1@x>;tag=1\nTo: <sip:E0>\nCall-ID: 1\nCSeq: 1 OPTIONS\nMax-Forwards: 70\nContact: <sip:1@127.0.2.1>\n"} {
		out := r.put(phone, s)
		if len(out) != 1 || len(out[0].text) > len(r.text(s)) {
			t.Errorf("%d bytes answered with %v", len(r.text(s)), out)
		}
	}
}

// TestOwnAnswersAck: the ACK of an answer that we made stays here (rule 6 of the edge).
func TestOwnAnswersAck(t *testing.T) {
	r := newRig(t, Config{Domains: []string{"example.com"}})
	text := strings.Replace(invite(""), "sip:600@E0 SIP", "sip:600@no.org SIP", 1)
	got := r.status(r.put(phone, text), 404)
	tag := string(parse(t, got).ToTag())
	if tag == "" {
		t.Fatal("no To tag")
	}
	ack := strings.ReplaceAll(strings.Replace(text, "To: <sip:600@E0>", "To: <sip:600@E0>;tag="+tag, 1), "INVITE", "ACK")
	if out := r.put(phone, ack); len(out) != 0 || r.drops()["absorbed_ack"] != 1 {
		t.Errorf("sent %v, drops %v", out, r.drops())
	}
	if out := r.put(phone, strings.Replace(ack, "vbe-", "vbf-", 1)); len(out) != 0 && r.drops()["absorbed_ack"] != 1 {
		t.Errorf("another tag was absorbed")
	}
}

// TestRefusals: rule 7 of the edge, and what a proxy must answer itself.
func TestRefusals(t *testing.T) {
	r := newRig(t, Config{})
	got := r.status(r.put(phone, invite("Proxy-Require: foo, bar\n")), 420)
	if v := lines(got, "Unsupported"); len(v) != 1 || v[0] != "foo, bar" {
		t.Errorf("Unsupported %q", v)
	}
	r.status(r.put(phone, invite("Route: <sip:192.0.2.1;lr>\n")), 403)
	r.status(r.put(phone, invite("Route: <sip:E0;lr>, <sip:192.0.2.1;lr>\n")), 403)
	r.status(r.put(phone, invite("Route: <sip:"+node1+";lr>\n")), 403)
	r.one(r.put(phone, invite("Route: <sip:E0;lr>\n")), node1)
	r.status(r.put(phone, strings.ReplaceAll(invite(""), "To: <sip:600@E0>", "To: <sip:600@E0>;tag=x")), 481)
	got = r.one(r.put(phone, strings.Replace(invite(""), "Max-Forwards: 70\n", "", 1)), node1)
	if v := lines(got, "Max-Forwards"); len(v) != 1 || v[0] != "70" {
		t.Errorf("Max-Forwards %q", v)
	}
	r.p.farms.SetDrain(netip.MustParseAddrPort(node1), true, r.now)
	if got := r.status(r.put(phone, invite("")), 503); len(lines(got, "Retry-After")) != 1 {
		t.Errorf("503 without Retry-After:\n%s", got)
	}
	// Bytes behind the body are cut, a body that is not there is refused.
	if out := r.putOn(0, 0, phone, r.text(strings.Replace(invite(""), "INVITE sip:600@E0", "OPTIONS sip:E0", 1))[:100]); len(out) != 0 {
		t.Errorf("a torso was answered: %v", out)
	}
	r.status(r.putOn(0, 0, phone, strings.Replace(r.text(invite("")), "Content-Length: 0", "Content-Length: 9", 1)), 400)
}

// TestB32Path: a phone behind NAT registers, is called through its Path, and hangs up and is hung up on through the same hole.
func TestB32Path(t *testing.T) {
	r := newRig(t, Config{})
	hole := "127.0.9.9:40123"
	reg := strings.Replace(strings.ReplaceAll(invite(""), "INVITE", "REGISTER"), "Contact: <sip:1001@127.0.2.1:5070>", "Contact: <sip:1001@10.0.0.5:5060>", 1)
	got := r.one(r.put(hole, reg), node1)
	path := lines(got, "Path")
	if len(path) != 1 || len(lines(got, "Supported")) != 1 {
		t.Fatalf("Path %q, Supported %q", path, lines(got, "Supported"))
	}
	if v := lines(got, "Contact"); v[0] != "<sip:1001@10.0.0.5:5060>" {
		t.Errorf("the Contact changed: %q", v)
	}
	if again := r.one(r.put(hole, reg+"Supported: outbound, PATH\n"), node1); len(lines(again, "Supported")) != 1 {
		t.Errorf("a second option tag")
	}
	r.one(r.putOn(0, 0, node1, answer(got, 200, "x", "")), hole)

	call := "INVITE sip:1001@10.0.0.5:5060 SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKq\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=f\nTo: <sip:1001@x>\nCall-ID: out-1\nCSeq: 1 INVITE\nContact: <sip:600@" + node1 + ">\nRoute: " + path[0] + "\n"
	inv := r.one(r.put(node1, call), hole)
	if !strings.HasPrefix(inv, "INVITE sip:1001@10.0.0.5:5060 SIP/2.0\r\n") {
		t.Errorf("the Request-URI changed:\n%s", inv)
	}
	rr := lines(inv, "Record-Route")
	if len(rr) != 1 {
		t.Fatalf("Record-Route %q", rr)
	}
	r.one(r.putOn(0, 0, hole, answer(inv, 200, "t", "Contact: <sip:1001@10.0.0.5:5060>\n")), node1)
	bye := "BYE sip:1001@10.0.0.5:5060 SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKr\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=f\nTo: <sip:1001@x>;tag=t\nCall-ID: out-1\nCSeq: 2 BYE\nRoute: " + rr[0] + "\n"
	r.one(r.put(node1, bye), hole)
	back := "BYE sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKs;rport\nMax-Forwards: 70\nFrom: <sip:1001@x>;tag=t\nTo: <sip:600@x>;tag=f\nCall-ID: out-1\nCSeq: 1 BYE\nRoute: " + rr[0] + "\n"
	r.one(r.put(hole, back), node1)
	// The Path is the farm's: a stranger cannot ride it, nor a Record-Route of another call.
	r.one(r.put("127.0.6.6:5060", strings.Replace(call, "Via: SIP/2.0/UDP "+node1, "Via: SIP/2.0/UDP 127.0.6.6", 1)), node1)
	r.status(r.put("127.0.6.6:5060", strings.Replace(strings.Replace(back, "Call-ID: out-1", "Call-ID: other", 1), "sip:600@"+node1+" ", "sip:600@127.0.6.6 ", 1)), 481)
}

// TestB32PathIsOfTheFarmsSide: a phone on a connection registers; the farm calls it through a listener that the farm can reach, and the
// cookie finds the connection.
func TestB32PathIsOfTheFarmsSide(t *testing.T) {
	r := newRig(t, Config{}, udpOn("127.0.0.1"), tcpOn("127.0.0.1"))
	const flow = transport.Flow(7)
	reg := strings.ReplaceAll(strings.ReplaceAll(invite(""), "INVITE", "REGISTER"), "SIP/2.0/UDP", "SIP/2.0/TCP")
	path := lines(r.one(r.putOn(1, flow, phone, r.text(reg)), node1), "Path")
	if len(path) != 1 || !strings.HasPrefix(path[0], "<sip:"+r.edge(0)) || strings.Contains(path[0], "transport=tcp") {
		t.Fatalf("Path %q, want the UDP listener's", path)
	}
	call := "INVITE sip:1001@127.0.2.1:5070;transport=tcp SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKq\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=f\nTo: <sip:1001@x>\nCall-ID: out-1\nCSeq: 1 INVITE\nContact: <sip:600@" + node1 + ">\nRoute: " + path[0] + "\n"
	out := r.put(node1, call)
	if len(out) != 1 || out[0].to.Flow != flow {
		t.Errorf("sent %v, want one message on the phone's connection", out)
	}
}

// TestStrictRouting: the two cases of RFC 3261 sections 16.4 and 16.6 item 6, towards and from a router of RFC 2543.
func TestStrictRouting(t *testing.T) {
	r := newRig(t, Config{})
	req := "BYE sip:E0;lr SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKq\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=f\nTo: <sip:1001@x>;tag=t\nCall-ID: s\nCSeq: 1 BYE\nRoute: <sip:1001@127.0.2.1:5070>\n"
	got := r.one(r.put(node1, req), phone)
	if !strings.HasPrefix(got, "BYE sip:1001@127.0.2.1:5070 SIP/2.0\r\n") || len(lines(got, "Route")) != 0 {
		t.Errorf("from a strict router:\n%s", got)
	}
	req = "BYE sip:1001@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP " + node1 + ";branch=z9hG4bKq\nMax-Forwards: 70\nFrom: <sip:600@x>;tag=f\nTo: <sip:1001@x>;tag=t\nCall-ID: s\nCSeq: 1 BYE\nRoute: <sip:E0;lr>, <sip:127.0.2.1:5070>,\n <sip:192.0.2.9;lr>\n"
	got = r.one(r.put(node1, req), phone)
	if !strings.HasPrefix(got, "BYE sip:127.0.2.1:5070 SIP/2.0\r\n") || fmt.Sprint(lines(got, "Route")) != "[<sip:192.0.2.9;lr> <sip:1001@192.0.2.2>]" {
		t.Errorf("to a strict router: %q\n%s", lines(got, "Route"), got)
	}
}

// TestB10Drain: a node that is being taken out refuses new dialogs and serves those it has.
func TestB10Drain(t *testing.T) {
	r := newRig(t, Config{})
	req := r.one(r.put(phone, invite("")), node1)
	r.p.Drain()
	r.status(r.put(phone, invite("")), 503)
	r.one(r.put(phone, strings.ReplaceAll(invite(""), "INVITE", "CANCEL")), node1)
	r.one(r.putOn(0, 0, node1, answer(req, 200, "tt", "")), phone)
	bye := "BYE sip:600@" + node1 + " SIP/2.0\nVia: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKx\nFrom: <sip:1001@x>;tag=ft\nTo: <sip:600@x>;tag=tt\nCall-ID: call-1@phone\nCSeq: 2 BYE\nRoute: " + lines(req, "Record-Route")[0] + "\n"
	r.one(r.put(phone, bye), node1)
}

// TestSplitSides: with an internal listener what arrives there is inside, and what goes to farms leaves from there.
func TestSplitSides(t *testing.T) {
	in := udpOn("127.0.0.2")
	in.Internal = true
	r := newRig(t, Config{}, udpOn("127.0.0.1"), in)
	out := r.put(phone, invite(""))
	req := r.one(out, node1)
	if out[0].to.Listener != r.ls[1] || len(lines(req, "Record-Route")) != 2 || !strings.Contains(lines(req, "Via")[0], r.edge(1)) {
		t.Fatalf("from %v:\n%s", out[0].to.Listener, req)
	}
	out = r.putOn(1, 0, node1, answer(req, 200, "tt", ""))
	r.one(out, phone)
	if out[0].to.Listener != r.ls[0] {
		t.Errorf("the response left from %v", out[0].to.Listener)
	}
	// A farm node's address on the outer side proves nothing.
	call := strings.Replace(strings.ReplaceAll(invite(""), "127.0.2.1:5070;branch", node1+";branch"), "INVITE sip:600@E0", "INVITE sip:1002@127.0.2.2:5072", 1)
	if got := r.put(node1, call); len(got) == 1 && got[0].to.Addr.String() == "127.0.2.2:5072" {
		t.Errorf("relayed for a stranger")
	}
	out = r.putOn(1, 0, node3, r.text(call))
	r.one(out, "127.0.2.2:5072")
	if out[0].to.Listener != r.ls[0] {
		t.Errorf("to outside from %v", out[0].to.Listener)
	}
}

// TestSendFails: a farm node that cannot be reached is answered for, and suspected.
func TestSendFails(t *testing.T) {
	r := newRig(t, Config{})
	r.fail[netip.MustParseAddrPort(node1)] = transport.ErrSend
	r.status(r.put(phone, invite("")), 503)
}
