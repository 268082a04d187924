package g722

// history is the delay line of a QMF: 24 values, with room behind them so that it moves once in many samples.
type history struct {
	end   int
	value [24 + 2*64]int32
}

// push appends two values and returns the last 24, the oldest first.
func (h *history) push(a, b int32) *[24]int32 {
	if h.end >= len(h.value)-1 {
		copy(h.value[:22], h.value[len(h.value)-22:])
		h.end = 22
	}
	h.value[h.end] = a
	h.value[h.end+1] = b
	h.end += 2
	return (*[24]int32)(h.value[h.end-24:])
}

// filter computes both phases of the QMF over the last 24 values. The coefficients (table 11 of the recommendation) stand
// in the code because a constant factor is cheaper than one from a table. No sum exceeds 32 bits: the coefficients'
// magnitudes add up to 6704.
func filter(v *[24]int32) (even, odd int32) {
	even = 3*v[0] - 11*v[2] + 12*v[4] + 32*v[6] - 210*v[8] + 951*v[10] +
		3876*v[12] - 805*v[14] + 362*v[16] - 156*v[18] + 53*v[20] - 11*v[22]
	odd = -11*v[1] + 53*v[3] - 156*v[5] + 362*v[7] - 805*v[9] + 3876*v[11] +
		951*v[13] - 210*v[15] + 32*v[17] + 12*v[19] - 11*v[21] + 3*v[23]
	return even, odd
}
