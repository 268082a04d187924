//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeFarm answers probes and keeps everything else that reaches it.
type fakeFarm struct {
	*stranger
	mu  sync.Mutex
	got []string
}

func newFakeFarm(t *testing.T) *fakeFarm {
	f := &fakeFarm{}
	keep := regexp.MustCompile(`(?mi)^(Via|v|From|f|To|t|Call-ID|i|CSeq):.*\r\n`)
	answer := make(chan string, 64)
	f.stranger = newStranger(t, netip.AddrPortFrom(newHost(), 5060), func(b []byte) {
		if s := string(b); strings.HasPrefix(s, "OPTIONS ") {
			select {
			case answer <- s:
			default:
			}
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.got = append(f.got, string(b))
	})
	runUntilEnd(t, "fake farm", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case s := <-answer:
				via, _ := netip.ParseAddrPort(regexp.MustCompile(`UDP ([\d.:]+)`).FindStringSubmatch(s)[1])
				_, _ = f.WriteToUDPAddrPort([]byte("SIP/2.0 200 OK\r\n"+strings.Join(keep.FindAllString(s, -1), "")+"Content-Length: 0\r\n\r\n"), via)
			}
		}
	})
	return f
}

// take returns what came since the last time.
func (f *fakeFarm) take() []string {
	time.Sleep(50 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.got
	f.got = nil
	return out
}

// TestF30TollFraud has a farm that writes down all it gets, and a victim that nobody should write to (B02, B03).
func TestF30TollFraud(t *testing.T) {
	farm := newFakeFarm(t)
	victim := newStranger(t, netip.AddrPortFrom(newHost(), 5060), nil)
	accounts := filepath.Join(t.TempDir(), "accounts")
	u := user{User: "1001", Password: "secret"}
	if err := os.WriteFile(accounts, []byte("1001:rtcedge:password=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRoles(t, farm.addr, "--auth", accounts)
	a := newAsker(t, r.SIP)
	edge, out := "sip:600@"+r.SIP.String(), "sip:900123@"+victim.addr.String()
	tagged := func(s string) string {
		return strings.Replace(s, "@edge.example>\r\nCall-ID", "@edge.example>;tag=b\r\nCall-ID", 1)
	}
	route := func(uris ...string) string { return "Route: <" + strings.Join(uris, ";lr>, <") + ";lr>" }
	self, there := "sip:"+r.SIP.String(), "sip:"+victim.addr.String()
	cookie := self + ";vb=" + strings.Repeat("A", 43)
	cases := map[string]string{
		"plain":                        request("INVITE", edge, "1001", "c1", a.addr),
		"request URI elsewhere":        request("INVITE", out, "1001", "c2", a.addr),
		"tel":                          request("INVITE", "tel:+882123456", "1001", "c3", a.addr),
		"Route elsewhere":              request("INVITE", edge, "1001", "c4", a.addr, route(there)),
		"Route by us":                  request("INVITE", edge, "1001", "c5", a.addr, route(self, there)),
		"Route to the farm":            request("INVITE", edge, "1001", "c6", a.addr, route(self, "sip:"+farm.addr.String())),
		"forged cookie":                tagged(request("INVITE", "sip:x@"+farm.addr.String(), "1001", "c7", a.addr, route(cookie))),
		"in a dialog that is none":     tagged(request("INVITE", "sip:x@"+farm.addr.String(), "1001", "c8", a.addr)),
		"strict route":                 request("INVITE", self+";lr", "1001", "c9", a.addr, route(there)),
		"internal header fields":       request("INVITE", edge, "1001", "c10", a.addr, "VB-Source: "+farm.addr.String(), "P-Asserted-Identity: <sip:1001@edge.example>"),
		"Via of the farm":              strings.Replace(request("INVITE", edge, "1001", "c11", a.addr), a.addr.String()+";rport", farm.addr.String()+";rport", 1),
		"empty digest":                 request("INVITE", edge, "1001", "c12", a.addr, "Proxy-Authorization: Digest"),
		"digest without a nonce":       request("INVITE", edge, "1001", "c13", a.addr, `Proxy-Authorization: Digest username="1001", realm="rtcedge", nonce="", uri="`+edge+`", response="d41d8cd98f00b204e9800998ecf8427e"`),
		"REFER":                        request("REFER", edge, "1001", "c14", a.addr, "Refer-To: <"+out+">"),
		"REFER in a dialog":            tagged(request("REFER", "sip:x@"+farm.addr.String(), "1001", "c15", a.addr, "Refer-To: <"+out+">", route(cookie))),
		"REGISTER of a foreign device": request("REGISTER", self, "1001", "c16", a.addr),
		"invite in small letters":      request("invite", edge, "1001", "c17", a.addr),
	}
	for _, m := range []string{"MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "UPDATE", "PRACK", "BYE", "FOO"} {
		cases[m] = tagged(request(m, edge, "1001", "m"+m, a.addr, route(self, there)))
	}
	for name, msg := range cases {
		answer, _ := a.ask(msg, 300*time.Millisecond)
		t.Logf("%-30s %s", name, status(answer))
		if answer != "" && !strings.HasPrefix(answer, "SIP/2.0 4") {
			t.Errorf("%s: %q", name, status(answer))
		}
	}
	relayed := farm.take()
	t.Logf("%d requests without a password: %d at the farm, %d at the victim", len(cases), len(relayed), victim.count.Load())
	if len(relayed) > 0 {
		t.Errorf("relayed: %q", relayed)
	}
	for _, m := range []string{"ACK", "CANCEL"} { // these cannot be challenged; the victim must not get them
		for i, more := range [][]string{nil, {route(there)}, {route(self, there)}, {route(cookie)}} {
			_, _ = a.ask(request(m, out, "1001", fmt.Sprint(m, i), a.addr, more...), 50*time.Millisecond)
		}
	}
	_, _ = a.ask(fmt.Sprintf("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKx;vb=AAAA\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKy\r\n"+
		"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: r\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n", r.SIP, victim.addr), 50*time.Millisecond)
	t.Logf("8 ACK and CANCEL and a forged answer: %d at the farm, %d at the victim", len(farm.take()), victim.count.Load())

	// Whoever has a password still cannot use us as a relay, speak for others, or write what only we write.
	for i, tc := range []struct {
		name, uri, from string
		more            []string
		relayed         int
	}{
		{"forged header fields", edge, "1001", []string{"VB-Source: 6.6.6.6:6", "vb-source : 6.6.6.6:6", "VB-SOURCE:\r\n 6.6.6.6:6", "VB-Transport: evil",
			"VB-Domain\t: evil", "VBOUT-Trunk: evil", "VB-CALL-ID: evil", "vb-confbridge-id: evil"}, 1},
		{"Route elsewhere", edge, "1001", []string{route(there)}, 0},
		{"Route by us", edge, "1001", []string{route(self, there)}, 0},
		{"request URI elsewhere", out, "1001", nil, 1}, // to the farm, which knows what may be called
		{"in the name of another", edge, "1002", nil, 0},
	} {
		first, _ := a.ask(request("INVITE", tc.uri, tc.from, fmt.Sprint("first", i), a.addr), time.Second)
		proof := credentials(t, "Proxy-Authorization", first, u, "INVITE", tc.uri)
		_, _ = a.ask(request("INVITE", tc.uri, tc.from, fmt.Sprint("second", i), a.addr, append(slices.Clone(tc.more), proof)...), 200*time.Millisecond)
		got := farm.take()
		t.Logf("with a password, %s: %d at the farm, %d at the victim", tc.name, len(got), victim.count.Load())
		if len(got) != tc.relayed {
			t.Errorf("%s: %d at the farm, want %d", tc.name, len(got), tc.relayed)
		}
		for _, g := range got {
			if strings.Contains(g, "6.6.6.6") || strings.Contains(g, "evil") || strings.Contains(g, "response=") || !strings.Contains(g, "VB-Source: "+a.addr.String()+"\r\n") {
				t.Errorf("the farm got:\n%s", g)
			}
		}
	}
	if victim.count.Load() > 0 {
		t.Errorf("the victim got %d packets", victim.count.Load())
	}
	endsWell(t, r.sip)
}

// TestF31Reflection sends in the name of a victim, with a Via that points at another one. Both count what comes to any port that a Via names.
func TestF31Reflection(t *testing.T) {
	e := startUp(t)
	calls := goodCalls(t, e, 3)
	spoofed, other := newHost(), newHost()
	from := newStranger(t, netip.AddrPortFrom(spoofed, 0), nil)
	var at []*stranger
	for _, a := range []netip.AddrPort{netip.AddrPortFrom(spoofed, 5060), netip.AddrPortFrom(spoofed, 7777)} {
		at = append(at, newStranger(t, a, nil))
	}
	elsewhere := []*stranger{newStranger(t, netip.AddrPortFrom(other, 5060), nil), newStranger(t, netip.AddrPortFrom(other, 7777), nil)}
	bytesIn, count := 0, 0
	vias := []string{
		"V;branch=z9hG4bK%d", "V:7777;branch=z9hG4bK%d", "V:7777;rport;branch=z9hG4bK%d", "V:7777;rport=5060;branch=z9hG4bK%d", "V:7777;rport=7777;branch=z9hG4bK%d",
		"O:7777;branch=z9hG4bK%d", "V;maddr=O;branch=z9hG4bK%d", "V:7777;maddr=O;ttl=16;branch=z9hG4bK%d", "V;received=O;branch=z9hG4bK%d",
		"V:7777;received=O;rport=7777;branch=z9hG4bK%d", "O:7777;received=O;maddr=O;rport=7777;branch=z9hG4bK%d", "224.0.1.75;maddr=224.0.1.75;branch=z9hG4bK%d",
		"V;branch=z9hG4bK%d, SIP/2.0/UDP O:7777", "255.255.255.255:7777;rport;branch=z9hG4bK%d",
	}
	send := func(msg string) {
		bytesIn += len(msg)
		count++
		_, _ = from.WriteToUDPAddrPort([]byte(msg), e.SIP)
		time.Sleep(300 * time.Microsecond)
	}
	for i := range 50 {
		for k, via := range vias {
			via = strings.NewReplacer("V", spoofed.String(), "O", other.String()).Replace(fmt.Sprintf(via, i*100+k))
			head := fmt.Sprintf("v:SIP/2.0/UDP %s\r\nf:<sip:a@b>;tag=1\r\nt:<sip:a@b>\r\ni:%d.%d\r\n", via, i, k)
			send("OPTIONS sip:" + e.SIP.String() + " SIP/2.0\r\n" + head + "CSeq:1 OPTIONS\r\nl:0\r\n\r\n")
			send("REGISTER sip:b SIP/2.0\r\n" + head + "CSeq:1 REGISTER\r\nl:0\r\n\r\n")
			send("INVITE sip:b SIP/2.0\r\n" + head + "CSeq:1 INVITE\r\nRequire:x\r\nProxy-Require:" + strings.Repeat("y", 80) + "\r\nl:0\r\n\r\n")
			send("FOO sip:b SIP/9.0\r\n" + head + "CSeq:1 FOO\r\nl:0\r\n\r\n")
			send("SIP/2.0 200 OK\r\nv:SIP/2.0/UDP " + e.SIP.String() + ";branch=z9hG4bKq;vb=AAAA\r\n" + head + "CSeq:1 INVITE\r\nl:0\r\n\r\n")
		}
		send("\r\n\r\n")
	}
	time.Sleep(200 * time.Millisecond)
	answers, bytesOut, stray := from.count.Load(), from.bytes.Load(), int64(0)
	for _, s := range at {
		answers, bytesOut = answers+s.count.Load(), bytesOut+s.bytes.Load()
	}
	for _, s := range elsewhere {
		stray += s.count.Load()
	}
	ratio := float64(bytesOut) / float64(bytesIn)
	t.Logf("%d messages, %d bytes in the victim's name: %d answers of %d bytes to it (out/in %.2f), %d to the address of the tricks", count, bytesIn,
		answers, bytesOut, ratio, stray)
	if ratio > 1 || stray > 0 {
		t.Error("want at most 1.0, and nothing to the other address")
	}
	unharmed(t, calls)
	endsWell(t, e.proc)
}

// TestF34ForgedACK lets somebody who knows a call's Call-ID and tags, but has neither its signed Route nor a password, send an ACK with a
// session description of his own: ACK cannot be challenged, and must not move media.
func TestF34ForgedACK(t *testing.T) {
	e := startUp(t)
	ph, thief := newAsker(t, e.SIP), newAsker(t, e.SIP)
	var echoed atomic.Int64
	rtp := newStranger(t, netip.AddrPortFrom(ph.addr.Addr(), 0), func(b []byte) { echoed.Add(int64(len(b) / 172)) })
	stolen := newStranger(t, netip.AddrPortFrom(thief.addr.Addr(), 0), nil)
	u, uri := e.Accounts[0], "sip:600@"+e.SIP.String()
	with := func(msg string, at netip.AddrPort) string {
		body := offerOf(at, "0", "a=rtpmap:0 PCMU/8000")
		return strings.Replace(msg, "Content-Length: 0\r\n\r\n", fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(body), body), 1)
	}
	first, _ := ph.ask(with(request("INVITE", uri, u.User, "forged", ph.addr), rtp.addr), time.Second)
	proof := credentials(t, "Proxy-Authorization", first, u, "INVITE", uri)
	second := strings.Replace(request("INVITE", uri, u.User, "forged", ph.addr, proof), "bKforged", "bKforged2", 1)
	answer, _ := ph.ask(with(second, rtp.addr), 2*time.Second)
	if !strings.HasPrefix(answer, "SIP/2.0 200") {
		t.Fatalf("INVITE: %q", answer)
	}
	tag := regexp.MustCompile(`(?mi)^To:.*;tag=([^;\r]+)`).FindStringSubmatch(answer)
	contact := regexp.MustCompile(`(?mi)^Contact: *<([^>]+)>`).FindStringSubmatch(answer)
	routes := regexp.MustCompile(`(?mi)^Record-Route: *(.*)\r`).FindAllStringSubmatch(answer, -1)
	if tag == nil || contact == nil || len(routes) == 0 {
		t.Fatalf("INVITE: %q", answer)
	}
	var path []string
	for _, r := range slices.Backward(routes) {
		path = append(path, "Route: "+r[1])
	}
	ack := func(from netip.AddrPort, branch string, more ...string) string {
		s := strings.Replace(request("ACK", contact[1], u.User, "forged", from, more...), "bKforged", "bK"+branch, 1)
		return strings.Replace(s, ">\r\nCall-ID", ">;tag="+tag[1]+"\r\nCall-ID", 1)
	}
	_, _ = ph.WriteToUDPAddrPort([]byte(ack(ph.addr, "ack", path...)), e.SIP)
	to := mediaAddr(t, []byte(answer))
	talk := func() int64 {
		echoed.Store(0)
		paced(50, 50, func(i int) { _, _ = rtp.WriteToUDPAddrPort(rtpOf(5, i, 0xd5), to) })
		time.Sleep(100 * time.Millisecond)
		return echoed.Load()
	}
	before := talk()
	questions := e.samples(t)
	for i, more := range [][]string{nil, {"Route: <sip:" + e.SIP.String() + ";lr>"}, {"Route: <sip:" + e.SIP.String() + ";lr;vb=AAAA>"}} {
		_, _ = thief.WriteToUDPAddrPort([]byte(with(ack(thief.addr, fmt.Sprint("evil", i), more...), stolen.addr)), e.SIP)
	}
	time.Sleep(100 * time.Millisecond)
	asked, which := growth(questions, e.samples(t), "sip_media_questions_total")
	after := talk()
	t.Logf("echoed %d of 50 before, %d of 50 after 3 forged ACKs; at the thief %d; the media node was asked %.0f times:%s", before, after,
		stolen.count.Load(), asked, which)
	if after < 48 || stolen.count.Load() > 0 {
		t.Error("the call was hijacked")
	}
	endsWell(t, e.proc)
}
