package sdp

import "strings"

// line is one line of the body: its text and the line end that followed it ("\r\n", "\n", or "" behind the last line).
type line struct {
	text, end string
}

// letter is the type letter of the line, 0 for one that has none (blank).
func (l line) letter() byte {
	if len(l.text) < 2 || l.text[1] != '=' {
		return 0
	}
	return l.text[0]
}

// attr splits "a=name:value"; ok is false for every other line.
func (l line) attr() (name, value string, ok bool) {
	if l.letter() != 'a' {
		return "", "", false
	}
	name, value, _ = strings.Cut(l.text[2:], ":")
	return name, value, true
}

// section is the session part of a body or one of its media parts: the lines and the line end that new lines get.
type section struct {
	lines []line
	order string // type letters in the order that RFC 8866, section 5 gives for this kind of section
	eol   string
}

const (
	sessionOrder = "vosiuepcbtrzka"
	mediaOrder   = "micbka"
)

func (s *section) find(letter byte) int {
	for i, l := range s.lines {
		if l.letter() == letter {
			return i
		}
	}
	return -1
}

func (s *section) findAttr(name string) int {
	for i, l := range s.lines {
		if n, _, ok := l.attr(); ok && n == name {
			return i
		}
	}
	return -1
}

// insertAt puts a new line before index i.
func (s *section) insertAt(i int, text string) {
	s.lines = append(s.lines, line{})
	copy(s.lines[i+1:], s.lines[i:])
	s.lines[i] = line{clean(text), s.eol}
}

// insert puts a new line where the grammar wants its letter: behind the last line that may stand before it.
func (s *section) insert(text string) {
	rank := strings.IndexByte(s.order, text[0])
	at := 0
	for i, l := range s.lines {
		if c := l.letter(); c != 0 {
			if r := strings.IndexByte(s.order, c); r >= 0 && r <= rank {
				at = i + 1
			}
		}
	}
	s.insertAt(at, text)
}

func (s *section) setText(i int, text string) { s.lines[i].text = clean(text) }

// remove takes out the lines for which drop is true.
func (s *section) remove(drop func(line) bool) {
	kept := s.lines[:0]
	for _, l := range s.lines {
		if !drop(l) {
			kept = append(kept, l)
		}
	}
	clear(s.lines[len(kept):])
	s.lines = kept
}

// clean cuts a value that would start a line of its own, so that no edit can break the body.
func clean(text string) string {
	if i := breakIn(text); i >= 0 {
		return text[:i]
	}
	return text
}

// Attr returns the value of the first attribute of that name; a flag such as rtcp-mux has the value "". Only this
// section is looked at, not the session's defaults.
func (s *section) Attr(name string) (string, bool) {
	if i := s.findAttr(name); i >= 0 {
		_, v, _ := s.lines[i].attr()
		return v, true
	}
	return "", false
}

// Attrs returns the values of all attributes of that name in order.
func (s *section) Attrs(name string) []string {
	var vs []string
	for _, l := range s.lines {
		if n, v, ok := l.attr(); ok && n == name {
			vs = append(vs, v)
		}
	}
	return vs
}

// AddAttr appends an attribute; an empty value makes a flag.
func (s *section) AddAttr(name, value string) { s.insert(attrText(name, value)) }

// SetAttr replaces the first attribute of that name in place and removes others of that name, or appends one.
func (s *section) SetAttr(name, value string) {
	at := s.findAttr(name)
	if at < 0 {
		s.AddAttr(name, value)
		return
	}
	s.setText(at, attrText(name, value))
	first := true
	s.remove(func(l line) bool {
		n, _, ok := l.attr()
		if !ok || n != name {
			return false
		}
		drop := !first
		first = false
		return drop
	})
}

// DelAttr removes all attributes of these names.
func (s *section) DelAttr(names ...string) {
	s.remove(func(l line) bool {
		n, _, ok := l.attr()
		if !ok {
			return false
		}
		for _, name := range names {
			if n == name {
				return true
			}
		}
		return false
	})
}

// DelAttrFunc removes the attributes for which drop is true.
func (s *section) DelAttrFunc(drop func(name, value string) bool) {
	s.remove(func(l line) bool {
		n, v, ok := l.attr()
		return ok && drop(n, v)
	})
}

func attrText(name, value string) string {
	if value == "" {
		return "a=" + name
	}
	return "a=" + name + ":" + value
}
