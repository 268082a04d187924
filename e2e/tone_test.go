//go:build e2e

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// toneHz is no divisor of any sampling rate, so that no two periods have the same samples.
const toneHz = 997

// writeTone makes a mono WAV file with a tone at -9 dBFS.
func writeTone(path string, rate int, hz float64, seconds float64) error {
	n := int(float64(rate) * seconds)
	b := make([]byte, 44, 44+2*n)
	copy(b, "RIFF")
	binary.LittleEndian.PutUint32(b[4:], uint32(36+2*n))
	copy(b[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(b[16:], 16)
	binary.LittleEndian.PutUint16(b[20:], 1) // PCM
	binary.LittleEndian.PutUint16(b[22:], 1)
	binary.LittleEndian.PutUint32(b[24:], uint32(rate))
	binary.LittleEndian.PutUint32(b[28:], uint32(2*rate))
	binary.LittleEndian.PutUint16(b[32:], 2)
	binary.LittleEndian.PutUint16(b[34:], 16)
	copy(b[36:], "data")
	binary.LittleEndian.PutUint32(b[40:], uint32(2*n))
	for i := range n {
		v := 0.355 * math.MaxInt16 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(math.Round(v))))
	}
	return os.WriteFile(path, b, 0o644)
}

// recording is mono audio, full scale 1.
type recording struct {
	rate    int
	samples []float64
}

// readWAV reads 16-bit PCM; of several channels it takes the first. A recorder that was ended early leaves lengths of 0
// in the head, so what is there counts.
func readWAV(path string) (recording, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return recording{}, err
	}
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return recording{}, fmt.Errorf("%s: not a WAV file", path)
	}
	var rec recording
	channels := 0
	for p := 12; p+8 <= len(b); {
		size := int(binary.LittleEndian.Uint32(b[p+4:]))
		body := b[p+8:]
		if size < len(body) {
			body = body[:size]
		}
		switch string(b[p : p+4]) {
		case "fmt ":
			if len(body) < 16 || binary.LittleEndian.Uint16(body[14:]) != 16 {
				return recording{}, fmt.Errorf("%s: not 16-bit PCM", path)
			}
			channels = int(binary.LittleEndian.Uint16(body[2:]))
			rec.rate = int(binary.LittleEndian.Uint32(body[4:]))
		case "data":
			if channels == 0 {
				return recording{}, fmt.Errorf("%s: data before format", path)
			}
			for i := 0; i+2*channels <= len(body); i += 2 * channels {
				rec.samples = append(rec.samples, float64(int16(binary.LittleEndian.Uint16(body[i:])))/32768)
			}
			return rec, nil
		}
		p += 8 + size + size%2
	}
	return recording{}, fmt.Errorf("%s: no audio in it", path)
}

// quality is what a tone that came back is worth.
type quality struct {
	snr     float64 // dB, median of the blocks: tone against everything else
	level   float64 // dBFS of the tone, median of the blocks
	whole   float64 // share of the blocks with at least 20 dB: gaps, clicks and slips of a clock spoil the block they are in
	seconds float64 // of audio that was judged
}

func (q quality) String() string {
	return fmt.Sprintf("SNR %.1f dB, level %.1f dBFS, %.0f %% of %.1f s whole", q.snr, q.level, 100*q.whole, q.seconds)
}

// judge measures a tone in blocks of 100 ms between the first second (set-up, adaption) and the last 300 ms.
func (r recording) judge(hz float64) (quality, error) {
	from, to := r.rate, len(r.samples)-3*r.rate/10
	block := r.rate / 10
	if to-from < 10*block {
		return quality{}, errors.New("less than one second of audio to judge")
	}
	var snrs, levels []float64
	whole := 0
	for i := from; i+block <= to; i += block {
		tone, rest := split(r.samples[i:i+block], hz/float64(r.rate))
		snr := 10 * math.Log10((tone+1e-12)/(rest+1e-12))
		snrs = append(snrs, snr)
		levels = append(levels, 10*math.Log10(tone+1e-12))
		if snr >= 20 {
			whole++
		}
	}
	n := len(snrs)
	slices.Sort(snrs)
	slices.Sort(levels)
	return quality{snr: snrs[n/2], level: levels[n/2], whole: float64(whole) / float64(n), seconds: float64(n) / 10}, nil
}

// split fits sine, cosine and a constant of one frequency (in cycles per sample) and returns the powers of the tone and
// of what the fit leaves over. The level is that of a sine: 1 is full scale.
func split(x []float64, f float64) (tone, rest float64) {
	var cc, ss, cs, xc, xs, mean float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for i, v := range x {
		s, c := math.Sincos(2 * math.Pi * f * float64(i))
		cc, ss, cs = cc+c*c, ss+s*s, cs+c*s
		xc, xs = xc+(v-mean)*c, xs+(v-mean)*s
	}
	det := cc*ss - cs*cs
	a, b := (xc*ss-xs*cs)/det, (xs*cc-xc*cs)/det
	for i, v := range x {
		s, c := math.Sincos(2 * math.Pi * f * float64(i))
		d := v - mean - a*c - b*s
		rest += d * d
	}
	return a*a + b*b, 2 * rest / float64(len(x))
}
