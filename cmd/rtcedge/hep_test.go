package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"rtcedge/recovery/hep"
)

// TestB12HEPOfBothLegs: a collector gets what came in and what went out, with the Call-ID as correlation id; so does every further one.
func TestB12HEPOfBothLegs(t *testing.T) {
	collector, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer collector.Close()
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	args, state := freeUp(t, "--hep", "udp:"+collector.LocalAddr().String(), "--hep", "udp:"+other.LocalAddr().String(), "--hep-id", "77")
	out := start(t, args...)
	edge := readState(t, state, out).SIP
	phone, err := net.Dial("udp", edge)
	if err != nil {
		t.Fatal(err)
	}
	defer phone.Close()
	fmt.Fprintf(phone, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKhep;rport\r\nFrom: <sip:1001@x>;tag=1\r\nTo: <sip:%s>\r\n"+
		"Call-ID: hep-test\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nUser-Agent: test\r\nContent-Length: 0\r\n\r\n", edge, phone.LocalAddr(), edge)
	seen := map[string]hep.Packet{}
	buf := make([]byte, 65536)
	for end := time.Now().Add(10 * time.Second); len(seen) < 2; {
		_ = collector.SetReadDeadline(end)
		n, _, err := collector.ReadFrom(buf)
		if err != nil {
			t.Fatalf("collector: %v, after %v", err, seen)
		}
		p, fault := hep.Parse(append([]byte(nil), buf[:n]...))
		if fault != hep.FaultNone {
			t.Fatalf("fault %v", fault)
		}
		if string(p.CorrelationID) == "hep-test" { // there are the probes of the farm too
			line, _, _ := strings.Cut(string(p.Payload), " ")
			seen[line] = p
		}
	}
	in, reply := seen["OPTIONS"], seen["SIP/2.0"]
	if in.Source.String() != phone.LocalAddr().String() || in.Destination.String() != edge || reply.Source != in.Destination || reply.Destination != in.Source ||
		in.CaptureID != 77 || time.Since(in.Time) > time.Minute {
		t.Errorf("in %v -> %v (%d, %v), out %v -> %v", in.Source, in.Destination, in.CaptureID, in.Time, reply.Source, reply.Destination)
	}
	for seen := 0; seen < 2; {
		_ = other.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := other.ReadFrom(buf)
		if err != nil {
			t.Fatalf("the second collector has %d of 2 messages: %v", seen, err)
		}
		if p, fault := hep.Parse(buf[:n]); fault == hep.FaultNone && string(p.CorrelationID) == "hep-test" {
			seen++
		}
	}
}
