package message

import (
	"bytes"
	"net/netip"
)

// Scheme is the kind of a URI.
type Scheme uint8

// The schemes that a SIP proxy knows.
const (
	SchemeOther Scheme = iota
	SchemeSIP
	SchemeSIPS
	SchemeTel
)

// URI is a view of a sip:, sips: or tel: URI. Of other schemes only the scheme is known.
type URI struct {
	Scheme  Scheme
	User    []byte // tel: the number
	Host    []byte // an IPv6 reference without its brackets
	Port    uint16 // 0 if not given
	Params  []byte // from the first semicolon
	Headers []byte // behind the question mark
}

// Parse reads a whole URI, RFC 3261 section 19.1.
func (u *URI) Parse(b []byte) bool {
	*u = URI{}
	colon := bytes.IndexByte(b, ':')
	if colon <= 0 {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c == '<' || c == '>' || c == 0x7f {
			return false
		}
	}
	rest := b[colon+1:]
	switch scheme := b[:colon]; {
	case EqualFold(scheme, "sip"):
		u.Scheme = SchemeSIP
	case EqualFold(scheme, "sips"):
		u.Scheme = SchemeSIPS
	case EqualFold(scheme, "tel"):
		u.Scheme = SchemeTel
		u.User = rest
		if i := bytes.IndexByte(rest, ';'); i >= 0 {
			u.User, u.Params = rest[:i], rest[i:]
		}
		return len(u.User) > 0
	default:
		return isToken(b[:colon])
	}
	// The user part may hold ';' and '?' (RFC 3261 section 19.1.1), so that '@' is looked for first.
	if at := bytes.IndexByte(rest, '@'); at >= 0 {
		u.User, rest = rest[:at], rest[at+1:]
		if len(u.User) == 0 {
			return false
		}
		if pw := bytes.IndexByte(u.User, ':'); pw >= 0 {
			u.User = u.User[:pw]
		}
	}
	if q := bytes.IndexByte(rest, '?'); q >= 0 {
		u.Headers, rest = rest[q+1:], rest[:q]
	}
	if semi := bytes.IndexByte(rest, ';'); semi >= 0 {
		u.Params, rest = rest[semi:], rest[:semi]
	}
	host, port, ok := splitHostPort(rest)
	u.Host, u.Port = host, port
	return ok
}

// Param finds a URI parameter by its lower-case name.
func (u *URI) Param(lower string) ([]byte, bool) { return Param(u.Params, lower) }

// splitHostPort reads host[:port] or [IPv6][:port].
func splitHostPort(b []byte) (host []byte, port uint16, ok bool) {
	var tail []byte
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return nil, 0, false
		}
		host, tail = b[1:end], b[end+1:]
		if _, ok := ParseAddr(host); !ok {
			return nil, 0, false
		}
	} else {
		end := bytes.IndexByte(b, ':')
		if end < 0 {
			end = len(b)
		}
		host, tail = trimLWS(b[:end]), b[end:]
		for _, c := range host {
			if !hostChar(c) {
				return nil, 0, false
			}
		}
	}
	if len(host) == 0 {
		return nil, 0, false
	}
	tail = skipLWS(tail)
	if len(tail) == 0 {
		return host, 0, true
	}
	if tail[0] != ':' {
		return nil, 0, false
	}
	n, ok := Number(trimLWS(tail[1:]), 65535)
	return host, uint16(n), ok
}

func hostChar(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '-' || c == '_'
}

// ParseAddr reads a numeric IPv4 or IPv6 address without allocating; an IPv6 one has no brackets and no zone.
func ParseAddr(b []byte) (netip.Addr, bool) {
	if bytes.IndexByte(b, ':') >= 0 {
		return parseIPv6(b)
	}
	v4, ok := parseIPv4(b)
	return netip.AddrFrom4(v4), ok
}

func parseIPv4(b []byte) (v4 [4]byte, ok bool) {
	for i := range 4 {
		end := len(b)
		if i < 3 {
			if end = bytes.IndexByte(b, '.'); end < 0 {
				return v4, false
			}
		}
		n, ok := Number(b[:end], 255)
		if !ok || end > 3 {
			return v4, false
		}
		v4[i] = byte(n)
		b = b[min(end+1, len(b)):]
	}
	return v4, true
}

// parseIPv6 reads RFC 4291 section 2.2: eight groups, one run of zeros as "::", the last 32 bits also as IPv4.
func parseIPv6(b []byte) (netip.Addr, bool) {
	var out [16]byte
	n, gap := 0, -1
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 {
		if n >= 16 {
			return netip.Addr{}, false
		}
		end := bytes.IndexByte(b, ':')
		if end < 0 {
			end = len(b)
		}
		if bytes.IndexByte(b[:end], '.') >= 0 {
			v4, ok := parseIPv4(b[:end])
			if !ok || end != len(b) || n > 12 {
				return netip.Addr{}, false
			}
			copy(out[n:], v4[:])
			n, b = n+4, nil
			break
		}
		v, ok := parseHex(b[:end])
		if !ok {
			return netip.Addr{}, false
		}
		out[n], out[n+1] = byte(v>>8), byte(v)
		n += 2
		if end == len(b) {
			break
		}
		b = b[end+1:]
		if len(b) == 0 {
			return netip.Addr{}, false
		}
		if b[0] == ':' {
			if gap >= 0 {
				return netip.Addr{}, false
			}
			gap, b = n, b[1:]
		}
	}
	if gap < 0 {
		return netip.AddrFrom16(out), n == 16
	}
	if n > 14 {
		return netip.Addr{}, false
	}
	copy(out[16-(n-gap):], out[gap:n])
	clear(out[gap : 16-(n-gap)])
	return netip.AddrFrom16(out), true
}

func parseHex(b []byte) (v uint16, ok bool) {
	if len(b) == 0 || len(b) > 4 {
		return 0, false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		v = v<<4 | uint16(c)
	}
	return v, true
}
