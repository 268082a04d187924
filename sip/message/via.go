package message

import "bytes"

// Via is a view of one Via value.
type Via struct {
	Raw       []byte // the whole value
	Transport []byte
	SentBy    []byte // host and port as they came
	Host      []byte
	Port      uint16 // 0 if not given
	Params    []byte // from the first semicolon
	Branch    []byte
	Received  []byte
	RPort     []byte // empty if asked for, but not filled in
	HasRPort  bool
	RPortName []byte // the word "rport" as it came, to find its place
	Signed    []byte // the value of the parameter that SignedParam names
}

// SignedParam is the name of the proxy's own Via and route parameter.
const SignedParam = "vb"

// Parse reads one whole Via value, RFC 3261 section 20.42; white space may stand around its separators.
func (v *Via) Parse(b []byte) bool { return v.parse(b) }

func (v *Via) parse(b []byte) bool {
	*v = Via{Raw: b}
	rest, ok := cutProtocol(b)
	if !ok {
		return false
	}
	i := 0
	for i < len(rest) && tokenChar[rest[i]] {
		i++
	}
	if i == 0 || i >= len(rest) || !isLWS(rest[i]) {
		return false
	}
	v.Transport, rest = rest[:i], skipLWS(rest[i:])
	end := bytes.IndexByte(rest, ';')
	if end < 0 {
		end = len(rest)
	}
	v.SentBy = trimLWS(rest[:end])
	if v.Host, v.Port, ok = splitHostPort(v.SentBy); !ok {
		v.Host = nil
		return false
	}
	v.Params = rest[end:]
	return v.readParams()
}

// cutProtocol cuts "SIP/2.0/" off.
func cutProtocol(b []byte) (rest []byte, ok bool) {
	const usual = "SIP/2.0/"
	if len(b) > len(usual) && string(b[:len(usual)]) == usual && !isLWS(b[len(usual)]) {
		return b[len(usual):], true
	}
	if rest, ok = cutWord(b, "sip"); !ok {
		return nil, false
	}
	// The version is the start line's business (505); an answer needs the rest of this Via all the same.
	i := 0
	for i < len(rest) && tokenChar[rest[i]] {
		i++
	}
	if i == 0 {
		return nil, false
	}
	return cutSlash(rest[i:])
}

// cutWord cuts "word /" off the start of the sent-protocol.
func cutWord(b []byte, lower string) ([]byte, bool) {
	b = skipLWS(b)
	if len(b) <= len(lower) || !EqualFold(b[:len(lower)], lower) {
		return nil, false
	}
	return cutSlash(b[len(lower):])
}

func cutSlash(b []byte) ([]byte, bool) {
	b = skipLWS(b)
	if len(b) == 0 || b[0] != '/' {
		return nil, false
	}
	return skipLWS(b[1:]), true
}

func (v *Via) readParams() bool {
	list := v.Params
	for {
		name, value, _, rest, ok := NextParam(list)
		if !ok {
			return len(rest) == 0
		}
		switch len(name) {
		case 2:
			if string(name) == SignedParam || EqualFold(name, SignedParam) {
				v.Signed = value
			}
		case 5:
			if string(name) == "rport" || EqualFold(name, "rport") {
				v.HasRPort, v.RPort, v.RPortName = true, value, name
			}
		case 6:
			if string(name) == "branch" || EqualFold(name, "branch") {
				v.Branch = value
			}
		case 8:
			if string(name) == "received" || EqualFold(name, "received") {
				v.Received = value
			}
		}
		list = rest
	}
}

// Unique tells if the branch is one of RFC 3261 (section 8.1.1.7): the magic cookie with something behind it.
func (v *Via) Unique() bool {
	return len(v.Branch) > 7 && EqualFold(v.Branch[:7], "z9hg4bk")
}
