package sdp

import (
	"slices"
	"strconv"
	"strings"
)

// Codec is one payload type of an m= line: its rtpmap (or what RFC 3551 says of a static type) and its fmtp.
type Codec struct {
	PT       uint8
	Name     string // encoding name as it came; compare without case (RFC 4855, section 3). "" is a dynamic type without rtpmap
	Rate     int    // RTP clock in Hz
	Channels int    // of audio, 1 if not said; 0 for other media
	Params   string // of the first fmtp line, behind the payload type
}

// Is tells if the encoding name is this one, in any case.
func (c Codec) Is(name string) bool { return strings.EqualFold(c.Name, name) }

// rtpmap is the value of the rtpmap line behind the payload type. One channel is not written (RFC 8866, section 6.6).
func (c Codec) rtpmap() string {
	s := c.Name + "/" + strconv.Itoa(c.Rate)
	if c.Channels > 1 {
		s += "/" + strconv.Itoa(c.Channels)
	}
	return s
}

// Codecs lists the payload types in the order of the m= line, nil if it carries no RTP.
func (m *Media) Codecs() []Codec {
	if !m.IsRTP() {
		return nil
	}
	start, _ := fieldAt(m.lines[mLine].text, fieldFormats)
	formats := m.lines[mLine].text[start:]
	codecs := make([]Codec, 0, min(strings.Count(formats, " ")+1, 128))
	var at [128]int16 // 1 + index in codecs
	for f := range strings.FieldsSeq(formats) {
		pt, err := strconv.ParseUint(f, 10, 7)
		if err != nil || at[pt] != 0 {
			continue
		}
		codecs = append(codecs, staticCodec(uint8(pt)))
		at[pt] = int16(len(codecs))
	}
	var mapped, hasParams [128]bool
	for _, l := range m.lines {
		name, pt, value, ok := l.payloadAttr()
		if !ok || at[pt] == 0 {
			continue
		}
		c := &codecs[at[pt]-1]
		switch {
		case name == "rtpmap" && !mapped[pt]:
			mapped[pt] = true
			m.readRTPMap(c, value)
		case name == "fmtp" && !hasParams[pt]:
			hasParams[pt] = true
			c.Params = value
		}
	}
	return codecs
}

// readRTPMap reads "NAME/RATE[/CHANNELS]" into c; what is unreadable leaves c as it is.
func (m *Media) readRTPMap(c *Codec, value string) {
	name, rest, ok := strings.Cut(value, "/")
	if !ok || name == "" {
		return
	}
	rateText, chText, _ := strings.Cut(rest, "/")
	rate, err := strconv.ParseUint(strings.TrimSpace(rateText), 10, 31)
	if err != nil {
		return
	}
	c.Name, c.Rate, c.Channels = known(name), int(rate), 0
	if m.Kind() == "audio" {
		c.Channels = 1
		if n, err := strconv.ParseUint(strings.TrimSpace(chText), 10, 8); err == nil && n > 0 {
			c.Channels = int(n)
		}
	}
}

// known returns a common word as a constant: who keeps it does not keep the body that it stood in.
func known(word string) string {
	for _, w := range [...]string{
		"PCMU", "PCMA", "telephone-event", "opus", "G722", "CN", "G729", "GSM", "L16", "G726-32", "speex", "VP8", "H264", "red",
		"RTP/AVP", "RTP/SAVP", "RTP/AVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "audio", "video", "image", "udptl",
	} {
		if w == word {
			return w
		}
	}
	return word
}

// Codec finds a payload type in the m= line.
func (m *Media) Codec(pt uint8) (Codec, bool) {
	for _, c := range m.Codecs() {
		if c.PT == pt {
			return c, true
		}
	}
	return Codec{}, false
}

// payloadAttr splits an attribute whose value starts with a payload type.
func (l line) payloadAttr() (name string, pt uint8, value string, ok bool) {
	name, value, ok = l.attr()
	if !ok {
		return "", 0, "", false
	}
	switch name {
	case "rtpmap", "fmtp", "rtcp-fb", "imageattr", "framesize":
	default:
		return "", 0, "", false
	}
	value = trimBlanks(value)
	i := 0
	for i < len(value) && !isBlank(value[i:i+1]) {
		i++
	}
	if i == len(value) {
		return "", 0, "", false
	}
	// "*" of rtcp-fb and imageattr is for all types and stays.
	n, err := strconv.ParseUint(value[:i], 10, 7)
	if err != nil {
		return "", 0, "", false
	}
	return name, uint8(n), trimBlanks(value[i:]), true
}

func trimBlanks(s string) string {
	for s != "" && isBlank(s[:1]) {
		s = s[1:]
	}
	return s
}

