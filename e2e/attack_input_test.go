//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/sip/siptest"
)

// TestF32SlowAndLarge holds 300 idle connections and several that send slowly, too much, or half of a handshake. Each must be closed within 10 s.
func TestF32SlowAndLarge(t *testing.T) {
	e := startUp(t)
	calls := goodCalls(t, e, 3)
	listeners := regexp.MustCompile(`"(tls|ws|wss):([\d.]+:\d+)"`).FindAllStringSubmatch(e.page(t, "/status"), -1)
	port := map[string]string{"tcp": e.SIP.String()}
	for _, l := range listeners {
		port[l[1]] = l[2]
	}
	host := newHost()
	dial := func(proto string) net.Conn {
		d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(host, 0))}
		c, err := d.Dial("tcp", port[proto])
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	before := memory(t, e.proc)
	const idle = 300
	var group sync.WaitGroup
	var mu sync.Mutex
	closed := map[string]time.Duration{}
	start := time.Now()
	// ends waits until the edge closes a connection and notes the longest of its kind.
	ends := func(kind string, c net.Conn) {
		group.Go(func() {
			_ = c.SetReadDeadline(start.Add(12 * time.Second))
			var err error
			for r := bufio.NewReader(c); err == nil; {
				_, err = r.ReadByte()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: open after 12 s", kind)
			}
			mu.Lock()
			defer mu.Unlock()
			closed[kind] = max(closed[kind], time.Since(start))
		})
	}
	for range idle {
		ends("idle", dial("tcp"))
	}
	time.Sleep(200 * time.Millisecond)
	perConn := float64(memory(t, e.proc)-before) / idle
	head := "INVITE sip:600@x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bKs\r\n"
	drip := func(kind, proto, text string, every time.Duration) {
		c := dial(proto)
		ends(kind, c)
		group.Go(func() {
			for i := 0; time.Since(start) < 12*time.Second; i++ {
				if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
					return
				}
				time.Sleep(every)
			}
		})
	}
	drip("slowloris", "tcp", head+strings.Repeat("X-Slow: 1\r\n", 100), 100*time.Millisecond)
	drip("slowloris of line ends", "tcp", "\r\n", 200*time.Millisecond)
	drip("slow upgrade", "ws", "GET /ws HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X-Slow: 1\r\n", 100), 100*time.Millisecond)
	for kind, text := range map[string]string{
		"1 GB Content-Length":        head + "Content-Length: 1073741824\r\n\r\n" + strings.Repeat("x", 1000),
		"huge Content-Length":        head + "Content-Length: 99999999999999999999999999\r\n\r\n",
		"negative Content-Length":    head + "Content-Length: -1\r\n\r\n",
		"two Content-Lengths":        head + "Content-Length: 0\r\nl: 500\r\n\r\n" + strings.Repeat("x", 500),
		"60 KB promised, none comes": head + "Content-Length: 60000\r\n\r\n",
		"64 KB line":                 head + "X: " + strings.Repeat("x", 65<<10),
		"64 KB first line":           strings.Repeat("A", 65<<10),
		"no line end":                "INVITE",
	} {
		c := dial("tcp")
		ends(kind, c)
		_, _ = c.Write([]byte(text))
	}
	for _, proto := range []string{"tls", "wss"} {
		c := dial(proto)
		ends("half ClientHello "+proto, c)
		_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 1, 2, 3})
		shaken := tls.Client(dial(proto), &tls.Config{InsecureSkipVerify: true}) // the edge's certificate is self-signed
		if err := shaken.Handshake(); err != nil {
			t.Errorf("%s: %v", proto, err)
		}
		ends("idle after the handshake "+proto, shaken)
	}
	group.Wait()
	for kind, d := range closed {
		t.Logf("%-32s closed after %v", kind, d.Round(10*time.Millisecond))
		if d > 10*time.Second {
			t.Errorf("%s: closed after %v, want 10 s", kind, d)
		}
	}
	_, why := growth(map[string]float64{}, e.samples(t), "sip_connections_closed_total")
	t.Logf("%d idle connections: %.1f KiB each; closed:%s", idle, perConn, why)
	if perConn > 64 {
		t.Errorf("%.1f KiB for an idle connection, want at most 64", perConn)
	}
	unharmed(t, calls)
	survived(t, e.proc, before, 48<<10)
	endsWell(t, e.proc)
}

