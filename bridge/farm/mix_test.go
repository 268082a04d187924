package farm

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
	"rtcedge/media/sdp"
	"rtcedge/transcode/g711"
)

// mixingNode is a node with a bridge of n channels without calls.
func mixingNode(t testing.TB, n int) *node {
	f, err := New(withARI(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	b := &bridge{id: "b", kind: "mixing"}
	f.node.bridges["b"] = b
	to := newSink(t)
	for i := range n {
		s, err := newStream(to.Addr(), 21000, 24999)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.close)
		s.setRemote(remoteMedia{addr: to, dir: sdp.SendRecv})
		ch := &channel{node: f.node, id: fmt.Sprint(i), stream: s, state: ari.StateUp}
		f.node.add(ch)
		f.node.putIn(ch, b)
	}
	f.node.publishMediaLocked()
	return f.node
}

// talk lets everybody say the next 20 ms.
func (n *node) talk(ts uint32, payload []byte) {
	for _, ch := range n.channels {
		ch.receive(rtpPacket{ssrc: 1, ts: ts, payload: payload}, false)
	}
	n.tick(nil)
}

func newSink(t testing.TB) netip.AddrPort {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return addrPort(c)
}

// TestB42TickAllocs: 20 ms of a conference allocate nothing.
func TestB42TickAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	n := mixingNode(t, 10)
	payload := make([]byte, 160)
	ts := uint32(0)
	if allocs := testing.AllocsPerRun(50, func() {
		n.talk(ts, payload)
		ts += 160
	}); allocs > 0 {
		t.Errorf("%v allocations per tick", allocs)
	}
	if sent := n.channels["3"].stream.sent.Load(); sent < 50 {
		t.Errorf("%d packets were sent to one of them", sent)
	}
}

// BenchmarkConferenceTick100 is 20 ms of a conference of 100 talkers: jitter buffers, decoding, mixing, encoding, sending.
func BenchmarkConferenceTick100(b *testing.B) {
	n := mixingNode(b, 100)
	var pcm mixer.Frame
	for i := range pcm {
		pcm[i] = int16(rand.IntN(8000) - 4000)
	}
	payload := make([]byte, 160)
	g711.EncodeULaw(payload, pcm[:])
	ts := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		n.talk(ts, payload)
		ts += 160
	}
}
