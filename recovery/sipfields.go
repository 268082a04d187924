package recovery

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// fields is what a dialog needs of one SIP message. The values are the message's own text.
type fields struct {
	method     string // of a request; "" is a response
	status     int    // of a response
	callID     string
	from, to   party
	cseq       uint32
	cseqMethod string
	contact    string // the first URI; "" is none
	routes     []string
	origin     origin // of the SDP in the body
	kind       string // Content-Type
	length     int    // Content-Length; -1 is none
	vias       int
	sentBy     netip.AddrPort // of the topmost Via, where that is an address
}

// party is a name-addr or addr-spec with its tag.
type party struct {
	display string // as it stands between its quotes: escapes stay
	uri     string
	tag     string
}

// origin is the o= line: who made the session description, and which edition it is.
type origin struct{ session, version uint64 }

var (
	errCut      = errors.New("the message is cut")
	errStart    = errors.New("no SIP start line")
	errField    = errors.New("a header field cannot be read")
	errTwice    = errors.New("a header field that may stand once stands twice")
	errMissing  = errors.New("no From, To, CSeq or Call-ID")
	errNotAName = errors.New("no address")
)

// parse reads a captured message. It is strict where a wrong reading could make a wrong dialog: a message that does not say by an empty
// line that its header is complete, or whose body is shorter than it says, is cut.
func parse(raw string) (fields, error) {
	f := fields{length: -1}
	head, body, ok := cutHead(raw)
	if !ok {
		return f, errCut
	}
	lines := unfold(head)
	if err := f.startLine(lines[0]); err != nil {
		return f, err
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return f, errField
		}
		if err := f.header(fieldName(name), strings.TrimSpace(value)); err != nil {
			return f, err
		}
	}
	switch {
	case f.callID == "" || f.from.uri == "" || f.to.uri == "" || f.cseqMethod == "" || f.method != "" && f.method != f.cseqMethod:
		return f, errMissing
	case f.length > len(body):
		return f, errCut
	}
	if strings.HasPrefix(strings.ToLower(f.kind), "application/sdp") {
		f.origin = parseOrigin(body)
	}
	return f, nil
}

// header reads one header field.
func (f *fields) header(name, value string) error {
	twice := false
	var err error
	switch name {
	case "call-id":
		twice, f.callID = f.callID != "", value
	case "from":
		twice = f.from.uri != ""
		f.from, err = parseParty(value)
	case "to":
		twice = f.to.uri != ""
		f.to, err = parseParty(value)
	case "cseq":
		twice = f.cseqMethod != ""
		err = f.sequence(value)
	case "content-length":
		twice = f.length >= 0
		f.length, err = strconv.Atoi(value)
	case "content-type":
		twice, f.kind = f.kind != "", value
	case "contact":
		if list := splitList(value); f.contact == "" && len(list) > 0 && list[0] != "*" {
			var c party
			c, err = parseParty(list[0])
			f.contact = c.uri
		}
	case "record-route":
		f.routes = append(f.routes, splitList(value)...)
	case "via":
		list := splitList(value)
		if f.vias += len(list); f.vias == len(list) && len(list) > 0 {
			f.sentBy = sentBy(list[0])
		}
	default:
		return nil
	}
	switch {
	case twice:
		return errTwice
	case err != nil || name == "call-id" && value == "":
		return errField
	}
	return nil
}

// sentBy reads who sent the request of a Via: SIP/2.0/UDP HOST[:PORT];... (RFC 3261 section 20.42). It is the zero value where that is a name.
func sentBy(via string) netip.AddrPort {
	_, by, _ := strings.Cut(strings.TrimSpace(via), " ")
	by, _, _ = strings.Cut(by, ";")
	by = strings.TrimSpace(by)
	if a, err := netip.ParseAddrPort(by); err == nil {
		return a
	}
	a, _ := netip.ParseAddr(strings.Trim(by, "[]"))
	return netip.AddrPortFrom(a, 5060)
}

// cutHead splits at the empty line.
func cutHead(raw string) (head, body string, ok bool) {
	if head, body, ok = strings.Cut(raw, "\r\n\r\n"); ok {
		return head, body, true
	}
	return strings.Cut(raw, "\n\n")
}