// killers are messages in the shape of what crashed other parsers, by their advisories. @ stands for the rest of a good request.
func killers() map[string]string {
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	const via = "Via: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKk\r\n"
	const rest = via + "From: <sip:1001@x>;tag=a\r\nTo: <sip:600@x>\r\nCall-ID: k\r\nCSeq: 1 INVITE\r\n"
	const start = "INVITE sip:600@x SIP/2.0\r\n"
	out := map[string]string{
		"CVE-2018-8828 long branch":         "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=" + many(">", 4096) + "\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:a@x>\r\nCall-ID: k\r\nCSeq: 1 REGISTER\r\n\r\n",
		"CVE-2018-14767 tag without value":  start + strings.Replace(rest, "<sip:600@x>", "<sip:600@x>;tag", 1) + "\r\n",
		"CVE-2020-27507 long To tag":        start + strings.Replace(rest, "<sip:600@x>", "<sip:600@x>;tag="+many("t", 6000), 1) + "\r\n",
		"CVE-2018-16657 empty Via":          start + "Via: SIP/2.0/UDP\r\n" + rest + "\r\n",
		"CVE-2023-27598 Via parameter":      start + "Via: SIP/2.0/UDP 127.0.0.1;i=" + many(";", 300) + "\r\n" + rest + "\r\n",
		"CVE-2023-27599 To without end":     start + strings.Replace(rest, "<sip:600@x>", "\"x\\", 1) + "\r\n",
		"CVE-2023-28098 Digest opens only":  start + rest + "Authorization: Digest username=\"\r\nProxy-Authorization: Digest \"=,=,,=\r\n\r\n",
		"CVE-2023-28097 Content-Length":     start + rest + "Content-Length: 2147483647\r\n\r\nx",
		"AST-2017-002 long CSeq method":     start + strings.Replace(rest, "1 INVITE", "1 "+many("I", 8000), 1) + "\r\n",
		"AST-2017-003 multipart":            start + rest + "Content-Type: multipart/mixed;boundary=\r\nContent-Length: 9\r\n\r\n--\r\n--\r\n-",
		"AST-2018-004 Accept":               "SUBSCRIBE sip:600@x SIP/2.0\r\n" + strings.Replace(rest, "INVITE", "SUBSCRIBE", 1) + many("Accept: a/b\r\n", 400) + "\r\n",
		"CSeq beyond 32 bits":               start + strings.Replace(rest, "CSeq: 1", "CSeq: 4294967296", 1) + "\r\n",
		"CSeq negative":                     start + strings.Replace(rest, "CSeq: 1", "CSeq: -1", 1) + "\r\n",
		"Max-Forwards negative":             start + rest + "Max-Forwards: -1\r\n\r\n",
		"Max-Forwards huge":                 start + rest + "Max-Forwards: 99999999999999999999\r\n\r\n",
		"Content-Length negative (oSIP)":    start + rest + "Content-Length: -5\r\n\r\nabcde",
		"CVE-2022-31003 percent at the end": "INVITE sip:%@x%2 SIP/2.0\r\n" + rest + "\r\n",
		"IPv6 without end":                  "INVITE sip:600@[::: SIP/2.0\r\nVia: SIP/2.0/UDP [::1;branch=z9hG4bKk\r\n" + rest + "\r\n",
		"port beyond 16 bits":               "INVITE sip:600@x:99999 SIP/2.0\r\n" + strings.Replace(rest, "127.0.0.1;", "127.0.0.1:70000;", 1) + "\r\n",
		"empty tel":                         "INVITE tel: SIP/2.0\r\n" + rest + "\r\n",
		"NUL bytes":                         start + rest + "X: \x00\x00\r\n\x00: x\r\n\r\n",
		"colons only":                       start + rest + many(":\r\n", 500) + "\r\n",
		"folds only":                        start + rest + "X: " + many("\r\n ", 5000) + "\r\n\r\n",
		"commas":                            start + rest + "Route: " + many(",", 20000) + "\r\nContact: " + many(",", 20000) + "\r\n\r\n",
		"1,200 Vias":                        start + many(via, 1200) + rest + "\r\n",
		"Vias in one line":                  start + "Via: " + many("SIP/2.0/UDP h;branch=z9hG4bKk,", 1500) + "SIP/2.0/UDP h\r\n" + rest + "\r\n",
		"3,000 Routes":                      start + rest + "Route: " + many("<sip:a;lr>,", 3000) + "<sip:a>\r\n\r\n",
		"5,000 parameters":                  "INVITE sip:600@x" + many(";a=b", 5000) + " SIP/2.0\r\n" + rest + "\r\n",
		"quotes":                            start + strings.Replace(rest, "<sip:1001@x>", many("\"\\\"", 5000)+"<sip:1001@x>", 1) + "\r\n",
		"angles":                            start + strings.Replace(rest, "<sip:1001@x>", many("<", 10000), 1) + "\r\n",
		"Call-ID of 60,000 bytes":           start + strings.Replace(rest, "Call-ID: k", "Call-ID: "+many("k", 60000), 1) + "\r\n",
		"branch is the cookie only":         start + strings.Replace(rest, "z9hG4bKk", "z9hG4bK", 1) + "\r\n",
		"forged cookies":                    start + strings.Replace(rest, "bKk", "bKk;vb="+many("_", 4000), 1) + "Route: <sip:x;lr;vb=>,<sip:x;vb=====>\r\n\r\n",
		"unknown version":                   "INVITE sip:600@x SIP/" + many("9", 3000) + ".0\r\n" + rest + "\r\n",
		"status 0":                          "SIP/2.0 0 \r\n" + rest + "\r\n",
		"status of 20 digits":               "SIP/2.0 20000000000000000000 x\r\n" + rest + "\r\n",
		"only a start line":                 start,
		"only a request's end":              "\r\n\r\n\x00",
	}
	return out
}

