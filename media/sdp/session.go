package sdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Session is one body: the session part and its media in the order of the m= lines. Media may be cut or reordered by
// the caller; each *Media belongs to the session that made it.
type Session struct {
	section
	Media []*Media
}

// Bytes prints the body into new memory.
func (s *Session) Bytes() []byte {
	n := s.size()
	for _, m := range s.Media {
		n += m.size()
	}
	return s.Append(make([]byte, 0, n))
}

// Append prints the body behind b.
func (s *Session) Append(b []byte) []byte {
	open := false // the line before has no LF: it was the last one of what came
	put := func(sec *section) {
		for _, l := range sec.lines {
			if open {
				b = append(b, s.eol...)
			}
			b = append(append(b, l.text...), l.end...)
			open = !strings.HasSuffix(l.end, "\n")
		}
	}
	put(&s.section)
	for _, m := range s.Media {
		put(&m.section)
	}
	return b
}

func (s *section) size() int {
	n := 0
	for _, l := range s.lines {
		n += len(l.text) + len(s.eol)
	}
	return n
}

// Clone copies the session; edits of the copy leave the original alone.
func (s *Session) Clone() *Session {
	c := &Session{section: s.section, Media: make([]*Media, len(s.Media))}
	c.lines = slices.Clone(s.lines)
	for i, m := range s.Media {
		cm := *m
		cm.lines = slices.Clone(m.lines)
		cm.session = c
		c.Media[i] = &cm
	}
	return c
}

// New builds a session without media: v=, o=, s=-, c= and t=0 0, with CRLF. Empty fields of the origin get a usable
// value: user "-", id and version "1", the address addr.
func New(o Origin, addr netip.Addr) *Session {
	if o.Username == "" {
		o.Username = "-"
	}
	if o.ID == "" {
		o.ID = "1"
	}
	if o.Version == "" {
		o.Version = "1"
	}
	if !o.Addr.IsValid() && o.Host == "" {
		o.Addr = addr
	}
	s := &Session{section: section{order: sessionOrder, eol: "\r\n"}}
	for _, text := range []string{"v=0", o.text(), "s=-", connectionText(addr), "t=0 0"} {
		s.lines = append(s.lines, line{clean(text), s.eol})
	}
	return s
}

// AddMedia appends an m= line with these codecs and their rtpmap and fmtp lines. protocol is for instance "RTP/AVP".
// Without codecs the format is 0: use AddMediaFormats for what is not RTP.
func (s *Session) AddMedia(kind string, port int, protocol string, codecs ...Codec) *Media {
	const none = "-"
	m := s.AddMediaFormats(kind, port, protocol, none)
	m.SetCodecs(codecs)
	if m.field(fieldFormats) == none {
		m.setFormats([]string{"0"})
	}
	return m
}

// AddMediaFormats appends an m= line with these formats, such as "t38" for image over udptl.
func (s *Session) AddMediaFormats(kind string, port int, protocol string, formats ...string) *Media {
	m := &Media{section: section{order: mediaOrder, eol: s.eol}, session: s}
	text := fmt.Sprintf("m=%s %d %s %s", kind, port, protocol, strings.Join(formats, " "))
	m.lines = []line{{clean(text), s.eol}}
	s.Media = append(s.Media, m)
	return m
}

// AddRejected appends the answer to an offered m= line that is not wanted: the same line with port 0 (RFC 3264,
// section 6).
func (s *Session) AddRejected(offered *Media) *Media {
	return s.AddMediaFormats(offered.Kind(), 0, offered.Protocol(), offered.Formats()...)
}

// Name is the text of the s= line.
func (s *Session) Name() string {
	if i := s.find('s'); i >= 0 {
		return s.lines[i].text[2:]
	}
	return ""
}

// SetName replaces the s= line; an empty name is written as "-" (RFC 8866, section 5.3).
func (s *Session) SetName(name string) {
	if name = clean(name); name == "" {
		name = "-"
	}
	if i := s.find('s'); i >= 0 {
		s.setText(i, "s="+name)
		return
	}
	s.insert("s=" + name)
}

// Next is the origin with the version raised by one, as a changed body needs it (RFC 3264, section 8). A version that
// is no number, or the largest, becomes 1.
func (o Origin) Next() Origin {
	v, err := strconv.ParseUint(o.Version, 10, 64)
	if err != nil || v == 1<<64-1 {
		v = 0
	}
	o.Version = strconv.FormatUint(v+1, 10)
	return o
}
