package opus

// Chosen by us.
const (
	// At 8 kHz libopus 1.3 takes for SILK 30 us per 20 ms at complexity 0, 40 at 1, 84 at 5 and 121 at 10, for CELT 21, 29, 42 and 47. Speech of
	// a telephone codec has nearly the same SNR and log-spectral distance after all of them (TestB31OpusComplexityGainsLittle). CELT does not look for
	// sudden sounds at 0.
	defaultComplexity = 1
	// DefaultBitrate in bit/s. With FEC (SILK) a tone at 8 kHz has 25 dB SNR at 24000, 29 at 32000, 32 at 40000.
	DefaultBitrate = 32000
)

// EncoderConfig holds the knobs of an encoder.
type EncoderConfig struct {
	Rate       int  // of the input in Hz; 8000 by default; the coded bandwidth follows from it
	Complexity int  // 1 to 10, more is slower; 0 is 1, negative is the lowest there is
	Bitrate    int  // bit/s, 6000 to 128000; 0 is 32000
	Loss       int  // percent of packets expected to get lost, 0 to 100, the strength of FEC; there is none for 0, until SetLoss
	NoFEC      bool // no in-band FEC data, whatever is lost
	DTX        bool // silence is not sent; by default it is

	lossy bool // there was loss
}

// exactBitrate is chosen by us: from here on CELT brings recorded speech nearer to itself than SILK does, at 32 kbit/s with 0.42 dB of
// log-spectral distance in place of 0.77 (TestB31OpusComplexityGainsLittle).
const exactBitrate = 28000

// exact tells that the stream is to be coded by CELT alone (RFC 6716 section 4.3): for telephone audio at a bit rate that is enough for it, 4 ms
// earlier and in two thirds of SILK's time. FEC data and a voice detector for DTX are SILK's.
func (c *EncoderConfig) exact() bool {
	return c.Rate == 8000 && c.Bitrate >= exactBitrate && !c.DTX && (c.NoFEC || !c.lossy)
}

// validate fills in the defaults and moves what is out of range to the nearest bound.
func (c *EncoderConfig) validate() {
	if c.Rate == 0 {
		c.Rate = 8000
	}
	if c.Complexity == 0 {
		c.Complexity = defaultComplexity
	}
	c.Complexity = min(max(c.Complexity, 0), 10)
	if c.Bitrate == 0 {
		c.Bitrate = DefaultBitrate
	}
	c.Bitrate = min(max(c.Bitrate, 6000), 128000)
	c.Loss = min(max(c.Loss, 0), 100)
	c.lossy = c.Loss > 0
}