// bodies are session descriptions in the shape of advisories; they come with a right password and so reach the media node and the farm.
func bodies(at netip.AddrPort) map[string][]byte {
	v := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\n", at.Addr())
	c, m := fmt.Sprintf("c=IN IP4 %s\r\nt=0 0\r\n", at.Addr()), fmt.Sprintf("m=audio %d RTP/AVP 0\r\n", at.Port())
	return map[string][]byte{
		"CVE-2023-27601 no line end":      []byte(strings.TrimSuffix(v+c+m, "\r\n")),
		"AST-2018-002 bad format":         offerOf(at, "0 x 999 -1", "a=rtpmap:x PCMU/8000", "a=fmtp:999 1"),
		"AST-2018-003 fmtp without value": offerOf(at, "0", "a=fmtp:", "a=rtpmap:", "a=rtpmap:0", "a=rtpmap:0 /"),
		"CVE-2022-24764 long rtcp-fb":     offerOf(at, "0", "a=rtcp-fb:"+strings.Repeat("x ", 4000)),
		"CVE-2022-31001 one letter":       []byte("v"),
		"CVE-2022-31002 empty a= and b=":  []byte(v + c + m + "a=\r\nb=\r\n=\r\n"),
		"AST-2021-006 T.38 refused":       []byte(v + c + m + "m=image 0 udptl t38\r\n"),
		"1,000 media lines":               []byte(v + c + strings.Repeat(m, 1000)),
		"500 formats":                     offerOf(at, "0"+strings.Repeat(" 96", 500)),
		"port 99999":                      []byte(v + c + "m=audio 99999 RTP/AVP 0\r\n"),
		"port range of 2^31":              []byte(v + c + "m=audio 4000/2147483647 RTP/AVP 0\r\n"),
		"short and long keys":             offerOf(at, "0", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:", "a=crypto:99999999999 X inline:"+strings.Repeat("A", 5000)),
		"clock rate 0, 99 channels":       offerOf(at, "96", "a=rtpmap:96 opus/0/99", "a=ptime:0", "a=maxptime:-1"),
		"ptime of a year":                 offerOf(at, "0", "a=ptime:31536000000"),
		"candidates":                      offerOf(at, "0", "a=candidate:", "a=candidate:1 1 UDP 1 [::", "a=ice-ufrag:", "a=fingerprint:sha-256 ZZ", "a=setup:"),
		"no connection":                   []byte(v + "t=0 0\r\n" + m),
		"a binary body":                   []byte(strings.Repeat("\x00\xff\r\n", 500)),
		"NUL in names":                    offerOf(at, "96", "a=rtpmap:96 op\x00us/48000/2"),
	}
}

// TestF33ParserKillers sends each over UDP and TCP and looks after each whether the edge still answers; then the bodies, with a right password.
func TestF33ParserKillers(t *testing.T) {
	e := startUp(t)
	calls := goodCalls(t, e, 3)
	rss, a, watch := memory(t, e.proc), newAsker(t, e.SIP), newAsker(t, e.SIP)
	alive := func(after string) {
		t.Helper()
		id := fmt.Sprint("alive", rand.Uint64())
		if answer, _ := watch.ask(request("OPTIONS", "sip:"+e.SIP.String(), "w", id, watch.addr), time.Second); !strings.HasPrefix(answer, "SIP/2.0 200") {
			t.Fatalf("after %s: %q", after, status(answer))
		}
	}
	verdicts := map[string]int{}
	for name, msg := range killers() {
		answer, _ := a.ask(msg, 20*time.Millisecond)
		verdicts[tail(strings.TrimPrefix(status(answer), "SIP/2.0 "), 40)]++
		if strings.HasPrefix(answer, "SIP/2.0 2") {
			t.Errorf("%s: %s", name, status(answer))
		}
		if c, err := net.DialTimeout("tcp", e.SIP.String(), time.Second); err == nil {
			_, _ = c.Write([]byte(strings.Replace(msg, "\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1)))
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = c.Read(make([]byte, 4096))
			c.Close()
		}
		alive(name)
	}
	t.Logf("%d messages over UDP and TCP: answers %v (empty: none)", len(killers()), verdicts)
	ua := newPhone(t, e, e.Accounts[3], "tcp") // some bodies are longer than a datagram of sipgo's
	p := newStranger(t, netip.AddrPortFrom(ua.Local().Addr(), 0), nil)
	for name, body := range bodies(p.addr) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		call, err := ua.Invite(ctx, "600", body, siptest.InviteOptions{})
		if err == nil {
			t.Logf("%-34s taken", name)
			if err := call.Hangup(ctx); err != nil {
				t.Errorf("%s: hang up: %v", name, err)
			}
		} else {
			t.Logf("%-34s %v", name, err)
			if ctx.Err() != nil {
				t.Errorf("%s: no final answer in 2 s", name)
			}
		}
		cancel()
		alive(name)
	}
	unharmed(t, calls)
	survived(t, e.proc, rss, 64<<10)
	endsWell(t, e.proc)
}

// TestF33AsteriskBehindLives sends the same without a password in the way, so that what the edge takes for good reaches a real Asterisk.
func TestF33AsteriskBehindLives(t *testing.T) {
	a := startAsterisk(t, "ulaw")
	r := startRoles(t, a.SIP)
	s := newAsker(t, r.SIP)
	verdicts := map[string]int{}
	for _, msg := range killers() {
		answer, _ := s.ask(msg, 50*time.Millisecond)
		verdicts[tail(strings.TrimPrefix(status(answer), "SIP/2.0 "), 40)]++
	}
	t.Logf("%d messages: answers %v", len(killers()), verdicts)
	ua, err := siptest.New(siptest.Config{User: "1001", Proxy: r.SIP, Transport: "tcp", Local: netip.AddrPortFrom(newHost(), 0)})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, "phone", ua.Run)
	p := newStranger(t, netip.AddrPortFrom(ua.Local().Addr(), 0), nil)
	call := func(name string, body []byte) error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		c, err := ua.Invite(ctx, "600", body, siptest.InviteOptions{})
		if err == nil {
			err = c.Hangup(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: no end in 3 s: %v", name, err)
		}
		return err
	}
	for name, body := range bodies(p.addr) {
		t.Logf("%-34s %v", name, call(name, body))
	}
	if err := call("good call", offerOf(p.addr, "0", "a=rtpmap:0 PCMU/8000")); err != nil {
		t.Errorf("a good call afterwards: %v", err)
	}
	t.Logf("Asterisk: %s", strings.TrimSpace(a.cli("core show uptime")))
	for _, p := range []*process{r.sip, r.media} {
		survived(t, p, 0, 128<<10)
		endsWell(t, p)
	}
}
