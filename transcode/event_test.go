package transcode

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// press makes the packets of one digit, 20 ms apart, the end three times, with voice's numbering going on.
func press(digit, volume byte, seq uint16, stamp uint32, updates int, ticks int) (out []Packet) {
	for i := 1; i <= updates+2; i++ {
		flags, n := volume, min(i, updates)
		if i >= updates {
			flags |= eventEnd
		}
		d := n * ticks
		out = append(out, Packet{
			Event: true, Seq: seq, Timestamp: stamp, Marker: i == 1, Payload: []byte{digit, flags, byte(d >> 8), byte(d)},
		})
		seq++
	}
	return out
}

// callWithDigit is 200 ms of voice, a digit of 160 ms, 200 ms of voice.
func callWithDigit(t *testing.T, from Format, digit byte, events int) (in []Packet) {
	in = encodeStream(t, from, sine(naturalRate(from), 300, 3000, 600*time.Millisecond))
	frame := uint32(from.Rate / 50)
	before, after := in[:10:10], in[18:]
	in = append(before, press(digit, 10, before[9].Seq+1, before[9].Timestamp+frame, 8, events/50)...)
	for i := range after {
		after[i].Seq = before[9].Seq + 11 + uint16(i)
	}
	return append(in, after...)
}

// B27: events pass with their clock converted: the timestamp on the voice's timeline, the duration in the event's own clock,
// one timestamp for all packets of a digit, and no gap in the numbering.
func TestB27EventsPass(t *testing.T) {
	for _, c := range []struct {
		from, to             Format
		fromEvents, toEvents int
	}{
		{pcmu, pcma, 8000, 8000},
		{opusf, pcmu, 48000, 8000},
		{opusf, pcmu, 8000, 8000}, // baresip: opus/48000 with telephone-event/8000
		{pcmu, opusf, 8000, 48000},
		{g722f, pcmu, 8000, 8000},
		{pcmu, g722f, 8000, 8000},
		{l16w, pcmu, 16000, 8000},
	} {
		t.Run(fmt.Sprint(name(c.from), c.fromEvents, name(c.to), c.toEvents), func(t *testing.T) {
			if !CanEncode(c.from.Codec) || !CanEncode(c.to.Codec) {
				t.Skip("this build has no Opus encoder")
			}
			in := callWithDigit(t, c.from, 7, c.fromEvents)
			p := mustPipe(t, PipeConfig{From: c.from, To: c.to, FromEvents: c.fromEvents, ToEvents: c.toEvents})
			out := pushAll(p, in)
			if len(out) != len(in) {
				t.Fatalf("%d packets became %d", len(in), len(out))
			}
			frame := uint32(c.to.Rate / 50)
			for i, pkt := range out {
				if pkt.Seq != out[0].Seq+uint16(i) || pkt.Event != in[i].Event {
					t.Fatalf("packet %d: %+v", i, pkt)
				}
				switch {
				case i < 10:
				case i < 20:
					d := min(i-9, 8) * c.toEvents / 50
					want := []byte{7, in[i].Payload[1], byte(d >> 8), byte(d)}
					if string(pkt.Payload) != string(want) || pkt.Timestamp != out[0].Timestamp+10*frame || pkt.Marker != (i == 10) {
						t.Errorf("event %d: %+v, want payload %v", i, pkt, want)
					}
				case pkt.Timestamp != out[0].Timestamp+uint32(i-2)*frame || pkt.Marker != (i == 20):
					t.Errorf("voice %d: timestamp +%d, marker %v", i, pkt.Timestamp-out[0].Timestamp, pkt.Marker)
				}
			}
		})
	}
}

// B27: an event whose clock has nothing to do with the voice's is placed where the voice is.
func TestB27EventWithForeignClock(t *testing.T) {
	in := callWithDigit(t, pcmu, 5, 8000)
	for i := range in {
		if in[i].Event {
			in[i].Timestamp += 1 << 30
		}
	}
	out := pushAll(mustPipe(t, PipeConfig{From: pcmu, To: pcma, FromEvents: 8000, ToEvents: 8000}), in)
	for i := 10; i < 20; i++ {
		if got := out[i].Timestamp - out[0].Timestamp; got != 1600 {
			t.Errorf("event %d lies at +%d", i, got)
		}
	}
}

