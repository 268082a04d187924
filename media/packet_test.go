package media

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/udp"
	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// TestB21SDESToRTP: pion's SRTP on one side, plain RTP on the other, in each suite; garbage is counted and changes nothing.
func TestB21SDESToRTP(t *testing.T) {
	for _, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"} {
		for _, codec := range []string{"0", "8"} {
			t.Run(suite+"/"+codec, func(t *testing.T) {
				r := newRig(t, Config{})
				a, b := newPeer(t, 1), newPeer(t, 2)
				pt := codec[0] - '0'
				unknown := "crypto:9 F8_128_HMAC_SHA1_80 inline:" + fmt.Sprintf("%040d", 0)
				_, toA := r.connect(toFarm("c", "a", a.body("RTP/SAVP", codec, unknown, a.key(suite, 5))), a, b, b.body("RTP/AVP", "0"))
				if m := toA.Media[0]; m.Protocol() != "RTP/SAVP" || m.Crypto()[0].Suite != suite || m.Crypto()[0].Tag != 1 {
					t.Fatalf("answer %v %v", m.Protocol(), m.Crypto())
				}
				evil := newPeerAt(t, "127.0.0.9", 1)
				evil.to = a.to
				for range 10 {
					evil.send(evil.packet(pt, make([]byte, 170))) // ahead of the party, and not authenticated
				}
				for i := range 5 {
					a.send(a.packet(pt, make([]byte, 160)))
					if got := b.recv(); len(got.Payload) != 160 || got.PayloadType != 0 {
						t.Fatalf("%d: %v", i, got)
					}
					b.send(b.packet(0, make([]byte, 160)))
					if got := a.recv(); len(got.Payload) != 160 || got.PayloadType != pt {
						t.Fatalf("%d: %v", i, got)
					}
				}
				evil.silence()
				if n := r.Stats().Drops["auth"]; n != 10 {
					t.Errorf("%d refused, want 10", n)
				}
				if c := r.query("c").Tags[0].Medias[0].Streams[0].Crypto; c != suite {
					t.Errorf("query says %q", c)
				}
			})
		}
	}
}

// TestB21RekeyOnReinvite: another key of the party in a re-INVITE.
func TestB21RekeyOnReinvite(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	for i := range 3 {
		r.connect(toFarm("c", "a", a.body("RTP/SAVP", "0", a.key("AES_CM_128_HMAC_SHA1_80", byte(10*i)))), a, b,
			b.body("RTP/AVP", "0"))
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
		b.send(b.packet(0, make([]byte, 160)))
		a.recv()
	}
}

// TestB20SDESOfferedAndAnswered: the farm calls a TLS phone.
func TestB20SDESOfferedAndAnswered(t *testing.T) {
	r := newRig(t, Config{})
	farm, phone := newPeer(t, 1), newPeer(t, 2)
	req := relayed("c", "f", farm.body("RTP/AVP", "0"))
	req.Transport, req.SDES = "RTP/SAVPF", []string{"only-aead_aes_128_gcm"}
	toPhone, toFarmBody := r.connect(req, farm, phone, phone.body("RTP/SAVPF", "0", phone.key("AEAD_AES_128_GCM", 1)))
	if m := toPhone.Media[0]; m.Protocol() != "RTP/SAVPF" || len(m.Crypto()) != 1 {
		t.Fatalf("%s %v", m.Protocol(), m.Crypto())
	}
	if m := toFarmBody.Media[0]; m.Protocol() != "RTP/AVP" || len(m.Crypto()) != 0 {
		t.Fatalf("%s %v", m.Protocol(), m.Crypto())
	}
	farm.send(farm.packet(0, []byte("hello")))
	if got := phone.recv(); string(got.Payload) != "hello" {
		t.Fatalf("%v", got)
	}
	phone.send(phone.packet(0, []byte("hi")))
	if got := farm.recv(); string(got.Payload) != "hi" {
		t.Fatalf("%v", got)
	}
	resp := r.do(answered("c", "f", "b2", phone.body("RTP/SAVPF", "0")))
	if resp.Result != ng.ResultError {
		t.Errorf("an answer without a key: %+v", resp)
	}
}

