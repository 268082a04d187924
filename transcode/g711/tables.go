package g711

// The tables are computed once and never written again. Both laws have their decision values on multiples of four of
// the 16 bit scale, so that the upper 14 bits of a sample are enough to encode it: 16 kB per law stay in the first cache.
var (
	ulawLinear = expand(expandULaw)
	alawLinear = expand(expandALaw)

	linearULaw = compress(&ulawLinear, 0xff)
	linearALaw = compress(&alawLinear, 0xd5)

	ulawALaw = cross(&ulawLinear, &linearALaw)
	alawULaw = cross(&alawLinear, &linearULaw)
)

// expandULaw decodes one byte (G.711 table 2), scaled from 14 to 16 bits.
func expandULaw(b byte) int16 {
	b = ^b
	magnitude := (int16(b&15)<<3+0x84)<<(b>>4&7) - 0x84
	if b&0x80 != 0 {
		return -magnitude
	}
	return magnitude
}

// expandALaw decodes one byte (G.711 table 1), scaled from 13 to 16 bits.
func expandALaw(b byte) int16 {
	b ^= 0x55
	magnitude := int16(b&15)<<4 + 8
	if segment := b >> 4 & 7; segment > 0 {
		magnitude = (magnitude + 0x100) << (segment - 1)
	}
	if b&0x80 == 0 { // A-law sets the bit for positive values
		return -magnitude
	}
	return magnitude
}

func expand(one func(byte) int16) (t [256]int16) {
	for b := range t {
		t[b] = one(byte(b))
	}
	return t
}

// compress inverts a law. The codes i^mask run upwards from the smallest positive value for i = 0 to 127; the decision
// between two neighbours lies halfway, a tie goes to the larger one. The index is the sample's upper 14 bits.
func compress(linear *[256]int16, mask byte) (t [1 << 14]byte) {
	const half = 1 << 13
	code := byte(0)
	for magnitude := range half {
		for code < 127 {
			below, above := int(linear[code^mask]), int(linear[(code+1)^mask])
			if magnitude < (below+above+4)>>3 {
				break
			}
			code++
		}
		t[magnitude] = code ^ mask
		if magnitude > 0 {
			t[2*half-magnitude] = code ^ mask ^ 0x80
		}
	}
	t[half] = t[half+1] // the most negative value has no positive twin
	return t
}

func cross(from *[256]int16, to *[1 << 14]byte) (t [256]byte) {
	for b := range t {
		t[b] = to[uint16(from[b])>>2]
	}
	return t
}