// B27: a duration that the far clock cannot express saturates.
func TestB27LongEventSaturates(t *testing.T) {
	p := mustPipe(t, PipeConfig{From: pcmu, To: pcma, FromEvents: 8000, ToEvents: 48000})
	p.Push(Packet{Event: true, Seq: 1, Payload: []byte{1, 10, 0xf0, 0}})
	if out := drain(p); len(out) != 1 || out[0].Payload[2] != 0xff || out[0].Payload[3] != 0xff {
		t.Errorf("%+v", out)
	}
}

// B27: events become tones where the far side has none: right digit, length and place, whether the source keeps talking under
// the digit or not.
func TestB27EventsBecomeTones(t *testing.T) {
	for _, to := range []Format{pcmu, pcma, g722f, l16n} {
		for digit := byte(0); digit <= dtmfLast; digit++ {
			in := callWithDigit(t, pcmu, digit, 8000)
			p := mustPipe(t, PipeConfig{From: pcmu, To: to, FromEvents: 8000})
			out := pushAll(p, in)
			checkNumbers(t, out, 160)
			if len(out) != 30 { // the 600 ms that the source's voice and digit last
				t.Fatalf("%s digit %d: %d frames", name(to), digit, len(out))
			}
			checkDigit(t, decodeStream(t, to, naturalRate(to), out), naturalRate(to), digit)
		}
	}
}

func TestB27EventsBecomeTonesUnderVoice(t *testing.T) {
	voice := encodeStream(t, pcma, sine(8000, 300, 3000, 600*time.Millisecond))
	events := press(4, 10, 0, voice[10].Timestamp, 8, 160)
	var in []Packet
	for i, pkt := range voice {
		in = append(in, pkt)
		if i >= 10 && i-10 < len(events) {
			in = append(in, events[i-10])
		}
	}
	for i := range in {
		in[i].Seq = 100 + uint16(i)
	}
	out := pushAll(mustPipe(t, PipeConfig{From: pcma, To: pcmu, FromEvents: 8000}), in)
	checkNumbers(t, out, 160)
	if len(out) != len(voice) {
		t.Fatalf("%d frames of voice became %d", len(voice), len(out))
	}
	checkDigit(t, decodeStream(t, pcmu, 8000, out), 8000, 4)
}

// B27: lost event packets, the end among them, leave a tone that ends.
func TestB27ToneSurvivesLoss(t *testing.T) {
	in := callWithDigit(t, pcmu, 9, 8000)
	kept := append([]Packet(nil), in[:10]...)
	kept = append(kept, in[12], in[15]) // two of ten
	kept = append(kept, in[20:]...)
	out := pushAll(mustPipe(t, PipeConfig{From: pcmu, To: pcma, FromEvents: 8000}), kept)
	pcm := decodeStream(t, pcma, 8000, out)
	d := newDetector(8000)
	heard := false
	for len(pcm) >= 80 {
		d.listen(pcm[:80])
		pcm = pcm[80:]
		heard = heard || d.digit == 9
	}
	if !heard || d.digit != noDigit {
		t.Errorf("heard %v, at the end %d", heard, d.digit)
	}
}

// checkDigit fails unless pcm holds the digit from about 200 to 360 ms and nothing else.
func checkDigit(t *testing.T, pcm []int16, rate int, digit byte) {
	t.Helper()
	d := newDetector(rate)
	first, last := 0, 0
	step := rate / 200
	for i := 0; i+step <= len(pcm); i += step {
		d.listen(pcm[i : i+step])
		if d.digit == noDigit {
			continue
		}
		if d.digit != digit {
			t.Errorf("heard %d instead of %d", d.digit, digit)
		}
		if first == 0 {
			first = i * 1000 / rate
		}
		last = i * 1000 / rate
	}
	if first < 205 || first > 260 || last < 340 || last > 400 {
		t.Errorf("digit %d is heard from %d to %d ms", digit, first, last)
	}
}

