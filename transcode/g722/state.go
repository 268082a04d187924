package g722

import "encoding/binary"

// StateSize is the length of a coder's state.
const StateSize = 2 * bandWords * 4

// bandWords are the numbers of a band.
const bandWords = 9 + 6 + 6

// AppendState appends what has to be known to go on with the stream: both bands. The filter's history is left out; it is 3 ms.
func (d *Decoder) AppendState(b []byte) []byte { return d.high.append(d.low.append(b)) }

// SetState goes on from a state of [Decoder.AppendState]; false if it is none.
func (d *Decoder) SetState(b []byte) bool { return setState(b, &d.low, &d.high) }

// AppendState appends what has to be known to go on with the stream.
func (e *Encoder) AppendState(b []byte) []byte { return e.high.append(e.low.append(b)) }

// SetState goes on from a state of [Encoder.AppendState]; false if it is none.
func (e *Encoder) SetState(b []byte) bool { return setState(b, &e.low, &e.high) }

func (b *band) words() (w [bandWords]*int32) {
	w = [bandWords]*int32{&b.predicted, &b.zeros, &b.step, &b.logStep, &b.pole1, &b.pole2, &b.rebuilt, &b.sign1, &b.sign2}
	for i := range b.zero {
		w[9+i], w[15+i] = &b.zero[i], &b.diff[i]
	}
	return w
}

func (b *band) append(out []byte) []byte {
	for _, w := range b.words() {
		out = binary.BigEndian.AppendUint32(out, uint32(*w))
	}
	return out
}

// setState reads both bands and bounds them to what the recommendation's arithmetic can reach.
func setState(b []byte, low, high *band) bool {
	if len(b) != StateSize {
		return false
	}
	for i, band := range []*band{low, high} {
		for k, w := range band.words() {
			*w = clamp(int32(binary.BigEndian.Uint32(b[4*(i*bandWords+k):])), -65536, 65535)
		}
		band.logStep = clamp(band.logStep, 0, 22528-4096*int32(1-i))
		band.step = linear(band.logStep, 8+2*int32(i))
		band.sign1, band.sign2 = band.sign1>>31, band.sign2>>31
		band.pole2 = clamp(band.pole2, -12288, 12288)
		band.pole1 = clamp(band.pole1, -(15360 - band.pole2), 15360-band.pole2)
	}
	return true
}
