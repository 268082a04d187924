package g726

import "math/bits"

// Decoder reads one stream.
type Decoder struct {
	t *table
	p predictor
}

// NewDecoder makes a decoder of the rate.
func NewDecoder(r Rate) *Decoder { return &Decoder{tableOf(r), newPredictor()} }

// Reset forgets the past.
func (d *Decoder) Reset() { d.p = newPredictor() }

// AppendState appends what has to be known to go on with the stream.
func (d *Decoder) AppendState(b []byte) []byte { return d.p.appendState(b) }

// SetState goes on from a state of [Decoder.AppendState] of the same rate; false if it is none.
func (d *Decoder) SetState(b []byte) bool { return d.p.setState(b) }

// Samples tells how many samples so many bytes hold.
func Samples(r Rate, size int) int { return 8 * size / int(r) }

// Decode writes the samples of whole codes into pcm until either is used up and returns how many.
func (d *Decoder) Decode(pcm []int16, src []byte) int {
	n, width := 0, d.t.bits
	var held uint32
	have := uint(0)
	for _, b := range src {
		held |= uint32(b) << have
		for have += 8; have >= width; have -= width {
			if n == len(pcm) {
				return n
			}
			pcm[n] = d.sample(int32(held & (1<<width - 1)))
			held >>= width
			n++
		}
	}
	return n
}

func (d *Decoder) sample(code int32) int16 {
	magnitude, negative := d.t.split(code)
	partial, estimate := d.p.predict()
	y := d.p.scale()
	diff := difference(d.t.levels[magnitude], y)
	sample := estimate + diff
	if negative {
		sample = estimate - diff
	}
	d.p.learn(d.t, y, d.t.weights[magnitude], d.t.speeds[magnitude], diff, negative, sample, partial, estimate)
	return int16(min(max(sample, -8192), 8191) << 2)
}

// split takes a code apart.
func (t *table) split(code int32) (magnitude int32, negative bool) {
	all := int32(1)<<t.bits - 1
	if code>>(t.bits-1) != 0 {
		return code ^ all, true
	}
	return code, false
}

// Encoder writes one stream.
type Encoder struct {
	t *table
	p predictor
}

// NewEncoder makes an encoder of the rate.
func NewEncoder(r Rate) *Encoder { return &Encoder{tableOf(r), newPredictor()} }

// AppendState appends what has to be known to go on with the stream.
func (e *Encoder) AppendState(b []byte) []byte { return e.p.appendState(b) }

// SetState goes on from a state of [Encoder.AppendState] of the same rate; false if it is none.
func (e *Encoder) SetState(b []byte) bool { return e.p.setState(b) }

// Encode writes the codes of pcm, whose number fills whole bytes, and returns how many bytes. What does not fit into dst is left out.
func (e *Encoder) Encode(dst []byte, pcm []int16) int {
	n, width := 0, e.t.bits
	var held uint32
	have := uint(0)
	for _, s := range pcm {
		held |= uint32(e.code(int32(s)>>2)) << have
		if have += width; have >= 8 {
			if n == len(dst) {
				return n
			}
			dst[n] = byte(held)
			n++
			held >>= 8
			have -= 8
		}
	}
	return n
}

// code is a sample's of 14 bits.
func (e *Encoder) code(s int32) int32 {
	t := e.t
	partial, estimate := e.p.predict()
	y := e.p.scale()
	code := t.quantize(s-estimate, y)
	magnitude, negative := t.split(code)
	diff := difference(t.levels[magnitude], y)
	sample := estimate + diff
	if negative {
		sample = estimate - diff
	}
	e.p.learn(t, y, t.weights[magnitude], t.speeds[magnitude], diff, negative, sample, partial, estimate)
	return code
}

// quantize is LOG, SUBTB and QUAN.
func (t *table) quantize(d, y int32) int32 {
	magnitude := max(d, -d)
	e := int32(bits.Len32(uint32(magnitude >> 1)))
	l := e<<7 + magnitude<<7>>e&127 - y>>2
	i := int32(0)
	for int(i) < len(t.limits) && l >= t.limits[i] {
		i++
	}
	all := int32(1)<<t.bits - 1
	switch {
	case d < 0:
		return all ^ i
	case i == 0 && t.zeroed:
		return all // code 0 is not sent: there is silence on the line, and a run of zeros would lose the clock of a digital carrier
	}
	return i
}