// unfold gives one line per header field (RFC 3261 section 7.3.1).
func unfold(head string) []string {
	var lines []string
	for line := range strings.SplitSeq(head, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if n := len(lines); n > 1 && line != "" && (line[0] == ' ' || line[0] == '\t') {
			lines[n-1] += " " + strings.TrimSpace(line)
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

// fieldName is the long name in small letters.
func fieldName(name string) string {
	switch name = strings.ToLower(strings.TrimSpace(name)); name {
	case "i":
		return "call-id"
	case "f":
		return "from"
	case "t":
		return "to"
	case "m":
		return "contact"
	case "l":
		return "content-length"
	case "c":
		return "content-type"
	case "v":
		return "via"
	}
	return name
}

func (f *fields) startLine(line string) error {
	first, rest, ok := strings.Cut(line, " ")
	if !ok {
		return errStart
	}
	if first == "SIP/2.0" {
		code, _, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(code)
		if err != nil || len(code) != 3 || n < 100 || n > 699 {
			return errStart
		}
		f.status = n
		return nil
	}
	if uri, version, ok := strings.Cut(rest, " "); !ok || uri == "" || version != "SIP/2.0" || first == "" {
		return errStart
	}
	f.method = first
	return nil
}

func (f *fields) sequence(value string) error {
	number, method, ok := strings.Cut(value, " ")
	n, err := strconv.ParseUint(number, 10, 31) // RFC 3261 section 8.1.1.5
	if method = strings.TrimSpace(method); !ok || err != nil || method == "" || strings.ContainsAny(method, " \t") {
		return errField
	}
	f.cseq, f.cseqMethod = uint32(n), method
	return nil
}

// parseParty reads `"Display" <uri>;tag=x`, `Display <uri>;tag=x` and `uri;tag=x` (RFC 3261 section 20.10: without angle brackets all
// parameters are the header field's).
func parseParty(value string) (party, error) {
	var p party
	rest := value
	if strings.HasPrefix(value, `"`) {
		end := closingQuote(value)
		if end < 0 {
			return p, errNotAName
		}
		p.display, rest = value[1:end], strings.TrimSpace(value[end+1:])
		if !strings.HasPrefix(rest, "<") {
			return p, errNotAName
		}
	}
	var params string
	if open := strings.IndexByte(rest, '<'); open >= 0 {
		if open > 0 {
			p.display = strings.TrimSpace(rest[:open])
			if strings.ContainsAny(p.display, `"\>`) {
				return p, errNotAName
			}
		}
		end := strings.IndexByte(rest[open:], '>')
		if end < 0 {
			return p, errNotAName
		}
		p.uri, params = rest[open+1:open+end], rest[open+end+1:]
	} else {
		p.uri, params, _ = strings.Cut(rest, ";")
		p.uri, params = strings.TrimSpace(p.uri), ";"+params
	}
	if scheme, after, ok := strings.Cut(p.uri, ":"); !ok || scheme == "" || after == "" || strings.ContainsAny(p.uri, " \t<>\"") || control(p.uri) {
		return p, errNotAName
	}
	tags := 0
	for _, param := range splitOutsideQuotes(params, ';') {
		name, v, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "tag") {
			p.tag = strings.TrimSpace(v)
			tags++
		}
	}
	if tags > 1 || (tags == 1 && !token(p.tag)) {
		return p, errNotAName
	}
	p.display = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, p.display)
	return p, nil
}

func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// splitList cuts a comma separated list; commas within quotes and angle brackets belong to their element.
func splitList(value string) []string { return splitOutsideQuotes(value, ',') }

func splitOutsideQuotes(s string, sep byte) []string {
	var out []string
	quoted, angle, start := false, false, 0
	add := func(end int) {
		if e := strings.TrimSpace(s[start:end]); e != "" {
			out = append(out, e)
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !angle:
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == sep && !angle:
			add(i)
			start = i + 1
		}
	}
	add(len(s))
	return out
}

// token allows what the patched Asterisk allows in a tag.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-.!%*_+`'~[]/:&$", rune(c)) {
			return false
		}
	}
	return s != ""
}

func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// parseOrigin reads `o=USER SESSION VERSION IN IP4 ADDR`, the whole line: a number that is cut would be another one.
func parseOrigin(body string) origin {
	for body != "" {
		line, rest, ok := strings.Cut(body, "\n")
		if !ok {
			break
		}
		if value, is := strings.CutPrefix(line, "o="); is {
			f := strings.Fields(value)
			if len(f) != 6 {
				break
			}
			session, err := strconv.ParseUint(f[1], 10, 64)
			version, err2 := strconv.ParseUint(f[2], 10, 64)
			if err != nil || err2 != nil {
				break
			}
			return origin{session, version}
		}
		body = rest
	}
	return origin{}
}
