package media

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"reflect"

	piondtls "github.com/pion/dtls/v3"
)

// ClientHellos and their cookies (RFC 6347 section 4.2.1). Anybody can write a ClientHello in the peer's name, and whatever answers it goes
// to the peer, who takes it for the answer to its own: a ServerHello or a cookie for another random would end its handshake. So the
// answer must be the same whoever asked. It is a HelloVerifyRequest with one cookie for the address, without state; only the
// peer sees it, and only what brings it back begins a handshake.

// dtlsCookieAt is where the session's ID begins in a ClientHello; the cookie follows it.
const dtlsCookieAt = 2 + dtlsRandomLen

// Chosen by us.
const (
	dtlsCookieLen = 20      // pion's
	dtlsMaxHello  = 7 << 10 // with the key shares and padding of the largest, four times; pion reads 8 kB at once
)

// dtlsHello is a ClientHello.
type dtlsHello struct {
	random [dtlsRandomLen]byte
	cookie []byte // lent
	at     int    // where the cookie is in the body; its length stands before it
}

// readHello reads the body of a ClientHello, or the first fragment of it: an ID and a cookie are short.
func readHello(body []byte) (h dtlsHello, ok bool) {
	if len(body) <= dtlsCookieAt {
		return h, false
	}
	h.at = dtlsCookieAt + 1 + int(body[dtlsCookieAt]) + 1
	if h.at > len(body) || h.at+int(body[h.at-1]) > len(body) {
		return h, false
	}
	copy(h.random[:], body[2:])
	h.cookie = body[h.at : h.at+int(body[h.at-1])]
	return h, true
}

// firstFragment is the body of a record with the first fragment of a message.
func firstFragment(record []byte) ([]byte, bool) {
	head, body := record[dtlsRecordLen:dtlsRecordLen+dtlsMessageLen], record[dtlsRecordLen+dtlsMessageLen:]
	n := uint24(head[9:])
	if uint24(head[6:]) != 0 || n > len(body) {
		return nil, false
	}
	return body[:n], true
}

// cookie is what a peer at this address has to bring back.
func (a *dtlsAgent) cookie(from netip.AddrPort) []byte {
	mac := hmac.New(sha256.New, a.secret[:])
	ip := from.Addr().As16()
	mac.Write(ip[:])
	mac.Write(binary.BigEndian.AppendUint16(nil, from.Port()))
	return mac.Sum(nil)[:dtlsCookieLen]
}

// helloVerify asks for a cookie. Its record has number 0 always, not the ClientHello's: a forger's would move the peer's replay window on.
func helloVerify(cookie []byte) []byte {
	body := append([]byte{0xfe, 0xfd, byte(len(cookie))}, cookie...)
	return dtlsMessage(dtlsHelloVerify, body)
}

// dtlsMessage is a message as a record of its own, both the first of their kind.
func dtlsMessage(kind byte, body []byte) []byte {
	n := len(body)
	b := make([]byte, dtlsRecordLen, dtlsRecordLen+dtlsMessageLen+n)
	b[0], b[1], b[2] = dtlsHandshake, 0xfe, 0xfd
	binary.BigEndian.PutUint16(b[11:], uint16(dtlsMessageLen+n))
	b = append(b, kind, byte(n>>16), byte(n>>8), byte(n), 0, 0, 0, 0, 0, byte(n>>16), byte(n>>8), byte(n))
	return append(b, body...)
}

// dtlsParts puts a message together that comes in fragments, one behind the other.
type dtlsParts struct {
	body []byte
	held []byte // the records
}

// add takes a record that begins with a fragment, and tells if the message is whole.
func (p *dtlsParts) add(record []byte, most int) bool {
	head, body := record[dtlsRecordLen:dtlsRecordLen+dtlsMessageLen], record[dtlsRecordLen+dtlsMessageLen:]
	size, at, n := uint24(head[1:]), uint24(head[6:]), uint24(head[9:])
	if at == 0 {
		p.body, p.held = p.body[:0], p.held[:0]
	}
	if size > most || at != len(p.body) || n > len(body) || at+n > size {
		return false
	}
	p.body = append(p.body, body[:n]...)
	p.held = append(p.held, record...)
	return len(p.body) == size
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// dtlsProven is a ClientHello that brought its cookie back, and what makes pion believe that it was pion's.
type dtlsProven struct {
	cookie []byte
	first  []byte // the ClientHello without the cookie, as it must have come before; no part of what the two sign
	second []byte // its records
}

// newDTLSProven takes h and its parts over.
func newDTLSProven(h *dtlsHello, parts dtlsParts) *dtlsProven {
	first := bytes.Clone(parts.body[:h.at])
	first[h.at-1] = 0
	first = append(first, parts.body[h.at+len(h.cookie):]...)
	return &dtlsProven{
		cookie: h.cookie,
		first:  dtlsMessage(dtlsClientHello, first),
		second: parts.held,
	}
}

// pionCookie is the cookie that a server of pion waits for. pion makes one per connection and has no option for it, so that it can ask a
// single client only; its bytes are changed in place, on the goroutine of its handshake. Nil: pion keeps it elsewhere, which the tests
// find.
func pionCookie(c *piondtls.Conn) []byte {
	v := reflect.ValueOf(c).Elem().FieldByName("state")
	if v.Kind() != reflect.Struct {
		return nil
	}
	if v = v.FieldByName("cookie"); v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Uint8 {
		return nil
	}
	return v.Bytes()
}
