package rawphone

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Field is one header field as it stands in the message.
type Field struct{ Name, Value string }

// Message is a SIP request or response: its first line, its fields in their order, its body.
type Message struct {
	Start  string
	Fields []Field
	Body   string

	At     time.Time      // when it was received
	From   netip.AddrPort // who sent it
	AtHop  bool           // it came to the hop, not to the phone's own address
	Resent bool           // the same message came before
}

// compact are the short names of RFC 3261 section 7.3.3 and their long forms.
var compact = map[string]string{"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length",
	"c": "content-type", "k": "supported", "x": "session-expires", "r": "refer-to", "b": "referred-by", "o": "event"}

// errIncomplete is a message whose end has not come yet, on a stream.
var errIncomplete = errors.New("message is incomplete")

// parse takes one message from the front of b and returns what is left.
func parse(b []byte) (*Message, []byte, error) {
	b = bytes.TrimLeft(b, "\r\n")
	head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return nil, b, errIncomplete
	}
	lines := strings.Split(strings.ReplaceAll(string(head), "\r\n ", " "), "\r\n")
	m := &Message{Start: lines[0]}
	if !strings.Contains(m.Start, "SIP/2.0") {
		return nil, nil, fmt.Errorf("no SIP message: %q", m.Start)
	}
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return nil, nil, fmt.Errorf("header field without a colon: %q", l)
		}
		m.Fields = append(m.Fields, Field{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	n, err := strconv.Atoi(m.Get("Content-Length"))
	if err != nil {
		n = len(rest)
	}
	if n > len(rest) {
		return nil, b, errIncomplete
	}
	m.Body = string(rest[:n])
	return m, rest[n:], nil
}

// canonical is the long form of a field's name, in lower case.
func canonical(name string) string {
	name = strings.ToLower(name)
	if long, ok := compact[name]; ok {
		return long
	}
	return name
}

// Get returns the first field of a name, or "".
func (m *Message) Get(name string) string {
	for _, f := range m.Fields {
		if canonical(f.Name) == canonical(name) {
			return f.Value
		}
	}
	return ""
}

// All returns every value of a name. Lists of Via, Route and Record-Route are split at their commas.
func (m *Message) All(name string) []string {
	var all []string
	for _, f := range m.Fields {
		if canonical(f.Name) != canonical(name) {
			continue
		}
		switch canonical(name) {
		case "via", "route", "record-route":
			all = append(all, list(f.Value)...)
		default:
			all = append(all, f.Value)
		}
	}
	return all
}

// list splits a value at its commas; one inside of angle brackets is part of a URI.
func list(value string) []string {
	var all []string
	inside, begin := false, 0
	for i, c := range value {
		switch {
		case c == '<':
			inside = true
		case c == '>':
			inside = false
		case c == ',' && !inside:
			all, begin = append(all, strings.TrimSpace(value[begin:i])), i+1
		}
	}
	return append(all, strings.TrimSpace(value[begin:]))
}

// Method is the request's method, or that of the request which a response answers.
func (m *Message) Method() string {
	if m.Status() == 0 {
		method, _, _ := strings.Cut(m.Start, " ")
		return method
	}
	_, method := m.CSeq()
	return method
}

// Status is the response's code; a request has 0.
func (m *Message) Status() int {
	rest, ok := strings.CutPrefix(m.Start, "SIP/2.0 ")
	if !ok || len(rest) < 3 {
		return 0
	}
	code, _ := strconv.Atoi(rest[:3])
	return code
}

// URI is the Request-URI.
func (m *Message) URI() string {
	if parts := strings.SplitN(m.Start, " ", 3); len(parts) == 3 {
		return parts[1]
	}
	return ""
}

// CSeq is the number and the method of the CSeq field.
func (m *Message) CSeq() (uint32, string) {
	number, method, _ := strings.Cut(m.Get("CSeq"), " ")
	n, _ := strconv.ParseUint(number, 10, 32)
	return uint32(n), strings.TrimSpace(method)
}

// Param is a parameter of a header field's value, outside of the angle brackets.
func Param(value, name string) string {
	if _, after, ok := strings.Cut(value, ">"); ok {
		value = after
	}
	for _, p := range strings.Split(value, ";") {
		if k, v, _ := strings.Cut(strings.TrimSpace(p), "="); strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// URIOf is the URI of a From, To, Contact or Route value, without brackets.
func URIOf(value string) string {
	if _, after, ok := strings.Cut(value, "<"); ok {
		uri, _, _ := strings.Cut(after, ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// Bytes is the message as it goes to the wire. Content-Length is that of the body.
func (m *Message) Bytes() []byte {
	var b bytes.Buffer
	b.WriteString(m.Start + "\r\n")
	for _, f := range m.Fields {
		if canonical(f.Name) != "content-length" {
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m.Body), m.Body)
	return b.Bytes()
}

func (m *Message) String() string { return string(m.Bytes()) }
