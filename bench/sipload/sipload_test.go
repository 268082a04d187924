//go:build linux

package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestScan(t *testing.T) {
	text := "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=a\r\nv: SIP/2.0/UDP 127.0.0.2:5062;branch=b\r\n" +
		"Record-Route: <sip:127.0.0.1;lr>\r\nf: <sip:a@x>;tag=1\r\nt: <sip:b@x>;tag=2\r\ni: 0000001aabcd@sipload\r\nCSeq: 1 INVITE\r\n" +
		"Contact: <sip:farm@127.0.0.11:5080>\r\n" + stampName + "00000000000000ff\r\nContent-Length: 4\r\n\r\nbody"
	var f fields
	if !f.scan([]byte(text)) {
		t.Fatal("not scanned")
	}
	stamp, _ := hex(f.stamp)
	if f.status() != 200 || f.vias != 2 || f.routes != 1 || f.length != 4 || f.header != len(text)-4 || stamp != 255 ||
		string(inAngles(f.contact)) != "sip:farm@127.0.0.11:5080" || string(value(f.callID)) != "0000001aabcd@sipload" {
		t.Errorf("%+v", f)
	}
	for cut := range len(text) - 4 {
		if f.scan([]byte(text[:cut])) {
			t.Fatalf("scanned when cut at %d", cut)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for us := range int64(100000) {
		h.add(us * 1000)
	}
	for _, q := range []float64{0.01, 0.5, 0.99} {
		got, want := h.quantile(q).Microseconds(), int64(q*100000)
		if got > want || float64(got) < 0.96*float64(want) {
			t.Errorf("quantile %v: %d us, want %d", q, got, want)
		}
	}
	if i := bucket(1 << 62); i != len(h.buckets)-1 {
		t.Errorf("hours go to bucket %d", i)
	}
}

func TestFrame(t *testing.T) {
	for _, n := range []int{0, 5, 125, 126, 1000} {
		want := bytes.Repeat([]byte("x7"), n)[:n]
		frame := appendFrame(nil, wsText, want)
		head := len(frame) - n
		got := frame[head:]
		for i := range got {
			got[i] ^= wsMask[i&3]
		}
		if !bytes.Equal(got, want) || frame[0] != wsText || frame[1]&0x80 == 0 || !bytes.Equal(frame[head-4:head], wsMask[:]) {
			t.Errorf("%d bytes: %x", n, frame)
		}
	}
}

func TestDigest(t *testing.T) {
	d := newDigest("x", "secret", "x", 3)
	got := string(d.append(nil, []byte(`Digest realm="x", nonce="abc", qop="auth", opaque="o"`), 2))
	sum := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	want := sum(sum("u00002:x:secret") + ":abc:00000001:5f3a9c01:auth:" + sum("REGISTER:sip:x"))
	if !strings.Contains(got, `response="`+want+`"`) || !strings.Contains(got, `username="u00002"`) || !strings.Contains(got, `opaque="o"`) {
		t.Errorf("%s", got)
	}
}

// forwarder is the least that can stand between: it puts its Via on requests and takes it off responses, and forgets every
// lose-th message.
func forwarder(t *testing.T, farm netip.AddrPort, lose int) netip.AddrPort {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	self := c.LocalAddr().(*net.UDPAddr).AddrPort()
	own := "Via: SIP/2.0/UDP " + self.String() + ";branch=z9hG4bKx\r\n"
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for seen := 1; ; seen++ {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if lose > 0 && seen%lose == 0 {
				continue
			}
			line, rest, _ := strings.Cut(string(b[:n]), "\r\n")
			to := farm
			if strings.HasPrefix(line, "SIP/2.0 ") {
				rest = strings.TrimPrefix(rest, own)
				via, _, _ := strings.Cut(rest, ";")
				to = netip.MustParseAddrPort(strings.TrimPrefix(via, "Via: SIP/2.0/UDP "))
			} else {
				rest = own + "Record-Route: <sip:" + self.String() + ";lr>\r\n" + rest
			}
			if from == to {
				t.Errorf("loop: %s", line)
			}
			if _, err := c.WriteToUDPAddrPort([]byte(line+"\r\n"+rest), to); err != nil {
				return
			}
		}
	}()
	return self
}

func open(t *testing.T, lose int) *load {
	t.Helper()
	farm := netip.MustParseAddrPort("127.0.0.77:47761")
	o := options{scenario: udpCall, proxy: forwarder(t, farm, lose).String(), phones: "127.0.0.2", farm: farm.String(), clients: 2, nodes: 1,
		rate: 700, span: time.Second, core: -1, domain: "x", realm: "x", users: 1}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	l, err := o.open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// TestCountsWhole: every call is seven messages, and nothing is lost where nothing loses.
func TestCountsWhole(t *testing.T) {
	l := open(t, 0)
	if err := l.warmUp(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	r := l.offer(1400, 250*time.Millisecond)
	if r.calls != 50 || r.completed != 50 || r.sent != 350 || r.came != 350 || r.twice+r.strange+r.self != 0 {
		t.Errorf("%s sent=%d came=%d", r, r.sent, r.came)
	}
}

// TestCountsLoss: what the proxy drops is loss, and a call that lost a message is not whole.
func TestCountsLoss(t *testing.T) {
	l := open(t, 20)
	r := l.offer(1400, 250*time.Millisecond)
	if r.calls != 50 || r.completed >= 50 || r.loss() < 0.04 || r.loss() > 0.06 || r.passed() {
		t.Errorf("%s sent=%d came=%d", r, r.sent, r.came)
	}
}

// TestLoopbackOnly: this is a flood; it must not be aimed at anybody else.
func TestLoopbackOnly(t *testing.T) {
	for _, proxy := range []string{"192.0.2.1:5060", "[::1]:5060", "localhost:5060", ""} {
		if _, err := run([]string{"--proxy", proxy}, nil); err == nil {
			t.Errorf("proxy %q is accepted", proxy)
		}
	}
}
