package transcode

// l16Decoder reads L16: 16 bit samples, most significant byte first (RFC 3551 section 4.5.11).
type l16Decoder struct {
	even bool // only pairs of samples, as the resampler takes them
}

func (l l16Decoder) samples(payload []byte) (int, bool) {
	n := len(payload) / 2
	if l.even {
		n &^= 1
	}
	return n, n > 0 && len(payload)%2 == 0
}

func (l l16Decoder) decode(pcm []int16, payload []byte) int {
	n := min(len(pcm), len(payload)/2)
	for i := range pcm[:n] {
		pcm[i] = int16(payload[2*i])<<8 | int16(payload[2*i+1])
	}
	return n
}

func (l l16Decoder) conceal([]int16, []byte) bool { return false }
func (l l16Decoder) reset()                       {}

type l16Encoder struct{}

func (l16Encoder) encode(payload []byte, frame []int16) int {
	n := min(len(frame), len(payload)/2)
	for i, s := range frame[:n] {
		payload[2*i] = byte(uint16(s) >> 8)
		payload[2*i+1] = byte(s)
	}
	return 2 * n
}
