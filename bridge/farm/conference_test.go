package farm

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// TestB42ConferenceOfThree: three callers with a tone each; everybody hears the other two at least 20 dB above itself. Who
// leaves is not heard any more; the conference ends with the last.
func TestB42ConferenceOfThree(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{})
	freqs := []float64{500, 1100, 1900}
	var talks []*talk
	var voices []*voice
	for i := range freqs {
		p := newPhone(t, f, []string{"1001", "1002", "1003"}[i])
		d := p.dial("7001", p.sdp("sendrecv")).answered()
		talks, voices = append(talks, d), append(voices, p.listen(d.body))
	}
	together(75, freqs, voices...)
	for i, v := range voices {
		pcm := v.heard()
		pcm = pcm[min(len(pcm), 1600):]
		own := level(pcm, freqs[i])
		for j, freq := range freqs {
			if d := level(pcm, freq) - own; j != i && d < 20 {
				t.Errorf("participant %d hears %d only %.1f dB above itself", i, j, d)
			} else if j != i {
				t.Logf("participant %d hears %d %.1f dB above itself", i, j, d)
			}
		}
	}
	if b := (control{f}).Bridges(); len(b) != 1 || len(b[0].Channels) != 3 || b[0].Name != "7001" {
		t.Errorf("bridges: %+v", b)
	}
	if s := f.Stats(); s.Conferences != 1 || s.Calls != 3 {
		t.Errorf("stats: %+v", s)
	}

	talks[0].hangup()
	eventually(t, "two left", func() bool { return f.Stats().Calls == 2 })
	time.Sleep(150 * time.Millisecond) // what is in the jitter buffers
	voices[1].forget()
	together(30, freqs[1:], voices[1:]...)
	pcm := voices[1].heard()
	if d := level(pcm, freqs[2]) - level(pcm, freqs[0]); d < 20 {
		t.Errorf("who left is heard %.1f dB below who stays (%d samples, %.0f dB)", d, len(pcm), level(pcm, freqs[2]))
	}
	talks[1].hangup()
	talks[2].hangup()
	eventually(t, "no conference", func() bool { s := f.Stats(); return s.Conferences == 0 && s.Calls == 0 })
}

// TestB40EntryTone: with ConferenceTones the others hear who enters; without it nothing.
func TestB40EntryTone(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		f := runFarm(t, Config{ConferenceTones: on})
		p, q := newPhone(t, f, "1001"), newPhone(t, f, "1002")
		d := p.dial("7002", p.sdp("sendrecv")).answered()
		v := p.listen(d.body)
		eventually(t, "media", func() bool { return len(v.got()) > 15 })
		v.forget()
		e := q.dial("7002", q.sdp("sendrecv")).answered()
		time.Sleep(250 * time.Millisecond)
		var peak int16
		for _, s := range v.heard() {
			peak = max(peak, s)
		}
		if on != (peak > 2000) {
			t.Errorf("tones %v: the loudest sample is %d", on, peak)
		}
		e.hangup()
		d.hangup()
	}
}

func frameOf(b byte) (p [160]byte) {
	for i := range p {
		p[i] = b
	}
	return p
}

