package transcode

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"rtcedge/transcode/opus"
)

// PipeConfig says what a pipe converts.
type PipeConfig struct {
	From, To Format // voice as it comes and as it leaves; To.PTime rules the outgoing frames

	FromEvents int // Hz, clock of telephone-event as it comes; 0: the sender has none, so tones are looked for if ToEvents is set
	ToEvents   int // Hz, clock of telephone-event as it leaves; 0: the receiver has none, so events become tones

	ToNoise bool // the receiver takes RFC 3389 comfort noise, so it is passed; by default noise is generated

	OpusComplexity int  // 1 to 10; 0 is 1, negative is the lowest
	OpusBitrate    int  // bit/s; 0 is 32000; maxaveragebitrate of To.Params bounds it
	OpusLoss       int  // percent of packets expected lost at least, for which FEC is made; SetLoss tells more; useinbandfec=0 of To.Params ends FEC
	OpusDTX        bool // do not send silence; by default it is sent

	Room *Room `json:"-"` // shared with other pipes of the goroutine; nil is a room of the pipe's own
}

// Chosen by us.
const (
	defaultPTime = 20 * time.Millisecond
	maxPTime     = 60 * time.Millisecond

	// An L16 packet at 16 kHz must fit an Ethernet frame.
	maxPTimeL16 = 40 * time.Millisecond
)

// validate checks the formats and fills in the outgoing ptime.
func (c *PipeConfig) validate() error {
	if !CanDecode(c.From.Codec) {
		return fmt.Errorf("decode %s: this build cannot", c.From.Codec)
	}
	if !CanEncode(c.To.Codec) {
		return fmt.Errorf("encode %s: this build cannot", c.To.Codec)
	}
	for _, f := range []*Format{&c.From, &c.To} {
		if _, ok := Lookup(f.Codec.String(), f.Rate, f.Channels, ""); !ok {
			return fmt.Errorf("open pipe: %s/%d/%d is not known", f.Codec, f.Rate, f.Channels)
		}
	}
	for _, rate := range []int{c.FromEvents, c.ToEvents} {
		if rate != 0 && (rate < 8000 || rate > 48000) {
			return fmt.Errorf("open pipe: telephone-event/%d: the clock must be 8000 to 48000", rate)
		}
	}
	c.To.PTime = frameTime(c.To)
	return nil
}

// frameTime returns the ptime nearest to the wanted one that the codec can have: a multiple of 10 ms up to 60 ms.
func frameTime(f Format) time.Duration {
	t := f.PTime
	if t <= 0 {
		t = defaultPTime
	}
	t = min(max(t.Round(10*time.Millisecond), 10*time.Millisecond), maxPTime)
	switch {
	case f.Codec == Opus && t == 30*time.Millisecond:
		t = 20 * time.Millisecond // RFC 6716 section 2.1.4: frames of 10, 20, 40 or 60 ms
	case f.Codec == Opus && t == 50*time.Millisecond:
		t = 40 * time.Millisecond
	case f.Codec == L16 && f.Rate == 16000:
		t = min(t, maxPTimeL16)
	}
	return t
}

// opusConfig joins our knobs with what the far side asks for (RFC 7587 section 6.1).
func opusConfig(cfg *PipeConfig, rate int) opus.EncoderConfig {
	ec := opus.EncoderConfig{
		Rate:       rate,
		Complexity: cfg.OpusComplexity,
		Bitrate:    cfg.OpusBitrate,
		Loss:       cfg.OpusLoss,
		DTX:        cfg.OpusDTX,
	}
	if ec.Bitrate == 0 {
		ec.Bitrate = opus.DefaultBitrate
	}
	if limit, ok := parameter(cfg.To.Params, "maxaveragebitrate"); ok && limit >= 6000 {
		ec.Bitrate = min(ec.Bitrate, limit)
	}
	if fec, ok := parameter(cfg.To.Params, "useinbandfec"); ok && fec == 0 {
		ec.NoFEC = true
	}
	return ec
}

// parameter finds an integer among fmtp parameters "name=value;name=value".
func parameter(params, name string) (int, bool) {
	for field := range strings.SplitSeq(params, ";") {
		key, value, ok := strings.Cut(field, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(key), name) {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		return n, err == nil
	}
	return 0, false
}
