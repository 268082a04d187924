//go:build linux

package main

import (
	"crypto/md5"
	"fmt"
)

// digest holds what the phones know: the password of every account, already hashed with name and realm (RFC 2617 section 3.2.2.2).
type digest struct {
	realm string
	ha1   [][]byte
	ha2   []byte // of REGISTER, the only method
	uri   string
	text  []byte
}

func newDigest(realm, password, domain string, users int) *digest {
	d := &digest{realm: realm, uri: "sip:" + domain, ha2: hexMD5([]byte("REGISTER:sip:" + domain))}
	for i := range users {
		d.ha1 = append(d.ha1, hexMD5([]byte(fmt.Sprintf("u%05d:%s:%s", i, realm, password))))
	}
	return d
}

// append writes the Authorization field for a challenge with qop auth.
func (d *digest) append(b, challenge []byte, user int) []byte {
	nonce := quoted(challenge, `nonce="`)
	t := append(append(d.text[:0], d.ha1[user]...), ':')
	t = append(append(t, nonce...), ":00000001:5f3a9c01:auth:"...)
	t = append(t, d.ha2...)
	d.text = t
	b = append(b, `Authorization: Digest username="u`...)
	for i := 10000; i > 0; i /= 10 {
		b = append(b, byte('0'+user/i%10))
	}
	b = append(append(append(b, `", realm="`...), d.realm...), `", nonce="`...)
	b = append(append(append(b, nonce...), `", uri="`...), d.uri...)
	b = append(b, `", algorithm=MD5, qop=auth, nc=00000001, cnonce="5f3a9c01", response="`...)
	sum := md5.Sum(t)
	b = appendHexBytes(b, sum[:])
	if opaque := quoted(challenge, `opaque="`); opaque != nil {
		b = append(append(b, `", opaque="`...), opaque...)
	}
	return append(b, "\"\r\n"...)
}

func hexMD5(b []byte) []byte {
	sum := md5.Sum(b)
	return appendHexBytes(nil, sum[:])
}

func appendHexBytes(b, raw []byte) []byte {
	for _, c := range raw {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}
