package sdp

import (
	"strconv"
	"strings"
)

// MID names the media within the body (RFC 5888, section 4); "" is none.
func (m *Media) MID() string {
	v, _ := m.Attr("mid")
	return strings.TrimSpace(v)
}

// Groups lists the mids of each a=group of these semantics: BUNDLE (RFC 9143), LS, ...
func (s *Session) Groups(semantics string) [][]string {
	var groups [][]string
	for _, v := range s.Attrs("group") {
		if f := strings.Fields(v); len(f) > 0 && strings.EqualFold(f[0], semantics) {
			groups = append(groups, f[1:])
		}
	}
	return groups
}

// SetBundle replaces the BUNDLE groups by one of these mids; none removes them. Other groups stay.
func (s *Session) SetBundle(mids ...string) {
	var values []string
	done := len(mids) == 0
	for _, v := range s.Attrs("group") {
		if f := strings.Fields(v); len(f) > 0 && strings.EqualFold(f[0], "BUNDLE") {
			if done {
				continue
			}
			v, done = "BUNDLE "+strings.Join(mids, " "), true
		}
		values = append(values, v)
	}
	if !done {
		values = append(values, "BUNDLE "+strings.Join(mids, " "))
	}
	s.setAttrs("group", values)
}

// ByMID finds the media of that name.
func (s *Session) ByMID(mid string) *Media {
	for _, m := range s.Media {
		if mid != "" && m.MID() == mid {
			return m
		}
	}
	return nil
}

// ExtMap is one RTP header extension (RFC 8285, section 5).
type ExtMap struct {
	ID        int
	Direction string // sendonly, ...; "" is the media's
	URI       string
	Params    string
}

// ExtMaps lists the header extensions that can be read, the session's first.
func (m *Media) ExtMaps() []ExtMap {
	var es []ExtMap
	for _, v := range append(m.session.Attrs("extmap"), m.Attrs("extmap")...) {
		f := strings.Fields(v)
		if len(f) < 2 {
			continue
		}
		id, direction, _ := strings.Cut(f[0], "/")
		n, err := strconv.ParseUint(id, 10, 16)
		if err != nil || n == 0 {
			continue
		}
		es = append(es, ExtMap{ID: int(n), Direction: direction, URI: f[1], Params: strings.Join(f[2:], " ")})
	}
	return es
}
