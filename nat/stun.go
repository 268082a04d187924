package nat

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"net/netip"
)

// STUN (RFC 8489) as far as connectivity checks need it: Binding with short-term credentials. A message is read where it lies;
// an answer is written into the caller's buffer. Functions occur in the order in which a request meets them.

// Fixed by RFC 8489 section 5 and 14.7.
const (
	stunHeaderLen      = 20
	stunCookie         = 0x2112A442
	stunFingerprintXOR = 0x5354554e
	stunIDLen          = 12
)

// stunType is the first 16 bits: method Binding in its four classes (RFC 8489 section 5).
type stunType uint16

const (
	bindingRequest    stunType = 0x0001
	bindingIndication stunType = 0x0011
	bindingSuccess    stunType = 0x0101
	bindingFailure    stunType = 0x0111
)

// Attributes (RFC 8489 section 18.3, RFC 8445 section 16.1). Types below 0x8000 must be understood.
const (
	attrMappedAddress    = 0x0001
	attrUsername         = 0x0006
	attrIntegrity        = 0x0008
	attrErrorCode        = 0x0009
	attrUnknown          = 0x000a
	attrRealm            = 0x0014
	attrNonce            = 0x0015
	attrIntegritySHA256  = 0x001c
	attrPasswordAlg      = 0x001d
	attrUserhash         = 0x001e
	attrXORMappedAddress = 0x0020
	attrPriority         = 0x0024
	attrUseCandidate     = 0x0025
	attrOptional         = 0x8000
	attrFingerprint      = 0x8028
	attrControlled       = 0x8029
	attrControlling      = 0x802a
)

// Error codes (RFC 8489 section 14.8, RFC 8445 section 16.2).
const (
	errorBadRequest       = 400
	errorUnauthenticated  = 401
	errorUnknownAttribute = 420
	errorRoleConflict     = 487
)

// stunUnknowns bounds the list of an error 420: more than a few need not be named at once.
const stunUnknowns = 4

// stunMessage is a message as it lies in a packet; slices point into that.
type stunMessage struct {
	raw  []byte
	kind stunType

	username     []byte // nil: none
	integrity    int    // offset of MESSAGE-INTEGRITY; 0: none
	fingerprint  bool   // there, and right
	mapped       netip.AddrPort
	code         int // of an error
	priority     uint32
	useCandidate bool
	controlling  bool // the sender says so
	controlled   bool

	unknown    [stunUnknowns]uint16 // that should have been understood
	numUnknown int
}

// id is the transaction ID.
func (m *stunMessage) id() []byte { return m.raw[8:stunHeaderLen] }

// parse reads b. False means that b is no STUN message: its form is wrong, or its FINGERPRINT.
func (m *stunMessage) parse(b []byte) bool {
	if len(b) < stunHeaderLen || len(b)%4 != 0 || b[0]&0xc0 != 0 || binary.BigEndian.Uint32(b[4:]) != stunCookie ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-stunHeaderLen {
		return false
	}
	*m = stunMessage{raw: b, kind: stunType(binary.BigEndian.Uint16(b))}
	sealed := false // behind an integrity attribute, which protects what stands before it
	for at := stunHeaderLen; at < len(b); {
		if m.fingerprint {
			return false // RFC 8489 section 14.7: it is the last one
		}
		// The length is a multiple of 4, so an attribute's head is there.
		kind, n := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+2:]))
		end := at + 4 + (n+3)&^3
		if end > len(b) {
			return false
		}
		switch value := b[at+4 : at+4+n]; {
		case kind == attrFingerprint:
			if n != 4 || binary.BigEndian.Uint32(value) != stunChecksum(b[:at]) {
				return false
			}
			m.fingerprint = true
		case kind == attrIntegrity && !sealed:
			if n != sha1.Size {
				return false
			}
			m.integrity, sealed = at, true
		case kind == attrIntegritySHA256:
			sealed = true
		case !sealed: // RFC 8489 section 14.5: what stands behind is ignored
			if !m.attribute(kind, value) {
				return false
			}
		}
		at = end
	}
	return true
}

// attribute takes one attribute. Of one that comes twice the first counts (RFC 8489 section 14).
func (m *stunMessage) attribute(kind uint16, value []byte) bool {
	switch kind {
	case attrUsername:
		if m.username == nil {
			m.username = value
		}
	case attrPriority:
		if len(value) != 4 {
			return false
		}
		m.priority = binary.BigEndian.Uint32(value)
	case attrUseCandidate:
		m.useCandidate = true
	case attrControlling, attrControlled:
		if len(value) != 8 {
			return false
		}
		m.controlling, m.controlled = kind == attrControlling, kind == attrControlled
	case attrXORMappedAddress:
		m.mapped = readXORMapped(value, m.raw)
		return m.mapped.IsValid()
	case attrErrorCode:
		if len(value) < 4 {
			return false
		}
		m.code = int(value[2]&7)*100 + int(value[3])
	case attrMappedAddress, attrUnknown, attrRealm, attrNonce, attrPasswordAlg, attrUserhash:
	default:
		if kind < attrOptional && m.numUnknown < stunUnknowns {
			m.unknown[m.numUnknown] = kind
			m.numUnknown++
		}
	}
	return true
}

