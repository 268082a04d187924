package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"rtcedge/sip/dispatch"
)

// presence makes a request about a user.
func presence(method, uri, callID, extra string) string {
	s := strings.ReplaceAll(strings.ReplaceAll(invite(extra), "sip:600@E0", uri), "INVITE", method)
	return strings.ReplaceAll(s, "call-1@phone", callID)
}

// TestB05Presence: a subscription starts a dialog through the edge, and its NOTIFY comes back to the phone behind NAT.
func TestB05Presence(t *testing.T) {
	r := newRig(t, Config{Farms: threeFarms()})
	from := "127.0.3.1:6000" // not what Via and Contact say
	sub := r.one(r.put(from, presence("SUBSCRIBE", "sip:1002@E0", "sub-1", "Event: presence\nExpires: 600\n")), node3)
	rr := lines(sub, "Record-Route")
	if len(rr) != 1 {
		t.Fatalf("SUBSCRIBE: Record-Route %q", rr)
	}
	ok := r.one(r.putOn(0, 0, node3, answer(sub, 200, "tt", "Expires: 600\nContact: <sip:reg@"+node3+">\n")), from)
	if got := lines(ok, "Record-Route"); len(got) != 1 || got[0] != rr[0] {
		t.Errorf("200: Record-Route %q", got)
	}
	notify := "NOTIFY sip:1001@127.0.2.1:5070 SIP/2.0\nVia: SIP/2.0/UDP " + node3 + ";branch=z9hG4bKn1\nMax-Forwards: 70\nFrom: <sip:1002@E0>;tag=tt\nTo: <sip:1001@E0>;tag=ft\nCall-ID: sub-1\nCSeq: 1 NOTIFY\n" +
		"Event: presence\nSubscription-State: active;expires=600\nContact: <sip:reg@" + node3 + ">\nContent-Type: application/pidf+xml\nRoute: " + rr[0] + "\n\n<presence/>\n"
	got := r.one(r.put(node3, notify), from)
	if !strings.HasSuffix(got, "<presence/>\r\n") || len(lines(got, "Route")) != 0 {
		t.Errorf("NOTIFY at the phone:\n%s", got)
	}
	r.one(r.putOn(0, 0, from, answer(got, 200, "", "")), node3)
	// The refresh follows the dialog, though a user's hash might say something else.
	refresh := presence("SUBSCRIBE", "sip:reg@"+node3, "sub-1", "Event: presence\nExpires: 0\nRoute: "+rr[0]+"\n")
	r.one(r.put(from, strings.Replace(refresh, "To: <sip:reg@"+node3+">", "To: <sip:1002@E0>;tag=tt", 1)), node3)

	pub := r.one(r.put(from, presence("PUBLISH", "sip:1001@E0", "pub-1", "Event: presence\nExpires: 600\nContent-Type: application/pidf+xml\n\n<presence/>\n")), node3)
	if !strings.HasSuffix(pub, "<presence/>\r\n") || len(lines(pub, "Record-Route")) != 0 {
		t.Errorf("PUBLISH:\n%s", pub)
	}
	if got := r.one(r.putOn(0, 0, node3, answer(pub, 200, "pt", "SIP-ETag: abc\nExpires: 600\n")), from); len(lines(got, "SIP-ETag")) != 1 {
		t.Errorf("its answer:\n%s", got)
	}
	r.one(r.put(from, presence("MESSAGE", "sip:1002@E0", "msg-1", "Content-Type: text/plain\n\nhello\n")), node3)
}

// TestB01UserAtOneNode: what concerns a user goes to the node that has the user's registration, on every edge node.
func TestB01UserAtOneNode(t *testing.T) {
	cfg := Config{Farms: farms("127.0.1.9:5080"), Domains: []string{"example.com"}}
	for i := range 5 {
		cfg.Farms.Farms[dispatch.Registrar] = append(cfg.Farms.Farms[dispatch.Registrar], dispatch.NodeConfig{Addr: netip.MustParseAddrPort(fmt.Sprintf("127.0.4.%d:5080", i+1))})
	}
	cfg.Rules = append([]Rule{{Domain: "office.*", Farm: dispatch.Registrar}}, DefaultRules()...)
	a, b := newRig(t, cfg), newRig(t, cfg)
	used := map[string]int{}
	for i := range 60 {
		user := fmt.Sprintf("sip:%d@office.example.com", 2000+i)
		reg := strings.Replace(presence("REGISTER", user, fmt.Sprint("reg", i), ""), "REGISTER "+user, "REGISTER sip:office.example.com", 1)
		home := a.put(phone, reg)[0].to.Addr.String()
		used[home]++
		for j, method := range []string{"SUBSCRIBE", "PUBLISH", "MESSAGE", "INVITE", "CANCEL"} {
			b.one(b.put(phone, presence(method, strings.Replace(user, "office.example", "Office.EXAMPLE", 1), fmt.Sprintf("call-%d-%d", i, j), "")), home)
		}
	}
	if len(used) != 5 {
		t.Errorf("60 users at %v: want all five nodes", used)
	}
}
