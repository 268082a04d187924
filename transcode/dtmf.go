package transcode

import "math"

// The DTMF frequencies of ITU-T Q.23 in Hz, and the events 0 to 15 of RFC 4733 section 3.2 by row and column.
var (
	dtmfRows    = [4]float64{697, 770, 852, 941}
	dtmfColumns = [4]float64{1209, 1336, 1477, 1633}
	dtmfEvents  = [4][4]uint8{{1, 2, 3, 12}, {4, 5, 6, 13}, {7, 8, 9, 14}, {10, 0, 11, 15}}
)

const (
	dtmfLast = 15 // the last event that is a DTMF digit
	noDigit  = 0xff
)

// tone makes a DTMF digit: two oscillators, each a rotation in the plane.
type tone struct {
	step, phase [2]complex128
}

// start sets digit and volume, the latter in -dBm0 as RFC 4733 section 2.3.2 codes it.
func (t *tone) start(digit, volume uint8, rate int) {
	for r, row := range dtmfEvents {
		for c, d := range row {
			if d != digit {
				continue
			}
			// A sine of full scale has 3.14 dBm0 (G.711 table 5); the columns stand 2 dB above the rows (Q.23 allows it and lines need it).
			amplitude := math.MaxInt16 * math.Pow(10, -(float64(max(volume, 6))+3.14)/20)
			t.set(0, dtmfRows[r], amplitude*0.71, rate)
			t.set(1, dtmfColumns[c], amplitude*0.89, rate)
		}
	}
}

func (t *tone) set(i int, frequency, amplitude float64, rate int) {
	sin, cos := math.Sincos(2 * math.Pi * frequency / float64(rate))
	t.step[i], t.phase[i] = complex(cos, sin), complex(amplitude, 0)
}

// fill writes the tone, in phase with what it wrote before.
func (t *tone) fill(pcm []int16) {
	for i := range pcm {
		pcm[i] = int16(imag(t.phase[0]) + imag(t.phase[1]))
		t.phase[0] *= t.step[0]
		t.phase[1] *= t.step[1]
	}
}

// Detection, with the thresholds of common receivers (ITU-T Q.24 lists what administrations ask for).
const (
	dtmfBlock    = 102   // samples at 8 kHz, 12.75 ms: frequency resolution against speed
	dtmfMinimum  = 250.0 // amplitude of each tone in sample units, about -42 dBm0
	dtmfTwist    = 6.3   // column over row in power, 8 dB
	dtmfReverse  = 2.5   // row over column in power, 4 dB
	dtmfPeak     = 6.3   // over the others of its group in power, 8 dB
	dtmfFraction = 0.64  // of the block's energy
	dtmfHits     = 2     // blocks alike until a digit counts, and unlike until it ends
)

// detector finds DTMF digits in a voice stream by Goertzel's algorithm.
type detector struct {
	digit uint8 // the digit that sounds now, or noDigit

	block  int
	factor [8]float64 // 2 cos w
	s1, s2 [8]float64
	energy float64
	seen   int   // samples of this block
	last   uint8 // the last block's digit
	run    int   // blocks that had it
}

func newDetector(rate int) *detector {
	d := &detector{digit: noDigit, last: noDigit, block: dtmfBlock * rate / 8000}
	for i := range 4 {
		d.factor[i] = 2 * math.Cos(2*math.Pi*dtmfRows[i]/float64(rate))
		d.factor[4+i] = 2 * math.Cos(2*math.Pi*dtmfColumns[i]/float64(rate))
	}
	return d
}

// listen takes samples; digit is up to date afterwards.
func (d *detector) listen(pcm []int16) {
	for _, v := range pcm {
		x := float64(v)
		d.energy += x * x
		for i, f := range d.factor {
			s := x + f*d.s1[i] - d.s2[i]
			d.s2[i], d.s1[i] = d.s1[i], s
		}
		if d.seen++; d.seen == d.block {
			d.judge()
		}
	}
}

// judge ends a block.
func (d *detector) judge() {
	hit := d.classify()
	if hit == d.last {
		d.run++
	} else {
		d.last, d.run = hit, 1
	}
	if d.run >= dtmfHits {
		d.digit = hit
	}
	d.s1, d.s2 = [8]float64{}, [8]float64{}
	d.energy, d.seen = 0, 0
}

func (d *detector) classify() uint8 {
	var power [8]float64
	for i, f := range d.factor {
		power[i] = d.s1[i]*d.s1[i] + d.s2[i]*d.s2[i] - f*d.s1[i]*d.s2[i]
	}
	row, column := strongest(power[:4]), strongest(power[4:])
	r, c := power[row], power[4+column]
	n := float64(d.block)
	// A sine of amplitude A has the power (A n / 2)^2 in its own filter and A^2 n / 2 in the energy.
	if least := dtmfMinimum * n / 2; r < least*least || c < least*least {
		return noDigit
	}
	if c > r*dtmfTwist || r > c*dtmfReverse || (r+c)*2/n < dtmfFraction*d.energy {
		return noDigit
	}
	for i := range 4 {
		if i != row && power[i]*dtmfPeak > r || i != column && power[4+i]*dtmfPeak > c {
			return noDigit
		}
	}
	return dtmfEvents[row][column]
}

func strongest(power []float64) int {
	best := 0
	for i, p := range power {
		if p > power[best] {
			best = i
		}
	}
	return best
}
