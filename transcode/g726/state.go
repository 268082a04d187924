package g726

import (
	"encoding/binary"
	"math/bits"
)

// predictor is the part that encoder and decoder share. Values are in the recommendation's own fixed point.
type predictor struct {
	fast, slow  int32    // YU, YL: scale factors
	short, long int32    // DMS, DML: means of F
	speed       int32    // AP
	pole        [2]int32 // A1, A2
	zero        [6]int32 // B1 to B6
	signs       [2]bool  // PK1, PK2: of the last partial reconstructions
	diff        [6]float // DQ1 to DQ6
	rebuilt     [2]float // SR1, SR2
	tone        bool     // TD
}

// float is a number of sign, exponent and mantissa (FLOATA, FLOATB): six bits of mantissa, the first of them set but for 0.
type float struct {
	exponent, mantissa int32
	negative           bool
}

func newPredictor() (p predictor) {
	p.fast, p.slow = 544, 34816
	for i := range p.diff {
		p.diff[i] = float{mantissa: 32}
	}
	p.rebuilt = [2]float{{mantissa: 32}, {mantissa: 32}}
	return p
}

// floating converts a magnitude.
func floating(magnitude int32, negative bool) float {
	if magnitude == 0 {
		return float{mantissa: 32, negative: negative}
	}
	e := int32(bits.Len32(uint32(magnitude)))
	return float{exponent: e, mantissa: magnitude << 6 >> e, negative: negative}
}

// times is FMULT: a coefficient by a float.
func (f float) times(coefficient int32) int32 {
	c := coefficient >> 2
	magnitude := c
	if c < 0 {
		magnitude = -c & 0x1fff
	}
	g := floating(magnitude, c < 0)
	e := g.exponent + f.exponent
	product := (g.mantissa*f.mantissa + 48) >> 4
	if e <= 26 {
		product = product << 7 >> (26 - e)
	} else {
		product = product << 7 << (e - 26) & 0x7fff
	}
	if g.negative != f.negative {
		return -product
	}
	return product
}

// predict is ACCUM: the zeros' part of the estimate, and the whole.
func (p *predictor) predict() (partial, estimate int32) {
	for i, d := range p.diff {
		partial += d.times(p.zero[i])
	}
	whole := partial + p.rebuilt[0].times(p.pole[0]) + p.rebuilt[1].times(p.pole[1])
	return partial >> 1, whole >> 1
}

// scale is MIX with LIMA: the factor of the quantizer.
func (p *predictor) scale() int32 {
	if p.speed >= 256 {
		return p.fast
	}
	y, al := p.slow>>6, p.speed>>2
	switch d := p.fast - y; {
	case d > 0:
		y += d * al >> 6
	case d < 0:
		y += (d*al + 63) >> 6
	}
	return y
}

// difference is RECONST, ADDA and ANTILOG: the magnitude of the quantized difference.
func difference(level, y int32) int32 {
	l := level + y>>2
	if l < 0 {
		return 0
	}
	return (128 + l&127) << 7 >> (14 - l>>7&15)
}

// learn brings the state up to the sample that was rebuilt as the estimate and the difference: steps 3 and 4 of the package.
func (p *predictor) learn(t *table, y, w, f, magnitude int32, negative bool, sample, partial, estimate int32) {
	jump := p.jumps(magnitude)

	// FUNCTW, FILTD, LIMB, FILTE.
	p.fast = min(max(y+(w-y)>>5, 544), 5120)
	p.slow += p.fast + -p.slow>>6

	// The partial reconstruction's sign, ADDC.
	reconstruction := sample - estimate + partial
	sign, still := reconstruction < 0, reconstruction == 0
	if jump {
		p.pole, p.zero = [2]int32{}, [6]int32{}
	} else {
		p.teach(t, sign, still, magnitude, negative)
	}
	copy(p.diff[1:], p.diff[:5])
	p.diff[0] = floating(magnitude, negative)
	p.rebuilt[1] = p.rebuilt[0]
	if sample == -32768 {
		p.rebuilt[0] = float{mantissa: 32, negative: true}
	} else {
		p.rebuilt[0] = floating(max(sample, -sample), sample < 0)
	}
	p.signs[1], p.signs[0] = p.signs[0], sign
	p.tone = !jump && p.pole[1] < -11776 // TONE

	// FILTA, FILTB, SUBTC, FILTC, TRIGA.
	p.short += (f - p.short) >> 5
	p.long += (f<<2 - p.long) >> 7
	away := p.short<<2 - p.long
	switch {
	case jump:
		p.speed = 256
	case y < 1536, p.tone, max(away, -away) >= p.long>>3:
		p.speed += (512 - p.speed) >> 4
	default:
		p.speed += -p.speed >> 4
	}
}

