package mediatest

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Tone makes a sine of a level in dB below full scale (a negative number), with 10 ms ramps.
func Tone(hz, dbfs float64, d time.Duration) func(rate int) []int16 {
	return func(rate int) []int16 {
		n := int(d * time.Duration(rate) / time.Second)
		amplitude := math.Pow(10, dbfs/20) * 32767
		ramp := float64(rate) / 100
		pcm := make([]int16, n)
		for i := range pcm {
			edge := min(1, float64(i)/ramp, float64(n-1-i)/ramp)
			pcm[i] = int16(math.Round(amplitude * edge * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
		}
		return pcm
	}
}

// Speech makes a signal like speech, between 300 and 3,400 Hz: vowels with a gliding pitch and formants, hisses and pauses, at
// about -20 dBFS. It is the same waveform at each rate and in each run.
func Speech(d time.Duration) func(rate int) []int16 {
	return func(rate int) []int16 {
		n := int(d * time.Duration(rate) / time.Second)
		pcm := make([]int16, n)
		hiss := newHiss()
		for i := range pcm {
			t := float64(i) / float64(rate)
			v := 0.0
			if vowel := bump(2.3 * t); vowel > 0 {
				v += vowel * voiced(t)
			}
			if fricative := bump(2.3*t + 0.5); fricative > 0.2 {
				v += 0.25 * (fricative - 0.2) * hiss.at(t)
			}
			if math.Mod(t, 2.6) > 2.2 { // a breath, with soft edges
				v *= 0.5 + 0.5*math.Cos(2*math.Pi*(math.Mod(t, 2.6)-2.2)/0.4)
			}
			pcm[i] = int16(math.Round(32767 * max(-1, min(1, 0.35*v))))
		}
		return pcm
	}
}

// bump is the envelope of a syllable: the positive half of a sine.
func bump(cycles float64) float64 { return max(0, math.Sin(2*math.Pi*cycles)) }

// voiced is a sum of harmonics of a pitch that glides between 105 and 175 Hz.
func voiced(t float64) float64 {
	const middle, swing, speed = 140, 35, 0.6
	phase := 2*math.Pi*middle*t - swing/speed*math.Cos(2*math.Pi*speed*t)
	pitch := middle + swing*math.Sin(2*math.Pi*speed*t)
	// Two formants that wander, as between vowels.
	f1, f2 := 520+180*math.Sin(2*math.Pi*0.9*t), 1500+500*math.Sin(2*math.Pi*0.7*t+1)
	sum := 0.0
	for k := 2.0; k*pitch < 3400; k++ {
		hz := k * pitch
		w := math.Exp(-sq((hz-f1)/150)) + 0.5*math.Exp(-sq((hz-f2)/250)) + 0.1*math.Exp(-sq((hz-2600)/400))
		// Soft edges of the telephone band.
		w *= 1 / (1 + math.Exp((300-hz)/15)) / (1 + math.Exp((hz-3250)/30))
		if w > 1e-3 {
			sum += w * math.Sin(k*phase)
		}
	}
	return 0.5 * sum
}

func sq(x float64) float64 { return x * x }

// hiss is band noise: sines of fixed random frequencies, so that it is the same at each rate.
type hiss struct{ hz, phase [40]float64 }

func newHiss() *hiss {
	r := rand.New(rand.NewPCG(20, 26))
	h := &hiss{}
	for i := range h.hz {
		h.hz[i], h.phase[i] = 1600+1700*r.Float64(), 2*math.Pi*r.Float64()
	}
	return h
}

func (h *hiss) at(t float64) float64 {
	sum := 0.0
	for i, hz := range h.hz {
		sum += math.Sin(2*math.Pi*hz*t + h.phase[i])
	}
	return sum / 4
}

// Once computes a sound the first time that a rate is asked for. Its samples are only read.
func Once(sound func(rate int) []int16) func(rate int) []int16 {
	var mu sync.Mutex
	made := map[int][]int16{}
	return func(rate int) []int16 {
		mu.Lock()
		defer mu.Unlock()
		if made[rate] == nil {
			made[rate] = sound(rate)
		}
		return made[rate]
	}
}
