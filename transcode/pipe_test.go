package transcode

import (
	"testing"
	"time"
)

// checkNumbers fails unless the packets are one stream without a hole, frames of ticks apart.
func checkNumbers(t *testing.T, out []Packet, ticks uint32) {
	t.Helper()
	for i := 1; i < len(out); i++ {
		if out[i].Seq != out[i-1].Seq+1 {
			t.Fatalf("packet %d: number %d follows %d", i, out[i].Seq, out[i-1].Seq)
		}
		if out[i].Timestamp != out[i-1].Timestamp+ticks {
			t.Fatalf("packet %d: timestamp moves by %d, want %d", i, out[i].Timestamp-out[i-1].Timestamp, ticks)
		}
	}
}

// B27: every pair of codecs keeps the stream continuous over the wrap of number and timestamp, the marker only at its start.
func TestB27NumbersAreContinuous(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 440, 8000, 4*time.Second))
		p := mustPipe(t, PipeConfig{From: from, To: to})
		out := pushAll(p, in)
		if len(out) != len(in) {
			t.Fatalf("%d packets became %d", len(in), len(out))
		}
		checkNumbers(t, out, uint32(to.Rate/50))
		for i, pkt := range out {
			if pkt.Marker != (i == 0) || pkt.Event || pkt.Noise {
				t.Fatalf("packet %d: %+v", i, pkt)
			}
		}
		if out[0].Seq != in[0].Seq || out[0].Timestamp != in[0].Timestamp {
			t.Error("the stream does not start where the source's did")
		}
		if s := p.Stats(); s != (Stats{}) {
			t.Errorf("counted %+v", s)
		}
	})
}

// B30: every ptime becomes every other; no sample is lost but a last partial frame, and none waits longer than a frame.
func TestB30PTimes(t *testing.T) {
	times := []time.Duration{10, 20, 30, 40, 60}
	for _, from := range voices {
		if !CanEncode(from.Codec) {
			continue
		}
		for _, a := range times {
			for _, b := range times {
				if from.Codec == Opus && a == 30 || from == l16w && a == 60 {
					continue // such packets do not exist
				}
				in := encodeStream(t, withPTime(from, a*time.Millisecond), sine(naturalRate(from), 440, 8000, 1200*time.Millisecond))
				p := mustPipe(t, PipeConfig{From: from, To: withPTime(pcmu, b*time.Millisecond)})
				var out []Packet
				sent, received := 0, 0
				for _, pkt := range in {
					p.Push(pkt)
					received += int(a) * 8
					for _, o := range drain(p) {
						sent += len(o.Payload)
						out = append(out, o)
					}
					if wait := received - sent; wait < 0 || wait >= int(b)*8 {
						t.Fatalf("%s %d to %d ms: %d samples wait", name(from), a, b, wait)
					}
				}
				checkNumbers(t, out, uint32(b*8))
			}
		}
	}
}

// B30: a far side's ptime is brought to what its codec can have.
func TestB30FrameTime(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		f    Format
		want time.Duration
	}{
		{pcmu, 20 * ms},
		{withPTime(pcmu, 30*ms), 30 * ms},
		{withPTime(pcmu, 5*ms), 10 * ms},
		{withPTime(pcmu, 23*ms), 20 * ms},
		{withPTime(pcma, 500*ms), 60 * ms},
		{withPTime(pcma, -ms), 20 * ms},
		{withPTime(opusf, 30*ms), 20 * ms},
		{withPTime(opusf, 50*ms), 40 * ms},
		{withPTime(opusf, 60*ms), 60 * ms},
		{withPTime(l16w, 60*ms), 40 * ms},
	} {
		if got := frameTime(c.f); got != c.want {
			t.Errorf("%s %v: %v, want %v", name(c.f), c.f.PTime, got, c.want)
		}
	}
}

