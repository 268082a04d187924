// Package opus codes and decodes mono Opus packets at 8 or 16 kHz. It is not a full Opus binding: it offers what a voice
// pipe needs and nothing more.
//
// With cgo it is libopus (libopus.go) by way of gopkg.in/hraban/opus.v2; without cgo (purego.go) the decoder is
// github.com/pion/opus, there is no encoder, and [CanEncode] says so.
//
//  1. [Samples] checks a packet's framing and tells how much audio it holds, so that a decoder is only given what it accepts.
//  2. [Decoder.Decode] decodes straight to the wanted rate: libopus resamples inside, cheaper than 48 kHz and a resampler.
//  3. [Decoder.Conceal] fills a hole from the FEC data of the packet behind it, or from the past.
//
// RFC 6716 (Opus), RFC 7587 (its RTP payload).
package opus
