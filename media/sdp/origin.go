package sdp

import (
	"net/netip"
	"strings"
)

// Origin is the o= line. ID and Version are kept as text: numbers of any length are seen in the field.
type Origin struct {
	Username, ID, Version string

	Addr netip.Addr // invalid if the line has a host name
	Host string     // the host name, if it is none of the address forms
}

func (o Origin) text() string {
	kind, host := "IP4", o.Host
	if o.Addr.IsValid() {
		kind, host = addrKind(o.Addr), o.Addr.WithZone("").String()
	}
	return "o=" + o.Username + " " + o.ID + " " + o.Version + " IN " + kind + " " + host
}

// parseOrigin reads the value of an o= line. Some phones send a display name with blanks as the user: the last five
// fields count.
func parseOrigin(value string) (Origin, bool) {
	var room [8]string
	f := room[:0]
	for word := range strings.FieldsSeq(value) {
		f = append(f, word)
	}
	n := len(f)
	if n < 6 || !strings.EqualFold(f[n-3], "IN") || !isAddrKind(f[n-2]) {
		return Origin{}, false
	}
	o := Origin{Username: strings.Join(f[:n-5], " "), ID: f[n-5], Version: f[n-4]}
	o.Addr, o.Host = parseHost(f[n-1])
	return o, true
}

// Origin returns the o= line.
func (s *Session) Origin() Origin {
	if i := s.find('o'); i >= 0 {
		o, _ := parseOrigin(s.lines[i].text[2:])
		return o
	}
	return Origin{}
}

// SetOrigin replaces the o= line, unless it says the same already.
func (s *Session) SetOrigin(o Origin) {
	i := s.find('o')
	switch {
	case i < 0:
		s.insert(o.text())
	case s.Origin() != o:
		s.setText(i, o.text())
	}
}

// Connection is the address of the session's c= line: invalid if there is none or if it has a host name.
func (s *Session) Connection() netip.Addr {
	addr, _ := s.connection()
	return addr
}

// SetConnection replaces or adds the session's c= line; an invalid address changes nothing.
func (s *Session) SetConnection(addr netip.Addr) { s.setConnection(addr) }

// Connection is the address that counts for this media: its own c= line, else the session's. It is invalid if there
// is none or if it has a host name (see ConnectionHost).
func (m *Media) Connection() netip.Addr {
	if m.find('c') >= 0 {
		addr, _ := m.connection()
		return addr
	}
	return m.session.Connection()
}

// ConnectionHost is the text of the address that counts for this media.
func (m *Media) ConnectionHost() string {
	if m.find('c') >= 0 {
		_, host := m.connection()
		return host
	}
	_, host := m.session.connection()
	return host
}

// SetConnection makes addr the address of this media: its own c= line is replaced; without one the session's line
// stays if it says the same, else one is added here.
func (m *Media) SetConnection(addr netip.Addr) {
	if m.find('c') < 0 && m.session.Connection() == addr {
		return
	}
	m.setConnection(addr)
}

// HasConnection tells if the section has a c= line of its own, be it with a host name.
func (s *section) HasConnection() bool { return s.find('c') >= 0 }

func (s *section) connection() (netip.Addr, string) {
	i := s.find('c')
	if i < 0 {
		return netip.Addr{}, ""
	}
	host, ok := parseConnection(s.lines[i].text[2:])
	if !ok {
		return netip.Addr{}, ""
	}
	addr, _ := parseHost(host)
	return addr, host
}

func (s *section) setConnection(addr netip.Addr) {
	if !addr.IsValid() {
		return
	}
	i := s.find('c')
	if i < 0 {
		s.insert(connectionText(addr))
		return
	}
	if old, _ := s.connection(); old != addr {
		s.setText(i, connectionText(addr))
	}
}

// parseConnection reads the value of a c= line: "IN IP4 address", for multicast with "/ttl" (RFC 8866, section 5.7).
func parseConnection(value string) (host string, ok bool) {
	var f [4]string
	if splitFields(f[:], value) || f[2] == "" || !strings.EqualFold(f[0], "IN") || !isAddrKind(f[1]) {
		return "", false
	}
	host, _, _ = strings.Cut(f[2], "/")
	return host, host != ""
}

func connectionText(addr netip.Addr) string {
	return "c=IN " + addrKind(addr) + " " + addr.WithZone("").String()
}

func addrKind(addr netip.Addr) string {
	if addr.Is6() {
		return "IP6"
	}
	return "IP4"
}

func isAddrKind(s string) bool { return strings.EqualFold(s, "IP4") || strings.EqualFold(s, "IP6") }

func parseHost(s string) (netip.Addr, string) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, s
	}
	return addr.Unmap().WithZone(""), ""
}
