package transport

import "bytes"

// A framer cuts a byte stream into messages (RFC 3261 section 18.3). It is given the unconsumed bytes each time and remembers
// how far it has looked, so that a message which arrives byte by byte costs no more than one that arrives at once.
//
// A line ends with LF, with or without CR before it, and the first empty line ends the header block: the same reading as the
// message parser's, so that both agree on where the body begins. Two Content-Length fields that differ end the connection, as
// does one that is no plain number: a stream on which two readers may disagree is how requests are smuggled.
type framer struct {
	max int // largest message

	scan   int  // bytes of the message that were looked at
	line   int  // where the current line begins
	body   int  // where the body begins; 0 while the header block is incomplete
	length int  // Content-Length
	known  bool // length was given
	inside bool // the current field is Content-Length
	value  bool // and had its number
	blank  int  // line ends since the last message
}

type frameKind uint8

const (
	frameMore      frameKind = iota // the message is not complete
	frameMessage                    // n bytes are a message
	frameBlank                      // n bytes are line ends between messages
	framePing                       // the same, and a double CRLF is complete: answer with CRLF (RFC 5626 section 3.5.1)
	frameMalformed                  // this and the kinds below end the connection
	frameNoLength
	frameOversize
)

// next looks at b, the bytes from the start of the current message on. n is how many of them the caller consumes.
func (f *framer) next(b []byte) (n int, kind frameKind) {
	if f.scan == 0 {
		if len(b) == 0 {
			return 0, frameMore
		}
		if n, kind := f.blanks(b); n > 0 {
			return n, kind
		}
		if !token(b[0]) {
			return 0, frameMalformed
		}
		f.blank = 0
	}
	for f.body == 0 {
		i := bytes.IndexByte(b[f.scan:], '\n')
		if i < 0 {
			f.scan = len(b)
			if len(b) >= f.max {
				return 0, frameOversize
			}
			return 0, frameMore
		}
		end := f.scan + i
		line := bytes.TrimSuffix(b[f.line:end], []byte{'\r'})
		first := f.line == 0
		f.scan, f.line = end+1, end+1
		switch {
		case len(line) == 0:
			f.body = end + 1
		case !first:
			if kind := f.field(line); kind != frameMore {
				return 0, kind
			}
		}
	}
	if !f.known {
		return 0, frameNoLength
	}
	n = f.body + f.length
	if n > f.max {
		return 0, frameOversize
	}
	if len(b) < n {
		return 0, frameMore
	}
	*f = framer{max: f.max}
	return n, frameMessage
}

// size tells how many bytes the current message has in all; 0 while that is not known.
func (f *framer) size() int {
	if f.body == 0 || !f.known {
		return 0
	}
	return f.body + f.length
}

func (f *framer) blanks(b []byte) (n int, kind frameKind) {
	for n < len(b) && (b[n] == '\r' || b[n] == '\n') {
		if b[n] == '\n' {
			f.blank++
		}
		n++
	}
	if f.blank >= 2 {
		f.blank = 0
		return n, framePing
	}
	return n, frameBlank
}

// field looks at one line of the header block.
func (f *framer) field(line []byte) frameKind {
	if line[0] == ' ' || line[0] == '\t' { // folded, RFC 3261 section 7.3.1
		if f.inside {
			return f.number(line)
		}
		return frameMore
	}
	f.inside, f.value = false, false
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || !isContentLength(bytes.TrimRight(line[:colon], " \t")) {
		return frameMore
	}
	f.inside = true
	return f.number(line[colon+1:])
}

// number reads the value of Content-Length, or the blank part of it before a fold.
func (f *framer) number(v []byte) frameKind {
	v = bytes.Trim(v, " \t")
	if len(v) == 0 {
		return frameMore
	}
	if f.value {
		return frameMalformed
	}
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return frameMalformed
		}
		if n = n*10 + int(c-'0'); n > f.max {
			return frameOversize
		}
	}
	if f.known && f.length != n {
		return frameMalformed
	}
	f.known, f.value, f.length = true, true, n
	return frameMore
}

// isContentLength knows the name in every case, and its compact form (RFC 3261 section 20.14).
func isContentLength(name []byte) bool {
	if len(name) == 1 {
		return name[0]|0x20 == 'l'
	}
	return len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length"))
}

// token tells whether a request or status line may begin with c (RFC 3261 section 25.1).
func token(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return bytes.IndexByte([]byte("-.!%*_+`'~"), c) >= 0
}
