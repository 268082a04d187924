package transcode

import "math"

// The half-band filter: 47 taps of which every second is zero, the rest symmetric: 12 factors. It passes 0 to 3.5 kHz and
// stops from 4.5 kHz; its delay is 1.5 ms.
const (
	halfTaps  = 12
	halfBits  = 14 // of a factor's fraction; the sums stay within 32 bits
	halfBlock = 160
)

// halfFactors are the taps at the odd distances 1, 3, ... 23 from the middle one, doubled, which makes them the factors
// of an interpolator; a decimator halves the sum.
var halfFactors = designHalfBand()

// designHalfBand samples the ideal low pass and shapes it by a Kaiser window.
func designHalfBand() (factors [halfTaps]int32) {
	const beta = 5.5
	var taps [halfTaps]float64
	sum := 0.0
	for k := range taps {
		n := float64(2*k + 1)
		r := n / (2 * halfTaps)
		taps[k] = math.Sin(math.Pi*n/2) / (math.Pi * n) * bessel(beta*math.Sqrt(1-r*r)) / bessel(beta)
		sum += 2 * taps[k]
	}
	rest := int32(1 << halfBits / 2)
	for k := halfTaps - 1; k > 0; k-- {
		factors[k] = int32(math.Round(taps[k] / sum * (1 << halfBits)))
		rest -= factors[k]
	}
	factors[0] = rest // the gain at 0 Hz is exactly 1
	return factors
}

// bessel is the modified Bessel function of the first kind, order 0.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= x / (2 * k) * x / (2 * k)
		sum += term
	}
	return sum
}

// doubler turns 8 kHz into 16 kHz.
type doubler struct {
	line [2*halfTaps + halfBlock]int16
}

// double writes two samples for each of at most halfBlock in src.
func (d *doubler) double(dst, src []int16) int {
	n := copy(d.line[2*halfTaps:], src)
	dst = dst[:2*n]
	for i := range n {
		w := (*[2 * halfTaps]int16)(d.line[i+1:])
		dst[2*i] = w[halfTaps-1]
		dst[2*i+1] = clip((oddTaps(w) + 1<<(halfBits-1)) >> halfBits)
	}
	copy(d.line[:2*halfTaps], d.line[n:])
	return 2 * n
}

// halver turns 16 kHz into 8 kHz.
type halver struct {
	middle [halfTaps + halfBlock]int16 // the samples under the middle tap, delayed to meet the others
	line   [2*halfTaps + halfBlock]int16
}

// halve writes one sample for each pair of at most 2*halfBlock samples in src.
func (h *halver) halve(dst, src []int16) int {
	n := min(len(src)/2, halfBlock)
	src, dst = src[:2*n], dst[:n]
	for i := range n {
		h.middle[halfTaps+i] = src[2*i]
		h.line[2*halfTaps+i] = src[2*i+1]
	}
	for i := range n {
		w := (*[2 * halfTaps]int16)(h.line[i+1:])
		middle := int32(h.middle[i+1]) << halfBits
		dst[i] = clip((oddTaps(w) + middle + 1<<halfBits) >> (halfBits + 1))
	}
	copy(h.middle[:halfTaps], h.middle[n:])
	copy(h.line[:2*halfTaps], h.line[n:])
	return n
}

// oddTaps sums the filter's non-zero taps around the middle of w. Written out, it takes half the time of a loop.
func oddTaps(w *[2 * halfTaps]int16) int32 {
	f := &halfFactors
	return f[0]*(int32(w[11])+int32(w[12])) + f[1]*(int32(w[10])+int32(w[13])) +
		f[2]*(int32(w[9])+int32(w[14])) + f[3]*(int32(w[8])+int32(w[15])) +
		f[4]*(int32(w[7])+int32(w[16])) + f[5]*(int32(w[6])+int32(w[17])) +
		f[6]*(int32(w[5])+int32(w[18])) + f[7]*(int32(w[4])+int32(w[19])) +
		f[8]*(int32(w[3])+int32(w[20])) + f[9]*(int32(w[2])+int32(w[21])) +
		f[10]*(int32(w[1])+int32(w[22])) + f[11]*(int32(w[0])+int32(w[23]))
}

func clip(v int32) int16 { return int16(min(max(v, math.MinInt16), math.MaxInt16)) }
