//go:build cgo

package opus

import "gopkg.in/hraban/opus.v2"

// CanEncode tells if this build has an encoder.
const CanEncode = true

// HasConceal tells if [Decoder.Conceal] fills holes; without it the caller has to.
const HasConceal = true

// Decoder decodes one stream to mono at one rate.
type Decoder struct {
	dec *opus.Decoder
}

// NewDecoder returns a decoder whose output is mono at rate Hz (8000, 12000, 16000, 24000 or 48000).
func NewDecoder(rate int) (*Decoder, error) {
	dec, err := opus.NewDecoder(rate, 1)
	if err != nil {
		return nil, err
	}
	return &Decoder{dec: dec}, nil
}

// Decode decodes a packet whose size [Samples] accepted into pcm, which must have room for all of it, and returns the
// number of samples, 0 if the packet cannot be decoded.
func (d *Decoder) Decode(pcm []int16, packet []byte) int {
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
	pcm = pcm[:len(pcm):len(pcm)]
	if len(next) > 0 {
		return d.dec.DecodeFEC(next, pcm) == nil
	}
	return d.dec.DecodePLC(pcm) == nil
}

// Encoder encodes one mono stream at one rate, tuned for speech.
type Encoder struct {
	enc *opus.Encoder
}

// NewEncoder returns an encoder for mono input at cfg.Rate.
func NewEncoder(cfg EncoderConfig) (*Encoder, error) {
	cfg.validate()
	enc, err := opus.NewEncoder(cfg.Rate, 1, opus.AppVoIP)
	if err != nil {
		return nil, err
	}
	if err := enc.SetComplexity(cfg.Complexity); err != nil {
		return nil, err
	}
	if err := enc.SetBitrate(cfg.Bitrate); err != nil {
		return nil, err
	}
	if err := enc.SetInBandFEC(!cfg.NoFEC); err != nil {
		return nil, err
	}
	if err := enc.SetPacketLossPerc(cfg.Loss); err != nil {
		return nil, err
	}
	if err := enc.SetDTX(cfg.DTX); err != nil {
		return nil, err
	}
	return &Encoder{enc: enc}, nil
}

// SetLoss tells how many packets in a hundred get lost. FEC data takes its bits from the voice (3 dB of its SNR at 32 kbit/s) and a fifth of
// the encoder's time, so it is there when it is of use (RFC 7587 section 3.3).
func (e *Encoder) SetLoss(percent int) {
	_ = e.enc.SetPacketLossPerc(min(max(percent, 0), 100)) // fails for other numbers only
}

// Encode encodes one frame (10, 20, 40 or 60 ms) into packet and returns the packet's length, 0 if it did not fit. With DTX
// a length of 2 or less means that nothing need be sent (RFC 7587 section 3.1.3).
func (e *Encoder) Encode(packet []byte, pcm []int16) int {
	n, err := e.enc.Encode(pcm, packet[:len(packet):len(packet)])
	if err != nil {
		return 0
	}
	return n
}
