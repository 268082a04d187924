package asterisk

import (
	"fmt"
	"math"

	"rtcedge/transcode/g711"
)

const (
	rate  = 8000
	level = 5000 // amplitude: -16 dBFS, no louder than speech
)

// sounds adds what a call or conference node plays, as raw PCMU (format_pcm): the same names as the embedded farm has.
func sounds(files map[string][]byte) {
	add := func(name string, pcm []int16) {
		out := make([]byte, len(pcm))
		g711.EncodeULaw(out, pcm)
		files["data/"+name+".ulaw"] = out
	}
	add("sounds/beep", sweep(1000, 1000, 200))
	add("sounds/rtcedge/enter", sweep(400, 800, 200))
	add("sounds/rtcedge/leave", sweep(800, 400, 200))
	for n := 1; n <= 10; n++ {
		add(fmt.Sprintf("sounds/silence/%d", n), make([]int16, n*rate))
	}
	// A number told in tones: the pairs of ITU-T Q.23.
	low, high := [...]float64{697, 770, 852, 941}, [...]float64{1209, 1336, 1477}
	for i, name := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "star", "0", "hash"} {
		add("sounds/rtcedge/tone-"+name, append(pair(low[i/3], high[i%3], 150), make([]int16, rate/10)...))
	}
	add("moh/rtcedge", melody())
}

// sweep is a tone that glides and swells, so that it begins and ends without a click.
func sweep(from, to float64, ms int) []int16 {
	pcm := make([]int16, ms*rate/1000)
	turn := 0.0
	for i := range pcm {
		part := float64(i) / float64(len(pcm))
		turn += 2 * math.Pi * (from + (to-from)*part) / rate
		pcm[i] = int16(level * math.Sin(math.Pi*part) * math.Sin(turn))
	}
	return pcm
}

func pair(low, high float64, ms int) []int16 {
	pcm := make([]int16, ms*rate/1000)
	for i := range pcm {
		t := 2 * math.Pi * float64(i) / rate
		pcm[i] = int16(level / 2 * (math.Sin(low*t) + math.Sin(high*t)))
	}
	return pcm
}

// melody is the music on hold: 16 notes of half a second, each of which swells and fades, so that the loop has no seam. It is
// the tune of the embedded farm.
func melody() []int16 {
	scale := [...]float64{261.63, 293.66, 329.63, 392.00, 440.00, 523.25}
	tune := [...]int{0, 2, 3, 4, 3, 2, 1, 2, 3, 5, 4, 3, 2, 1, 0, 0}
	const note = rate / 2
	pcm := make([]int16, len(tune)*note)
	for i := range pcm {
		swell := math.Sin(math.Pi * float64(i%note) / note)
		turn := 2 * math.Pi * scale[tune[i/note]] * float64(i%note) / rate
		pcm[i] = int16(level * swell * (math.Sin(turn) + 0.2*math.Sin(2*turn)))
	}
	return pcm
}
