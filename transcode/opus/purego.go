//go:build !cgo

package opus

import (
	"errors"

	"github.com/pion/opus"
)

// CanEncode tells if this build has an encoder.
const CanEncode = false

// HasConceal tells if [Decoder.Conceal] fills holes; without it the caller has to.
const HasConceal = false

// Decoder decodes one stream to mono at one rate.
type Decoder struct {
	dec opus.Decoder
}

// NewDecoder returns a decoder whose output is mono at rate Hz (8000, 12000, 16000, 24000 or 48000).
func NewDecoder(rate int) (*Decoder, error) {
	dec, err := opus.NewDecoderWithOutput(rate, 1)
	if err != nil {
		return nil, err
	}
	return &Decoder{dec: dec}, nil
}

// Decode decodes a packet whose size [Samples] accepted into pcm, which must have room for all of it, and returns the
// number of samples, 0 if the packet cannot be decoded.
func (d *Decoder) Decode(pcm []int16, packet []byte) int {
	n, err := d.dec.DecodeToInt16(packet, pcm)
	if err != nil {
		return 0
	}
	return n
}

// Conceal does nothing: the pure decoder offers neither FEC nor concealment.
func (d *Decoder) Conceal([]int16, []byte) bool { return false }

// Encoder cannot be had without cgo.
type Encoder struct{}

// NewEncoder always fails in a build without cgo.
func NewEncoder(EncoderConfig) (*Encoder, error) {
	return nil, errors.New("this binary was built without cgo, so it has no libopus")
}

// SetLoss does nothing.
func (e *Encoder) SetLoss(int) {}

// Encode encodes nothing.
func (e *Encoder) Encode([]byte, []int16) int { return 0 }
