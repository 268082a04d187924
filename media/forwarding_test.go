package media

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode/g711"
)

// TestB22Forwarding: the PCM of one party arrives over TCP behind the metadata, in G.711 as in G.722; stop closes the connection, and so
// does the end of the call. A destination that is away harms nobody.
func TestB22Forwarding(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRig(t, Config{ForwardTo: "tcp://" + l.Addr().String()})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", a.body("RTP/AVP", "8"))
	offer.Metadata = "who:me"
	r.connect(offer, a, b, b.body("RTP/AVP", "8"))
	i := 0
	talk := func(n int) {
		t.Helper()
		for range n {
			a.send(a.packet(8, tone(i, 400, g711.EncodeALaw)))
			b.recv()
			b.send(b.packet(8, tone(i, 1000, g711.EncodeALaw)))
			a.recv()
			i++
		}
	}
	for round, end := range []ng.Request{{Command: ng.CmdStopForwarding, CallID: "c"}, {Command: ng.CmdDelete, CallID: "c"}} {
		r.must(ng.Request{Command: ng.CmdStartForwarding, CallID: "c", FromTag: "a"})
		r.barrier()
		l.(*net.TCPListener).SetDeadline(time.Now().Add(5 * time.Second))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		talk(25)
		r.must(end)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		in := bufio.NewReader(conn)
		who, err := in.ReadString(0)
		if err != nil || who != "who:me\x00" {
			t.Errorf("%q, %v", who, err)
		}
		pcm, err := io.ReadAll(in)
		if err != nil || len(pcm) < 2*160*24 || len(pcm) > 2*160*26 {
			t.Fatalf("round %d: %d bytes of half a second, %v", round, len(pcm), err)
		}
		x := make([]float64, len(pcm)/2)
		for k := range x {
			x[k] = float64(int16(binary.LittleEndian.Uint16(pcm[2*k:])))
		}
		if level(x, 400) < 5000 || level(x, 1000) > 300 {
			t.Errorf("400 Hz %.0f, 1000 Hz %.0f", level(x, 400), level(x, 1000))
		}
		conn.Close()
	}
	l.Close()
	g := newPeer(t, 3)
	r.connect(relayed("d", "a", g.body("RTP/AVP", "0")), g, b, b.body("RTP/AVP", "0"))
	r.must(ng.Request{Command: ng.CmdStartForwarding, CallID: "d"})
	for range 100 { // more than the queue holds
		g.send(g.packet(0, make([]byte, 160)))
		b.recv()
	}
}

// TestB22ForwardingRefused: nowhere to go, and no such party.
func TestB22ForwardingRefused(t *testing.T) {
	r := newRig(t, Config{})
	a := newPeer(t, 1)
	r.must(relayed("c", "a", a.body("RTP/AVP", "0")))
	if resp := r.do(ng.Request{Command: ng.CmdStartForwarding, CallID: "c"}); !strings.Contains(resp.ErrorReason, "--forward-to") {
		t.Errorf("%+v", resp)
	}
	for _, to := range []string{"udp://127.0.0.1:1", "127.0.0.1:1", "tcp://x"} {
		if _, err := New(Config{ForwardTo: to}); err == nil || !strings.Contains(err.Error(), "tcp://HOST:PORT") {
			t.Errorf("%s: %v", to, err)
		}
	}
}