// B27: tones become events where only the far side has them; the voice pauses and the timeline holds.
func TestB27TonesBecomeEvents(t *testing.T) {
	for _, from := range []Format{pcmu, pcma, g722f, l16n, l16w} {
		for digit := uint8(0); digit <= dtmfLast; digit++ {
			rate := naturalRate(from)
			pcm := sine(rate, 300, 3000, 200*time.Millisecond)
			var w tone
			w.start(digit, 10, rate)
			sound := make([]int16, rate*16/100)
			w.fill(sound)
			pcm = append(pcm, sound...)
			pcm = append(pcm, sine(rate, 300, 3000, 240*time.Millisecond)...)
			p := mustPipe(t, PipeConfig{From: from, To: pcma, ToEvents: 8000})
			out := pushAll(p, encodeStream(t, from, pcm))
			var events, ends, longest int
			var stamp uint32
			for i, pkt := range out {
				if i > 0 && pkt.Seq != out[i-1].Seq+1 {
					t.Fatalf("number %d follows %d", pkt.Seq, out[i-1].Seq)
				}
				if !pkt.Event {
					continue
				}
				if events == 0 {
					stamp = pkt.Timestamp
				}
				if pkt.Payload[0] != digit || pkt.Timestamp != stamp || pkt.Marker != (events == 0) {
					t.Errorf("%s digit %d: event %+v", name(from), digit, pkt)
				}
				if pkt.Payload[1]&eventEnd != 0 {
					ends++
				}
				events++
				longest = max(longest, int(pkt.Payload[2])<<8|int(pkt.Payload[3]))
			}
			if ends != reportEnds || longest < 8*110 || longest > 8*190 {
				t.Errorf("%s digit %d: %d events, %d ends, %d ticks long", name(from), digit, events, ends, longest)
			}
			if last := out[len(out)-1]; last.Timestamp-out[0].Timestamp != 29*160 {
				t.Errorf("%s digit %d: the stream spans %d", name(from), digit, last.Timestamp-out[0].Timestamp)
			}
		}
	}
}

// B27: neither the chirp nor a single tone is taken for a digit.
func TestB27NoFalseDigits(t *testing.T) {
	sounds := [][]int16{chirp(t), sine(16000, 697, 12000, time.Second), sine(16000, 1336, 12000, time.Second), make([]int16, 16000)}
	square := sine(16000, 200, 1, time.Second)
	for i := range square {
		square[i] *= 12000
	}
	for n, pcm := range append(sounds, square) {
		d := newDetector(16000)
		for len(pcm) >= 160 {
			d.listen(pcm[:160])
			if pcm = pcm[160:]; d.digit != noDigit {
				t.Fatalf("sound %d is taken for digit %d", n, d.digit)
			}
		}
	}
}

// B27: comfort noise in: one frame at the told level, the gap behind it carried by the timestamp; passed where the far side has it.
func TestB27ComfortNoise(t *testing.T) {
	voice := encodeStream(t, pcmu, sine(8000, 440, 8000, 400*time.Millisecond))
	for _, payload := range [][]byte{{40}, {40, 150, 100, 127}, {40, 60, 190, 100, 150, 110, 140, 120, 130, 127, 127, 127, 127}} {
		in := append([]Packet(nil), voice...)
		in[10] = Packet{Noise: true, Seq: in[10].Seq, Timestamp: in[10].Timestamp, Payload: payload}
		for i := 11; i < len(in); i++ {
			in[i].Timestamp += 1600
		}
		out := pushAll(mustPipe(t, PipeConfig{From: pcmu, To: l16n}), in)
		if len(out) != len(in) || out[11].Timestamp-out[10].Timestamp != 1760 || !out[11].Marker {
			t.Fatalf("%d packets of %d", len(out), len(in))
		}
		level := 10 * math.Log10(power(decodeStream(t, l16n, 8000, out[10:11]))/(32768*32768))
		if math.Abs(level+40) > 6 {
			t.Errorf("payload %v: %.1f dBov", payload, level)
		}
		passed := pushAll(mustPipe(t, PipeConfig{From: pcmu, To: pcma, ToNoise: true}), in)
		if pkt := passed[10]; len(passed) != len(in) || !pkt.Noise || pkt.Payload[0] != 40 || pkt.Timestamp != passed[9].Timestamp+160 {
			t.Errorf("passed as %+v", pkt)
		}
		if passed[11].Timestamp-passed[9].Timestamp != 320+1600 {
			t.Errorf("voice goes on after %d", passed[11].Timestamp-passed[9].Timestamp)
		}
	}
}

// B27: a caller with a clock fills the silence itself; the voice that follows in time leaves no hole.
func TestB27NoiseByClock(t *testing.T) {
	voice := encodeStream(t, pcmu, sine(8000, 440, 8000, 400*time.Millisecond))
	p := mustPipe(t, PipeConfig{From: pcmu, To: pcma})
	p.Noise()
	if out := drain(p); len(out) != 0 {
		t.Error("noise before the first packet")
	}
	out := pushAll(p, voice[:10])
	for range 5 {
		p.Noise()
		out = append(out, drain(p)...)
	}
	for i := 10; i < len(voice); i++ {
		voice[i].Timestamp += 800
	}
	out = append(out, pushAll(p, voice[10:])...)
	if len(out) != len(voice)+5 {
		t.Errorf("%d packets", len(out))
	}
	checkNumbers(t, out, 160)
}
