package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestF6SpokenThroughTheEdge: an edge without a listener for farms, bound to every address, fences a node that rings a phone, and says CANCEL and BYE for it when
// recovery asks by the admin port. What anybody else sends for the node goes nowhere, and a message that the edge cannot place is an error.
func TestF6SpokenThroughTheEdge(t *testing.T) {
	listen, admin := takenAddr(t), takenAddr(t)
	port := listen.Port()
	node, phone := socket(t), socket(t)
	start(t, "sip", "--listen", fmt.Sprintf("udp:0.0.0.0:%d", port), "--advertise", "127.0.0.1", "--farm", "call=udp:"+node.LocalAddr().String(), "--media", "none", "--admin", admin.String())
	waitReady(t, admin.String())
	head := func(method, to string) string {
		return fmt.Sprintf("%s sip:2@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKring\r\nMax-Forwards: 70\r\nFrom: <sip:1@x>;tag=n\r\nTo: <sip:2@x>%s\r\nCall-ID: rings\r\nCSeq: 7 %s\r\nContact: <sip:1@%s>\r\nContent-Length: 0\r\n\r\n",
			method, phone.LocalAddr(), node.LocalAddr(), to, method, node.LocalAddr())
	}
	edge := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	if _, err := node.WriteTo([]byte(head("INVITE", "")), edge); err != nil {
		t.Fatal(err)
	}
	invite := take(t, phone, "INVITE")

	ctx, name, at := t.Context(), "udp:"+node.LocalAddr().String(), netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	a := adminEdge(admin)
	if err := a.Fence(ctx, name); err != nil {
		t.Fatal(err)
	}
	if _, err := node.WriteTo([]byte(head("CANCEL", "")), edge); err != nil {
		t.Fatal(err)
	}
	if err := a.Speak(ctx, name, at, head("CANCEL", "")); err != nil {
		t.Fatal(err)
	}
	cancel := take(t, phone, "CANCEL")
	if b := branchOf(invite); branchOf(cancel) != b {
		t.Errorf("CANCEL with branch %s, INVITE had %s", branchOf(cancel), b)
	}
	bye := strings.Replace(head("BYE", ";tag=p"), "Max-Forwards", fmt.Sprintf("Route: <sip:127.0.0.1:%d;lr>\r\nMax-Forwards", port), 1)
	if err := a.Speak(ctx, name, netip.AddrPort{}, bye); err != nil {
		t.Fatal(err)
	}
	take(t, phone, "BYE")
	for what, err := range map[string]error{
		"another listener": a.Speak(ctx, name, netip.MustParseAddrPort("192.0.2.1:5060"), head("CANCEL", "")),
		"another node":     a.Speak(ctx, "udp:192.0.2.9:5080", at, head("CANCEL", "")),
		"no node":          a.Speak(ctx, "here", at, head("CANCEL", "")),
		"no message":       a.Speak(ctx, name, at, "CANCEL"),
	} {
		if err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	_ = phone.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _, err := phone.ReadFrom(make([]byte, 2000)); err == nil {
		t.Errorf("%d bytes more came to the phone", n)
	}
}

func socket(t *testing.T) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// take reads the next request, which must be of the method.
func take(t *testing.T, c net.PacketConn, method string) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 2000)
	n, _, err := c.ReadFrom(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), method+" ") {
		t.Fatalf("want %s, got %q, %v", method, b[:n], err)
	}
	return string(b[:n])
}

func branchOf(message string) string {
	_, b, _ := strings.Cut(message, "branch=")
	b, _, _ = strings.Cut(b, ";")
	return b
}
