package mixer

import "math"

// The narrow-band frame of a farm: its internal leg is always PCMU in packets of 20 ms.
const (
	SampleRate   = 8000
	FrameSamples = SampleRate / 50
)

// Frame is 20 ms of linear samples.
type Frame [FrameSamples]int16

// Mix is the sum of the frames of one instant. The zero value is an empty mix. It is not safe for concurrent use.
type Mix struct {
	sum [FrameSamples]int32
	n   int
}

// Reset empties the mix for the next instant.
func (m *Mix) Reset() {
	if m.n > 0 {
		*m = Mix{}
	}
}

// Len tells how many frames were added since Reset.
func (m *Mix) Len() int { return m.n }

// Add puts a participant's frame into the mix. The frame is only read.
func (m *Mix) Add(f *Frame) {
	for i, s := range f {
		m.sum[i] += int32(s)
	}
	m.n++
}

// All writes the sum of all frames to out: what a participant hears that was not added.
func (m *Mix) All(out *Frame) {
	for i, s := range m.sum {
		out[i] = limit(s)
	}
}

// Without writes the sum of all frames but own to out: what a participant hears whose frame own was added. The frame must
// hold the same samples as when it was added. own and out may be the same frame.
func (m *Mix) Without(own, out *Frame) {
	for i, s := range m.sum {
		out[i] = limit(s - int32(own[i]))
	}
}

func limit(s int32) int16 {
	return int16(min(max(s, math.MinInt16), math.MaxInt16))
}
