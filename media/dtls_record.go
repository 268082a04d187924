package media

import "encoding/binary"

// Records of DTLS 1.2 (RFC 6347 section 4.1) and the head of a handshake message (section 4.2.2).
const (
	dtlsRecordLen  = 13
	dtlsMessageLen = 12
	dtlsRandomLen  = 32

	dtlsChangeCipherSpec = 20
	dtlsAlert            = 21
	dtlsHandshake        = 22

	dtlsClientHello = 1
)

// dtlsFlight says what is in a datagram.
type dtlsFlight struct {
	hello  bool // a ClientHello, the first fragment of it at least
	random [dtlsRandomLen]byte
	beyond bool // more than a ClientHello: its sender has read what we sent
}

// sortDTLS moves the records that a handshake needs to the front of b, a whole datagram, and returns them. What stays away is
// what would end the handshake though anybody can write it (RFC 6347 section 4.1.2.7): alerts in clear text, data in clear
// text, and what has no meaning. Behind the cipher the record layer itself finds what is forged.
func sortDTLS(b []byte) (kept []byte, flight dtlsFlight) {
	n := 0
	for rest := b; len(rest) > dtlsRecordLen; {
		end := dtlsRecordLen + int(binary.BigEndian.Uint16(rest[11:]))
		if end > len(rest) {
			break
		}
		record := rest[:end]
		rest = rest[end:]
		if flight.take(record) {
			n += copy(b[n:], record)
		}
	}
	return b[:n], flight
}

// take notes what a record is and tells if it is let in.
func (f *dtlsFlight) take(record []byte) bool {
	// DTLS 1.0 in the record's version is how a ClientHello may come (RFC 6347 section 4.2.1).
	if record[1] != 0xfe || record[2] != 0xff && record[2] != 0xfd {
		return false
	}
	kind, sealed, body := record[0], record[3]|record[4] != 0, record[dtlsRecordLen:]
	switch {
	case len(body) == 0:
		return false // pion reads a datagram that ends with an empty record as a broken one
	case sealed:
		if kind != dtlsAlert && kind != dtlsHandshake {
			return false
		}
		f.beyond = true
		return true
	case kind == dtlsChangeCipherSpec:
		f.beyond = true
		return len(body) == 1 && body[0] == 1
	case kind != dtlsHandshake || len(body) < dtlsMessageLen:
		return false
	case body[0] != dtlsClientHello:
		f.beyond = true
		return true
	}
	// The random stands behind the version, in the fragment with offset 0.
	if at := dtlsMessageLen + 2; body[6]|body[7]|body[8] == 0 && len(body) >= at+dtlsRandomLen {
		f.hello = true
		copy(f.random[:], body[at:])
	}
	return true
}
