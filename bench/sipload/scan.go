//go:build linux

package main

import "bytes"

// fields are the parts of a received message that a user agent copies or reads. Lines end with CRLF; all are borrowed.
type fields struct {
	first                           []byte // the first line, without its end
	via, route                      [8][]byte
	vias, routes                    int
	from, to, callID, cseq, contact []byte
	stamp                           []byte // the 16 digits of the time of sending
	challenge                       []byte // the value of the MD5 challenge
	length                          int    // Content-Length, -1 if there is none
	header                          int    // bytes up to the body
}

// stampName marks the time of sending. No proxy knows this field, so all must carry it along.
const stampName = "X-T: "

// scan finds the fields, false if b is not one message.
func (f *fields) scan(b []byte) bool {
	*f = fields{length: -1}
	at := bytes.IndexByte(b, '\n')
	if at < 1 {
		return false
	}
	f.first = b[:at-1]
	at++
	for at < len(b) {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 1 {
			return false
		}
		line := b[at : at+n+1]
		at += n + 1
		if n == 1 {
			f.header = at
			return f.callID != nil && f.vias > 0
		}
		f.line(line)
	}
	return false
}

func (f *fields) line(line []byte) {
	switch {
	case named(line, "Via: ", "v:"):
		if f.vias < len(f.via) {
			f.via[f.vias] = line
			f.vias++
		}
	case named(line, "Record-Route: ", ""):
		if f.routes < len(f.route) {
			f.route[f.routes] = line
			f.routes++
		}
	case named(line, "From: ", "f:"):
		f.from = line
	case named(line, "To: ", "t:"):
		f.to = line
	case named(line, "Call-ID: ", "i:"):
		f.callID = line
	case named(line, "CSeq: ", ""):
		f.cseq = line
	case named(line, "Contact: ", "m:"):
		f.contact = line
	case named(line, stampName, ""):
		if len(line) == len(stampName)+stampSize+2 {
			f.stamp = line[len(stampName) : len(stampName)+stampSize]
		}
	case named(line, "Content-Length: ", "l:"):
		f.length = int(decimal(value(line)))
	case named(line, "WWW-Authenticate: ", ""):
		if f.challenge == nil && !bytes.Contains(line, []byte("SHA-256")) {
			f.challenge = value(line)
		}
	}
}

// named compares as proxies write names: as they came, or short.
func named(line []byte, long, short string) bool {
	return len(line) >= len(long) && string(line[:len(long)]) == long ||
		short != "" && len(line) >= len(short) && string(line[:len(short)]) == short
}

// value is what stands behind the colon of a line.
func value(line []byte) []byte {
	return bytes.TrimSpace(line[bytes.IndexByte(line, ':')+1:])
}

// inAngles is the URI between the first < and >.
func inAngles(b []byte) []byte {
	i := bytes.IndexByte(b, '<')
	if i < 0 {
		return nil
	}
	b = b[i+1:]
	if j := bytes.IndexByte(b, '>'); j >= 0 {
		return b[:j]
	}
	return nil
}

// quoted is the value of name="value" in a challenge.
func quoted(b []byte, name string) []byte {
	i := bytes.Index(b, []byte(name))
	if i < 0 {
		return nil
	}
	b = b[i+len(name):]
	if j := bytes.IndexByte(b, '"'); j >= 0 {
		return b[:j]
	}
	return nil
}

// status is the code of a response, 0 for a request.
func (f *fields) status() int {
	if len(f.first) < 11 || string(f.first[:8]) != "SIP/2.0 " {
		return 0
	}
	return int(decimal(f.first[8:11]))
}

func decimal(b []byte) int64 {
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

const (
	stampSize  = 16
	hexDigits  = "0123456789abcdef"
	serialSize = 8
)

// putHex fills b with n in hexadecimal digits.
func putHex(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigits[n&15]
		n >>= 4
	}
}

func appendHex(b []byte, n uint64, size int) []byte {
	for range size {
		b = append(b, '0')
	}
	putHex(b[len(b)-size:], n)
	return b
}

// hex reads hexadecimal digits, false if there are others.
func hex(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
