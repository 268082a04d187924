package mediatest

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"rtcedge/transcode/g711"
)

// TestCompareFindsDelayGainAndNoise builds recordings whose answer is known.
func TestCompareFindsDelayGainAndNoise(t *testing.T) {
	original := Speech(3 * time.Second)(8000)
	r := rand.New(rand.NewPCG(1, 2))
	for _, tc := range []struct {
		delay float64 // samples
		gain  float64 // dB
		snr   float64 // dB, of added white noise
	}{
		{0, 0, 40}, {1234, -6, 30}, {77.37, 3, 35}, {800.5, -1, 20}, {-40, 0, 30}, {4000.81, -12, 10},
	} {
		whole := int(math.Floor(tc.delay))
		x := shift(floats(original), tc.delay-float64(whole))
		g := math.Pow(10, tc.gain/20)
		sigma := g * math.Sqrt(power(x)) * math.Pow(10, -tc.snr/20)
		recording := make([]int16, len(x)+8000)
		for i := range recording {
			v := sigma * r.NormFloat64()
			if j := i - whole; j >= 0 && j < len(x) {
				v += g * x[j]
			}
			recording[i] = int16(math.Round(v))
		}
		m := Compare(original, recording, 8000)
		delay := m.Delay.Seconds() * 8000
		if !m.Found || math.Abs(delay-tc.delay) > 0.05 || math.Abs(m.Gain-tc.gain) > 0.1 || math.Abs(m.SNR-tc.snr) > 0.7 {
			t.Errorf("delay %.2f gain %.1f SNR %.1f: found %.2f, %.2f, %.2f (share %.2f)", tc.delay, tc.gain, tc.snr, delay, m.Gain, m.SNR, m.Share)
		}
	}
	if m := Compare(original, make([]int16, 8000), 8000); m.Found {
		t.Errorf("found in silence: %+v", m)
	}
	noise := make([]int16, 16000)
	for i := range noise {
		noise[i] = int16(1000 * r.NormFloat64())
	}
	if m := Compare(original, noise, 8000); m.SNR > -5 {
		t.Errorf("found in noise: %+v", m)
	}
}

func TestLevelSeparatesTones(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		pcm := Tone(400, -10, time.Second)(rate)
		for i, v := range Tone(700, -20, time.Second)(rate) {
			pcm[i] += v
		}
		for hz, want := range map[float64]float64{400: -10, 700: -20} {
			if got := Level(pcm, rate, hz); math.Abs(got-want) > 0.3 {
				t.Errorf("%d Hz: level at %v is %.2f, want %v", rate, hz, got, want)
			}
		}
		if got := Level(pcm, rate, 1100); got > -75 {
			t.Errorf("%d Hz: level at 1100 is %.1f", rate, got)
		}
	}
}

// TestSpeechIsTelephoneBand: the signal has its energy in the band, a usual level, pauses, and is the same at each rate.
func TestSpeechIsTelephoneBand(t *testing.T) {
	pcm := Speech(5 * time.Second)(8000)
	if p := Power(pcm); p < -26 || p > -12 {
		t.Errorf("level %.1f dBFS", p)
	}
	wide := Speech(5 * time.Second)(16000)
	spectrum := make([]complex128, 1<<17)
	for i := range min(len(wide), len(spectrum)) {
		spectrum[i] = complex(float64(wide[i]), 0)
	}
	fft(spectrum)
	var in, out float64
	for i := range len(spectrum) / 2 {
		e := real(spectrum[i])*real(spectrum[i]) + imag(spectrum[i])*imag(spectrum[i])
		if hz := float64(i) * 16000 / float64(len(spectrum)); hz > 280 && hz < 3400 {
			in += e
		} else {
			out += e
		}
	}
	if r := 10 * math.Log10(out/in); r > -25 {
		t.Errorf("outside of the band: %.1f dB", r)
	}
	for i := range pcm {
		if d := int(pcm[i]) - int(wide[2*i]); d < -1 || d > 1 {
			t.Fatalf("sample %d: %d at 8 kHz, %d at 16 kHz", i, pcm[i], wide[2*i])
		}
	}
}

// TestG711SNR is what the measure says of one companding: about 37 dB at this level.
func TestG711SNR(t *testing.T) {
	pcm := Speech(3 * time.Second)(8000)
	b, out := make([]byte, len(pcm)), make([]int16, len(pcm))
	g711.EncodeULaw(b, pcm)
	g711.DecodeULaw(out, b)
	if m := Compare(pcm, out, 8000); m.Delay != 0 || m.SNR < 33 || m.SNR > 41 {
		t.Errorf("%+v", m)
	}
}
