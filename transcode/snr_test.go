package transcode

import (
	"testing"
	"time"

	"rtcedge/transcode/opus"
)

func opusSamples(payload []byte) (int, bool) { return opus.Samples(payload, 48000) }

// The tone's signal to noise ratio that a conversion must reach: that of its worse codec, less what a second coding of equal noise costs, in dB. The stack that this
// one replaces had 41 for PCMU, 43 for PCMA, 39 for G.722 and 33 for Opus.
func toneBound(from, to Format) float64 {
	bound := map[Codec]float64{PCMU: 37, PCMA: 37, G722: 39, Opus: 33, L16: 60, G726R32: 28, G726R24: 19}
	return min(bound[from.Codec], bound[to.Codec]) - 3.1
}

// B31: a tone of 1004 Hz, whose samples do not repeat, through every pair of codecs, source's codec and receiver's decoder included.
func TestB31ToneSNR(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 1004, 10000, 3*time.Second))
		p := mustPipe(t, PipeConfig{From: from, To: to, OpusBitrate: 64000})
		rate := naturalRate(to)
		got := decodeStream(t, to, rate, pushAll(p, in))
		snr := toneSNR(got[rate/2:], rate, 1004)
		t.Logf("%s to %s: %.1f dB", name(from), name(to), snr)
		if snr < toneBound(from, to) {
			t.Errorf("SNR %.1f dB, want %.1f", snr, toneBound(from, to))
		}
		if n, want := len(got), span(3*time.Second, rate); n != want {
			t.Errorf("%d samples of %d", n, want)
		}
	})
}

// B31: the default bit rate of Opus, which is made for speech, on a tone.
func TestB31OpusToneSNRByBitrate(t *testing.T) {
	if !CanEncode(Opus) {
		t.Skip("this build has no Opus encoder")
	}
	in := encodeStream(t, pcmu, sine(8000, 1004, 10000, 3*time.Second))
	for _, rate := range []int{0, 16000, 24000, 32000, 48000, 64000} {
		for _, complexity := range []int{-1, 5, 10} {
			p := mustPipe(t, PipeConfig{From: pcmu, To: opusf, OpusBitrate: rate, OpusComplexity: complexity})
			out := pushAll(p, in)
			size := 0
			for _, pkt := range out {
				size += len(pkt.Payload)
			}
			snr := toneSNR(decodeStream(t, opusf, 8000, out)[4000:], 8000, 1004)
			t.Logf("%d bit/s, complexity %d: %.1f dB at %.1f kbit/s", rate, complexity, snr, float64(size)*8/3000)
			if snr < 12 {
				t.Errorf("SNR %.1f dB", snr)
			}
		}
	}
}

// B31: the chirp, 100 Hz to 7.3 kHz, through every pair; narrow pairs are compared with the chirp at 8 kHz.
func TestB31ChirpSNR(t *testing.T) {
	wide := chirp(t)
	narrow := make([]int16, 0, len(wide)/2)
	h := &halver{}
	var block [halfBlock]int16
	for at := 0; at < len(wide); at += 2 * halfBlock {
		n := h.halve(block[:], wide[at:min(at+2*halfBlock, len(wide))])
		narrow = append(narrow, block[:n]...)
	}
	// The chirp's first three seconds stay in the telephone band.
	wide, narrow = wide[:3*16000], narrow[:3*8000]
	bounds := map[Codec]float64{PCMU: 30, PCMA: 30, G722: 14, Opus: -3, L16: 40, G726R32: 15, G726R24: 10}
	pairs(t, func(t *testing.T, from, to Format) {
		source := narrow
		if naturalRate(from) == 16000 {
			source = wide
		}
		want := narrow
		if naturalRate(from) == 16000 && naturalRate(to) == 16000 {
			want = wide
		} else if naturalRate(to) == 16000 {
			want = nil
			d := &doubler{}
			var out [2 * halfBlock]int16
			for at := 0; at < len(narrow); at += halfBlock {
				n := d.double(out[:], narrow[at:at+halfBlock])
				want = append(want, out[:n]...)
			}
		}
		p := mustPipe(t, PipeConfig{From: from, To: to, OpusBitrate: 64000})
		got := decodeStream(t, to, naturalRate(to), pushAll(p, encodeStream(t, from, source)))
		snr, delay := alignedSNR(want, got, naturalRate(to)/20)
		t.Logf("%s to %s: %.1f dB, delay %d samples", name(from), name(to), snr, delay)
		if bound := min(bounds[from.Codec], bounds[to.Codec]); snr < bound {
			t.Errorf("SNR %.1f dB, want %.1f", snr, bound)
		}
	})
}
