package transcode

import (
	"math"
	"testing"
	"time"
)

// B30: lost packets are replaced so that the outgoing stream has neither hole nor delay.
func TestB30LossIsConcealed(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		for _, lost := range []int{1, 2, 3, 5} {
			in := encodeStream(t, from, sine(naturalRate(from), 440, 8000, time.Second))
			in = append(in[:20:20], in[20+lost:]...)
			p := mustPipe(t, PipeConfig{From: from, To: to})
			out := pushAll(p, in)
			if len(out) != len(in)+lost {
				t.Errorf("%d lost: %d packets became %d", lost, len(in), len(out))
			}
			checkNumbers(t, out, uint32(to.Rate/50))
			if s := p.Stats(); s.Concealed != 1 || s.Late+s.Malformed+s.Wild+s.Silences != 0 {
				t.Errorf("%d lost: %+v", lost, s)
			}
			// In the place of the first lost frame something sounds, as loud as before within 10 dB; codecs are up to 10 ms late.
			rate := naturalRate(to)
			pcm, ms := decodeStream(t, to, rate, out), rate/1000
			before, gap := power(pcm[200*ms:400*ms]), power(pcm[405*ms:415*ms])
			if gap < before/10 {
				t.Errorf("%d lost: %.0f where the loss was, %.0f before", lost, gap, before)
			}
		}
	})
}

// B30: of a long loss only the first 100 ms are made up; the rest is a jump of the timestamp, and time stays right.
func TestB30LongLoss(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 440, 8000, 2*time.Second))
		in = append(in[:20:20], in[60:]...)
		out := pushAll(mustPipe(t, PipeConfig{From: from, To: to}), in)
		if want := len(in) + 5; len(out) != want {
			t.Fatalf("%d packets became %d, want %d", len(in), len(out), want)
		}
		span := out[len(out)-1].Timestamp - out[0].Timestamp
		if want := uint32(99 * to.Rate / 50); span != want {
			t.Errorf("the stream spans %d ticks, want %d", span, want)
		}
		if !out[25].Marker {
			t.Error("no marker after the hole")
		}
	})
}

// B30: neighbours that were swapped are put right before the decoder; the audio is that of the stream in order.
func TestB30SwappedNeighbours(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 440, 8000, time.Second))
		want := pushAll(mustPipe(t, PipeConfig{From: from, To: to}), in)
		in[10], in[11] = in[11], in[10]
		in[20], in[21] = in[21], in[20]
		p := mustPipe(t, PipeConfig{From: from, To: to})
		got := pushAll(p, in)
		if len(got) != len(want) {
			t.Fatalf("%d packets, want %d", len(got), len(want))
		}
		for i := range want {
			if string(got[i].Payload) != string(want[i].Payload) || got[i].Seq != want[i].Seq || got[i].Timestamp != want[i].Timestamp {
				t.Fatalf("packet %d differs", i)
			}
		}
		if s := p.Stats(); s.Reordered != 2 || s.Concealed != 0 || s.Late != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// B30: orders of arrival, by number, and what becomes of them: how many packets leave after each arrival.
func TestB30Arrivals(t *testing.T) {
	for _, c := range []struct {
		name  string
		order []int
		sent  []int
		stats Stats
	}{
		{"in order", []int{0, 1, 2}, []int{1, 1, 1}, Stats{}},
		{"duplicate", []int{0, 1, 1, 2}, []int{1, 1, 0, 1}, Stats{Late: 1}},
		{"old", []int{0, 1, 2, 0, 3}, []int{1, 1, 1, 0, 1}, Stats{Late: 1}},
		{"swap", []int{0, 2, 1, 3}, []int{1, 0, 2, 1}, Stats{Reordered: 1}},
		{"duplicate of the held", []int{0, 2, 2, 1, 3}, []int{1, 0, 0, 2, 1}, Stats{Reordered: 1, Late: 1}},
		{"loss", []int{0, 2, 3, 4}, []int{1, 0, 3, 1}, Stats{Concealed: 1}},
		{"loss, the lost comes too late", []int{0, 2, 3, 1, 4}, []int{1, 0, 3, 0, 1}, Stats{Concealed: 1, Late: 1}},
		{"two losses in a row", []int{0, 2, 4, 5, 6}, []int{1, 0, 2, 3, 1}, Stats{Concealed: 2}},
		{"two missing, the second comes", []int{0, 3, 2, 4}, []int{1, 0, 3, 1}, Stats{Concealed: 1, Reordered: 1}},
		{"two missing, the first comes", []int{0, 3, 1, 4}, []int{1, 0, 3, 1}, Stats{Concealed: 1, Reordered: 1}},
		{"three missing are not waited for", []int{0, 4, 5}, []int{1, 4, 1}, Stats{Concealed: 1}},
		{"one wild number", []int{0, 1, 20000, 2}, []int{1, 1, 0, 1}, Stats{Wild: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := encodeStream(t, pcmu, sine(8000, 440, 8000, time.Second))
			p := mustPipe(t, PipeConfig{From: pcmu, To: pcma})
			var out []Packet
			for i, n := range c.order {
				pkt := in[n%len(in)]
				pkt.Seq, pkt.Timestamp = in[0].Seq+uint16(n), in[0].Timestamp+uint32(n)*160
				p.Push(pkt)
				got := drain(p)
				if len(got) != c.sent[i] {
					t.Fatalf("arrival of %d sends %d, want %d", n, len(got), c.sent[i])
				}
				out = append(out, got...)
			}
			checkNumbers(t, out, 160)
			if p.Stats() != c.stats {
				t.Errorf("%+v, want %+v", p.Stats(), c.stats)
			}
		})
	}
}

