package message

import "bytes"

// The functions of this file occur in the order in which a message meets them.

// Parse reads one message that fills b. It keeps b and everything found points into it: b must not change while m is
// used. On a datagram the bytes behind Content-Length are cut (RFC 3261 section 18.3).
func (m *Message) Parse(b []byte) Fault { return m.Check(m.Scan(b)) }

// Scan is the first half of Parse: it reads the start line, finds the header fields and cuts the body.
func (m *Message) Scan(b []byte) Fault {
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
	return firstOf(fault, m.body())
}

// Check is the second half: it reads the values that every message must have. found is what Scan has found.
func (m *Message) Check(found Fault) Fault {
	if found == FaultNotSIP {
		return found
	}
	return firstOf(found, m.check())
}

func (m *Message) reset() {
	m.found = found{}
	m.maxFwd = -1
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
	if len(line) >= 4 && line[3] == '/' && EqualFold(line[:4], "sip/") {
		return m.statusLine(line)
	}
	m.request = true
	sp := 0
	for sp < len(line) && tokenChar[line[sp]] {
		sp++
	}
	if sp == 0 || sp == len(line) || line[sp] != ' ' {
		return FaultNotSIP
	}
	m.name, m.method = line[:sp], methodOf(line[:sp])
	const usual = " SIP/2.0"
	if at := len(line) - len(usual); at > sp+1 && string(line[at:]) == usual && line[sp+1] != '<' && !hasLWS(line[sp+1:at]) {
		m.uri = line[sp+1 : at]
		return FaultNone
	}
	fault := FaultNone
	rest := line[sp+1:]
	for len(rest) > 0 && (rest[len(rest)-1] == ' ' || rest[len(rest)-1] == '\t') { // RFC 4475 section 3.1.2.10
		rest, fault = rest[:len(rest)-1], FaultStartLine
	}
	sp = bytes.LastIndexByte(rest, ' ')
	if sp < 0 || len(rest)-sp < 5 {
		return FaultNotSIP
	}
	m.uri = rest[:sp]
	if version := rest[sp+1:]; string(version) != "SIP/2.0" {
		if !EqualFold(version[:4], "sip/") {
			m.uri = nil
			return FaultNotSIP
		}
		if !EqualFold(version, "sip/2.0") {
			return FaultVersion
		}
	}
	if fault != FaultNone || len(m.uri) == 0 || m.uri[0] == '<' || hasLWS(m.uri) {
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
		end := pos + nl + 1
		if end < len(b) && !foldChar[b[end]] {
			name, kind := fieldName(rest)
			name += pos
			if name > pos && name+2 < end-2 && b[name+1] == ' ' && b[name+2] > ' ' && b[end-3] > ' ' && b[end-2] == '\r' && uint(m.n) < MaxFields {
				f := &m.fields[m.n]
				f.Kind, f.Start, f.End, f.NameEnd, f.Val, f.ValEnd = kind, uint32(pos), uint32(end), uint32(name), uint32(name+2), uint32(end-2)
				m.countField(kind)
				pos = end
				continue
			}
		}
		for end < len(b) && foldChar[b[end]] { // RFC 3261 section 7.3.1
			if nl = bytes.IndexByte(b[end:], '\n'); nl < 0 {
				m.bodyAt = len(b)
				return firstOf(fault, FaultUnfinished)
			}
			end += nl + 1
		}
		if !m.field(pos, b[pos:end]) {
			fault = firstOf(fault, FaultField)
		}
		if m.n > MaxFields {
			m.n = MaxFields
			m.bodyAt = len(b)
			return FaultTooMany
		}
		pos = end
	}
}

// countField takes note of the field that was written last.
func (m *Message) countField(k Kind) {
	m.n++
	k %= kindRoom
	if m.first[k] == 0 {
		m.first[k] = uint8(m.n)
	}
	m.count[k]++
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
	if m.n >= MaxFields {
		m.n = MaxFields + 1
		return true
	}
	k := kindOf(line[:nameEnd])
	m.fields[m.n] = Field{Kind: k, Start: uint32(pos), End: uint32(pos + len(line)), NameEnd: uint32(pos + nameEnd), Val: uint32(pos + i), ValEnd: uint32(pos + valEnd)}
	m.countField(k)
	return true
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
