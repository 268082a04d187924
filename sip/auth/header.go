package auth

import "bytes"

// header is the value of an Authorization field, in pieces of it. Quoted values come without their quotes and still with
// their backslashes.
type header struct {
	user, realm, nonce, uri, response, algorithm, cnonce, qop, count []byte
}

// maxParam bounds each value: what a phone sends is far below, and hashing costs time.
const maxParam = 1024

// parse reads the value (RFC 3261 section 25.1, credentials). A parameter that comes twice makes it invalid: two readers could
// take different ones.
func (h *header) parse(v []byte) bool {
	v = skipSpace(v)
	const scheme = "digest"
	if len(v) <= len(scheme) || !bytes.EqualFold(v[:len(scheme)], []byte(scheme)) || !isSpace(v[len(scheme)]) {
		return false
	}
	v = v[len(scheme):]
	for {
		v = skipSpace(v)
		// Empty list elements are legal in HTTP's lists and some phones leave a comma at the end.
		if len(v) > 0 && v[0] == ',' {
			v = v[1:]
			continue
		}
		if len(v) == 0 {
			break
		}
		n := 0
		for n < len(v) && isToken[v[n]] {
			n++
		}
		name := v[:n]
		v = skipSpace(v[n:])
		if n == 0 || len(v) == 0 || v[0] != '=' {
			return false
		}
		var value []byte
		var ok bool
		if value, v, ok = paramValue(skipSpace(v[1:])); !ok {
			return false
		}
		if field := h.field(name); field != nil {
			if *field != nil {
				return false
			}
			*field = value
		}
		v = skipSpace(v)
		if len(v) > 0 && v[0] != ',' {
			return false
		}
	}
	if h.user == nil || h.realm == nil || h.nonce == nil || h.uri == nil || h.response == nil {
		return false
	}
	return h.qop == nil || h.cnonce != nil && len(h.count) == 8 && isHex(h.count)
}

// field returns where a parameter is kept; nil for one that is not needed.
func (h *header) field(name []byte) *[]byte {
	var want string
	var field *[]byte
	switch len(name) {
	case 2:
		want, field = "nc", &h.count
	case 3:
		if want, field = "uri", &h.uri; name[0]|0x20 == 'q' {
			want, field = "qop", &h.qop
		}
	case 5:
		if want, field = "realm", &h.realm; name[0]|0x20 == 'n' {
			want, field = "nonce", &h.nonce
		}
	case 6:
		want, field = "cnonce", &h.cnonce
	case 8:
		if want, field = "username", &h.user; name[0]|0x20 == 'r' {
			want, field = "response", &h.response
		}
	case 9:
		want, field = "algorithm", &h.algorithm
	}
	if field == nil || string(name) != want && !is(name, want) {
		return nil
	}
	return field
}

// paramValue takes a token or quoted string from the front of v. The value is never nil.
func paramValue(v []byte) (value, rest []byte, ok bool) {
	if len(v) > 0 && v[0] == '"' {
		for i := 1; i < len(v) && i <= maxParam; i++ {
			switch v[i] {
			case '\\':
				i++
			case '"':
				return v[1:i:i], v[i+1:], true
			}
		}
		return nil, nil, false
	}
	// A token; some phones leave out the quotes of uri, so everything up to a comma or white space counts.
	n := 0
	for n < len(v) && v[n] != ',' && v[n] != '"' && !isSpace(v[n]) {
		n++
	}
	return v[:n:n], v[n:], n > 0 && n <= maxParam
}

func (h *header) algorithmOf() (Algorithm, bool) {
	switch {
	case h.algorithm == nil, is(h.algorithm, "MD5"): // RFC 7616 section 3.4: MD5 if it is not given
		return MD5, true
	case is(h.algorithm, "SHA-256"):
		return SHA256, true
	}
	return 0, false
}

func (h *header) qopKnown() bool { return h.qop == nil || is(h.qop, "auth") }

// use returns what may be used once: a nonce-count of a nonce, or, for a client without qop, a response.
func (h *header) use(id uint64) (nonce uint64, count uint32) {
	if h.qop == nil {
		return id ^ fnv64(h.response), 1
	}
	for _, c := range h.count {
		count = count<<4 | uint32(hexValue(c))
	}
	return id, count
}

// sameURI compares the digest's uri with the Request-URI. Loosely, since proxies on the way rewrite port and parameters and
// phones leave them out (RFC 3261 section 22.4 item 8 has them compared as URIs; Asterisk and Kamailio do not compare at all):
// user and host must be equal, scheme sip or sips alike. A digest for one callee is so no good for another. One that names no user
// stands for its host: SIPp makes them so for every request.
func sameURI(digest, request []byte) bool {
	if len(request) == 0 || bytes.Equal(digest, request) {
		return true
	}
	du, dh, dok := userHost(digest)
	ru, rh, rok := userHost(request)
	return dok && rok && (len(du) == 0 || bytes.Equal(du, ru)) && bytes.EqualFold(dh, rh)
}

// userHost cuts user and host out of a SIP URI; ok is false for another scheme.
func userHost(uri []byte) (user, host []byte, ok bool) {
	colon := bytes.IndexByte(uri, ':')
	if colon < 0 || !is(uri[:colon], "sip") && !is(uri[:colon], "sips") {
		return nil, nil, false
	}
	host = uri[colon+1:]
	if i := bytes.IndexByte(host, '@'); i >= 0 {
		user, host = host[:i], host[i+1:]
	}
	if len(host) > 0 && host[0] == '[' {
		if i := bytes.IndexByte(host, ']'); i >= 0 {
			return user, host[:i+1], true
		}
		return nil, nil, false
	}
	if i := bytes.IndexAny(host, ":;?"); i >= 0 {
		host = host[:i]
	}
	return user, host, true
}

// unquote resolves backslashes; without any it returns b itself.
func unquote(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// lower appends b in lower case to dst, which has room for the longest right response; a longer one is returned as it is.
func lower(dst, b []byte) []byte {
	if len(b) > cap(dst) {
		return b
	}
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// is compares without case.
func is(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		x, y := b[i], s[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	return b
}

// isSpace includes the line ends of a folded field.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// isToken is the table of RFC 3261 section 25.1's token.
var isToken = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	for _, c := range []byte("-.!%*_+`'~") {
		t[c] = true
	}
	return t
}()

func isHex(b []byte) bool {
	for _, c := range b {
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
		if !digit {
			return false
		}
	}
	return true
}

// hexValue is the value of a hex digit.
func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// fnv64 is FNV-1a: enough to tell responses apart, which are hashes themselves.
func fnv64(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
