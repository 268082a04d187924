package message

import "encoding/binary"

// tokenChar is the table of RFC 3261 section 25.1's token.
var tokenChar = [256]bool{
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true,
	'k': true, 'l': true, 'm': true, 'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true,
	'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true,
	'K': true, 'L': true, 'M': true, 'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true,
	'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
	'-': true, '.': true, '!': true, '%': true, '*': true, '_': true, '+': true, '`': true, '\'': true, '~': true,
}

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenChar[c] {
			return false
		}
	}
	return len(b) > 0
}

// isLWS is white space within a header field; a line end counts, as only a folded line can hold one.
func isLWS(c byte) bool {
	return c <= ' ' && (c == ' ' || c == '\t' || c == '\r' || c == '\n')
}

// hasLWS looks at eight bytes at a time: white space is rare where it is asked for.
func hasLWS(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		if below := (x - '!'*everyByte) &^ x & (0x80 * everyByte); below != 0 && anyLWS(b[:8]) {
			return true
		}
	}
	return anyLWS(b)
}

// everyByte times a byte is a word that repeats it.
const everyByte = 0x0101010101010101

func anyLWS(b []byte) bool {
	for _, c := range b {
		if isLWS(c) {
			return true
		}
	}
	return false
}

func skipLWS(b []byte) []byte {
	for len(b) > 0 && isLWS(b[0]) {
		b = b[1:]
	}
	return b
}

func trimLWS(b []byte) []byte {
	b = skipLWS(b)
	for len(b) > 0 && isLWS(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// EqualFold compares ASCII without case; lower must be lower case.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range len(b) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// Number reads decimal digits up to a maximum; nothing else may stand beside them.
func Number(b []byte, maximum uint32) (uint32, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
		if n > uint64(maximum) {
			return 0, false
		}
	}
	return uint32(n), true
}
