package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"rtcedge/transcode"
)

// clip is a recording to play: mono, 16 bit, as L16 has it (most significant byte first). It is shared and never changed.
type clip struct {
	rate int // 8000 or 16000 Hz
	pcm  []byte
}

func (c *clip) duration() time.Duration {
	return time.Duration(len(c.pcm)/2) * time.Second / time.Duration(c.rate)
}

// Chosen by us.
const (
	clipLongest = 30 * time.Minute
	clipBytes   = 256 << 20 // of a file
	clipsKept   = 32
	clipTaps    = 16 // on each side of the resampler's filter
)

// Fixed by the format; see wavPCM.
const (
	wavALaw       = 6
	wavULaw       = 7
	wavExtensible = 0xfffe
)

// decodeWav reads a WAV file: PCM of 16 bits, A-law or mu-law; one or two channels; 8 to 48 kHz.
func decodeWav(b []byte) (*clip, error) {
	const want = "want a WAV file with PCM of 16 bits, A-law or mu-law, 1 or 2 channels, 8000 to 48000 Hz"
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, errors.New("no RIFF header: " + want)
	}
	le := binary.LittleEndian
	var format, channels, bits, rate int
	var data []byte
	for rest := b[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), int(le.Uint32(rest[4:]))
		body := rest[8:]
		size = min(size, len(body)) // of a file that is still being written, or was when its writer died
		switch {
		case id == "fmt " && size >= 16:
			format, channels, rate, bits = int(le.Uint16(body)), int(le.Uint16(body[2:])), int(le.Uint32(body[4:])), int(le.Uint16(body[14:]))
			if format == wavExtensible && size >= 26 {
				format = int(le.Uint16(body[24:]))
			}
		case id == "data":
			data = body[:size]
		}
		rest = body[min(size+size&1, len(body)):]
	}
	law := format == wavALaw || format == wavULaw
	known := law && bits == 8 || format == wavPCM && bits == 16
	if !known || channels < 1 || channels > 2 || rate < 8000 || rate > 48000 {
		return nil, fmt.Errorf("format %d of %d bits, %d channels, %d Hz: %s", format, bits, channels, rate, want)
	}
	pcm := make([]int16, len(data)*8/bits)
	switch format {
	case wavALaw:
		transcode.Linear(transcode.PCMA, pcm, data)
	case wavULaw:
		transcode.Linear(transcode.PCMU, pcm, data)
	default:
		for i := range pcm {
			pcm[i] = int16(le.Uint16(data[2*i:]))
		}
	}
	if channels == 2 {
		for i := range pcm[:len(pcm)/2] {
			pcm[i] = int16((int32(pcm[2*i]) + int32(pcm[2*i+1])) / 2)
		}
		pcm = pcm[:len(pcm)/2]
	}
	c := &clip{rate: rate}
	if time.Duration(len(pcm))*time.Second/time.Duration(rate) > clipLongest {
		return nil, fmt.Errorf("longer than %v", clipLongest)
	}
	if rate != 8000 && rate != 16000 {
		pcm, c.rate = resampled(pcm, rate, 16000), 16000
	}
	if len(pcm) == 0 {
		return nil, errors.New("no samples")
	}
	c.pcm = make([]byte, 0, 2*len(pcm))
	for _, s := range pcm {
		c.pcm = binary.BigEndian.AppendUint16(c.pcm, uint16(s))
	}
	return c, nil
}

// resampled converts the rate by a windowed sinc. It is not fast, but a clip is read once.
func resampled(in []int16, from, to int) []int16 {
	out := make([]int16, len(in)*to/from)
	cut := min(1, float64(to)/float64(from)) // of the input's bandwidth
	reach := int(math.Ceil(clipTaps / cut))
	for i := range out {
		at := float64(i) * float64(from) / float64(to)
		center := int(at)
		var sum, weight float64
		for k := max(center-reach+1, 0); k <= min(center+reach, len(in)-1); k++ {
			x := (float64(k) - at) * cut
			w := math.Cos(x * math.Pi / (2 * clipTaps))
			if math.Abs(x) >= clipTaps {
				continue
			}
			w *= w // Hann
			if x != 0 {
				w *= math.Sin(math.Pi*x) / (math.Pi * x)
			}
			sum += w * float64(in[k])
			weight += w
		}
		if weight != 0 {
			sum /= weight
		}
		out[i] = int16(min(max(math.Round(sum), math.MinInt16), math.MaxInt16))
	}
	return out
}

// clips reads files of one directory and keeps them while they do not change: many calls hear the same music.
type clips struct {
	root *os.Root // nil: none

	mu   sync.Mutex // guards what follows
	kept map[string]keptClip
}

type keptClip struct {
	clip *clip
	at   time.Time // of the file's last change
	size int64
}

func newClips(dir string) (*clips, error) {
	if dir == "" {
		return &clips{}, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("media directory: %w", err)
	}
	return &clips{root: root, kept: make(map[string]keptClip)}, nil
}

func (c *clips) close() {
	if c.root != nil {
		_ = c.root.Close()
	}
}

// open reads a file below the directory; no name leads out of it.
func (c *clips) open(name string) (*clip, error) {
	if c.root == nil {
		return nil, errors.New("this node has no media directory (--media-dir); send the file as blob")
	}
	info, err := c.root.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w; want a path relative to the media directory", err)
	}
	if !info.Mode().IsRegular() || info.Size() > clipBytes {
		return nil, fmt.Errorf("%q has %d bytes: want a file of at most %d", name, info.Size(), clipBytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.kept[name]; ok && k.at.Equal(info.ModTime()) && k.size == info.Size() {
		return k.clip, nil
	}
	b, err := c.root.ReadFile(name)
	if err != nil {
		return nil, err
	}
	read, err := decodeWav(b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	for other := range c.kept {
		if len(c.kept) < clipsKept {
			break
		}
		delete(c.kept, other)
	}
	c.kept[name] = keptClip{read, info.ModTime(), info.Size()}
	return read, nil
}