// B27: the G.711 table path gives the bytes of the long way, also around losses and odd sizes.
func TestB27TablePathEqualsLongWay(t *testing.T) {
	for _, pair := range [][2]Format{{pcmu, pcma}, {pcma, pcmu}, {pcma, pcma}} {
		in := encodeStream(t, pair[0], sine(8000, 300, 9000, 2*time.Second))
		in = append(in[:40], in[43:]...)        // a loss
		in[60].Payload = in[60].Payload[:72]    // a short packet
		in[80].Payload = append(in[80].Payload, // a long one
			in[80].Payload...)
		fast := mustPipe(t, PipeConfig{From: pair[0], To: pair[1]})
		slow := mustPipe(t, PipeConfig{From: pair[0], To: pair[1]})
		slow.cross = nil
		a, b := pushAll(fast, in), pushAll(slow, in)
		if len(a) != len(b) || len(a) < 90 {
			t.Fatalf("%d packets, long way %d", len(a), len(b))
		}
		for i := range a {
			if a[i].Seq != b[i].Seq || a[i].Timestamp != b[i].Timestamp || a[i].Marker != b[i].Marker || string(a[i].Payload) != string(b[i].Payload) {
				t.Fatalf("%s to %s: packet %d differs", name(pair[0]), name(pair[1]), i)
			}
		}
	}
}

// B27: real Opus packets of 10, 20 and 60 ms, SILK, hybrid and CELT, become a continuous PCMU stream.
func TestB27OpusFiles(t *testing.T) {
	for _, file := range []string{"chirp-10ms-64k.opus", "chirp-20ms-24k.opus", "chirp-60ms-16k.opus"} {
		in := oggStream(t, file)
		for _, to := range []Format{pcmu, g722f} {
			p := mustPipe(t, PipeConfig{From: opusf, To: to})
			out := pushAll(p, in)
			checkNumbers(t, out, 160)
			ticks := int(in[len(in)-1].Timestamp-in[0].Timestamp) / 960
			if len(out) < ticks || len(out) > ticks+3 {
				t.Errorf("%s: %d frames became %d", file, ticks, len(out))
			}
			if s := p.Stats(); s != (Stats{}) {
				t.Errorf("%s: counted %+v", file, s)
			}
			if level := power(decodeStream(t, to, naturalRate(to), out[50:100])); level < 1e5 {
				t.Errorf("%s: power %.0f, that is silence", file, level)
			}
		}
	}
}

// B30: silence suppression: the outgoing timestamp jumps as far as the incoming one, a marker begins the talkspurt.
func TestB30SilenceIsCarried(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 440, 8000, time.Second))
		shift := uint32(from.Rate) * 3 / 10 // 300 ms of silence
		for i := 20; i < len(in); i++ {
			in[i].Timestamp += shift
		}
		out := pushAll(mustPipe(t, PipeConfig{From: from, To: to}), in)
		if len(out) != len(in) {
			t.Fatalf("%d packets became %d", len(in), len(out))
		}
		for i := 1; i < len(out); i++ {
			want := uint32(to.Rate / 50)
			if i == 20 {
				want += uint32(to.Rate) * 3 / 10
			}
			if moved := out[i].Timestamp - out[i-1].Timestamp; moved != want || out[i].Marker != (i == 20) {
				t.Fatalf("packet %d: timestamp moves by %d, want %d; marker %v", i, moved, want, out[i].Marker)
			}
		}
	})
}

// B30: a silence that begins within a gathered frame fills that frame up and keeps the sum of the time right.
func TestB30SilenceWithinFrame(t *testing.T) {
	in := encodeStream(t, withPTime(pcma, 10*time.Millisecond), sine(8000, 440, 8000, 500*time.Millisecond))
	for i := 5; i < len(in); i++ {
		in[i].Timestamp += 1605 // 10 ms fill the frame, 190 ms and 5 samples are the jump
	}
	out := pushAll(mustPipe(t, PipeConfig{From: pcma, To: pcmu}), in)
	if len(out) < 5 || out[2].Timestamp-out[1].Timestamp != 160 || out[3].Timestamp-out[2].Timestamp != 160+1605-80 {
		t.Fatalf("timestamps %d %d %d", out[1].Timestamp, out[2].Timestamp, out[3].Timestamp)
	}
	if !out[3].Marker {
		t.Error("no marker at the talkspurt")
	}
}

