package message

import "bytes"

// NameAddr is a view of a From, To, Contact, Route or Path value: display name, URI and the header field's parameters.
type NameAddr struct {
	Display []byte // with its quotes
	URI     []byte // without angle brackets
	Params  []byte // from the first semicolon; empty if there is none
	Angle   bool   // the URI stood in angle brackets
}

// Parse reads one value and returns what follows it: nothing, or a comma and more.
func (a *NameAddr) Parse(b []byte) (rest []byte, ok bool) { return a.parse(b) }

// parse takes RFC 3261 section 20's rule: without angle brackets a semicolon belongs to the header field, not to the
// URI, and the URI may hold no comma, question mark or semicolon.
func (a *NameAddr) parse(b []byte) (rest []byte, ok bool) {
	*a = NameAddr{}
	b = skipLWS(b)
	if len(b) > 0 && b[0] == '"' {
		n := quotedLen(b)
		if n == 0 {
			return nil, false
		}
		a.Display, b = b[:n], skipLWS(b[n:])
		if len(b) == 0 || b[0] != '<' {
			return nil, false
		}
	} else if at := displayEnd(b); at > 0 {
		a.Display = trimLWS(b[:at])
		for _, c := range a.Display { // RFC 4475 section 3.1.2.15: an unquoted display name is tokens
			if !tokenChar[c] && !isLWS(c) {
				return nil, false
			}
		}
		b = b[at:]
	}
	if len(b) > 0 && b[0] == '<' {
		a.Angle = true
		end := bytes.IndexByte(b, '>')
		if end < 0 || hasLWS(b[1:end]) { // RFC 4475 section 3.1.2.14
			return nil, false
		}
		a.URI, b = b[1:end], b[end+1:]
	} else {
		end := 0
		for end < len(b) && b[end] != ';' && b[end] != ',' && !isLWS(b[end]) {
			if b[end] == '?' || b[end] == '<' || b[end] == '"' {
				return nil, false
			}
			end++
		}
		a.URI, b = b[:end], b[end:]
	}
	colon := 0
	for colon < len(a.URI) && a.URI[colon] != ':' {
		colon++
	}
	if colon == 0 || colon == len(a.URI) {
		return nil, false
	}
	end := listEnd(b)
	if end < 0 {
		return nil, false
	}
	a.Params = trimLWS(b[:end])
	if len(a.Params) > 0 && a.Params[0] != ';' {
		return nil, false
	}
	return b[end:], true
}

// displayEnd is where the angle bracket behind an unquoted display name stands; 0 if there is no such name.
func displayEnd(b []byte) int {
	for i, c := range b {
		switch c {
		case '<':
			return i
		case ',', ';':
			return 0
		}
	}
	return 0
}

// tag reads the parameters and returns the tag; ok is false if a parameter cannot be read.
func (a *NameAddr) tag() (tag []byte, ok bool) {
	list := a.Params
	for len(list) > 0 {
		name, v, _, rest, more := NextParam(list)
		if !more {
			return tag, len(rest) == 0
		}
		if tag == nil && (string(name) == "tag" || EqualFold(name, "tag")) {
			tag = v
		}
		list = rest
	}
	return tag, true
}
