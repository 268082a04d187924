package sdp

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Candidate is one a=candidate line (RFC 8839, section 5.1).
type Candidate struct {
	Foundation string
	Component  int // 1 RTP, 2 RTCP
	Transport  string
	Priority   uint32
	Addr       netip.Addr // invalid if Host is set
	Host       string     // a name such as browsers' xxxxxxxx.local (mDNS), which nothing here resolves
	Port       int
	Type       string // host, srflx, prflx, relay
	Related    netip.AddrPort
	Extensions string // what follows, as it came: "generation 0 network-id 1", "tcptype active"
}

// ParseCandidate reads the value of a=candidate.
func ParseCandidate(value string) (Candidate, error) {
	f := strings.Fields(value)
	if len(f) < 8 || f[6] != "typ" {
		return Candidate{}, errors.New("candidate: want FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE")
	}
	component, err := strconv.ParseUint(f[1], 10, 8)
	if err != nil || component < 1 {
		return Candidate{}, fmt.Errorf("candidate: component %.20q, want 1..255", f[1])
	}
	priority, err := strconv.ParseUint(f[3], 10, 32)
	if err != nil {
		return Candidate{}, fmt.Errorf("candidate: priority %.20q, want a number", f[3])
	}
	port, err := strconv.ParseUint(f[5], 10, 16)
	if err != nil {
		return Candidate{}, fmt.Errorf("candidate: port %.20q, want 0..65535", f[5])
	}
	c := Candidate{Foundation: f[0], Component: int(component), Transport: f[2], Priority: uint32(priority),
		Port: int(port), Type: f[7]}
	c.Addr, c.Host = parseHost(f[4])
	rest := f[8:]
	var relAddr netip.Addr
	var relPort uint64
	if len(rest) >= 2 && rest[0] == "raddr" {
		relAddr, _ = parseHost(rest[1])
		rest = rest[2:]
	}
	if len(rest) >= 2 && rest[0] == "rport" {
		if relPort, err = strconv.ParseUint(rest[1], 10, 16); err != nil {
			return Candidate{}, fmt.Errorf("candidate: rport %.20q, want 0..65535", rest[1])
		}
		rest = rest[2:]
	}
	if relAddr.IsValid() {
		c.Related = netip.AddrPortFrom(relAddr, uint16(relPort))
	}
	c.Extensions = strings.Join(rest, " ")
	return c, nil
}

// String is the value of the a=candidate line.
func (c Candidate) String() string {
	host := c.Host
	if c.Addr.IsValid() {
		host = c.Addr.WithZone("").String()
	}
	s := fmt.Sprintf("%s %d %s %d %s %d typ %s", c.Foundation, c.Component, c.Transport, c.Priority, host, c.Port, c.Type)
	if c.Related.IsValid() {
		s += fmt.Sprintf(" raddr %s rport %d", c.Related.Addr(), c.Related.Port())
	}
	if c.Extensions != "" {
		s += " " + c.Extensions
	}
	return s
}

// Candidates lists the a=candidate lines that can be read.
func (m *Media) Candidates() []Candidate {
	var cs []Candidate
	for _, v := range m.Attrs("candidate") {
		if c, err := ParseCandidate(v); err == nil {
			cs = append(cs, c)
		}
	}
	return cs
}

// SetCandidates replaces all a=candidate lines by these, in the place of the first; none removes them.
func (m *Media) SetCandidates(cs ...Candidate) {
	values := make([]string, len(cs))
	for i, c := range cs {
		values[i] = c.String()
	}
	m.setAttrs("candidate", values)
}

// ICE returns the user fragment and password that count for this media, from itself or the session. ok is false if
// one is missing: then there is no ICE.
func (m *Media) ICE() (ufrag, pwd string, ok bool) {
	ufrag, hasUfrag := m.inherited("ice-ufrag")
	pwd, hasPwd := m.inherited("ice-pwd")
	return ufrag, pwd, hasUfrag && hasPwd
}

// SetICE writes user fragment and password at the media.
func (m *Media) SetICE(ufrag, pwd string) {
	m.SetAttr("ice-ufrag", ufrag)
	m.SetAttr("ice-pwd", pwd)
}

// ICEOptions are the words of a=ice-options: trickle, ice2, renomination, ...
func (m *Media) ICEOptions() []string {
	v, _ := m.inherited("ice-options")
	return strings.Fields(v)
}

// EndOfCandidates tells that no more candidates will trickle in (RFC 8840, section 8.2).
func (m *Media) EndOfCandidates() bool {
	_, ok := m.inherited("end-of-candidates")
	return ok
}

// ICELite tells that the writer is a lite agent; the attribute lives at session level only.
func (s *Session) ICELite() bool {
	_, ok := s.Attr("ice-lite")
	return ok
}

// ICELite tells that the writer of the media's session is a lite agent.
func (m *Media) ICELite() bool {
	_, ok := m.session.Attr("ice-lite")
	return ok
}

// removeICE takes out what RFC 8839, section 5, RFC 8840 and ICE-lite define.
func (s *section) removeICE() {
	s.DelAttr("candidate", "remote-candidates", "ice-ufrag", "ice-pwd", "ice-options", "ice-lite", "ice-mismatch",
		"ice-pacing", "end-of-candidates")
}

// RemoveICE takes all ICE attributes out of the session and its media.
func (s *Session) RemoveICE() {
	s.removeICE()
	for _, m := range s.Media {
		m.removeICE()
	}
}

// RemoveICE takes all ICE attributes out of the media; those of the session stay.
func (m *Media) RemoveICE() { m.removeICE() }
