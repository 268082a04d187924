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
	// One pass finds what no URI may hold, and the borders. The user part may hold ';' and '?' (RFC 3261 section 19.1.1): '@' starts over.
	colon, at, semi, question, pass := 0, 0, 0, 0, 0
	for i := 0; ; i++ {
		for i < len(b) && !uriChar[b[i]] {
			i++
		}
		if i >= len(b) {
			break
		}
		switch b[i] {
		case ':':
			if colon == 0 {
				colon = i
			} else if pass == 0 && at == 0 {
				pass = i
			}
		case '@':
			if at == 0 && colon > 0 {
				at, semi, question = i, 0, 0
			}
		case '?':
			if question == 0 && colon > 0 {
				question = i
			}
		case ';':
			if semi == 0 && question == 0 && colon > 0 {
				semi = i
			}
		default:
			return false
		}
	}
	if colon == 0 || b[0] == ':' {
		return false
	}
	switch scheme := b[:colon]; {
	case string(scheme) == "sip" || EqualFold(scheme, "sip"):
		u.Scheme = SchemeSIP
	case EqualFold(scheme, "sips"):
		u.Scheme = SchemeSIPS
	case EqualFold(scheme, "tel"):
		u.Scheme = SchemeTel
		rest := b[colon+1:]
		u.User = rest
		if i := bytes.IndexByte(rest, ';'); i >= 0 {
			u.User, u.Params = rest[:i], rest[i:]
		}
		return len(u.User) > 0
	default:
		return isToken(scheme)
	}
	host, end := colon+1, len(b)
	if at > 0 {
		host = at + 1
		u.User = b[colon+1 : at]
		if len(u.User) == 0 {
			return false
		}
		if pass > 0 {
			u.User = b[colon+1 : pass]
		}
	}
	if question > 0 {
		u.Headers, end = b[question+1:], question
	}
	if semi > 0 {
		u.Params, end = b[semi:end], semi
	}
	var ok bool
	u.Host, u.Port, ok = splitHostPort(b[host:end])
	return ok
}

// uriChar is what Parse stops at: the borders, and what a URI may not hold.
var uriChar = func() (t [256]bool) {
	for c := range t {
		t[c] = c <= ' ' || c == '<' || c == '>' || c == 0x7f || c == ':' || c == '@' || c == '?' || c == ';'
	}
	return t
}()

// Param finds a URI parameter by its lower-case name.
func (u *URI) Param(lower string) ([]byte, bool) { return Param(u.Params, lower) }

// splitHostPort reads host[:port] or [IPv6][:port].
func splitHostPort(b []byte) (host []byte, port uint16, ok bool) {
	i := 0
	for i < len(b) && hostChar[b[i]] {
		i++
	}
	if i > 0 && i == len(b) {
		return b, 0, true
	}
	if i > 0 && b[i] == ':' {
		if n, ok := Number(b[i+1:], 65535); ok {
			return b[:i], uint16(n), true
		}
	}
	return looseHostPort(b)
}

// looseHostPort reads IPv6, and white space where a Via may have it.
func looseHostPort(b []byte) (host []byte, port uint16, ok bool) {
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
			if !hostChar[c] {
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

// hostChar is what a host name is made of, and the underscore of sloppy ones.
var hostChar = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '-' || c == '_'
	}
	return t
}()

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
