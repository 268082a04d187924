package transcode

// Lengths at 8 kHz, after G.711 appendix I: the pitch of speech lies between 66 and 200 Hz.
const (
	pitchMin    = 40
	pitchMax    = 120
	pitchWindow = 160
	plcHistory  = pitchMax + pitchWindow
	fadeFrom    = 80  // samples at full strength
	fadeUntil   = 480 // silence from here on
)

// plc conceals losses in the manner of G.711 appendix I: it repeats the last pitch period, fades it out within 60 ms and
// blends it into the first good samples. It adds no delay.
type plc struct {
	scale   int     // 1 at 8 kHz, 2 at 16 kHz
	history []int16 // the last good samples, the newest at the end
	cycle   []int16 // one pitch period, its end blended to its start
	at      int     // position in cycle
	lost    int     // samples since the last good one
}

func newPLC(rate int) plc {
	scale := rate / 8000
	return plc{
		scale:   scale,
		history: make([]int16, plcHistory*scale),
		cycle:   make([]int16, 0, pitchMax*scale),
	}
}

// good takes decoded samples, which it changes where they follow a loss.
func (c *plc) good(pcm []int16) {
	if c.lost > 0 {
		// A longer loss needs a longer blend, because the synthetic wave has drifted further.
		overlap := min(len(pcm), len(c.cycle)/4+c.lost/10, fadeFrom*c.scale)
		for i := range pcm[:overlap] {
			old := int(c.next())
			pcm[i] = int16(old + (int(pcm[i])-old)*(i+1)/(overlap+1))
		}
		c.lost = 0
	}
	c.remember(pcm)
}

func (c *plc) remember(pcm []int16) {
	if len(pcm) >= len(c.history) {
		copy(c.history, pcm[len(pcm)-len(c.history):])
		return
	}
	copy(c.history, c.history[len(pcm):])
	copy(c.history[len(c.history)-len(pcm):], pcm)
}

// conceal fills pcm with what the lost samples may have been.
func (c *plc) conceal(pcm []int16) {
	start := c.lost == 0
	if start {
		c.prepare()
	}
	for i := range pcm {
		pcm[i] = c.next()
	}
	if start {
		// The period's first sample does not quite follow the last good one: let the difference die out.
		end := len(c.history)
		step := int(c.history[end-1]) - int(c.history[end-1-len(c.cycle)])
		overlap := min(len(c.cycle)/4, len(pcm))
		for i := range pcm[:overlap] {
			pcm[i] = clip(int32(int(pcm[i]) + step*(overlap-i)/(overlap+1)))
		}
	}
	c.remember(pcm)
}

// next returns the synthetic wave's next sample.
func (c *plc) next() int16 {
	s := int(c.cycle[c.at])
	c.at++
	if c.at == len(c.cycle) {
		c.at = 0
	}
	from, until := fadeFrom*c.scale, fadeUntil*c.scale
	switch {
	case c.lost >= until:
		s = 0
	case c.lost > from:
		s = s * (until - c.lost) / (until - from)
	}
	c.lost++
	return int16(s)
}

// prepare cuts the last pitch period out of the history.
func (c *plc) prepare() {
	pitch := c.pitch()
	end := len(c.history)
	c.cycle = c.cycle[:pitch]
	copy(c.cycle, c.history[end-pitch:])
	overlap := pitch / 4
	for i := range overlap {
		inside, before := int(c.history[end-overlap+i]), int(c.history[end-pitch-overlap+i])
		c.cycle[pitch-overlap+i] = int16(inside + (before-inside)*(i+1)/(overlap+1))
	}
	c.at = 0
}

// pitch finds the lag at which the history resembles itself most: coarsely over every second sample of 8 kHz, then fine.
func (c *plc) pitch() int {
	lag, stride := c.search(pitchMin*c.scale, pitchMax*c.scale, 2*c.scale), 1
	low, high := max(lag-2*c.scale+1, pitchMin*c.scale), min(lag+2*c.scale-1, pitchMax*c.scale)
	return c.search(low, high, stride)
}

func (c *plc) search(low, high, stride int) int {
	end, window := len(c.history), pitchWindow*c.scale
	best, bestLag := 0.0, high
	for lag := low; lag <= high; lag += stride {
		var product, energy int64
		recent, past := c.history[end-window:], c.history[end-window-lag:end-lag]
		for i := 0; i < window; i += stride {
			product += int64(recent[i]) * int64(past[i])
			energy += int64(past[i]) * int64(past[i])
		}
		if product <= 0 || energy == 0 {
			continue
		}
		if match := float64(product) * float64(product) / float64(energy); match > best {
			best, bestLag = match, lag
		}
	}
	return bestLag
}
