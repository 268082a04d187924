package sdp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Crypto is one a=crypto line: an offered or chosen SRTP key (RFC 4568).
type Crypto struct {
	Tag    int
	Suite  string // AES_CM_128_HMAC_SHA1_80, AEAD_AES_256_GCM, ...
	Keys   []CryptoKey
	Params []string // session parameters: UNENCRYPTED_SRTCP, KDR=1, FEC_ORDER=..., WSH=...
}

// CryptoKey is one inline key.
type CryptoKey struct {
	KeySalt  []byte // master key and master salt, one behind the other
	Lifetime uint64 // packets; 0 is the suite's default
	MKI      []byte // master key identifier as it stands in packets; nil is none
}

// ParseCrypto reads the value of a=crypto: "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20|1:4 KDR=1".
func ParseCrypto(value string) (Crypto, error) {
	f := strings.Fields(value)
	if len(f) < 3 {
		return Crypto{}, errors.New("crypto: want TAG SUITE inline:KEY")
	}
	tag, err := strconv.ParseUint(f[0], 10, 30) // at most 9 digits: RFC 4568, section 9.1
	if err != nil {
		return Crypto{}, fmt.Errorf("crypto: tag %.20q, want a number", f[0])
	}
	c := Crypto{Tag: int(tag), Suite: f[1], Params: f[3:]}
	if len(c.Params) == 0 {
		c.Params = nil
	}
	for _, k := range strings.Split(f[2], ";") {
		key, err := parseCryptoKey(k)
		if err != nil {
			return Crypto{}, err
		}
		c.Keys = append(c.Keys, key)
	}
	return c, nil
}

func parseCryptoKey(s string) (CryptoKey, error) {
	const method = "inline:"
	if len(s) < len(method) || !strings.EqualFold(s[:len(method)], method) {
		return CryptoKey{}, errors.New("crypto: key method unknown, want inline")
	}
	parts := strings.Split(s[len(method):], "|")
	var k CryptoKey
	var err error
	// Padding is left out by some phones for the 46 and 44 byte keys, although RFC 4568, section 6.1 wants it.
	if k.KeySalt, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[0], "=")); err != nil || len(k.KeySalt) == 0 {
		return CryptoKey{}, errors.New("crypto: key is not base64")
	}
	rest := parts[1:]
	if len(rest) > 0 && !strings.Contains(rest[0], ":") {
		if k.Lifetime, err = parseLifetime(rest[0]); err != nil {
			return CryptoKey{}, err
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		if k.MKI, err = parseMKI(rest[0]); err != nil {
			return CryptoKey{}, err
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return CryptoKey{}, errors.New("crypto: want inline:KEY|LIFETIME|MKI:LENGTH")
	}
	return k, nil
}

// parseLifetime reads "1048576" or "2^20".
func parseLifetime(s string) (uint64, error) {
	if exp, ok := strings.CutPrefix(s, "2^"); ok {
		if n, err := strconv.ParseUint(exp, 10, 8); err == nil && n < 64 {
			return 1 << n, nil
		}
	} else if n, err := strconv.ParseUint(s, 10, 64); err == nil && n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("crypto: lifetime %.20q, want a number or 2^N", s)
}

// parseMKI reads "1:4": the number 1 in 4 bytes. Up to 128 bytes are allowed (RFC 4568, section 9.1).
func parseMKI(s string) ([]byte, error) {
	value, length, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(length, 10, 8)
	if err == nil && n >= 1 && n <= 128 && len(value) <= 310 && isDigits(value) {
		if v, ok := new(big.Int).SetString(value, 10); ok && v.BitLen() <= int(n)*8 {
			return v.FillBytes(make([]byte, n)), nil
		}
	}
	return nil, fmt.Errorf("crypto: MKI %.20q, want VALUE:LENGTH with LENGTH 1..128", s)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// String is the value of the a=crypto line.
func (c Crypto) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s ", c.Tag, c.Suite)
	for i, k := range c.Keys {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString("inline:" + base64.StdEncoding.EncodeToString(k.KeySalt))
		if k.Lifetime > 0 {
			b.WriteString("|" + formatLifetime(k.Lifetime))
		}
		if len(k.MKI) > 0 {
			fmt.Fprintf(&b, "|%s:%d", new(big.Int).SetBytes(k.MKI), len(k.MKI))
		}
	}
	for _, p := range c.Params {
		b.WriteString(" " + p)
	}
	return b.String()
}

func formatLifetime(n uint64) string {
	if n&(n-1) == 0 {
		return "2^" + strconv.Itoa(new(big.Int).SetUint64(n).BitLen()-1)
	}
	return strconv.FormatUint(n, 10)
}

// Crypto lists the a=crypto lines that can be read; the others are passed over, as RFC 4568, section 7.1.2 wants.
func (m *Media) Crypto() []Crypto {
	var cs []Crypto
	for _, v := range m.Attrs("crypto") {
		if c, err := ParseCrypto(v); err == nil {
			cs = append(cs, c)
		}
	}
	return cs
}

// SetCrypto replaces all a=crypto lines by these, in the place of the first; none removes them. Lines that say the
// same already stay as they are.
func (m *Media) SetCrypto(cs ...Crypto) {
	values := make([]string, len(cs))
	for i, c := range cs {
		values[i] = c.String()
	}
	m.setAttrs("crypto", values)
}

// setAttrs makes values the attributes of that name, in the place of the first of them or at the end.
func (s *section) setAttrs(name string, values []string) {
	old := s.Attrs(name)
	if len(old) == len(values) {
		same := true
		for i := range old {
			same = same && old[i] == values[i]
		}
		if same {
			return
		}
	}
	at := s.findAttr(name)
	s.DelAttr(name)
	for _, v := range values {
		if at < 0 {
			s.AddAttr(name, v)
			continue
		}
		s.insertAt(at, attrText(name, v))
		at++
	}
}
