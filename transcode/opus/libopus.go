//go:build cgo

package opus

import (
	"fmt"

	"gopkg.in/hraban/opus.v2"
)

// CanEncode tells if this build has an encoder.
const CanEncode = true

// HasConceal tells if [Decoder.Conceal] fills holes; without it the caller has to.
const HasConceal = true

// Decoder decodes one stream to mono at one rate. Its state, some 18 kB, is made by the first packet: a direction in which nothing is said
// has none.
type Decoder struct {
	rate int
	dec  *opus.Decoder
}

// NewDecoder returns a decoder whose output is mono at rate Hz (8000, 12000, 16000, 24000 or 48000).
func NewDecoder(rate int) (*Decoder, error) {
	if !knownRate(rate) {
		return nil, fmt.Errorf("decode opus at %d Hz: want 8000, 12000, 16000, 24000 or 48000", rate)
	}
	return &Decoder{rate: rate}, nil
}

// ready makes the state. It fails only for want of memory, which the allocation would not survive, and for a rate that is unknown.
func (d *Decoder) ready() bool {
	if d.dec == nil {
		d.dec, _ = opus.NewDecoder(d.rate, 1)
	}
	return d.dec != nil
}

func knownRate(rate int) bool {
	switch rate {
	case 8000, 12000, 16000, 24000, 48000:
		return true
	}
	return false
}

// Decode decodes a packet whose size [Samples] accepted into pcm, which must have room for all of it, and returns the
// number of samples, 0 if the packet cannot be decoded.
func (d *Decoder) Decode(pcm []int16, packet []byte) int {
	if !d.ready() {
		return 0
	}
	n, err := d.dec.Decode(packet, pcm[:len(pcm):len(pcm)])
	if err != nil {
		return 0
	}
	return n
}

// Conceal fills pcm, whose length must be a multiple of 2.5 ms, with what stands for the audio lost just before the packet
// next: its FEC data where it has some (RFC 6716 section 2.1.7), else an extrapolation of the past. A nil next means that
// nothing followed yet.
func (d *Decoder) Conceal(pcm []int16, next []byte) bool {
	if !d.ready() {
		return false
	}
	pcm = pcm[:len(pcm):len(pcm)]
	if len(next) > 0 {
		return d.dec.DecodeFEC(next, pcm) == nil
	}
	return d.dec.DecodePLC(pcm) == nil
}

// Encoder encodes one mono stream at one rate, tuned for speech. Its state, some 25 kB, is made by the first frame.
type Encoder struct {
	cfg EncoderConfig
	enc *opus.Encoder
}

// NewEncoder returns an encoder for mono input at cfg.Rate.
func NewEncoder(cfg EncoderConfig) (*Encoder, error) {
	cfg.validate()
	if !knownRate(cfg.Rate) {
		return nil, fmt.Errorf("encode opus at %d Hz: want 8000, 12000, 16000, 24000 or 48000", cfg.Rate)
	}
	return &Encoder{cfg: cfg}, nil
}

// ready makes the state. The knobs are in range since validate.
func (e *Encoder) ready() bool {
	if e.enc != nil {
		return true
	}
	app := opus.AppVoIP
	if e.cfg.exact() {
		app = opus.AppRestrictedLowdelay
	}
	enc, err := opus.NewEncoder(e.cfg.Rate, 1, app)
	if err != nil {
		return false
	}
	for _, err := range []error{
		enc.SetComplexity(e.cfg.Complexity), enc.SetBitrate(e.cfg.Bitrate), enc.SetInBandFEC(!e.cfg.NoFEC),
		enc.SetPacketLossPerc(e.cfg.Loss), enc.SetDTX(e.cfg.DTX),
	} {
		if err != nil {
			return false
		}
	}
	e.enc = enc
	return true
}

// SetLoss tells how many packets in a hundred get lost. FEC data takes its bits from the voice (3 dB of its SNR at 32 kbit/s) and a fifth of
// the encoder's time, so it is there when it is of use (RFC 7587 section 3.3). The first loss makes an encoder of the other kind of coding
// (EncoderConfig.exact), which stays: a decoder blends over a change, but it need not hear one every few seconds.
func (e *Encoder) SetLoss(percent int) {
	was := e.cfg.exact()
	e.cfg.Loss = min(max(percent, 0), 100)
	e.cfg.lossy = e.cfg.lossy || e.cfg.Loss > 0
	switch {
	case was != e.cfg.exact():
		e.enc = nil
	case e.enc != nil:
		_ = e.enc.SetPacketLossPerc(e.cfg.Loss) // fails for other numbers only
	}
}

// Encode encodes one frame (10, 20, 40 or 60 ms) into packet and returns the packet's length, 0 if it did not fit. With DTX
// a length of 2 or less means that nothing need be sent (RFC 7587 section 3.1.3).
func (e *Encoder) Encode(packet []byte, pcm []int16) int {
	if !e.ready() {
		return 0
	}
	n, err := e.enc.Encode(pcm, packet[:len(packet):len(packet)])
	if err != nil {
		return 0
	}
	return n
}
