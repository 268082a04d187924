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
	dtlsHelloVerify = 3
	dtlsCertificate = 11

	dtlsPlainAlert = 255 // not of the specification: what dtlsFirst calls an alert in clear text
)

// dtlsFlight says what is in a datagram.
type dtlsFlight struct {
	greets bool // a ClientHello, or a fragment of one
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

// firstRecord is the first of records that sortDTLS has left.
func firstRecord(b []byte) []byte { return b[:dtlsRecordLen+int(binary.BigEndian.Uint16(b[11:]))] }

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
	f.greets = true
	return true
}

// dtlsFirst tells what one of our own datagrams begins with: the handshake message's type, or dtlsPlainAlert; 0 is anything else.
func dtlsFirst(b []byte) byte {
	switch {
	case len(b) <= dtlsRecordLen || b[3]|b[4] != 0:
		return 0
	case b[0] == dtlsAlert:
		return dtlsPlainAlert
	case b[0] == dtlsHandshake:
		return b[dtlsRecordLen]
	}
	return 0
}
