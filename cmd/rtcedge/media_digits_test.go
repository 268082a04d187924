package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"rtcedge/media"
)

// TestB27DigitLog: the datagram has rtpengine's keys.
func TestB27DigitLog(t *testing.T) {
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hook, err := digitHook(l.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	hook(media.Digit{CallID: "c", Tag: "a", Tags: []string{"a", "b"}, Source: netip.MustParseAddrPort("192.0.2.1:4000"), At: time.Unix(7, 0), Event: 11,
		Duration: 120 * time.Millisecond, Volume: 10})
	b := make([]byte, 1000)
	n, err := l.Read(b)
	const want = `{"callid":"c","source_tag":"a","tags":["a","b"],"type":"DTMF","timestamp":7,"source_ip":"192.0.2.1","event":11,"duration":120,"volume":10}`
	if err != nil || string(b[:n]) != want {
		t.Errorf("%s, %v", b[:n], err)
	}
}