// jumps is TRANS: a difference far above the slow scale, after a tone.
func (p *predictor) jumps(magnitude int32) bool {
	whole, part := p.slow>>15, p.slow>>10&31
	limit := int32(31 << 10)
	if whole <= 9 {
		limit = (32 + part) << whole
	}
	return p.tone && magnitude > (limit+limit>>1)>>1
}

// teach is UPA2, LIMC, UPA1, LIMD and UPB.
func (p *predictor) teach(t *table, sign, still bool, magnitude int32, negative bool) {
	a2 := p.pole[1] - p.pole[1]>>7
	if !still {
		g := p.pole[0]
		if sign == p.signs[0] {
			g = -g
		}
		switch {
		case g < -8191:
			a2 -= 256
		case g > 8191:
			a2 += 255
		default:
			a2 += g >> 5
		}
		if sign != p.signs[1] {
			a2 -= 128
		} else {
			a2 += 128
		}
		a2 = min(max(a2, -12288), 12288)
	}
	a1 := p.pole[0] - p.pole[0]>>8
	if !still {
		if sign == p.signs[0] {
			a1 += 192
		} else {
			a1 -= 192
		}
	}
	limit := 15360 - a2
	p.pole = [2]int32{min(max(a1, -limit), limit), a2}
	leak := 8
	if t.bits == 5 {
		leak = 9
	}
	for i := range p.zero {
		b := p.zero[i] - p.zero[i]>>leak
		if magnitude != 0 {
			if negative == p.diff[i].negative {
				b += 128
			} else {
				b -= 128
			}
		}
		p.zero[i] = b
	}
}

// StateSize is the length of a coder's state.
const StateSize = 4 * (5 + 2 + 6 + 3*(6+2) + 3)

// words are the state's numbers, in order.
func (p *predictor) words() (list []int32) {
	list = append(list, p.fast, p.slow, p.short, p.long, p.speed)
	list = append(append(list, p.pole[:]...), p.zero[:]...)
	for _, f := range append(p.diff[:len(p.diff):len(p.diff)], p.rebuilt[:]...) {
		list = append(list, f.exponent, f.mantissa, flag(f.negative))
	}
	return append(list, flag(p.signs[0]), flag(p.signs[1]), flag(p.tone))
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// appendState appends what has to be known to go on with the stream.
func (p *predictor) appendState(b []byte) []byte {
	for _, w := range p.words() {
		b = binary.BigEndian.AppendUint32(b, uint32(w))
	}
	return b
}

// setState goes on from a state, bounded to what the arithmetic can reach; false if it is none.
func (p *predictor) setState(b []byte) bool {
	if len(b) != StateSize {
		return false
	}
	take := func(low, high int32) int32 {
		w := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		return min(max(w, low), high)
	}
	p.fast, p.slow = take(544, 5120), take(34816, 5120<<6)
	p.short, p.long, p.speed = take(0, 0x1000), take(0, 0x4000), take(0, 512)
	p.pole = [2]int32{take(-27648, 27648), take(-12288, 12288)}
	limit := 15360 - p.pole[1]
	p.pole[0] = min(max(p.pole[0], -limit), limit)
	for i := range p.zero {
		p.zero[i] = take(-32768, 32767)
	}
	for i := range len(p.diff) + len(p.rebuilt) {
		f := float{exponent: take(0, 15), mantissa: take(32, 63), negative: take(0, 1) == 1}
		if i < len(p.diff) {
			p.diff[i] = f
		} else {
			p.rebuilt[i-len(p.diff)] = f
		}
	}
	p.signs = [2]bool{take(0, 1) == 1, take(0, 1) == 1}
	p.tone = take(0, 1) == 1
	return true
}
