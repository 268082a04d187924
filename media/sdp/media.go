package sdp

import (
	"fmt"
	"strconv"
	"strings"
)

// Media is one m= line with the lines below it.
type Media struct {
	section
	session *Session
}

// Fields of the m= line.
const (
	fieldKind = iota
	fieldPort
	fieldProtocol
	fieldFormats // this one and all behind it
)

// checkMediaLine checks the value of an m= line: "audio 4000 RTP/AVP 0 8" or with a number of ports "4000/2".
func checkMediaLine(value string) error {
	var f [4]string
	if !splitFields(f[:], value) {
		return fmt.Errorf("m=%.80q, want m=KIND PORT PROTOCOL FORMATS", value)
	}
	if _, _, ok := parsePort(f[fieldPort]); !ok {
		return fmt.Errorf("m= line has port %.40q, want 0..65535 or PORT/COUNT", f[fieldPort])
	}
	return nil
}

// splitFields puts the first words of a value into f; false is a value with fewer words than f has room for.
func splitFields(f []string, value string) bool {
	n := 0
	for word := range strings.FieldsSeq(value) {
		if n == len(f) {
			break
		}
		f[n] = word
		n++
	}
	return n == len(f)
}

func parsePort(s string) (port, count int, ok bool) {
	p, c, more := strings.Cut(s, "/")
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return 0, 0, false
	}
	if !more {
		return int(n), 1, true
	}
	k, err := strconv.ParseUint(c, 10, 16)
	if err != nil || k == 0 {
		return 0, 0, false
	}
	return int(n), int(k), true
}

// mLine is the index of the m= line in the section: always 0.
const mLine = 0

func (m *Media) fields() []string { return strings.Fields(m.lines[mLine].text[2:]) }

func (m *Media) field(i int) string {
	start, end := fieldAt(m.lines[mLine].text, i)
	return m.lines[mLine].text[start:end]
}

// setField replaces one field of the m= line and leaves the rest of the line, blanks too, as it is.
func (m *Media) setField(i int, value string) {
	text := m.lines[mLine].text
	start, end := fieldAt(text, i)
	m.setText(mLine, text[:start]+value+text[end:])
}

// fieldAt finds field i of an m= line.
func fieldAt(text string, i int) (start, end int) {
	start = 2
	for {
		for start < len(text) && isBlank(text[start:start+1]) {
			start++
		}
		end = start
		for end < len(text) && !isBlank(text[end:end+1]) {
			end++
		}
		if i == 0 || start == len(text) {
			return start, end
		}
		i--
		start = end
	}
}

// Kind is audio, video, image, application, ...
func (m *Media) Kind() string { return known(m.field(fieldKind)) }

// Port is the port of the m= line; 0 is a rejected or removed stream (RFC 3264, section 6).
func (m *Media) Port() int {
	port, _, _ := parsePort(m.field(fieldPort))
	return port
}

// PortCount is the number behind the port ("4000/2"), 1 if there is none.
func (m *Media) PortCount() int {
	_, count, _ := parsePort(m.field(fieldPort))
	return count
}

// SetPort replaces the port; a number of ports goes away.
func (m *Media) SetPort(port int) {
	if m.Port() == port && m.PortCount() == 1 {
		return
	}
	m.setField(fieldPort, strconv.Itoa(min(max(port, 0), 65535)))
}

// Rejected tells that the port is 0. In an offer with BUNDLE that is no rejection if a=bundle-only stands there
// (RFC 9143, section 6).
func (m *Media) Rejected() bool {
	_, bundleOnly := m.Attr("bundle-only")
	return m.Port() == 0 && !bundleOnly
}

// Protocol is the transport of the m= line: RTP/AVP, UDP/TLS/RTP/SAVPF, udptl, ...
func (m *Media) Protocol() string { return known(m.field(fieldProtocol)) }

// SetProtocol replaces the transport of the m= line.
func (m *Media) SetProtocol(protocol string) {
	if p := strings.Fields(clean(protocol)); len(p) == 1 && p[0] != m.Protocol() {
		m.setField(fieldProtocol, p[0])
	}
}

// IsRTP tells if the transport carries RTP, so that formats are payload types.
func (m *Media) IsRTP() bool {
	p := strings.ToUpper(m.Protocol())
	return strings.HasPrefix(p, "RTP/") || strings.Contains(p, "/RTP/")
}

// Formats are the words behind the transport: payload types for RTP, "t38" for udptl.
func (m *Media) Formats() []string { return m.fields()[fieldFormats:] }

// setFormats replaces all formats.
func (m *Media) setFormats(formats []string) {
	text := m.lines[mLine].text
	start, _ := fieldAt(text, fieldFormats)
	m.setText(mLine, text[:start]+strings.Join(formats, " "))
}

// Index is the place of the media in its session from 0, -1 if it was taken out.
func (m *Media) Index() int {
	for i, o := range m.session.Media {
		if o == m {
			return i
		}
	}
	return -1
}

// inherited is an attribute of the media, else the session's of the same name: for those that RFCs define on both levels.
func (m *Media) inherited(name string) (string, bool) {
	if v, ok := m.Attr(name); ok {
		return v, true
	}
	return m.session.Attr(name)
}
