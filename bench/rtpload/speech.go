//go:build linux

package main

import (
	"fmt"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/transcode/g711"
	"rtcedge/transcode/g722"
	"rtcedge/transcode/opus"
)

// codec is one as SDP names it.
type codec struct {
	name    string
	pt      uint8
	rtpmap  string
	fmtp    string
	ticks   uint32 // of a packet
	samples int    // in a second of audio
}

var (
	pcmu      = codec{name: "PCMU", pt: 0, rtpmap: "PCMU/8000", ticks: 160, samples: 8000}
	pcma      = codec{name: "PCMA", pt: 8, rtpmap: "PCMA/8000", ticks: 160, samples: 8000}
	g722Codec = codec{name: "G722", pt: 9, rtpmap: "G722/8000", ticks: 160, samples: 16000}
	// As browsers have it: all of the band, mono in a format of two channels.
	opusCodec = codec{name: "opus", pt: 111, rtpmap: "opus/48000/2", fmtp: "minptime=10;useinbandfec=1", ticks: 960, samples: 48000}
)

// speechLength is after how long the talk begins again.
const speechLength = 8 * time.Second

// frames encodes the talk into payloads of 20 ms.
func (c codec) frames() ([][]byte, error) {
	var encode func(dst []byte, pcm []int16) int
	switch c.name {
	case pcmu.name:
		encode = g711.EncodeULaw
	case pcma.name:
		encode = g711.EncodeALaw
	case g722Codec.name:
		encode = g722.NewEncoder().Encode
	case opusCodec.name:
		enc, err := opus.NewEncoder(opus.EncoderConfig{Rate: c.samples, Complexity: 5})
		if err != nil {
			return nil, fmt.Errorf("encode speech: %w", err)
		}
		encode = enc.Encode
	}
	pcm, size := mediatest.Speech(speechLength)(c.samples), c.samples/50
	var out [][]byte
	for ; len(pcm) >= size; pcm = pcm[size:] {
		var buf [1024]byte
		n := encode(buf[:], pcm[:size])
		if n == 0 {
			return nil, fmt.Errorf("encode speech: %s: a frame came to nothing", c.name)
		}
		out = append(out, append([]byte(nil), buf[:n]...))
	}
	return out, nil
}