// SetCodecs makes these the formats of the m= line, in this order, and brings rtpmap, fmtp and rtcp-fb lines in step:
// those of a codec that stays as it was are not touched, those of one that goes are removed, a changed one is replaced in
// place, a new one is added behind the last of them. An empty list changes nothing, as an m= line needs a format:
// reject a stream by SetPort(0). Media that carries no RTP is left alone.
func (m *Media) SetCodecs(codecs []Codec) {
	if !m.IsRTP() {
		return
	}
	var wanted [128]*Codec
	var list []*Codec
	var formats []string
	for i := range codecs {
		c := &codecs[i]
		if c.PT > 127 || wanted[c.PT] != nil {
			continue
		}
		wanted[c.PT] = c
		list = append(list, c)
		formats = append(formats, strconv.Itoa(int(c.PT)))
	}
	if len(list) == 0 {
		return
	}
	old := m.Codecs()
	if !slices.Equal(formats, m.Formats()) {
		m.setFormats(formats)
	}
	var known [128]bool
	for _, c := range old {
		known[c.PT] = true
		if w := wanted[c.PT]; w == nil {
			m.dropPayload(c.PT)
		} else if !sameCodec(*w, c) {
			m.replacePayload(*w, c)
		}
	}
	at := m.payloadEnd()
	for _, c := range list {
		if known[c.PT] {
			continue
		}
		m.dropPayload(c.PT) // lines of a type that the m= line did not list
		at = min(at, m.payloadEnd())
		at = m.addPayload(at, *c)
	}
}

func sameCodec(a, b Codec) bool {
	return sameEncoding(a, b) && a.Params == b.Params
}

func sameEncoding(a, b Codec) bool {
	return a.Is(b.Name) && a.Rate == b.Rate && max(a.Channels, 1) == max(b.Channels, 1)
}

// dropPayload removes all lines of a payload type.
func (m *Media) dropPayload(pt uint8) {
	m.remove(func(l line) bool {
		_, p, _, ok := l.payloadAttr()
		return ok && p == pt
	})
}

// replacePayload turns the lines of a payload type into those of c, which was old.
func (m *Media) replacePayload(c, old Codec) {
	pt := strconv.Itoa(int(c.PT))
	at := len(m.lines)
	hadMap, hadParams := false, false
	for i, l := range m.lines {
		name, p, _, ok := l.payloadAttr()
		if !ok || p != c.PT {
			continue
		}
		at = min(at, i)
		switch {
		case name == "rtpmap" && !hadMap:
			hadMap = true
			if !sameEncoding(c, old) && c.Name != "" {
				m.setText(i, "a=rtpmap:"+pt+" "+c.rtpmap())
			}
		case name == "fmtp" && !hadParams:
			hadParams = true
			if c.Params != "" && c.Params != old.Params {
				m.setText(i, "a=fmtp:"+pt+" "+c.Params)
			}
		}
	}
	// A second rtpmap or fmtp would speak for the former codec, and so would the feedback of another encoding.
	seenMap, seenParams := false, false
	m.remove(func(l line) bool {
		name, p, _, ok := l.payloadAttr()
		if !ok || p != c.PT {
			return false
		}
		switch name {
		case "rtpmap":
			drop := seenMap || c.Name == ""
			seenMap = true
			return drop
		case "fmtp":
			drop := seenParams || c.Params == ""
			seenParams = true
			return drop
		}
		return !sameEncoding(c, old)
	})
	if at == len(m.lines) || !hadMap {
		at = min(at, m.payloadEnd())
	}
	if !hadMap && c.Name != "" {
		m.insertAt(at, "a=rtpmap:"+pt+" "+c.rtpmap())
	}
	if !hadParams && c.Params != "" {
		m.insertAt(min(at+1, len(m.lines)), "a=fmtp:"+pt+" "+c.Params)
	}
}

// payloadEnd is the index behind the last rtpmap, fmtp or rtcp-fb line, else where an attribute may start.
func (m *Media) payloadEnd() int {
	at := 0
	for i, l := range m.lines {
		if _, _, _, ok := l.payloadAttr(); ok {
			at = i + 1
		}
	}
	if at > 0 {
		return at
	}
	at = 1
	for i, l := range m.lines {
		if c := l.letter(); c != 0 && c != 'a' && strings.IndexByte(mediaOrder, c) >= 0 {
			at = i + 1
		}
	}
	return at
}

// addPayload inserts the lines of c at index i and returns the index behind them.
func (m *Media) addPayload(i int, c Codec) int {
	pt := strconv.Itoa(int(c.PT))
	if c.Name != "" {
		m.insertAt(i, "a=rtpmap:"+pt+" "+c.rtpmap())
		i++
	}
	if c.Params != "" {
		m.insertAt(i, "a=fmtp:"+pt+" "+c.Params)
		i++
	}
	return i
}
