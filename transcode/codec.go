package transcode

import (
	"rtcedge/transcode/g711"
	"rtcedge/transcode/g722"
	"rtcedge/transcode/g726"
	"rtcedge/transcode/opus"
)

// decoder reads one codec's payloads into mono samples at a fixed rate.
type decoder interface {
	// samples tells how many samples the payload holds; false if it cannot be decoded.
	samples(payload []byte) (int, bool)
	// decode needs room for what samples told and returns what it wrote.
	decode(pcm []int16, payload []byte) int
	// conceal fills pcm with what stands for the loss before next; false if the codec has no own way to do it.
	conceal(pcm []int16, next []byte) bool
	// reset forgets the past, for a new source.
	reset()
}

// encoder writes one frame and returns the payload's length.
type encoder interface {
	encode(payload []byte, frame []int16) int
}

type ulawDecoder struct{}

func (ulawDecoder) samples(payload []byte) (int, bool)     { return len(payload), len(payload) > 0 }
func (ulawDecoder) decode(pcm []int16, payload []byte) int { return g711.DecodeULaw(pcm, payload) }
func (ulawDecoder) conceal([]int16, []byte) bool           { return false }
func (ulawDecoder) reset()                                 {}

type alawDecoder struct{}

func (alawDecoder) samples(payload []byte) (int, bool)     { return len(payload), len(payload) > 0 }
func (alawDecoder) decode(pcm []int16, payload []byte) int { return g711.DecodeALaw(pcm, payload) }
func (alawDecoder) conceal([]int16, []byte) bool           { return false }
func (alawDecoder) reset()                                 {}

type g722Decoder struct{ d *g722.Decoder }

func (g g722Decoder) samples(payload []byte) (int, bool)     { return 2 * len(payload), len(payload) > 0 }
func (g g722Decoder) decode(pcm []int16, payload []byte) int { return g.d.Decode(pcm, payload) }
func (g g722Decoder) conceal([]int16, []byte) bool           { return false }
func (g g722Decoder) reset()                                 { g.d.Reset() }

// narrowG722Decoder is for a peer that has 8 kHz: it reads the lower band only.
type narrowG722Decoder struct{ d *g722.Decoder }

func (g narrowG722Decoder) samples(payload []byte) (int, bool) { return len(payload), len(payload) > 0 }
func (g narrowG722Decoder) decode(pcm []int16, payload []byte) int {
	return g.d.DecodeNarrow(pcm, payload)
}
func (g narrowG722Decoder) conceal([]int16, []byte) bool { return false }
func (g narrowG722Decoder) reset()                       { g.d.Reset() }

type g726Decoder struct {
	d    *g726.Decoder
	rate g726.Rate
}

func (g g726Decoder) samples(payload []byte) (int, bool) {
	return g726.Samples(g.rate, len(payload)), len(payload) > 0
}
func (g g726Decoder) decode(pcm []int16, payload []byte) int { return g.d.Decode(pcm, payload) }
func (g g726Decoder) conceal([]int16, []byte) bool           { return false }
func (g g726Decoder) reset()                                 { g.d.Reset() }

type opusDecoder struct {
	d    *opus.Decoder
	rate int
}

func (o opusDecoder) samples(payload []byte) (int, bool)     { return opus.Samples(payload, o.rate) }
func (o opusDecoder) decode(pcm []int16, payload []byte) int { return o.d.Decode(pcm, payload) }

func (o opusDecoder) conceal(pcm []int16, next []byte) bool {
	return opus.HasConceal && o.d.Conceal(pcm, next)
}

// reset does nothing: an Opus decoder converges on a new source within a few frames by itself (RFC 6716 section 4.5), and
// opening a new one for each change of SSRC would be a gift to an attacker.
func (o opusDecoder) reset() {}

type ulawEncoder struct{}

func (ulawEncoder) encode(payload []byte, frame []int16) int { return g711.EncodeULaw(payload, frame) }

type alawEncoder struct{}

func (alawEncoder) encode(payload []byte, frame []int16) int { return g711.EncodeALaw(payload, frame) }

type g722Encoder struct{ e *g722.Encoder }

func (g g722Encoder) encode(payload []byte, frame []int16) int { return g.e.Encode(payload, frame) }

type narrowG722Encoder struct{ e *g722.Encoder }

func (g narrowG722Encoder) encode(payload []byte, frame []int16) int {
	return g.e.EncodeNarrow(payload, frame)
}

type g726Encoder struct{ e *g726.Encoder }

func (g g726Encoder) encode(payload []byte, frame []int16) int { return g.e.Encode(payload, frame) }

type opusEncoder struct{ e *opus.Encoder }

func (o opusEncoder) encode(payload []byte, frame []int16) int { return o.e.Encode(payload, frame) }
