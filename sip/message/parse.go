package message

import "bytes"

// The functions of this file occur in the order in which a message meets them.

// Parse reads one message that fills b. It keeps b and everything found points into it: b must not change while m is
// used. On a datagram the bytes behind Content-Length are cut (RFC 3261 section 18.3).
func (m *Message) Parse(b []byte) Fault {
	m.reset()
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') { // RFC 3261 section 7.5
		b = b[1:]
	}
	m.raw = b
	fault := m.startLine()
	if fault == FaultNotSIP {
		return fault
	}
	fault = firstOf(fault, m.header())
	fault = firstOf(fault, m.body())
	return firstOf(fault, m.check())
}

func (m *Message) reset() {
	m.raw, m.n, m.method, m.request, m.status, m.bodyAt, m.fieldsAt = nil, 0, Unknown, false, 0, 0, 0
	m.first, m.count = [kindRoom]uint8{}, [kindRoom]uint8{}
	m.name, m.uri, m.uriView, m.from, m.to = nil, nil, URI{}, NameAddr{}, NameAddr{}
	m.fromTag, m.toTag, m.callID, m.via, m.cseq, m.cseqName, m.maxFwd = nil, nil, nil, Via{}, 0, nil, -1
}

func firstOf(a, b Fault) Fault {
	if a != FaultNone {
		return a
	}
	return b
}

// startLine reads the request or status line, RFC 3261 sections 7.1 and 7.2.
func (m *Message) startLine() Fault {
	nl := bytes.IndexByte(m.raw, '\n')
	if nl < 0 {
		return FaultNotSIP
	}
	m.fieldsAt = nl + 1
	line := m.raw[:nl]
	if nl > 0 && line[nl-1] == '\r' {
		line = line[:nl-1]
	}
	if len(line) >= 4 && EqualFold(line[:4], "sip/") {
		return m.statusLine(line)
	}
	m.request = true
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !isToken(line[:sp]) {
		return FaultNotSIP
	}
	m.name, m.method = line[:sp], methodOf(line[:sp])
	fault := FaultNone
	rest := line[sp+1:]
	for len(rest) > 0 && (rest[len(rest)-1] == ' ' || rest[len(rest)-1] == '\t') { // RFC 4475 section 3.1.2.10
		rest, fault = rest[:len(rest)-1], FaultStartLine
	}
	sp = bytes.LastIndexByte(rest, ' ')
	if sp < 0 || len(rest)-sp < 5 || !EqualFold(rest[sp+1:sp+5], "sip/") {
		return FaultNotSIP
	}
	m.uri = rest[:sp]
	if !EqualFold(rest[sp+1:], "sip/2.0") {
		return FaultVersion
	}
	if fault != FaultNone || len(m.uri) == 0 || m.uri[0] == '<' || bytes.IndexByte(m.uri, ' ') >= 0 || bytes.IndexByte(m.uri, '\t') >= 0 {
		return FaultStartLine
	}
	return FaultNone
}

func (m *Message) statusLine(line []byte) Fault {
	if len(line) < 11 || !EqualFold(line[:8], "sip/2.0 ") {
		return FaultVersion
	}
	code := line[8:]
	if sp := bytes.IndexByte(code, ' '); sp >= 0 {
		code = code[:sp]
	}
	n, ok := Number(code, 699)
	if !ok || len(code) != 3 || n < 100 {
		return FaultStatus
	}
	m.status = int(n)
	return FaultNone
}

// header records every header field until the empty line. The usual "Name: value" CRLF is read here, by fieldName and one search for the
// line's end; any other spelling goes through field.
func (m *Message) header() Fault {
	b := m.raw
	pos := m.fieldsAt
	fault := FaultNone
	for {
		if uint(pos) >= uint(len(b)) {
			m.bodyAt = pos
			return firstOf(fault, FaultUnfinished)
		}
		if c := b[pos]; c <= '\r' {
			if c == '\n' {
				m.bodyAt = pos + 1
				return fault
			}
			if c == '\r' && pos+1 < len(b) && b[pos+1] == '\n' {
				m.bodyAt = pos + 2
				return fault
			}
		}
		rest := b[pos:]
		nl := bytes.IndexByte(rest, '\n')
		if nl < 0 {
			m.bodyAt = len(b)
			return firstOf(fault, FaultUnfinished)
		}
		end := nl + 1
		folded := false
		for end < len(rest) && foldChar[rest[end]] { // RFC 3261 section 7.3.1
			if nl = bytes.IndexByte(rest[end:], '\n'); nl < 0 {
				m.bodyAt = len(b)
				return firstOf(fault, FaultUnfinished)
			}
			end += nl + 1
			folded = true
		}
		line := rest[:end]
		name, kind := fieldName(rest)
		if val := name + 2; name > 0 && !folded && val+2 < end && usualValue(line[name+1:]) {
			m.add(kind, pos, name, val, end-2, end)
		} else if !m.field(pos, line) {
			fault = firstOf(fault, FaultField)
		}
		if m.n > MaxFields {
			m.n = MaxFields
			m.bodyAt = len(b)
			return FaultTooMany
		}
		pos += end
	}
}

// usualValue tells if what stands behind the colon is a space, a value and CRLF, and no other white space beside them.
func usualValue(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	front, back := (*[2]byte)(b), (*[3]byte)(b[len(b)-3:])
	return front[0] == ' ' && front[1] > ' ' && back[0] > ' ' && back[1] == '\r'
}

var foldChar = [256]bool{' ': true, '\t': true}

// field records a header field with white space and line ends in any place that is allowed.
func (m *Message) field(pos int, line []byte) bool {
	nameEnd := 0
	for nameEnd < len(line) && tokenChar[line[nameEnd]] {
		nameEnd++
	}
	i := nameEnd
	for i < len(line) && isLWS(line[i]) {
		i++
	}
	if nameEnd == 0 || i >= len(line) || line[i] != ':' {
		return false
	}
	i++
	for i < len(line) && isLWS(line[i]) {
		i++
	}
	valEnd := len(line)
	for valEnd > i && isLWS(line[valEnd-1]) {
		valEnd--
	}
	m.add(kindOf(line[:nameEnd]), pos, nameEnd, i, valEnd, len(line))
	return true
}

// add notes the field at pos, the other places are counted from there; one too many only counts.
func (m *Message) add(k Kind, pos, nameEnd, val, valEnd, end int) {
	n := m.n
	m.n = n + 1
	if uint(n) >= MaxFields {
		m.n = MaxFields + 1
		return
	}
	// One by one: a literal would be made on the stack first.
	f := &m.fields[n]
	f.Kind, f.Start, f.End, f.NameEnd, f.Val, f.ValEnd = k, uint32(pos), uint32(pos+end), uint32(pos+nameEnd), uint32(pos+val), uint32(pos+valEnd)
	k %= kindRoom
	if m.first[k] == 0 {
		m.first[k] = uint8(n + 1)
	}
	m.count[k]++
}

// body cuts the message at its Content-Length, RFC 3261 section 18.3.
func (m *Message) body() Fault {
	f := m.First(ContentLength)
	if f == nil {
		return FaultNone
	}
	if m.count[ContentLength] > 1 { // RFC 4475 section 3.3.9
		return FaultDuplicate
	}
	n, ok := Number(m.Value(f), 1<<30)
	if !ok || m.bodyAt+int(n) > len(m.raw) {
		return FaultLength
	}
	m.raw = m.raw[:m.bodyAt+int(n)]
	return FaultNone
}
