package mediatest

import (
	"fmt"
	"strings"
	"time"

	"rtcedge/media/sdp"
	"rtcedge/transcode/g711"
	"rtcedge/transcode/g722"
	"rtcedge/transcode/opus"
)

// Payload types that this package offers: the static ones, and what phones commonly use.
const (
	ptEvent8k  = 101
	ptEvent48k = 110
	ptOpus     = 111
)

// opusRate is what Opus is encoded from and decoded to.
const opusRate = 16000

// sdpCodec names a codec for an offer.
func sdpCodec(name string) (sdp.Codec, error) {
	switch strings.ToUpper(name) {
	case "PCMU":
		return sdp.Codec{PT: 0, Name: "PCMU", Rate: 8000, Channels: 1}, nil
	case "PCMA":
		return sdp.Codec{PT: 8, Name: "PCMA", Rate: 8000, Channels: 1}, nil
	case "G722":
		return sdp.Codec{PT: 9, Name: "G722", Rate: 8000, Channels: 1}, nil
	case "OPUS":
		return sdp.Codec{PT: ptOpus, Name: "opus", Rate: 48000, Channels: 2, Params: "useinbandfec=1"}, nil
	}
	return sdp.Codec{}, fmt.Errorf("codec %q unknown, want PCMU, PCMA, G722 or opus", name)
}

// coder encodes and decodes one stream.
type coder struct {
	name  string
	rate  int // of the samples
	clock int // of RTP timestamps

	encode func(dst []byte, pcm []int16) int
	decode func(pcm []int16, src []byte) int
}

func newCoder(name string) (*coder, error) {
	switch strings.ToUpper(name) {
	case "PCMU":
		return &coder{name: "PCMU", rate: 8000, clock: 8000, encode: g711.EncodeULaw, decode: g711.DecodeULaw}, nil
	case "PCMA":
		return &coder{name: "PCMA", rate: 8000, clock: 8000, encode: g711.EncodeALaw, decode: g711.DecodeALaw}, nil
	case "G722":
		// RFC 3551 section 4.5.2: the clock is 8000 although 16000 samples are in a second.
		return &coder{name: "G722", rate: 16000, clock: 8000,
			encode: g722.NewEncoder().Encode, decode: g722.NewDecoder().Decode}, nil
	case "OPUS":
		enc, err := opus.NewEncoder(opus.EncoderConfig{Rate: opusRate, Bitrate: 32000, Complexity: 5})
		if err != nil {
			return nil, err
		}
		dec, err := opus.NewDecoder(opusRate)
		if err != nil {
			return nil, err
		}
		return &coder{name: "opus", rate: opusRate, clock: 48000, encode: enc.Encode, decode: dec.Decode}, nil
	}
	return nil, fmt.Errorf("codec %q unknown", name)
}

func (c *coder) samples(d time.Duration) int { return int(d * time.Duration(c.rate) / time.Second) }

func (c *coder) ticks(d time.Duration) uint32 {
	return uint32(d * time.Duration(c.clock) / time.Second)
}
