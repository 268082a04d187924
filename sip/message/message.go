package message

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
	raw []byte
	found
	fields [MaxFields]Field // found.n of them
}

// found is what Parse finds, in a struct of its own so that it is cleared at once.
type found struct {
	n        int
	first    [kindRoom]uint8 // index of the first field of a kind, plus one
	count    [kindRoom]uint8
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
