package hep

import "bytes"

// CallID finds the Call-ID of a raw SIP message and returns a view into b: nil if there is none before the body. The first one counts; whether there
// are more, and whether the message is one at all, is not judged here.
func CallID(b []byte) []byte { return Field(b, "call-id", 'i') }

// Field finds the value of a header field, by its long name, which is given in small letters, or its compact one, 0 if there is none; both may stand there
// in any case (RFC 3261 sections 7.3.1 and 7.3.3). Of a folded value it is the first line that says something.
func Field(b []byte, long string, short byte) []byte {
	_, rest := cutLine(b) // the start line
	for len(rest) > 0 {
		var line []byte
		line, rest = cutLine(rest)
		if len(line) == 0 {
			return nil // the body follows
		}
		if blank(line[0]) {
			continue // folded: it belongs to the line before
		}
		value, ok := fieldValue(line, long, short)
		if !ok {
			continue
		}
		for len(value) == 0 && len(rest) > 0 && blank(rest[0]) { // the name stands alone, the value is on the next line
			line, rest = cutLine(rest)
			value = trim(line)
		}
		if len(value) == 0 {
			return nil
		}
		return value
	}
	return nil
}

// fieldValue is what stands behind the colon, if the line's name is right.
func fieldValue(line []byte, long string, short byte) ([]byte, bool) {
	n := 1
	if lower(line[0]) != short || len(line) > 1 && line[1] != ':' && !blank(line[1]) {
		if len(line) <= len(long) {
			return nil, false
		}
		for i := range len(long) {
			if lower(line[i]) != long[i] {
				return nil, false
			}
		}
		n = len(long)
	}
	for n < len(line) && blank(line[n]) {
		n++
	}
	if n == len(line) || line[n] != ':' {
		return nil, false
	}
	return trim(line[n+1:]), true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// cutLine ends a line at LF, with or without a CR before it: both are seen from real phones.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func trim(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}