// B30: Opus FEC restores a lost packet better than extrapolation can.
func TestB30OpusFEC(t *testing.T) {
	if !CanEncode(Opus) {
		t.Skip("this build has no Opus encoder")
	}
	// A sweep, so that the past does not tell the future, with hiss and syllables, since SILK is no coder for pure tones.
	pcm := make([]int16, 16000)
	phase, hiss := 0.0, noise{level: 600}
	hiss.fill(pcm)
	for i := range pcm {
		phase += 2 * math.Pi * (200 + float64(i%4000)/4) / 8000
		pcm[i] += int16(4000 * (1.2 + math.Sin(2*math.Pi*4*float64(i)/8000)) * math.Sin(phase))
	}
	// The noise of the lost frames only, against the same stream without loss.
	ratio := func(fec bool) float64 {
		f := opusf
		if !fec {
			f.Params = "useinbandfec=0"
		}
		enc := mustPipe(t, PipeConfig{From: l16n, To: f, OpusLoss: 20})
		in := pushAll(enc, encodeStream(t, l16n, pcm))
		want := decodeStream(t, l16n, 8000, pushAll(mustPipe(t, PipeConfig{From: opusf, To: l16n}), in))
		var kept []Packet
		for i, pkt := range in {
			if i%10 != 5 {
				kept = append(kept, pkt)
			}
		}
		got := decodeStream(t, l16n, 8000, pushAll(mustPipe(t, PipeConfig{From: opusf, To: l16n}), kept))
		if len(got) != len(want) {
			t.Fatalf("%d samples, want %d", len(got), len(want))
		}
		var a, b []int16
		for i := 5; i < len(in); i += 10 {
			a, b = append(a, want[i*160:(i+1)*160]...), append(b, got[i*160:(i+1)*160]...)
		}
		snr, _ := alignedSNR(a, b, 0)
		return snr
	}
	with, without := ratio(true), ratio(false)
	t.Logf("every tenth packet lost: its frame has %.1f dB SNR with FEC, %.1f dB without", with, without)
	if with < without+3 {
		t.Error("FEC does not help")
	}
}

// B30: concealment continues a voiced sound, fades out within 60 ms and comes back without a click.
func TestB30ConcealmentShape(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		c := newPLC(rate)
		pcm := sine(rate, 150, 10000, 400*time.Millisecond)
		half := len(pcm) / 2
		c.good(pcm[:half])
		gap := make([]int16, rate/10)
		c.conceal(gap)
		if snr, _ := alignedSNR(pcm[half:half+rate/100], gap[:rate/100], 0); snr < 15 {
			t.Errorf("%d Hz: the first 10 ms are %.1f dB like the sound", rate, snr)
		}
		if power(gap[rate*6/100:]) != 0 {
			t.Errorf("%d Hz: still loud after 60 ms", rate)
		}
		next := append([]int16(nil), pcm[half:]...)
		c.good(next)
		all := append(append(append([]int16(nil), pcm[:half]...), gap...), next...)
		step := 0
		for i := half; i < len(all); i++ {
			step = max(step, abs(int(all[i])-int(all[i-1])))
		}
		// The sound's own steepest step is 2 pi f A / rate.
		if limit := int(2 * 2 * math.Pi * 150 * 10000 / float64(rate)); step > limit {
			t.Errorf("%d Hz: a step of %d, a click is more than %d", rate, step, limit)
		}
	}
}

func abs(v int) int { return max(v, -v) }
