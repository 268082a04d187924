package g722

// Encoder encodes one stream. Its zero value is not ready: use [NewEncoder] or [Encoder.Reset].
type Encoder struct {
	low, high band
	qmf       history
}

// NewEncoder returns an encoder in the recommendation's initial state.
func NewEncoder() *Encoder {
	e := &Encoder{}
	e.Reset()
	return e
}

// Reset returns to the initial state.
func (e *Encoder) Reset() {
	*e = Encoder{low: band{step: 8}, high: band{step: 2}, qmf: history{end: 22}}
}

// Encode encodes pcm into dst, one byte for two samples, until either is used up, and returns the number of bytes. An odd
// last sample is left out.
func (e *Encoder) Encode(dst []byte, pcm []int16) int {
	n := min(len(pcm)/2, len(dst))
	pcm = pcm[:2*n]
	for i := range dst[:n] {
		even, odd := filter(e.qmf.push(int32(pcm[2*i]), int32(pcm[2*i+1])))
		low, high := (odd+even)>>14, (odd-even)>>14

		h := quantizeHigh(&e.high, high)
		e.high.adaptHigh(e.high.step*highOutput[h]>>10, h)
		l := quantizeLow(&e.low, low)
		e.low.adaptLow(l >> 2)
		dst[i] = byte(h<<6 | l)
	}
	return n
}

// silentHigh is the higher band's code for its smallest positive difference, which lets the step shrink and the prediction be zero.
const silentHigh = 3 << 6

// EncodeNarrow encodes audio at 8 kHz as the lower band, one byte a sample; the higher one is silent, as it would be if the audio went
// through Encode at 16 kHz. A stream is encoded either by it or by Encode.
func (e *Encoder) EncodeNarrow(dst []byte, pcm []int16) int {
	n := min(len(pcm), len(dst))
	pcm = pcm[:n]
	for i := range dst[:n] {
		l := quantizeLow(&e.low, int32(pcm[i])>>1)
		e.low.adaptLow(l >> 2)
		dst[i] = byte(silentHigh | l)
	}
	return n
}

// quantizeHigh codes the difference of a sample of the higher band to its prediction (block QUANTH).
func quantizeHigh(b *band, sample int32) int32 {
	diff := clamp(sample-b.predicted, -32768, 32767)
	code := int32(0)
	if diff >= 0 {
		code = 2
	}
	if diff^diff>>31 < 141*b.step>>8 { // the magnitude, as one's complement
		code++
	}
	return code
}

// quantizeLow codes the difference of a sample of the lower band to its prediction (block QUANTL): the number of decision levels below its
// magnitude. A level times the step is compared with the magnitude in the recommendation: that is the level with their quotient, which
// finds the number in a table. One division is a third of the time of a bisection, each of whose steps waits for the one before.
func quantizeLow(b *band, sample int32) int32 {
	diff := clamp(sample-b.predicted, -32768, 32767)
	magnitude := uint32(diff ^ diff>>31) // as one's complement
	// A level counts if it times the step, cut to 1/1024, does not exceed the magnitude.
	quotient := (magnitude<<10 + 1023) / uint32(b.step)
	return int32(lowCode[uint32(diff)>>31][lowLevel[min(quotient, maxDecision)]])
}
