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
	rest := string(b)
	one := newReading(rest)
	s := &one.Session
	cur := &s.section
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
		next, err := one.addLine(cur, l)
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

// reading is a session with the memory for what an ordinary body has, so that it is one piece: the first media, and the lines of all.
type reading struct {
	Session
	medias [1]*Media
	first  Media
	lines  []line // all that is left for sections
}

// lineRoom is what a section can grow by without new memory, chosen by us: a=rtcp, a=rtcp-mux, c= and an a=rtpmap that are not there.
const lineRoom = 4

func newReading(body string) *reading {
	p := &reading{}
	p.order = sessionOrder
	p.Media = p.medias[:0]
	n := min(strings.Count(body, "\n")+1, MaxLines)
	sections := min(strings.Count(body, "\nm="), MaxMedia) + 1
	p.lines = make([]line, n+lineRoom*sections)
	p.section.lines = p.lines[:0]
	return p
}

// nextSection takes what is left of the lines' memory behind the section before and the room that it may grow by.
func (p *reading) nextSection(before *section) []line {
	used := min(len(before.lines)+lineRoom, len(p.lines))
	before.lines = before.lines[:len(before.lines):used]
	p.lines = p.lines[used:]
	return p.lines[:0]
}

// cutLine takes one line off. The line ends at LF; carriage returns before it belong to the line end.
func cutLine(rest string) (line, string) {
	end := strings.IndexByte(rest, '\n') + 1
	if end == 0 {
		end = len(rest)
	}
	n := end
	for n > 0 && (rest[n-1] == '\n' || rest[n-1] == '\r') {
		n--
	}
	return line{rest[:n], rest[n:end]}, rest[end:]
}

// addLine checks a line and appends it to the section that it belongs to, which it returns.
func (p *reading) addLine(cur *section, l line) (*section, error) {
	s := &p.Session
	if i := breakIn(l.text); i >= 0 {
		return nil, fmt.Errorf("byte %#02x inside the line", l.text[i])
	}
	if isBlank(l.text) {
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
		m := &p.first
		if len(s.Media) > 0 {
			m = new(Media)
		}
		*m = Media{section: section{lines: p.nextSection(cur), order: mediaOrder, eol: s.eol}, session: s}
		s.Media = append(s.Media, m)
		cur = &m.section
	}
	cur.lines = append(cur.lines, l)
	return cur, nil
}

// breakIn finds what no line may have in it.
func breakIn(text string) int {
	for i := range len(text) {
		if c := text[i]; c == '\r' || c == '\n' || c == 0 {
			return i
		}
	}
	return -1
}

func isBlank(text string) bool {
	for i := range len(text) {
		if text[i] != ' ' && text[i] != '\t' {
			return false
		}
	}
	return true
}