// TestB31TranscodeSNR plays a tone through both directions of a call and measures what arrives.
func TestB31TranscodeSNR(t *testing.T) {
	for _, tt := range []struct {
		codec   transcode.Codec
		formats string
		line    string
		pt      uint8
		want    float64 // dB
	}{
		{transcode.PCMA, "8", "sendrecv", 8, 30},
		{transcode.G722, "9", "sendrecv", 9, 25},
		{transcode.Opus, "111", "rtpmap:111 opus/48000/2", 111, 15},
	} {
		t.Run(tt.codec.String(), func(t *testing.T) {
			if !transcode.CanEncode(tt.codec) {
				t.Skip("this build cannot encode it")
			}
			r := newRig(t, Config{})
			a, b := newPeer(t, 1), newPeer(t, 2)
			r.connect(toFarm("c", "a", a.body("RTP/AVP", tt.formats, tt.line)), a, b, b.body("RTP/AVP", "0"))
			l16 := transcode.Format{Codec: transcode.L16, Rate: 8000, Channels: 1}
			ulaw := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
			rate, channels := 8000, 1
			if tt.codec == transcode.Opus {
				rate, channels = 48000, 2
			}
			far, ok := transcode.Lookup(tt.codec.String(), rate, channels, "")
			if !ok {
				t.Fatal("lookup")
			}
			for _, dir := range []struct {
				from, to *peer
				enc, dec transcode.Format
				in, out  uint8
				step     uint32
			}{
				{a, b, far, ulaw, tt.pt, 0, uint32(rate / 50)}, {b, a, ulaw, far, 0, tt.pt, 160},
			} {
				enc, err := transcode.NewPipe(transcode.PipeConfig{From: l16, To: dir.enc})
				if err != nil {
					t.Fatal(err)
				}
				dec, err := transcode.NewPipe(transcode.PipeConfig{From: dir.dec, To: l16})
				if err != nil {
					t.Fatal(err)
				}
				var heard []float64
				for i := range 100 {
					pcm := make([]byte, 320)
					for k := range 160 {
						v := int16(8000 * math.Sin(2*math.Pi*440*float64(i*160+k)/8000))
						pcm[2*k], pcm[2*k+1] = byte(uint16(v)>>8), byte(v)
					}
					enc.Push(transcode.Packet{Seq: uint16(i), Timestamp: uint32(i * 160), Payload: pcm})
					for {
						p, ok := enc.Next()
						if !ok {
							break
						}
						pkt := dir.from.packet(dir.in, append([]byte(nil), p.Payload...))
						dir.from.ts += dir.step - 160
						pkt.Timestamp = dir.from.ts
						dir.from.send(pkt)
						got := dir.to.recv()
						if got.PayloadType != dir.out {
							t.Fatalf("payload type %d", got.PayloadType)
						}
						dec.Push(transcode.Packet{Seq: got.SequenceNumber, Timestamp: got.Timestamp, Payload: got.Payload})
						for {
							q, ok := dec.Next()
							if !ok {
								break
							}
							for k := 0; k+1 < len(q.Payload); k += 2 {
								heard = append(heard, float64(int16(uint16(q.Payload[k])<<8|uint16(q.Payload[k+1]))))
							}
						}
					}
				}
				snr := toneSNR(heard[len(heard)/2:], 440)
				t.Logf("%s to %s: %.1f dB", dir.enc.Codec, dir.dec.Codec, snr)
				if snr < tt.want {
					t.Errorf("%.1f dB, want %.0f", snr, tt.want)
				}
			}
		})
	}
}

// toneSNR is the power of a tone against all the rest.
func toneSNR(x []float64, hz float64) float64 {
	n := len(x) - len(x)%200 // whole periods of 440 Hz at 8 kHz: 11 in 200 samples
	var s, c, total float64
	for i := range n {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / 8000)
		s += x[i] * sin
		c += x[i] * cos
		total += x[i] * x[i]
	}
	tone := 2 * (s*s + c*c) / float64(n)
	return 10 * math.Log10(tone/math.Max(total-tone, 1e-9))
}

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
	e, err := New(Config{PortMin: 42600, PortMax: 42699, NumThreads: 1, DeleteDelay: -1})
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