// F35: clocks and numbers that make no sense move the outgoing stream by a frame at most, and never stop it.
func TestF35NonsenseTimestamps(t *testing.T) {
	for _, c := range []struct {
		name  string
		stamp func(i int) uint32
	}{
		{"constant", func(int) uint32 { return 7 }},
		{"backwards", func(i int) uint32 { return uint32(-i * 160) }},
		{"random", func(i int) uint32 { return uint32(i) * 2654435761 }},
		{"halves of the range", func(i int) uint32 { return uint32(i) << 31 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := encodeStream(t, pcmu, sine(8000, 440, 8000, 2*time.Second))
			for i := range in {
				in[i].Timestamp = c.stamp(i)
			}
			out := pushAll(mustPipe(t, PipeConfig{From: pcmu, To: pcma}), in)
			if len(out) != len(in) {
				t.Fatalf("%d packets became %d", len(in), len(out))
			}
			for i := 1; i < len(out); i++ {
				if moved := out[i].Timestamp - out[i-1].Timestamp; moved > 60*8000+160 {
					t.Fatalf("packet %d: timestamp moves by %d", i, moved)
				}
			}
		})
	}
}

// B18: another source takes over with its own numbers; the outgoing stream goes on, a marker tells.
func TestB18Resync(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 440, 8000, time.Second))
		p := mustPipe(t, PipeConfig{From: from, To: to})
		out := pushAll(p, in[:20])
		p.Resync()
		for i := range in {
			in[i].Seq += 30000
			in[i].Timestamp += 123456789
		}
		out = append(out, pushAll(p, in[:20])...)
		if len(out) != 40 || !out[20].Marker {
			t.Fatalf("%d packets, marker %v", len(out), out[20].Marker)
		}
		checkNumbers(t, out, uint32(to.Rate/50))
	})
}

// A sender that restarts its numbering without a new SSRC is followed after two packets in a row (RFC 3550 appendix A.1).
func TestB30RestartIsFollowed(t *testing.T) {
	in := encodeStream(t, pcmu, sine(8000, 440, 8000, time.Second))
	for i := 25; i < len(in); i++ {
		in[i].Seq += 20000
		in[i].Timestamp += 1 << 30
	}
	p := mustPipe(t, PipeConfig{From: pcmu, To: pcma})
	out := pushAll(p, in)
	if s := p.Stats(); len(out) != len(in)-1 || s.Wild != 1 || s.Restarts != 1 {
		t.Errorf("%d of %d packets, %+v", len(out), len(in), s)
	}
	checkNumbers(t, out, 160)
}

