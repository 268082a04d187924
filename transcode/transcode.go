package transcode

import (
	"strings"
	"time"

	"rtcedge/transcode/g711"
	"rtcedge/transcode/g726"
	"rtcedge/transcode/opus"
)

// Codec names a payload coding.
type Codec uint8

// The codings that this package knows.
const (
	Unknown Codec = iota
	PCMU
	PCMA
	G722
	Opus
	L16
	TelephoneEvent // RFC 4733
	ComfortNoise   // RFC 3389
	G726R16        // ITU-T G.726, RFC 3551 section 4.5.4
	G726R24
	G726R32
	G726R40
)

// g726Rate is the rate of a G.726, of which there are four; 0 for other codecs.
func g726Rate(c Codec) g726.Rate {
	switch c {
	case G726R16:
		return g726.Rate16
	case G726R24:
		return g726.Rate24
	case G726R32:
		return g726.Rate32
	case G726R40:
		return g726.Rate40
	}
	return 0
}

// String returns the encoding name as an SDP rtpmap spells it.
func (c Codec) String() string {
	switch c {
	case PCMU:
		return "PCMU"
	case PCMA:
		return "PCMA"
	case G722:
		return "G722"
	case Opus:
		return "opus"
	case L16:
		return "L16"
	case TelephoneEvent:
		return "telephone-event"
	case ComfortNoise:
		return "CN"
	case G726R16:
		return "G726-16"
	case G726R24:
		return "G726-24"
	case G726R32:
		return "G726-32"
	case G726R40:
		return "G726-40"
	}
	return "unknown"
}

// Format is a codec as an SDP rtpmap names it. Rate is the RTP clock in Hz (G.722: 8000, although it samples at 16000).
type Format struct {
	Codec    Codec
	Rate     int
	Channels int
	PTime    time.Duration // of one packet; 0 is 20 ms
	Params   string        // fmtp parameters as in the SDP
}

// Lookup finds the format that an rtpmap line names. The name's case does not matter and 0 channels mean 1. It is
// false for what this package can neither decode nor carry, such as L16 at 44100 Hz.
func Lookup(name string, rate, channels int, params string) (Format, bool) {
	channels = max(channels, 1)
	f := Format{Rate: rate, Channels: channels, Params: params}
	narrow := rate == 8000 && channels == 1
	ok := false
	switch {
	case strings.EqualFold(name, "PCMU"):
		f.Codec, ok = PCMU, narrow
	case strings.EqualFold(name, "PCMA"):
		f.Codec, ok = PCMA, narrow
	case strings.EqualFold(name, "G722"):
		// RFC 3551 section 4.5.2: the clock is 8000 by an old mistake.
		f.Codec, ok = G722, narrow
	case strings.EqualFold(name, "opus"):
		// RFC 7587 section 7: always opus/48000/2, whatever the stream holds.
		f.Codec, ok = Opus, rate == 48000 && channels == 2
	case strings.EqualFold(name, "L16"):
		f.Codec, ok = L16, (rate == 8000 || rate == 16000) && channels == 1
	case strings.EqualFold(name, "telephone-event"):
		f.Codec, ok = TelephoneEvent, rate >= 8000 && rate <= 48000 && channels == 1
	case strings.EqualFold(name, "CN"):
		f.Codec, ok = ComfortNoise, narrow
	default:
		for _, c := range []Codec{G726R16, G726R24, G726R32, G726R40} {
			if strings.EqualFold(name, c.String()) {
				f.Codec, ok = c, narrow
			}
		}
	}
	if !ok {
		return Format{}, false
	}
	return f, true
}

// CanEncode reports if this build can produce the codec. Opus needs libopus, so a build without cgo cannot.
func CanEncode(c Codec) bool {
	switch c {
	case PCMU, PCMA, G722, L16, G726R16, G726R24, G726R32, G726R40:
		return true
	case Opus:
		return opus.CanEncode
	}
	return false
}

// CanDecode reports if this build can read the codec.
func CanDecode(c Codec) bool {
	switch c {
	case PCMU, PCMA, G722, L16, Opus, G726R16, G726R24, G726R32, G726R40:
		return true
	}
	return false
}

// Packet is the part of an RTP packet that a pipe reads and writes.
type Packet struct {
	Event     bool // telephone-event payload (RFC 4733); else voice
	Noise     bool // comfort noise payload (RFC 3389); else voice
	Seq       uint16
	Timestamp uint32
	Marker    bool
	Payload   []byte
}

// Linear decodes PCMU or PCMA into pcm until either is used up and returns the number of samples; 0 for other codecs. It is for files;
// calls go through a [Pipe].
func Linear(c Codec, pcm []int16, coded []byte) int {
	switch c {
	case PCMU:
		return g711.DecodeULaw(pcm, coded)
	case PCMA:
		return g711.DecodeALaw(pcm, coded)
	}
	return 0
}