// opusFrame is 20 ms of a tone.
func opusFrame(t testing.TB) (frame []byte) {
	t.Helper()
	ulaw := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
	p, err := transcode.NewPipe(transcode.PipeConfig{From: ulaw, To: transcode.Format{Codec: transcode.Opus, Rate: 48000, Channels: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		p.Push(transcode.Packet{Seq: uint16(i), Timestamp: uint32(160 * i), Payload: tone(i, 440, g711.EncodeULaw)})
		for out, ok := p.Next(); ok; out, ok = p.Next() {
			frame = append(frame[:0], out.Payload...)
		}
	}
	return frame
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

// FuzzIngress: no datagram from anybody ends anything but itself.
func FuzzIngress(f *testing.F) {
	for _, seed := range [][]byte{
		{}, {0x80}, {0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7}, {0xb0, 0x80, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 1, 2, 3, 4, 9},
		{0x81, 200, 0, 12}, {0x80, 201, 0, 1, 0, 0, 0, 1}, {0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2}, {0, 1, 0, 0}, {22, 254, 255},
		{0xaf, 8, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 200},
	} {
		f.Add(seed)
	}
	var all []*lane
	for _, tt := range lanes[:4] {
		all = append(all, newLane(f, tt.proto, tt.codec, tt.payload))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		for _, l := range all {
			for _, p := range []*port{l.leg.rtp, l.leg.rtcp} {
				n := copy(l.buf, data)
				l.now = l.now.Add(time.Millisecond)
				p.Receive(&udp.Packet{Data: l.buf[:n], From: l.from, Time: l.now})
			}
		}
	})
}

// FuzzOffer: no SDP of an offer or answer breaks the engine or keeps a port.
func FuzzOffer(f *testing.F) {
	e, err := New(Config{PortMin: 42700, PortMax: 42999, NumThreads: 1, DeleteDelay: -1})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	at := netip.MustParseAddrPort("127.0.0.1:4000")
	f.Add([]byte(bodyAt(at, "RTP/AVP", "111 0 101", "rtpmap:111 opus/48000/2", "rtpmap:101 telephone-event/8000", "rtcp-mux")))
	f.Add([]byte(bodyAt(at, "RTP/SAVP", "8", "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")))
	f.Add([]byte(bodyAt(at, "UDP/TLS/RTP/SAVPF", "0", "setup:actpass", "fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13",
		"ice-ufrag:abcd", "ice-pwd:0123456789012345678901", "mid:0", "rtcp-mux")))
	f.Add([]byte(bodyAt(at, "RTP/AVP", "0") + "m=image 5000 udptl t38\r\nm=video 0 RTP/AVP 97\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &rig{Engine: e, t: t}
		for _, req := range []ng.Request{relayed("c", "a", string(body)), toFarm("c", "a", string(body))} {
			if r.do(req).Result == ng.ResultOK {
				r.do(answered("c", "a", "b", string(body)))
				r.do(ng.Request{Command: ng.CmdQuery, CallID: "c"})
			}
			r.do(ng.Request{Command: ng.CmdDelete, CallID: "c"})
		}
		r.barrier()
		if used := e.Stats().Ports[0].Used; used != 0 {
			t.Fatalf("%d pairs leaked", used)
		}
	})
}

// TestReceptionFollowsRFC3550 counts loss over a wrap, a duplicate and a change of source, and jitter of an even stream.
func TestReceptionFollowsRFC3550(t *testing.T) {
	var r reception
	now := time.Unix(1000, 0)
	ts := uint32(math.MaxUint32 - 800)
	for i := range 100 {
		seq := uint16(65500 + i)
		ts += 160
		now = now.Add(20 * time.Millisecond)
		if i == 10 || i == 60 {
			continue
		}
		r.packet(7, seq, ts, 172, now, 8000)
		if i == 20 {
			r.packet(7, seq, ts, 172, now, 8000)
		}
	}
	if lost := r.lost.Load(); lost != 1 { // two lost, one twice: A.3 counts it against them
		t.Errorf("%d lost", lost)
	}
	if j := time.Duration(r.jitter.Load()); j > time.Millisecond {
		t.Errorf("jitter %v", j)
	}
	r.packet(8, 5, 0, 172, now, 8000)
	r.packet(8, 9, 640, 172, now.Add(80*time.Millisecond), 8000)
	if lost := r.lost.Load(); lost != 4 {
		t.Errorf("%d lost after the change", lost)
	}
	if m := mos("PCMU", 1000, 0, 0, 0); m < 4.3 || m > 4.5 {
		t.Errorf("MOS %v of a perfect stream", m)
	}
	if m := mos("PCMU", 900, 100, 50*time.Millisecond, 0); m > 3.4 {
		t.Errorf("MOS %v at 10 %% loss", m)
	}
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

// TestB25OpinionPerCodec: the better codec has the better opinion, and loss costs each what G.113 says.
func TestB25OpinionPerCodec(t *testing.T) {
	score := func(name string, lost int64) float64 { return mos(name, 1000-lost, lost, 0, 40*time.Millisecond) }
	order := []string{"opus", "G722", "PCMU", "G729", "G723", "GSM"}
	for i := 1; i < len(order); i++ {
		if a, b := score(order[i-1], 0), score(order[i], 0); order[i-1] != "opus" && order[i-1] != "G722" && a <= b {
			t.Errorf("%s %.2f, %s %.2f", order[i-1], a, order[i], b)
		}
	}
	for _, name := range order {
		clean, poor := score(name, 0), score(name, 50)
		if clean < 3.4 || clean > 4.5 || poor >= clean-0.2 || poor < 1 {
			t.Errorf("%s: %.2f, at 5 %% loss %.2f", name, clean, poor)
		}
	}
	if a, b := score("opus", 50), score("PCMU", 50); a <= b {
		t.Errorf("at 5 %% loss Opus %.2f, PCMU %.2f", a, b)
	}
	if mos("PCMU", 9, 0, 0, 0) != 0 {
		t.Error("an opinion of nine packets")
	}
}

// TestB31OpusDefaults: what an engine makes of PCMU without any knob has the quality of the old stack, and a bounded rate.
func TestB31OpusDefaults(t *testing.T) {
	opusLane(t, "opus")
	frame := opusFrame(t)
	if rate := len(frame) * 8 * 50; rate < 16000 || rate > 64000 {
		t.Errorf("%d bit/s", rate)
	}
}