// TestB30JitterBuffer: order, loss, late packets, jumps, long and short packets, clocks that differ; no time, no sockets.
func TestB30JitterBuffer(t *testing.T) {
	var out [mixer.FrameSamples]byte
	push := func(j *jitterBuffer, n int) {
		f := frameOf(byte(n))
		j.push(1, uint32(n*160), f[:])
	}
	t.Run("reordered", func(t *testing.T) {
		var j jitterBuffer
		for _, n := range []int{1, 3, 2, 4} {
			push(&j, n)
		}
		j.pop(&out)
		j.pop(&out) // the delay of 40 ms
		for n := 1; n <= 4; n++ {
			if !j.pop(&out) || out != frameOf(byte(n)) {
				t.Fatalf("frame %d is %v", n, out[:4])
			}
		}
	})
	t.Run("lost", func(t *testing.T) {
		var j jitterBuffer
		for _, n := range []int{1, 2, 4} {
			push(&j, n)
		}
		var got []byte
		for range 8 {
			j.pop(&out)
			got = append(got, out[0])
		}
		// Two of delay, 1, 2, 2 in place of 3, 4, 4 twice, then silence.
		if want := []byte{255, 255, 1, 2, 2, 4, 4, 4}; string(got) != string(want) {
			t.Fatalf("%v, want %v", got, want)
		}
		if j.pop(&out) || out != silentFrame {
			t.Error("no silence after the end")
		}
	})
	t.Run("late", func(t *testing.T) {
		var j jitterBuffer
		push(&j, 1)
		for range 4 {
			j.pop(&out)
		}
		push(&j, 2) // its turn was just now
		if !j.pop(&out) || out != frameOf(2) || j.delay != jitterMax {
			t.Errorf("a late packet: %v, delay %d", out[:2], j.delay)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		var j jitterBuffer
		for n := 1; n < 2000; n++ {
			push(&j, n)
			if n%3 != 0 { // the far end's clock is much faster than ours
				j.pop(&out)
			}
			if fill := j.high - j.next; fill > jitterAhead+200 {
				t.Fatalf("%d samples in the buffer", fill)
			}
		}
	})
	t.Run("drift", func(t *testing.T) {
		var j jitterBuffer
		n, worst := 0, uint32(0)
		for tick := range 30000 {
			n++
			push(&j, n)
			if tick%400 == 0 { // 2500 ppm too fast
				n++
				push(&j, n)
			}
			j.pop(&out)
			worst = max(worst, j.high-j.next)
		}
		if worst > 6*160 {
			t.Errorf("the delay grew to %d ms", worst/8)
		}
	})
	t.Run("other packet sizes", func(t *testing.T) {
		var j jitterBuffer
		for n := range 20 { // 10 ms each
			j.push(1, uint32(n*80), make([]byte, 80))
		}
		j.push(1, 1600, make([]byte, 480))
		j.push(1, 1600, make([]byte, 5000)) // no telephony
		full := 0
		for range 20 {
			if j.pop(&out) && out == [160]byte{} {
				full++
			}
		}
		if full < 13 {
			t.Errorf("%d full frames of 13", full)
		}
	})
	t.Run("new stream", func(t *testing.T) {
		var j jitterBuffer
		push(&j, 1)
		f := frameOf(9)
		j.push(2, 77, f[:])
		j.pop(&out)
		j.pop(&out)
		if !j.pop(&out) || out != f {
			t.Errorf("after a change of SSRC: %v", out[:2])
		}
	})
}

// FuzzJitterBuffer: no order, size or time stamp breaks it, and the fill stays bounded.
func FuzzJitterBuffer(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{255, 255, 255, 255, 255, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var j jitterBuffer
		var out [mixer.FrameSamples]byte
		for len(b) >= 5 {
			j.push(uint32(b[0]&1), uint32(b[1])<<24|uint32(b[2])<<8|uint32(b[3]), make([]byte, int(b[4])*4))
			if b[0]&2 != 0 {
				j.pop(&out)
			}
			if j.live && j.high-j.next > jitterAhead+2*jitterMax+800 {
				t.Fatalf("%d samples in the buffer", j.high-j.next)
			}
			b = b[5:]
		}
	})
}

// roomOf makes a room without calls, all members talking.
func roomOf(t testing.TB, n int) *room {
	r := new(room)
	sockets := make([]*member, n)
	sinkAddr := newSink(t)
	for i := range sockets {
		s, err := newStream(sinkAddr.Addr(), 21000, 24999)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.close)
		s.setRemote(remoteMedia{addr: sinkAddr})
		sockets[i] = &member{stream: s}
	}
	r.members.Store(&sockets)
	return r
}

func feed(r *room, ts uint32, payload []byte) {
	for _, m := range *r.members.Load() {
		m.receive(rtpPacket{ssrc: 1, ts: ts, payload: payload}, false)
	}
}

func newSink(t testing.TB) netip.AddrPort {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return addrPort(c)
}

// TestConferenceAllocs: a tick of a conference allocates nothing.
func TestConferenceAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := roomOf(t, 10)
	payload := make([]byte, 160)
	ts := uint32(0)
	if n := testing.AllocsPerRun(50, func() {
		feed(r, ts, payload)
		ts += 160
		r.tick(nil)
	}); n > 0 {
		t.Errorf("%v allocations per tick", n)
	}
}

// BenchmarkConferenceTick100 is 20 ms of a conference of 100 talkers: jitter buffers, decoding, mixing, encoding, sending.
func BenchmarkConferenceTick100(b *testing.B) {
	r := roomOf(b, 100)
	var pcm mixer.Frame
	for i := range pcm {
		pcm[i] = int16(rand.IntN(8000) - 4000)
	}
	payload := make([]byte, 160)
	g711.EncodeULaw(payload, pcm[:])
	ts := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		feed(r, ts, payload)
		ts += 160
		r.tick(nil)
	}
}