// readXORMapped reads the value of XOR-MAPPED-ADDRESS (RFC 8489 section 14.2); invalid if it has no known form.
func readXORMapped(value, raw []byte) netip.AddrPort {
	if len(value) < 8 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(value[2:]) ^ stunCookie>>16
	var ip [16]byte
	for i := range min(len(value)-4, len(ip)) {
		ip[i] = value[4+i] ^ raw[4+i] // cookie and transaction ID lie behind one another
	}
	switch {
	case value[1] == 1 && len(value) == 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port)
	case value[1] == 2 && len(value) == 20:
		return netip.AddrPortFrom(netip.AddrFrom16(ip), port)
	}
	return netip.AddrPort{}
}

// stunChecksum is FINGERPRINT over what stands before it (RFC 8489 section 14.7). The length in the header counts it already.
func stunChecksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) ^ stunFingerprintXOR }

// stunKey makes and checks MESSAGE-INTEGRITY under one password (RFC 8489 section 9.1.1: the password is the key). It belongs
// to one goroutine; its scratch space is what keeps it from allocating.
type stunKey struct {
	mac  hash.Hash
	head [4]byte
	sum  [sha1.Size]byte
}

func newSTUNKey(password string) *stunKey { return &stunKey{mac: hmac.New(sha1.New, []byte(password))} }

// sign computes the value for an attribute that begins at offset at of message b. The hash sees a header whose length ends
// with this attribute (RFC 8489 section 14.5).
func (k *stunKey) sign(b []byte, at int) []byte {
	copy(k.head[:], b[:2])
	binary.BigEndian.PutUint16(k.head[2:], uint16(at+4+sha1.Size-stunHeaderLen))
	k.mac.Reset()
	k.mac.Write(k.head[:])
	k.mac.Write(b[4:at])
	return k.mac.Sum(k.sum[:0])
}

// verifies tells if the message was made with this key.
func (k *stunKey) verifies(m *stunMessage) bool {
	return m.integrity != 0 &&
		subtle.ConstantTimeCompare(k.sign(m.raw, m.integrity), m.raw[m.integrity+4:m.integrity+4+sha1.Size]) == 1
}

// The writers append to a message that begins at b[0] and keep its length right.

func appendSTUNHeader(b []byte, kind stunType, id []byte) []byte {
	b = binary.BigEndian.AppendUint16(b[:0], uint16(kind))
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	return append(b, id...)
}

// appendSTUNHead appends type and length of an attribute and counts them, with the value to come.
func appendSTUNHead(b []byte, kind uint16, n int) []byte {
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeaderLen+4+(n+3)&^3))
	b = binary.BigEndian.AppendUint16(b, kind)
	return binary.BigEndian.AppendUint16(b, uint16(n))
}

func appendXORMapped(b []byte, addr netip.AddrPort) []byte {
	ip := addr.Addr().Unmap()
	family, n := byte(1), 4
	if ip.Is6() {
		family, n = 2, 16
	}
	b = appendSTUNHead(b, attrXORMappedAddress, 4+n)
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, addr.Port()^stunCookie>>16)
	at := len(b)
	if n == 4 {
		a := ip.As4()
		b = append(b, a[:]...)
	} else {
		a := ip.As16()
		b = append(b, a[:]...)
	}
	for i := range n {
		b[at+i] ^= b[4+i]
	}
	return b
}

// appendErrorCode writes no reason phrase: nobody reads it, and an answer must not be longer than what asked for it.
func appendErrorCode(b []byte, code int) []byte {
	b = appendSTUNHead(b, attrErrorCode, 4)
	return append(b, 0, 0, byte(code/100), byte(code%100))
}

func appendUnknown(b []byte, kinds []uint16) []byte {
	b = appendSTUNHead(b, attrUnknown, 2*len(kinds))
	for _, k := range kinds {
		b = binary.BigEndian.AppendUint16(b, k)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendIntegrity(b []byte, k *stunKey) []byte {
	at := len(b)
	b = appendSTUNHead(b, attrIntegrity, sha1.Size)
	return append(b, k.sign(b, at)...)
}

func appendFingerprint(b []byte) []byte {
	at := len(b)
	b = appendSTUNHead(b, attrFingerprint, 4)
	return binary.BigEndian.AppendUint32(b, stunChecksum(b[:at]))
}
