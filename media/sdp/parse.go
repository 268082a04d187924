package sdp

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a body, chosen by us. 64 KB is the largest SIP body that the edge takes; a Chromium offer with 50 remote
// videos has about 3000 lines and 100 media.
const (
	MaxSize  = 64 << 10
	MaxLines = 4096
	MaxMedia = 128
)

// Parse reads a body. b is not kept. Errors name the line, counted from 1, what came and what is allowed.
func Parse(b []byte) (*Session, error) {
	if len(b) == 0 {
		return nil, errors.New("parse sdp: body is empty")
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("parse sdp: %d bytes, at most %d are allowed", len(b), MaxSize)
	}
	s := &Session{section: section{order: sessionOrder}}
	cur := &s.section
	rest := string(b)
	for n := 1; rest != ""; n++ {
		if n > MaxLines {
			return nil, fmt.Errorf("parse sdp: more than %d lines", MaxLines)
		}
		var l line
		l, rest = cutLine(rest)
		if s.eol == "" {
			if s.eol = l.end; s.eol != "\n" {
				s.eol = "\r\n"
			}
		}
		next, err := s.addLine(cur, l)
		if err != nil {
			return nil, fmt.Errorf("parse sdp: line %d: %w", n, err)
		}
		cur = next
	}
	if s.find('v') < 0 {
		return nil, errors.New("parse sdp: no v= line")
	}
	if s.find('o') < 0 {
		return nil, errors.New("parse sdp: no o= line")
	}
	return s, nil
}

// cutLine takes one line off. The line ends at LF; carriage returns before it belong to the line end.
func cutLine(rest string) (line, string) {
	i := strings.IndexByte(rest, '\n')
	raw := rest
	if i >= 0 {
		raw = rest[:i+1]
	}
	text := strings.TrimRight(raw, "\r\n")
	return line{text, raw[len(text):]}, rest[len(raw):]
}

// addLine checks a line and appends it to the section that it belongs to, which it returns.
func (s *Session) addLine(cur *section, l line) (*section, error) {
	if i := strings.IndexAny(l.text, "\r\x00"); i >= 0 {
		return nil, fmt.Errorf("byte %#02x inside the line", l.text[i])
	}
	if strings.TrimLeft(l.text, " \t") == "" {
		// Blank lines come from gateways that end the body with one line end too many.
		cur.lines = append(cur.lines, l)
		return cur, nil
	}
	c := l.letter()
	if c == 0 {
		return nil, fmt.Errorf("%.40q, want a letter and '='", l.text)
	}
	value := l.text[2:]
	if c != 'v' && s.find('v') < 0 {
		return nil, fmt.Errorf("%.40q, want v=0 first", l.text)
	}
	switch c {
	case 'v':
		if strings.TrimSpace(value) != "0" {
			return nil, fmt.Errorf("version %.40q, want v=0", value)
		}
		if s.find('v') >= 0 {
			return nil, errors.New("a second v= line")
		}
	case 'o':
		if _, ok := parseOrigin(value); !ok {
			return nil, fmt.Errorf("o=%.80q, want o=USER ID VERSION IN IP4|IP6 ADDRESS", value)
		}
		if s.find('o') >= 0 {
			return nil, errors.New("a second o= line")
		}
	case 'c':
		if _, ok := parseConnection(value); !ok {
			return nil, fmt.Errorf("c=%.80q, want c=IN IP4|IP6 ADDRESS", value)
		}
	case 'm':
		if err := checkMediaLine(value); err != nil {
			return nil, err
		}
		if len(s.Media) == MaxMedia {
			return nil, fmt.Errorf("more than %d m= lines", MaxMedia)
		}
		m := &Media{section: section{order: mediaOrder, eol: s.eol}, session: s}
		s.Media = append(s.Media, m)
		cur = &m.section
	}
	cur.lines = append(cur.lines, l)
	return cur, nil
}
