package farm

import (
	"math"

	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// melody makes what 601 and a held party hear: eight seconds of a slow pentatonic tune, PCMU, the same on every farm, so
// that a test can tell it from everything else. Each note swells and fades, so the loop has no seam.
func melody() [][mixer.FrameSamples]byte {
	const (
		noteFrames = 25 // half a second
		amplitude  = 5000
	)
	// C pentatonic from C4, as steps of the scale.
	scale := [...]float64{261.63, 293.66, 329.63, 392.00, 440.00, 523.25}
	tune := [...]int{0, 2, 3, 4, 3, 2, 1, 2, 3, 5, 4, 3, 2, 1, 0, 0}

	frames := make([][mixer.FrameSamples]byte, len(tune)*noteFrames)
	var pcm mixer.Frame
	for i := range frames {
		freq := scale[tune[i/noteFrames]]
		for k := range pcm {
			at := float64((i%noteFrames)*mixer.FrameSamples + k)
			swell := math.Sin(math.Pi * at / (noteFrames * mixer.FrameSamples))
			turn := 2 * math.Pi * freq * at / mixer.SampleRate
			pcm[k] = int16(amplitude * swell * (math.Sin(turn) + 0.2*math.Sin(2*turn)))
		}
		g711.EncodeULaw(frames[i][:], pcm[:])
	}
	return frames
}

// tone makes the short sound of a conference's entry (rising) or exit (falling).
func tone(from, to float64) []mixer.Frame {
	const frames, amplitude = 10, 4000
	out := make([]mixer.Frame, frames)
	turn := 0.0
	for i := range out {
		for k := range out[i] {
			part := float64(i*mixer.FrameSamples+k) / (frames * mixer.FrameSamples)
			turn += 2 * math.Pi * (from + (to-from)*part) / mixer.SampleRate
			out[i][k] = int16(amplitude * math.Sin(math.Pi*part) * math.Sin(turn))
		}
	}
	return out
}
