package farm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// source makes what somebody hears, 20 ms at a time. It is asked by the clock only. false says that it is at its end and
// has filled the frame with what was left, or silence.
type source interface {
	next(out *mixer.Frame, melody [][mixer.FrameSamples]byte) bool
}

// clip is what a playback plays: a source that can be wound.
type clip interface {
	source
	wind(samples int) // forward, or back if negative
}

// silence is nothing, in packets.
type silence struct{}

func (silence) next(out *mixer.Frame, _ [][mixer.FrameSamples]byte) bool {
	*out = mixer.Frame{}
	return true
}

// musicSource is the farm's melody.
type musicSource struct{ at int }

func (m *musicSource) next(out *mixer.Frame, melody [][mixer.FrameSamples]byte) bool {
	g711.DecodeULaw(out[:], melody[m.at][:])
	m.at = (m.at + 1) % len(melody)
	return true
}

// sampled is a sound that lies in memory.
type sampled struct {
	pcm []int16
	at  int
}

func (s *sampled) next(out *mixer.Frame, _ [][mixer.FrameSamples]byte) bool {
	*out = mixer.Frame{}
	s.at += copy(out[:], s.pcm[s.at:])
	return s.at < len(s.pcm)
}

func (s *sampled) wind(samples int) { s.at = min(max(s.at+samples, 0), len(s.pcm)) }

// segment is a part of a tone: two frequencies, or silence, for a time.
type segment struct {
	low, high float64
	samples   int // 0: for ever
	once      bool
}

// tones plays segments over and over, but those marked once only the first time (main/indications.c). It has no end.
type tones struct {
	segments []segment
	index    int
	at       int
	turns    int
}

func (t *tones) next(out *mixer.Frame, _ [][mixer.FrameSamples]byte) bool {
	for i := range out {
		out[i] = t.sample()
	}
	return true
}

func (t *tones) sample() int16 {
	if t.index >= len(t.segments) {
		return 0
	}
	s := &t.segments[t.index]
	const amplitude = 5000
	var v float64
	for _, freq := range []float64{s.low, s.high} {
		if freq > 0 {
			v += amplitude * math.Sin(2*math.Pi*freq*float64(t.at)/mixer.SampleRate)
		}
	}
	if t.at++; s.samples > 0 && t.at >= s.samples {
		t.at = 0
		t.advance()
	}
	return int16(v)
}

func (t *tones) advance() {
	for range t.segments {
		if t.index++; t.index == len(t.segments) {
			t.index = 0
			t.turns++
		}
		if t.turns == 0 || !t.segments[t.index].once {
			return
		}
	}
	t.index = len(t.segments) // all were to be played once: silence from now on
}

func (t *tones) wind(samples int) {
	for range min(max(samples, 0), 60*mixer.SampleRate) {
		t.sample()
	}
}

// ringback is the ringing tone.
func ringback() source {
	t, _ := readTone("ring") // a name that is known
	return t
}

// Limits of what is read, chosen by us.
const (
	maxSegments = 64
	maxSound    = 64 << 20 // bytes of a sound file: more than an hour
)

// readTone reads a tone by name, or as indications.conf describes it: [!]FREQ[+FREQ][/MS],...
func readTone(spec string) (*tones, error) {
	spec, _, _ = strings.Cut(spec, ";") // a tone zone; there is only one
	named := map[string]string{
		"dial": "350+440", "ring": "440+480/2000,0/4000", "busy": "480+620/500,0/500", "congestion": "480+620/250,0/250",
		"callwaiting": "440/300,0/10000", "record": "1400/500,0/15000", "info": "!950/330,!1400/330,!1800/330,0",
		"stutter":    "!350+440/100,!0/100,!350+440/100,!0/100,!350+440/100,!0/100,350+440",
		"dialrecall": "!350+440/100,!0/100,!350+440/100,!0/100,!350+440/100,!0/100,350+440",
	}
	if s, ok := named[spec]; ok {
		spec = s
	}
	parts := strings.Split(spec, ",")
	if len(parts) > maxSegments {
		return nil, fmt.Errorf("tone of %d parts: at most %d are allowed", len(parts), maxSegments)
	}
	t := new(tones)
	for _, part := range parts {
		var s segment
		part, s.once = strings.CutPrefix(strings.TrimSpace(part), "!")
		freqs, ms, timed := strings.Cut(part, "/")
		low, high, two := strings.Cut(freqs, "+")
		var err, errHigh, errTime error
		s.low, err = strconv.ParseFloat(low, 64)
		if two {
			s.high, errHigh = strconv.ParseFloat(high, 64)
		}
		n := 0
		if timed {
			n, errTime = strconv.Atoi(ms)
		}
		if errors.Join(err, errHigh, errTime) != nil || !(s.low >= 0 && s.low < 4000) || !(s.high >= 0 && s.high < 4000) || n < 0 || n > 600000 || timed && n == 0 {
			return nil, fmt.Errorf("tone %q: not of the form [!]FREQ[+FREQ][/MS], below 4000 Hz", part)
		}
		s.samples = n * mixer.SampleRate / 1000
		t.segments = append(t.segments, s)
	}
	return t, nil
}

