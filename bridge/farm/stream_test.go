package farm

import (
	"net/netip"
	"testing"
	"time"

	"rtcedge/bridge/mixer"
	"rtcedge/media/sdp"
)

func testStream(t testing.TB) (*stream, netip.AddrPort) {
	t.Helper()
	s, err := newStream(netip.MustParseAddr("127.0.0.1"), 25000, 25999)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	to := newSink(t)
	s.setRemote(remoteMedia{addr: to, events: true, eventPT: ptEvent})
	return s, to
}

func voicePacket(seq uint16, ts, ssrc uint32) []byte {
	return append(appendRTP(nil, ptPCMU, false, seq, ts, ssrc), silentFrame[:]...)
}

// TestB33SourceIsLearntOnce: the first good packet decides; others are dropped until it is silent, and then only the same
// host gets in, but for the address of the SDP, which need not wait; a re-INVITE with another address learns anew.
func TestB33SourceIsLearntOnce(t *testing.T) {
	s, to := testStream(t)
	now := time.Unix(1_800_000_000, 0)
	at := func(addr string) netip.AddrPort { return netip.MustParseAddrPort(addr) }
	nat, moved, other := at("127.0.0.1:9"), at("127.0.0.1:10"), at("192.0.2.1:9")
	pkt := voicePacket(1, 1, 1)
	steps := []struct {
		what string
		b    []byte
		from netip.AddrPort
		wait time.Duration
		want bool
	}{
		{"no RTP", []byte("nonsense"), other, 0, false},
		{"another payload type", append(appendRTP(nil, 8, false, 1, 1, 1), 1), other, 0, false},
		{"the first", pkt, nat, 0, true},
		{"another", pkt, other, 0, false},
		{"the same host, at once", pkt, moved, time.Second, false},
		{"the same host, after silence", pkt, moved, relearnAfter, true},
		{"another, after silence", pkt, other, 2 * relearnAfter, false},
		{"the same host, before the description's address", pkt, nat, 0, true},
		{"the description's address, at once", pkt, to, 0, true},
		{"who was there before", pkt, nat, 0, false},
	}
	for _, st := range steps {
		now = now.Add(st.wait)
		if got := s.receive(st.b, st.from, now); got != st.want {
			t.Errorf("%s: %v", st.what, got)
		}
	}
	s.setRemote(remoteMedia{addr: netip.AddrPortFrom(to.Addr(), to.Port()+1)})
	if !s.receive(pkt, to, now) || s.learnt.IsValid() {
		t.Error("what was on its way from the old address is lost or followed")
	}
	if !s.receive(pkt, other, now) || s.learnt != other {
		t.Error("after a change of address the source is not learnt anew")
	}
}

// TestB18OneStreamOut: whatever the source does, SSRC stays and sequence numbers and time stamps go on.
func TestB18OneStreamOut(t *testing.T) {
	a, _ := testStream(t)
	b, _ := testStream(t)
	var last struct {
		seq uint16
		ts  uint32
	}
	check := func(what string, gap uint16) {
		t.Helper()
		if last.ts != 0 && (a.seq-last.seq != gap || int32(a.ts-last.ts) < 160) {
			t.Errorf("%s: from %d/%d to %d/%d", what, last.seq, last.ts, a.seq, a.ts)
		}
		last.seq, last.ts = a.seq, a.ts
	}
	relay := func(from *stream, seq uint16, ts, ssrc uint32) {
		p, _ := parseRTP(voicePacket(seq, ts, ssrc))
		a.relay(from, p, false)
	}
	frame := silentFrame
	a.play(&frame)
	check("first", 1)
	a.play(&frame)
	check("music", 1)
	relay(b, 60000, 1<<31, 7)
	check("the other party", 1)
	relay(b, 60001, 1<<31+160, 7)
	check("its next", 1)
	relay(b, 60003, 1<<31+480, 7)
	check("a loss stays a gap", 2)
	relay(b, 5, 9, 8)
	check("a new SSRC", 1)
	a.play(&frame)
	check("music again", 1)
	if a.sent.Load() != 7 {
		t.Errorf("%d sent", a.sent.Load())
	}
	a.setRemote(remoteMedia{addr: a.remote.Load().addr, dir: sdp.SendOnly})
	relay(b, 6, 169, 8)
	a.play(&frame)
	if a.sent.Load() != 7 {
		t.Error("a party on hold is sent to")
	}
}

// TestRelayAllocs: a relayed packet allocates nothing.
func TestRelayAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	a, _ := testStream(t)
	b, from := testStream(t)
	b.setSink(func(p rtpPacket, event bool) { a.relay(b, p, event) })
	pkt, now := voicePacket(1, 1, 1), time.Now()
	if n := testing.AllocsPerRun(100, func() { b.receive(pkt, from, now) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// FuzzParseRTP: no packet breaks the reader, and a payload is never longer than what came.
func FuzzParseRTP(f *testing.F) {
	f.Add(voicePacket(1, 2, 3))
	f.Add([]byte{0xbf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 9})
	f.Add([]byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseRTP(b)
		if ok && (len(p.payload) == 0 || len(p.payload) > len(b)-rtpHeader) {
			t.Fatalf("%d bytes of payload from %d", len(p.payload), len(b))
		}
	})
}

// FuzzAnswer: no offer breaks the negotiation, and every answer can be read as one by the other side.
func FuzzAnswer(f *testing.F) {
	offer := (&negotiation{addr: netip.MustParseAddr("127.0.0.1"), port: 4000}).offer()
	f.Add(offer)
	f.Add([]byte("v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\nm=audio 5 RTP/AVP 0\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := negotiation{addr: netip.MustParseAddr("127.0.0.1"), port: 4000}
		_, answer, err := n.answer(b)
		if err != nil {
			return
		}
		in, err := sdp.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		out, err := sdp.Parse(answer)
		if err != nil {
			t.Fatalf("%v in our answer\n%s", err, answer)
		}
		if len(in.Media) != len(out.Media) {
			t.Fatalf("%d m= lines answered with %d", len(in.Media), len(out.Media))
		}
	})
}

// BenchmarkRelay is one packet from a leg to its peer, with the system call.
func BenchmarkRelay(b *testing.B) {
	out, _ := testStream(b)
	in, from := testStream(b)
	in.setSink(func(p rtpPacket, event bool) { out.relay(in, p, event) })
	pkt, now := voicePacket(1, 1, 1), time.Now()
	b.ReportAllocs()
	b.SetBytes(mixer.FrameSamples)
	for b.Loop() {
		in.receive(pkt, from, now)
	}
}
