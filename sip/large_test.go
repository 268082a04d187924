package sip

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

func largeInvite(edge, from netip.AddrPort, id string, size int) string {
	return fmt.Sprintf("INVITE sip:600@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\nFrom: <sip:1001@x>;tag=f\r\nTo: <sip:600@x>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@%s>\r\nX: %s\r\nContent-Length: 0\r\n\r\n",
		edge, from, id, id, from, strings.Repeat("x", size))
}

// TestB13LargeOverTCP: a request that is too large for UDP goes over TCP to a node that takes it, its response comes back, and
// where the connection is refused the same request arrives over UDP.
func TestB13LargeOverTCP(t *testing.T) {
	farm, phone := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	ln, err := net.Listen("tcp", farm.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := Config{Transport: transport.Config{Listeners: []transport.ListenerConfig{udpOn("127.0.0.1"), tcpOn("127.0.0.1")}}}
	cfg.Farms.NoProbes = true
	cfg.Farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: farm.addr(), TCP: true}}
	p := start(t, cfg)
	edge := p.Listeners()[0].Addr()

	phone.send(edge, largeInvite(edge, phone.addr(), "small", 10))
	if got := farm.get(); !strings.Contains(got, "Call-ID: small") || !strings.HasPrefix(lines(got, "Via")[0], "SIP/2.0/UDP ") {
		t.Fatalf("small:\n%s", got)
	}
	phone.send(edge, largeInvite(edge, phone.addr(), "large", 1300))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	got := string(buf[:n])
	tcp := p.Listeners()[1].Addr().String()
	if !strings.Contains(got, "Call-ID: large") || !strings.HasPrefix(lines(got, "Via")[0], "SIP/2.0/TCP "+tcp) || strings.Contains(lines(got, "Record-Route")[0], "tcp") {
		t.Errorf("large:\n%s", got)
	}
	if _, err := conn.Write([]byte(answer(got, 180, "t", ""))); err != nil {
		t.Fatal(err)
	}
	if got := phone.get(); !strings.HasPrefix(got, "SIP/2.0 180") {
		t.Errorf("response:\n%s", got)
	}

	// The node takes no TCP any more: what is sent meanwhile and later arrives over UDP.
	ln.Close()
	conn.Close()
	for p.Listeners()[1].Stats().Open > 0 {
		time.Sleep(time.Millisecond)
	}
	for _, id := range []string{"again", "later"} {
		phone.send(edge, largeInvite(edge, phone.addr(), id, 1300))
		got := farm.get()
		if !strings.Contains(got, "Call-ID: "+id) || !strings.HasPrefix(lines(got, "Via")[0], "SIP/2.0/UDP "+edge.String()) {
			t.Errorf("%s:\n%s", id, got)
		}
		farm.send(edge, answer(got, 486, "t", ""))
		if got := phone.get(); !strings.HasPrefix(got, "SIP/2.0 486") {
			t.Errorf("response:\n%s", got)
		}
	}
	if s := p.Stats(); s.Oversize != 3 || s.LargeTCP != 2 {
		t.Errorf("oversize %d, over tcp %d; want 3 and 2", s.Oversize, s.LargeTCP)
	}
}

// TestB13WhoTakesTCP: outside targets without a transport parameter are tried over TCP; those with one, behind NAT, or of a node
// that was not configured so are not.
func TestB13WhoTakesTCP(t *testing.T) {
	r := newRig(t, Config{}, udpOn("127.0.0.1"), tcpOn("127.0.0.1"))
	filler := "X: " + strings.Repeat("x", 1300) + "\n"
	for target, want := range map[string]int{"127.0.2.2:5072": 1, "127.0.2.2:5072;transport=udp": 0, "127.0.2.2:5072;transport=tcp": 1} {
		text := strings.Replace(invite(filler), "INVITE sip:600@E0", "INVITE sip:1002@"+target, 1)
		if out := r.put(node1, text); len(out) != 1 || out[0].to.Listener != r.ls[want] {
			t.Errorf("%s: %+v", target, out)
		}
	}
	if out := r.put(phone, invite(filler)); len(out) != 1 || out[0].to.Listener != r.ls[0] {
		t.Errorf("a node without tcp: %+v", out)
	}
	if s := r.p.Stats(); s.Oversize != 3 || s.LargeTCP != 1 {
		t.Errorf("oversize %d, over tcp %d; want 3 and 1", s.Oversize, s.LargeTCP)
	}
}
