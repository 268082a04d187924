package opus

// The longest packet, RFC 6716 section 3.2.5 (R5), in units of 1/400 s, and the longest frame in bytes (section 3.4, R2).
const (
	maxUnits = 48
	maxFrame = 1275
)

// Samples returns how many samples per channel the packet holds at the given rate, and false if its framing breaks RFC 6716
// section 3.4 so that no decoder would take it.
func Samples(packet []byte, rate int) (int, bool) {
	if len(packet) == 0 {
		return 0, false
	}
	units := frameUnits(packet[0])
	body := packet[1:]
	count := 1
	switch packet[0] & 3 {
	case 0: // one frame
		if len(body) > maxFrame {
			return 0, false
		}
	case 1: // two frames of equal size
		if len(body)%2 != 0 || len(body)/2 > maxFrame {
			return 0, false
		}
		count = 2
	case 2: // two frames, the first one's size is given
		size, used, ok := frameSize(body)
		if !ok || size > len(body)-used || len(body)-used-size > maxFrame {
			return 0, false
		}
		count = 2
	case 3:
		var ok bool
		if count, ok = manyFrames(body, units); !ok {
			return 0, false
		}
	}
	return units * count * rate / 400, true
}

// frameUnits returns a frame's length in units of 1/400 s from the TOC byte (RFC 6716 section 3.1, table 2).
func frameUnits(toc byte) int {
	config := int(toc >> 3)
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		return [4]int{4, 8, 16, 24}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		return 4 << (config & 1)
	default: // CELT: 2.5, 5, 10, 20 ms
		return 1 << (config & 3)
	}
}

// frameSize reads a frame length (RFC 6716 section 3.2.1) and tells how many bytes it took.
func frameSize(b []byte) (size, used int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	if b[0] < 252 {
		return int(b[0]), 1, true
	}
	if len(b) < 2 {
		return 0, 0, false
	}
	return 4*int(b[1]) + int(b[0]), 2, true
}

// manyFrames checks a code 3 packet (RFC 6716 section 3.2.5) behind its TOC byte.
func manyFrames(b []byte, units int) (count int, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	count = int(b[0] & 63)
	vbr, padded := b[0]&0x80 != 0, b[0]&0x40 != 0
	b = b[1:]
	if count == 0 || count*units > maxUnits {
		return 0, false
	}
	padding := 0
	for padded {
		if len(b) == 0 {
			return 0, false
		}
		n := int(b[0])
		b = b[1:]
		if n < 255 {
			padding += n
			break
		}
		padding += 254 // 255 means 254 bytes and another length byte
	}
	if padding > len(b) {
		return 0, false
	}
	b = b[:len(b)-padding]
	if !vbr {
		return count, len(b)%count == 0 && len(b)/count <= maxFrame
	}
	for range count - 1 {
		size, used, ok := frameSize(b)
		if !ok || size > len(b)-used {
			return 0, false
		}
		// The sizes stand before all frames: only their sum must fit, which shortening the tail checks.
		b = b[used : len(b)-size]
	}
	return count, len(b) <= maxFrame
}
