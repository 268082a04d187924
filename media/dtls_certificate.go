package media

// dtlsProof looks for the peer's certificate in its flight (RFC 5246 section 7.4.2, RFC 6347 section 4.2.2). The handshake hears
// nothing of the flight before it, nor another certificate: all that is in clear text, and a forged message that comes first would
// keep the real one out. It reads records that sortDTLS has let through.
type dtlsProof struct {
	pins  dtlsPins // constant
	shown bool     // the certificate of the SDP
	other bool     // one that it does not name

	parts dtlsParts // a certificate that comes in fragments, as far as it is there
}

// dtlsMaxCertificate is the most that we put together of one in fragments: a chain of three with RSA keys has half of it.
const dtlsMaxCertificate = 8 << 10

// pass returns what of a datagram the handshake may read. b is changed.
func (p *dtlsProof) pass(b []byte) []byte {
	if p.shown {
		return b
	}
	for rest := b; len(rest) > 0; {
		record := firstRecord(rest)
		rest = rest[len(record):]
		if record[0] == dtlsHandshake && record[3]|record[4] == 0 && record[dtlsRecordLen] == dtlsCertificate && p.take(record) {
			p.shown = true
			b = append(p.parts.held, rest...)
			p.parts = dtlsParts{}
			return b
		}
	}
	return nil
}

// take adds a record that begins with a part of the certificate, and tells if that was the last one of the right one.
func (p *dtlsProof) take(record []byte) bool {
	if !p.parts.add(record, dtlsMaxCertificate) {
		return false
	}
	right := p.pins.match(leafOf(p.parts.body))
	p.other = p.other || !right
	return right
}

// leafOf is the first certificate of a message; nil: it has none.
func leafOf(message []byte) []byte {
	if len(message) < 6 {
		return nil
	}
	if n := uint24(message[3:]); n <= len(message)-6 {
		return message[6 : 6+n]
	}
	return nil
}
