package ng

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// TestB22RequestsSource: the handler learns where a request came from, over each transport (xmlrpc-callback).
func TestB22RequestsSource(t *testing.T) {
	sources := make(chan netip.Addr, 1)
	h := &echo{}
	h.setAnswer(func(req *Request) *Response {
		sources <- req.Source
		return &Response{Result: ResultOK}
	})
	s := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}, TCP: []netip.AddrPort{loopback}, HTTP: []netip.AddrPort{loopback}}, h)
	const list = "d7:command4:liste"
	dial := func(network string, to netip.AddrPort) net.Conn {
		c, err := (&net.Dialer{LocalAddr: map[string]net.Addr{"udp": &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7)}, "tcp": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}[network]}).
			Dial(network, to.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	source := func() (a netip.Addr) {
		select {
		case a = <-sources:
		default: // the answer is there, so a request that was handled is as well
		}
		return a
	}
	ask(t, dial("udp", s.Addrs().UDP[0]), "u "+list)
	if got := source(); got.String() != "127.0.0.7" {
		t.Errorf("UDP: %v", got)
	}
	ask(t, dial("tcp", s.Addrs().TCP[0]), "t "+list)
	if got := source(); got.String() != "127.0.0.7" {
		t.Errorf("TCP: %v", got)
	}
	for _, path := range []string{"ng", "ng-plain"} {
		body := list
		if path == "ng" {
			body = "h " + list
		}
		ask(t, dial("tcp", s.Addrs().HTTP[0]), fmt.Sprintf("POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-rtpengine-ng\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body))
		if got := source(); got.String() != "127.0.0.7" {
			t.Errorf("HTTP /%s: %v", path, got)
		}
	}
}
