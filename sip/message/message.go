package message

import "bytes"

// MaxFields bounds the header fields of one message: RFC 4475's longreq has 42, browsers send about 20.
const MaxFields = 128

// Field is the place of one header field. All numbers are offsets into the message.
type Field struct {
	Kind       Kind
	Start, End uint32 // the whole of it: name, colon, value, folded lines and line end
	NameEnd    uint32
	Val        uint32 // first byte of the value
	ValEnd     uint32 // behind its last byte, white space and line end cut
}

// Message is one SIP message over borrowed bytes. The zero value is ready for Parse; reuse it. Of a message with a
// fault, what was found is filled in all the same, as far as an answer needs it.
type Message struct {
	raw      []byte
	n        int
	first    [numKinds]int16 // index of the first field of a kind, plus one
	count    [numKinds]uint8
	method   Method
	request  bool
	status   int
	bodyAt   int
	fieldsAt int
	name     []byte // the method as it came
	uri      []byte // Request-URI as it came
	uriView  URI
	from, to NameAddr
	fromTag  []byte
	toTag    []byte
	callID   []byte
	via      Via
	cseq     uint32
	cseqName []byte
	maxFwd   int
	fields   [MaxFields]Field
}

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
	m.first, m.count = [numKinds]int16{}, [numKinds]uint8{}
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

// header records every header field until the empty line.
func (m *Message) header() Fault {
	b := m.raw
	pos := m.fieldsAt
	fault := FaultNone
	for {
		if pos >= len(b) {
			m.bodyAt = pos
			return firstOf(fault, FaultUnfinished)
		}
		if b[pos] == '\n' {
			m.bodyAt = pos + 1
			return fault
		}
		if b[pos] == '\r' && pos+1 < len(b) && b[pos+1] == '\n' {
			m.bodyAt = pos + 2
			return fault
		}
		end := pos
		for {
			nl := bytes.IndexByte(b[end:], '\n')
			if nl < 0 {
				m.bodyAt = len(b)
				return firstOf(fault, FaultUnfinished)
			}
			end += nl + 1
			if end >= len(b) || (b[end] != ' ' && b[end] != '\t') { // RFC 3261 section 7.3.1: folded lines
				break
			}
		}
		if !m.field(pos, end) {
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

// field records the header field at raw[pos:end]. The usual "Name: value" CRLF takes no second look at its white space.
func (m *Message) field(pos, end int) bool {
	line := m.raw[pos:end]
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
	m.fields[m.n] = Field{Kind: k, Start: uint32(pos), End: uint32(end), NameEnd: uint32(pos + nameEnd), Val: uint32(pos + i), ValEnd: uint32(pos + valEnd)}
	m.n++
	if m.first[k] == 0 {
		m.first[k] = int16(m.n)
	}
	if m.count[k] < 255 {
		m.count[k]++
	}
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

// Bytes is the message without what stood before the start line and behind the body.
func (m *Message) Bytes() []byte { return m.raw }

// Request tells a request from a response.
func (m *Message) Request() bool { return m.request }

// Method is the request's method; of a response the one of its CSeq.
func (m *Message) Method() Method { return m.method }

// MethodName is the method's bytes.
func (m *Message) MethodName() []byte { return m.name }

// URI is the Request-URI as it came.
func (m *Message) URI() []byte { return m.uri }

// Target is the Request-URI, read.
func (m *Message) Target() *URI { return &m.uriView }

// Status is the response's code.
func (m *Message) Status() int { return m.status }

// CallID is the Call-ID's value.
func (m *Message) CallID() []byte { return m.callID }

// From is the From address.
func (m *Message) From() *NameAddr { return &m.from }

// To is the To address.
func (m *Message) To() *NameAddr { return &m.to }

// FromTag is From's tag, empty if there is none.
func (m *Message) FromTag() []byte { return m.fromTag }

// ToTag is To's tag, empty if there is none.
func (m *Message) ToTag() []byte { return m.toTag }

// Via is the topmost Via value.
func (m *Message) Via() *Via { return &m.via }

// CSeq is the CSeq number.
func (m *Message) CSeq() uint32 { return m.cseq }

// MaxForwards is the Max-Forwards number, -1 if there is none.
func (m *Message) MaxForwards() int { return m.maxFwd }

// Body is the message's body.
func (m *Message) Body() []byte { return m.raw[m.bodyAt:] }

// BodyAt is the offset of the body.
func (m *Message) BodyAt() int { return m.bodyAt }

// HeaderAt is the offset of the first header field.
func (m *Message) HeaderAt() int { return m.fieldsAt }

// HeaderEnd is the offset of the empty line: the place to add header fields at the end.
func (m *Message) HeaderEnd() int {
	if m.n == 0 {
		return m.fieldsAt
	}
	return int(m.fields[m.n-1].End)
}

// Fields are all header fields in their order.
func (m *Message) Fields() []Field { return m.fields[:m.n] }

// First is the first field of a kind, nil if there is none.
func (m *Message) First(k Kind) *Field {
	if i := m.first[k]; i > 0 {
		return &m.fields[i-1]
	}
	return nil
}

// Count is the number of header fields of a kind, at most 255.
func (m *Message) Count(k Kind) int { return int(m.count[k]) }

// Value is a field's value; folded lines stay folded.
func (m *Message) Value(f *Field) []byte { return m.raw[f.Val:f.ValEnd] }

// Get is the value of the first field of a kind, nil if there is none.
func (m *Message) Get(k Kind) []byte {
	if f := m.First(k); f != nil {
		return m.Value(f)
	}
	return nil
}

// At is the offset of a view that points into the message. Views are slices of the message that keep its capacity, so
// that the distance between both capacities is the offset; this saves carrying an offset beside each view.
func (m *Message) At(view []byte) int { return cap(m.raw) - cap(view) }

// Answerable tells if a response can be made: a request whose Via and Call-ID are known.
func (m *Message) Answerable() bool {
	return m.request && m.method != Ack && m.First(ViaField) != nil && m.via.Host != nil
}
