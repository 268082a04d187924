package transcode

import (
	"fmt"

	"rtcedge/transcode/g722"
	"rtcedge/transcode/g726"
	"rtcedge/transcode/opus"
)

// audioRate is the sampling rate at which a pipe handles f, peer being the format of its other end.
func audioRate(f, peer Format) int {
	switch f.Codec {
	case G722:
		if peer.Codec == G722 || peer.Codec == Opus || peer.Codec == L16 && peer.Rate == 16000 {
			return 16000
		}
		return 8000 // the other end has no use for the higher band
	case L16:
		return f.Rate
	case Opus:
		// Opus works at any of its rates, so it takes the far side's and no resampler is needed.
		if peer.Codec == Opus {
			return 16000
		}
		return audioRate(peer, f)
	default:
		return 8000
	}
}

func newDecoder(f Format, rate int) (decoder, error) {
	switch f.Codec {
	case PCMU:
		return ulawDecoder{}, nil
	case PCMA:
		return alawDecoder{}, nil
	case G722:
		if rate == 8000 {
			return narrowG722Decoder{g722.NewDecoder()}, nil
		}
		return g722Decoder{g722.NewDecoder()}, nil
	case L16:
		return l16Decoder{even: rate == 16000}, nil
	case Opus:
		d, err := opus.NewDecoder(rate)
		if err != nil {
			return nil, fmt.Errorf("open opus decoder at %d Hz: %w", rate, err)
		}
		return opusDecoder{d, rate}, nil
	}
	if r := g726Rate(f.Codec); r != 0 {
		return g726Decoder{g726.NewDecoder(r), r}, nil
	}
	return nil, fmt.Errorf("open decoder: %s carries no voice that can be decoded", f.Codec)
}

// newEncoder also returns an upper bound of a frame's payload.
func newEncoder(cfg *PipeConfig, rate, frame int) (encoder, int, error) {
	switch cfg.To.Codec {
	case PCMU:
		return ulawEncoder{}, frame, nil
	case PCMA:
		return alawEncoder{}, frame, nil
	case G722:
		if rate == 8000 {
			return narrowG722Encoder{g722.NewEncoder()}, frame, nil
		}
		return g722Encoder{g722.NewEncoder()}, frame / 2, nil
	case L16:
		return l16Encoder{}, 2 * frame, nil
	case Opus:
		ec := opusConfig(cfg, rate)
		e, err := opus.NewEncoder(ec)
		if err != nil {
			return nil, 0, fmt.Errorf("open opus encoder %+v: %w", ec, err)
		}
		// Twice the mean for the peaks of a variable rate, and one frame's limit (RFC 6716 section 3.4, R2).
		size := min(2*ec.Bitrate/8*frame/rate+64, 1275)
		return opusEncoder{e}, size, nil
	}
	if r := g726Rate(cfg.To.Codec); r != 0 {
		return g726Encoder{g726.NewEncoder(r)}, frame * int(r) / 8, nil
	}
	return nil, 0, fmt.Errorf("open encoder: %s carries no voice that can be encoded", cfg.To.Codec)
}
