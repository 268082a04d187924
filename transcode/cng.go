package transcode

import "math"

// The most reflection coefficients that are read; more do not make a better hiss (RFC 3389 section 3.1 leaves it open).
const cngOrder = 10

// noise makes comfort noise (RFC 3389): white noise through an all-pole lattice, at the level that the sender told.
type noise struct {
	seed    uint32
	level   float64 // RMS of the output in sample units
	order   int
	reflect [cngOrder]float64
	state   [cngOrder + 1]float64
}

// update reads a comfort noise payload: the level in -dBov, then the reflection coefficients (RFC 3389 section 3).
func (n *noise) update(payload []byte) bool {
	if len(payload) == 0 || payload[0] > 127 {
		return false
	}
	// 0 dBov is the power of a full square wave: section 3.1 by way of ITU-T G.711 appendix II.
	n.level = math.MaxInt16 * math.Pow(10, -float64(payload[0])/20)
	n.order = min(len(payload)-1, cngOrder)
	for i := range n.order {
		// Section 3.2; 255 is no valid value, and at 1 the filter would ring for ever.
		n.reflect[i] = 258 * (float64(min(payload[1+i], 254)) - 127) / 32768
	}
	n.state = [cngOrder + 1]float64{}
	return true
}

// fill writes noise.
func (n *noise) fill(pcm []int16) {
	// A lattice with reflections k raises white noise by 1/prod(1-k^2); the square root of 3 makes a uniform density's RMS 1.
	gain := n.level * math.Sqrt(3)
	for _, k := range n.reflect[:n.order] {
		gain *= math.Sqrt(max(1-k*k, 0))
	}
	for i := range pcm {
		n.seed = n.seed*1664525 + 1013904223
		forward := gain * float64(int32(n.seed)) / (1 << 31)
		for k := n.order - 1; k >= 0; k-- {
			forward -= n.reflect[k] * n.state[k]
			n.state[k+1] = n.state[k] + n.reflect[k]*forward
		}
		n.state[0] = forward
		pcm[i] = int16(min(max(forward, math.MinInt16), math.MaxInt16))
	}
}