// F35: what one packet may cost is bounded: 120 ms are taken, more is refused, and neither an empty nor a huge packet is a loss.
func TestF35PacketLength(t *testing.T) {
	for _, c := range []struct {
		name    string
		from    Format
		payload []byte
		frames  int
	}{
		{"PCMU 120 ms", pcmu, make([]byte, 960), 6},
		{"PCMU 120.1 ms", pcmu, make([]byte, 961), 0},
		{"G722 120 ms", g722f, make([]byte, 960), 6},
		{"G722 120.1 ms", g722f, make([]byte, 961), 0},
		{"L16 120.1 ms", l16n, make([]byte, 1922), 0},
		{"L16 odd", l16n, make([]byte, 321), 0},
		{"opus 120 ms", opusf, []byte{0x0b, 6, 1, 2, 3, 4, 5, 6}, 6},
		{"opus 140 ms", opusf, []byte{0x0b, 7, 1, 2, 3, 4, 5, 6, 7}, 0},
		{"empty", pcmu, nil, 0},
	} {
		p := mustPipe(t, PipeConfig{From: c.from, To: pcma})
		p.Push(Packet{Seq: 9, Timestamp: 1000, Payload: c.payload})
		if got := len(drain(p)); got != c.frames || p.Stats().Malformed != uint64(btoi(c.frames == 0)) {
			t.Errorf("%s: %d frames, %+v", c.name, got, p.Stats())
		}
	}
	in := encodeStream(t, pcmu, sine(8000, 440, 8000, time.Second))
	for i := 20; i < len(in); i++ {
		in[i].Seq++
	}
	in = append(in[:20:20], append([]Packet{{Seq: in[19].Seq + 1, Timestamp: in[20].Timestamp}}, in[20:]...)...)
	p := mustPipe(t, PipeConfig{From: pcmu, To: pcma})
	out := pushAll(p, in)
	checkNumbers(t, out, 160)
	if s := p.Stats(); len(out) != 50 || s.Concealed != 0 || s.Malformed != 1 {
		t.Errorf("%d packets, %+v", len(out), s)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestNewPipeRefuses(t *testing.T) {
	for _, cfg := range []PipeConfig{
		{},
		{From: pcmu},
		{From: pcmu, To: Format{Codec: TelephoneEvent, Rate: 8000}},
		{From: Format{Codec: L16, Rate: 44100}, To: pcmu},
		{From: Format{Codec: PCMU}, To: pcmu},
		{From: pcmu, To: pcma, FromEvents: 1},
		{From: pcmu, To: pcma, ToEvents: 1 << 30},
	} {
		if _, err := NewPipe(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	_, err := NewPipe(PipeConfig{From: pcmu, To: opusf})
	if (err == nil) != CanEncode(Opus) {
		t.Errorf("Opus encoder: %v, CanEncode %v", err, CanEncode(Opus))
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name           string
		rate, channels int
		want           Codec
	}{
		{"PCMU", 8000, 1, PCMU}, {"pcma", 8000, 0, PCMA}, {"G722", 8000, 1, G722}, {"OPUS", 48000, 2, Opus},
		{"L16", 16000, 1, L16}, {"telephone-event", 48000, 1, TelephoneEvent}, {"cn", 8000, 0, ComfortNoise},
		{"opus", 48000, 1, Unknown}, {"G722", 16000, 1, Unknown}, {"L16", 44100, 2, Unknown},
		{"PCMU", 16000, 1, Unknown}, {"telephone-event", 0, 1, Unknown}, {"speex", 8000, 1, Unknown}, {"", 0, 0, Unknown},
	} {
		f, ok := Lookup(c.name, c.rate, c.channels, "x=1")
		if f.Codec != c.want || ok != (c.want != Unknown) {
			t.Errorf("%s/%d/%d: %v %v", c.name, c.rate, c.channels, f.Codec, ok)
		}
		if ok && (f.Params != "x=1" || f.Rate != c.rate) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

// RFC 7587 section 6.1: the far side's parameters bound the encoder.
func TestOpusParameters(t *testing.T) {
	for _, c := range []struct {
		params string
		rate   int
		noFEC  bool
	}{
		{"", 32000, false},
		{"minptime=10;useinbandfec=1", 32000, false},
		{"maxaveragebitrate=16000; useinbandfec=0", 16000, true},
		{"MaxAverageBitrate = 20000", 20000, false},
		{"maxaveragebitrate=510000", 32000, false},
		{"maxaveragebitrate=1;useinbandfec=no", 32000, false},
	} {
		f := opusf
		f.Params = c.params
		if ec := opusConfig(&PipeConfig{To: f}, 8000); ec.Bitrate != c.rate || ec.NoFEC != c.noFEC {
			t.Errorf("%q: %+v", c.params, ec)
		}
	}
}
