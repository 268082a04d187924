package g722

// Decoder decodes one stream. Its zero value is not ready: use [NewDecoder] or [Decoder.Reset].
type Decoder struct {
	low, high band
	qmf       history
}

// NewDecoder returns a decoder in the recommendation's initial state.
func NewDecoder() *Decoder {
	d := &Decoder{}
	d.Reset()
	return d
}

// Reset returns to the initial state.
func (d *Decoder) Reset() {
	*d = Decoder{low: band{step: 8}, high: band{step: 2}, qmf: history{end: 22}}
}

// Decode decodes src into pcm, two samples a byte, until either is used up, and returns the number of samples.
func (d *Decoder) Decode(pcm []int16, src []byte) int {
	n := min(len(pcm)/2, len(src))
	pcm = pcm[:2*n]
	for i, code := range src[:n] {
		low := clamp((d.low.step*lowOutput6[code&63]>>10)+d.low.predicted, -16384, 16383)
		d.low.adaptLow(int32(code & 63 >> 2))

		diff := d.high.step * highOutput[code>>6] >> 10
		high := clamp(diff+d.high.predicted, -16384, 16383)
		d.high.adaptHigh(diff, int32(code>>6))

		even, odd := filter(d.qmf.push(low+high, low-high))
		pcm[2*i] = int16(clamp(odd>>11, -32768, 32767))
		pcm[2*i+1] = int16(clamp(even>>11, -32768, 32767))
	}
	return 2 * n
}

// DecodeNarrow decodes only the lower band, one sample at 8 kHz a byte: what a telephone hears, without the filter that puts the bands
// together and the one that would take them apart again. A stream is decoded either by it or by Decode.
func (d *Decoder) DecodeNarrow(pcm []int16, src []byte) int {
	n := min(len(pcm), len(src))
	pcm = pcm[:n]
	for i, code := range src[:n] {
		low := clamp((d.low.step*lowOutput6[code&63]>>10)+d.low.predicted, -16384, 16383)
		d.low.adaptLow(int32(code & 63 >> 2))
		pcm[i] = int16(low << 1)
	}
	return n
}
