package g722

// band is the adaptive part of one sub-band: what encoder and decoder both keep, in step.
type band struct {
	predicted int32 // s: the prediction of the next sample
	zeros     int32 // sz: its part from the zeros
	step      int32 // det: the quantizer's step
	logStep   int32 // nb
	pole1     int32 // a1
	pole2     int32 // a2
	rebuilt   int32 // the last reconstructed sample, doubled
	sign1     int32 // of the last two partially reconstructed samples: 0 or -1
	sign2     int32
	zero      [6]int32 // b: the zeros' coefficients
	diff      [6]int32 // the last six quantized differences, doubled, the newest first
}

// adaptLow learns from a 4 bit code word of the lower band (blocks INVQAL, LOGSCL, SCALEL).
func (b *band) adaptLow(code int32) {
	b.predict(b.step * lowOutput4[code&15] >> 10)
	b.logStep = clamp((b.logStep*127>>7)+lowStep[code&15], 0, 18432)
	b.step = linear(b.logStep, 8)
}

// adaptHigh learns from a code word of the higher band and its quantized difference (blocks LOGSCH, SCALEH).
func (b *band) adaptHigh(diff, code int32) {
	b.predict(diff)
	b.logStep = clamp((b.logStep*127>>7)+highStep[code&3], 0, 22528)
	b.step = linear(b.logStep, 10)
}

func linear(logStep int32, bias int32) int32 {
	mantissa := antilog[logStep>>6&31]
	if shift := logStep>>11 - bias; shift >= 0 {
		return mantissa << uint32(shift&31)
	} else {
		return mantissa >> uint32(-shift&31)
	}
}

// predict adapts the poles and zeros to the quantized difference and computes the next prediction (the recommendation's
// section 6.2.1, block 4: RECONS, PARREC, UPPOL2, UPPOL1, UPZERO, DELAYA, FILTEP, FILTEZ, PREDIC). It is most of the coder's
// time, hence the zeros are written out.
func (b *band) predict(diff int32) {
	sign := (b.zeros + diff) >> 31
	same1, same2 := ^(sign ^ b.sign1), ^(sign ^ b.sign2) // -1 where the signs agree, else 0: branches would be mispredicted
	p1 := clamp(b.pole1, -8191, 8191)
	p1 = (p1 ^ same1) - same1
	p2 := 256&same2 - 128
	move := 384&same1 - 192
	b.sign2, b.sign1 = b.sign1, sign
	pole2 := clamp(p1>>5+p2+b.pole2*127>>7, -12288, 12288)
	limit := 15360 - pole2
	pole1 := clamp(move+b.pole1*255>>8, -limit, limit)
	b.pole1, b.pole2 = pole1, pole2

	// Each zero leaks by 1/256 and moves by 128 towards the sign of its correlation; the differences shift by one.
	step := (diff | -diff) >> 31 & 128 // 0 where there is no difference
	twice := 2 * diff
	zeros := int32(0)
	z, d := &b.zero, &b.diff
	z[5], d[5], zeros = adapt(z[5], d[5], d[4], diff, step, zeros)
	z[4], d[4], zeros = adapt(z[4], d[4], d[3], diff, step, zeros)
	z[3], d[3], zeros = adapt(z[3], d[3], d[2], diff, step, zeros)
	z[2], d[2], zeros = adapt(z[2], d[2], d[1], diff, step, zeros)
	z[1], d[1], zeros = adapt(z[1], d[1], d[0], diff, step, zeros)
	z[0], d[0], zeros = adapt(z[0], d[0], twice, diff, step, zeros)
	b.zeros = zeros

	rebuilt := clamp(2*b.predicted+twice, -32768, 32767)
	b.predicted = clamp(zeros+pole1*rebuilt>>15+pole2*b.rebuilt>>15, -32768, 32767)
	b.rebuilt = rebuilt
}

// adapt moves one zero against its old difference and filters its new one.
func adapt(zero, old, moved, diff, step, sum int32) (int32, int32, int32) {
	mask := (old ^ diff) >> 31
	zero = zero*255>>8 + (step ^ mask) - mask
	return zero, moved, sum + moved*zero>>15
}

func clamp(v, low, high int32) int32 { return min(max(v, low), high) }
