package transcode

import (
	"encoding/binary"
	"flag"
	"math"
	"os"
	"testing"
	"time"

	"rtcedge/media/mediatest"
)

var recorded = flag.String("speech", "", "speech for the test of Opus' quality: 16 bit samples, 8 kHz, little endian, no header")

// TestB31OpusComplexityGainsLittle is why the default complexity is 1: speech that PCMU has brought comes out of Opus at 8 kHz nearly as near to
// itself as after 10, which takes twice the time. And it is why telephone audio is coded by CELT: the waves are much nearer than SILK's best, and
// the sounds are, too, if people speak (-speech; bench/MEDIA.md has figures), while the regular pulses that the generator makes are
// SILK's own model. SNR says how near the waves are, the log-spectral distance over bands of 250 Hz how near the sounds are: libopus shapes
// noise more at high complexity, which the second would see. Neither is an ear.
func TestB31OpusComplexityGainsLittle(t *testing.T) {
	if !CanEncode(Opus) {
		t.Skip("this build has no Opus encoder")
	}
	speech, worse := mediatest.Speech(6*time.Second)(8000), 0.5
	if *recorded != "" {
		raw, err := os.ReadFile(*recorded)
		if err != nil {
			t.Fatal(err)
		}
		speech, worse = make([]int16, len(raw)/2), 0
		for i := range speech {
			speech[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	}
	in := encodeStream(t, pcmu, speech)
	type quality struct{ snr, distance float64 }
	got := make(map[int]quality)
	for _, complexity := range []int{-1, 1, 3, 5, 10} {
		p := mustPipe(t, PipeConfig{From: pcmu, To: opusf, OpusComplexity: complexity})
		out := decodeStream(t, opusf, 8000, pushAll(p, in))
		snr, delay := alignedSNR(speech, out, 160)
		got[complexity] = quality{snr, spectralDistance(speech, out[max(delay, 0):])}
		t.Logf("complexity %d: SNR %.2f dB, log-spectral distance %.2f dB", complexity, snr, got[complexity].distance)
	}
	one, ten := got[1], got[10]
	if one.snr < ten.snr-1.5 || one.distance > ten.distance+0.1 {
		t.Errorf("complexity 1 has %+v, 10 has %+v", one, ten)
	}
	p := mustPipe(t, PipeConfig{From: pcmu, To: opusf, OpusComplexity: 10})
	p.enc.(opusEncoder).e.SetLoss(1) // from here on it is SILK
	p.enc.(opusEncoder).e.SetLoss(0)
	out := decodeStream(t, opusf, 8000, pushAll(p, in))
	snr, delay := alignedSNR(speech, out, 160)
	silk := quality{snr, spectralDistance(speech, out[max(delay, 0):])}
	t.Logf("SILK, complexity 10: SNR %.2f dB, log-spectral distance %.2f dB", silk.snr, silk.distance)
	if one.snr < silk.snr+2 || one.distance > silk.distance+worse {
		t.Errorf("CELT at complexity 1 has %+v, SILK at 10 has %+v", one, silk)
	}
}

// spectralDistance is the mean of the distances of 20 ms frames that are not silent, in dB.
func spectralDistance(want, got []int16) float64 {
	const frame, loud = 160, 100
	sum, frames := 0.0, 0
	for at := 8000; at+frame <= min(len(want), len(got)); at += frame {
		a, b := want[at:at+frame], got[at:at+frame]
		energy := 0.0
		for _, v := range a {
			energy += float64(v) * float64(v)
		}
		if energy < frame*loud*loud {
			continue
		}
		square := 0.0
		for band := 1; band < 15; band++ {
			d := 10 * math.Log10(bandPower(a, band)/bandPower(b, band))
			square += d * d
		}
		sum += math.Sqrt(square / 14)
		frames++
	}
	return sum / float64(frames)
}

// bandPower is the power in a band of 250 Hz, at least that of what nobody hears.
func bandPower(pcm []int16, band int) float64 {
	power := 1000.0
	for k := range 5 {
		f := 2 * math.Pi * float64(250*band+50*k) / 8000
		var re, im float64
		for i, v := range pcm {
			w := (0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(pcm)))) * float64(v)
			re += w * math.Cos(f*float64(i))
			im += w * math.Sin(f*float64(i))
		}
		power += (re*re + im*im) / float64(len(pcm))
	}
	return power
}
