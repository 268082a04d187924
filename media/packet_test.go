package media

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/media/udp"
	"rtcedge/transcode"
)

// lane is an engine that does not run: the test calls Receive itself, on real sockets.
type lane struct {
	leg  *leg
	from netip.AddrPort
	buf  []byte
	size int
	seq  uint16
	ts   uint32
	step uint32
	pt   byte
	now  time.Time
	seal *srtpContext

	phone, farm *peer
	end         func() // of the engine; the test's end does it too
}

func newLane(t testing.TB, proto, codec string, payload int) *lane {
	t.Helper()
	e, err := New(Config{PortMin: 64600, PortMax: 64699, NumThreads: 1, DeleteDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	a, b := newPeer(t, 1), newPeer(t, 2)
	var lines []string
	l := &lane{buf: make([]byte, 2048+udp.Tailroom), size: rtpHeaderMin + payload, step: 160, pt: codec[0] - '0', now: time.Now(), from: a.addr()}
	if secure(proto) {
		k := newSDESKey(srtpCM128Tag80, 1)
		if l.seal, err = k.context(); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, "crypto:"+k.line().String())
	}
	side := 0
	switch codec {
	case "opus", "to-opus":
		l.pt = 111
		lines = append(lines, "rtpmap:111 opus/48000/2")
		if l.step = 960; codec == "to-opus" {
			side, l.pt, l.step, l.from = 1, 0, 160, b.addr()
		} else {
			l.size = rtpHeaderMin + copy(l.buf[rtpHeaderMin:], opusFrame(t))
		}
		codec = "111"
	}
	r := &rig{Engine: e, t: t}
	r.must(toFarm("c", "a", a.body(proto, codec, lines...)))
	r.must(answered("c", "a", "b", b.body("RTP/AVP", "0")))
	l.leg = &e.mu.calls["c"].dialogs[0].streams[0].legs[side]
	l.phone, l.farm = a, b
	l.end = sync.OnceFunc(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.end)
	return l
}

// one packet goes the whole way but for the kernel's receive.
func (l *lane) one(pkt *udp.Packet) {
	l.seq++
	l.ts += l.step
	l.now = l.now.Add(20 * time.Millisecond)
	b := l.buf
	b[0], b[1], b[2], b[3] = 0x80, l.pt, byte(l.seq>>8), byte(l.seq)
	b[4], b[5], b[6], b[7] = byte(l.ts>>24), byte(l.ts>>16), byte(l.ts>>8), byte(l.ts)
	b[8], b[9], b[10], b[11] = 0, 0, 0, 1
	n := l.size
	if l.seal != nil {
		n, _ = l.seal.protectRTP(b, n)
	}
	pkt.Data, pkt.From, pkt.Time = b[:n], l.from, l.now
	l.leg.rtp.Receive(pkt)
}

var lanes = []struct {
	name, proto, codec string
	payload            int
}{
	{"relay", "RTP/AVP", "0", 160}, {"srtp", "RTP/SAVP", "0", 160}, {"pcma", "RTP/AVP", "8", 160}, {"g722", "RTP/AVP", "9", 160},
	{"opus", "RTP/AVP", "opus", 0}, {"to-opus", "RTP/AVP", "to-opus", 160}, {"srtp-opus", "RTP/SAVP", "opus", 0},
}

func opusLane(t testing.TB, codec string) {
	if strings.Contains(codec, "opus") && !transcode.CanEncode(transcode.Opus) {
		t.Skip("this build cannot encode Opus")
	}
}

// TestB20RelayZeroAllocs (B30 for Opus) covers receive to sendto, plain, SRTP and transcoded (rule 30 of style.md).
func TestB20RelayZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tt := range lanes {
		t.Run(tt.name, func(t *testing.T) {
			opusLane(t, tt.codec)
			l := newLane(t, tt.proto, tt.codec, tt.payload)
			pkt := new(udp.Packet)
			for range 10 {
				l.one(pkt)
			}
			peer := &l.leg.stream.legs[1-l.leg.side]
			before := peer.sent.packets.Load()
			if n := testing.AllocsPerRun(500, func() { l.one(pkt) }); n != 0 {
				t.Errorf("%v allocations per packet", n)
			}
			if sent := peer.sent.packets.Load() - before; sent < 500 {
				t.Errorf("%d packets left, want 500", sent)
			}
		})
	}
}

// BenchmarkForward is the way of a packet from Receive to the end of sendto, whose cost is most of it (see "send").
func BenchmarkForward(b *testing.B) {
	for _, tt := range lanes {
		b.Run(tt.name, func(b *testing.B) {
			opusLane(b, tt.codec)
			l := newLane(b, tt.proto, tt.codec, tt.payload)
			pkt := new(udp.Packet)
			b.ReportAllocs()
			for b.Loop() {
				l.one(pkt)
			}
		})
	}
	b.Run("send", func(b *testing.B) {
		l := newLane(b, "RTP/AVP", "0", 160)
		l.one(new(udp.Packet))
		to := l.leg.stream.legs[1].to
		b.ReportAllocs()
		for b.Loop() {
			_ = l.leg.stream.legs[1].rtp.conn.WriteTo(l.buf[:172], to)
		}
	})
}

// TestSocketsHaveRoom keeps a burst that is longer than a tick.
func TestSocketsHaveRoom(t *testing.T) {
	r := newRig(t, Config{RecvBuffer: 1 << 20})
	a, b := newPeer(t, 1), newPeer(t, 2)
	b.conn.SetReadBuffer(1 << 20)
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	for range 200 {
		a.send(a.packet(0, make([]byte, 160)))
	}
	for range 200 {
		b.recv()
	}
	if _, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a.to)); err == nil && !*steeredTests {
		t.Error("the media port is not ours") // a steered port has no socket
	}
}
