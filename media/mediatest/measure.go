package mediatest

import (
	"math"
	"math/bits"
	"math/cmplx"
	"time"
)

// Match is how a recording compares with its original after alignment.
type Match struct {
	Found bool
	Delay time.Duration // of the recording
	Gain  float64       // in dB
	SNR   float64       // in dB; all that is not the original times the gain is noise
	Share float64       // of the original, 0..1, that the recording covers
}

// settle is the begin of a recording that is not judged: codecs adapt in it.
const settle = 200 * time.Millisecond

// Compare finds the original in a recording, both mono at rate, with a resolution finer than a sample: half a sample at 8 kHz
// would cost a 3 kHz tone all but 5 dB of its SNR.
func Compare(original, recording []int16, rate int) Match {
	a, b := floats(original), floats(recording)
	if power(a) == 0 || power(b) == 0 {
		return Match{}
	}
	whole := peakLag(a, b)
	at := func(fraction float64) Match {
		return fit(a, b, whole, fraction, rate)
	}
	// The SNR has one maximum within a sample of the peak: golden section.
	const ratio = 0.6180339887498949
	low, high := -1.0, 1.0
	x1, x2 := high-ratio*(high-low), low+ratio*(high-low)
	m1, m2 := at(x1), at(x2)
	for range 14 {
		if m1.SNR > m2.SNR {
			high, x2, m2 = x2, x1, m1
			x1 = high - ratio*(high-low)
			m1 = at(x1)
		} else {
			low, x1, m1 = x1, x2, m2
			x2 = low + ratio*(high-low)
			m2 = at(x2)
		}
	}
	if zero := at(0); zero.SNR >= m1.SNR {
		return zero
	}
	return m1
}

// fit compares at one delay of whole + fraction samples.
func fit(a, b []float64, whole int, fraction float64, rate int) Match {
	if fraction != 0 {
		a = shift(a, fraction)
	}
	skip := int(settle * time.Duration(rate) / time.Second)
	from, to := max(0, -whole), min(len(a), len(b)-whole)
	if to <= from {
		return Match{}
	}
	share := float64(to-from) / float64(len(a))
	if to-from > 4*skip {
		from += skip
	}
	var aa, ab, bb float64
	for i := from; i < to; i++ {
		x, y := a[i], b[i+whole]
		aa, ab, bb = aa+x*x, ab+x*y, bb+y*y
	}
	if aa == 0 || ab <= 0 {
		return Match{}
	}
	gain := ab / aa
	noise := max(bb-ab*gain, 1e-9*bb) // more than 90 dB is exact
	return Match{
		Found: true,
		Delay: time.Duration(math.Round((float64(whole) + fraction) * float64(time.Second) / float64(rate))),
		Gain:  20 * math.Log10(gain),
		SNR:   10 * math.Log10(gain*gain*aa/noise),
		Share: share,
	}
}

// shift delays by a fraction of a sample with a windowed sinc of 32 taps.
func shift(a []float64, fraction float64) []float64 {
	const half = 16
	var taps [2 * half]float64
	for k := range taps {
		x := float64(k-half+1) - fraction
		taps[k] = 1
		if x != 0 {
			taps[k] = math.Sin(math.Pi*x) / (math.Pi * x)
		}
		taps[k] *= sq(math.Cos(math.Pi * x / (2*half + 2)))
	}
	out := make([]float64, len(a))
	for i := range out {
		sum := 0.0
		for k, w := range taps {
			if j := i - (k - half + 1); j >= 0 && j < len(a) {
				sum += w * a[j]
			}
		}
		out[i] = sum
	}
	return out
}

// peakLag is the delay of b against a in samples by cross-correlation.
func peakLag(a, b []float64) int {
	n := 1 << bits.Len(uint(len(a)+len(b)))
	x, y := make([]complex128, n), make([]complex128, n)
	for i, v := range a {
		x[i] = complex(v, 0)
	}
	for i, v := range b {
		y[i] = complex(v, 0)
	}
	fft(x)
	fft(y)
	for i := range x {
		x[i] *= cmplx.Conj(y[i]) // the forward transform of this is the conjugate of the inverse one that is wanted
	}
	fft(x)
	best := 0
	for i := range x {
		if real(x[i]) > real(x[best]) {
			best = i
		}
	}
	// x is the correlation at lag i of b behind a, lags before 0 at the end.
	if best >= len(b) {
		best -= n
	}
	return best
}

// fft transforms in place; the length is a power of 2.
func fft(x []complex128) {
	n := len(x)
	for i, j := 1, 0; i < n; i++ {
		bit := n >> 1
		for ; j&bit != 0; bit >>= 1 {
			j ^= bit
		}
		if j ^= bit; i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	for size := 2; size <= n; size *= 2 {
		turn := make([]complex128, size/2)
		for k := range turn {
			turn[k] = cmplx.Rect(1, -2*math.Pi*float64(k)/float64(size))
		}
		for at := 0; at < n; at += size {
			for k, w := range turn {
				u, v := x[at+k], x[at+k+size/2]*w
				x[at+k], x[at+k+size/2] = u+v, u-v
			}
		}
	}
}

// Level is the level of a frequency in dBFS: 0 is a full-scale sine. A window of Hann keeps others out that are some hertz away.
func Level(pcm []int16, rate int, hz float64) float64 {
	if len(pcm) < 2 {
		return math.Inf(-1)
	}
	w := 2 * math.Cos(2*math.Pi*hz/float64(rate))
	var s1, s2 float64
	for i, v := range pcm {
		hann := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(pcm)))
		s1, s2 = float64(v)*hann+w*s1-s2, s1
	}
	magnitude := math.Sqrt(max(s1*s1+s2*s2-w*s1*s2, 0))
	return 20 * math.Log10(magnitude/(float64(len(pcm))/4)/32767)
}

// Power is the level of a signal in dBFS: 0 is a full-scale sine.
func Power(pcm []int16) float64 {
	return 10 * math.Log10(2*power(floats(pcm))/(32767*32767))
}

func power(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return sum / float64(max(len(x), 1))
}

func floats(pcm []int16) []float64 {
	out := make([]float64, len(pcm))
	for i, v := range pcm {
		out[i] = float64(v)
	}
	return out
}