// open finds what a media URI names. Sounds of the farm itself need no file.
func (n *node) open(uri string) (clip, error) {
	scheme, name, ok := strings.Cut(uri, ":")
	if !ok || name == "" {
		return nil, fmt.Errorf("media %q: not of the form SCHEME:NAME", uri)
	}
	switch scheme {
	case "tone":
		return readTone(name)
	case "recording":
		return openSound(n.folder, name)
	case "sound":
		if s := builtIn(name); s != nil {
			return s, nil
		}
		return openSound(n.farm.cfg.SoundsDir, name)
	}
	return nil, fmt.Errorf("media %q: sound:NAME, recording:NAME or tone:SPEC is allowed", uri)
}

// knownScheme tells if a media URI is one that can be asked for at all.
func knownScheme(uri string) bool {
	scheme, name, _ := strings.Cut(uri, ":")
	return name != "" && (scheme == "tone" || scheme == "recording" || scheme == "sound")
}

// builtIn are the sounds that the farm makes itself; nil: none of that name.
func builtIn(name string) *sampled {
	flat := func(frames []mixer.Frame) *sampled {
		s := new(sampled)
		for i := range frames {
			s.pcm = append(s.pcm, frames[i][:]...)
		}
		return s
	}
	switch name {
	case "beep":
		return flat(tone(1000, 1000))
	case "enter", "confbridge-join", "rtcedge/enter":
		return flat(tone(400, 800))
	case "leave", "confbridge-leave", "rtcedge/leave":
		return flat(tone(800, 400))
	}
	// A number told in tones, named as on our Asterisk nodes (deploy/asterisk).
	if key, ok := strings.CutPrefix(name, "rtcedge/tone-"); ok {
		key = strings.NewReplacer("star", "*", "hash", "#").Replace(key)
		if at := strings.Index(keyNames, key); len(key) == 1 && at >= 0 && at < 12 {
			low, high := dtmf(uint8(at))
			t := tones{segments: []segment{{low: low, high: high, samples: 150 * 8, once: true}}}
			s := &sampled{pcm: make([]int16, 250*8)}
			for i := range s.pcm {
				s.pcm[i] = t.sample()
			}
			return s
		}
		return nil
	}
	if text, ok := strings.CutPrefix(name, "silence/"); ok {
		if n, err := strconv.Atoi(text); err == nil && n >= 1 && n <= 10 {
			return &sampled{pcm: make([]int16, n*mixer.SampleRate)}
		}
	}
	return nil
}

// openSound reads NAME.wav or NAME.ulaw of a folder.
func openSound(folder, name string) (*sampled, error) {
	if folder == "" || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("sound %q: not found", name)
	}
	for _, ending := range []string{".wav", ".ulaw"} {
		path := filepath.Join(folder, name+ending)
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if info.Size() > maxSound {
			return nil, fmt.Errorf("sound %q: %d bytes, at most %d are allowed", name, info.Size(), maxSound)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read sound: %w", err)
		}
		if ending == ".ulaw" {
			pcm := make([]int16, len(b))
			g711.DecodeULaw(pcm, b)
			return &sampled{pcm: pcm}, nil
		}
		pcm, err := readWAV(b)
		return &sampled{pcm: pcm}, err
	}
	return nil, fmt.Errorf("sound %q: not found", name)
}

// readWAV reads linear 16 bit or mu-law samples, 8000 Hz, one channel.
func readWAV(b []byte) ([]int16, error) {
	bad := errors.New("sound file: not WAV with 8000 Hz, one channel, 16 bit or mu-law")
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, bad
	}
	format, known := uint16(0), false
	for b = b[12:]; len(b) >= 8; {
		id, size := string(b[:4]), int(binary.LittleEndian.Uint32(b[4:]))
		body := b[8:]
		if size > len(body) {
			size = len(body) // a recording that was cut off
		}
		body = body[:size]
		switch {
		case id == "fmt " && size >= 16:
			format = binary.LittleEndian.Uint16(body)
			bits := binary.LittleEndian.Uint16(body[14:])
			known = binary.LittleEndian.Uint16(body[2:]) == 1 && binary.LittleEndian.Uint32(body[4:]) == mixer.SampleRate &&
				(format == 1 && bits == 16 || format == 7 && bits == 8)
		case id == "data" && known && format == 7:
			pcm := make([]int16, size)
			g711.DecodeULaw(pcm, body)
			return pcm, nil
		case id == "data" && known:
			pcm := make([]int16, size/2)
			for i := range pcm {
				pcm[i] = int16(binary.LittleEndian.Uint16(body[2*i:]))
			}
			return pcm, nil
		}
		b = b[min(8+size+size%2, len(b)):]
	}
	return nil, bad
}
