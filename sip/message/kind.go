package message

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// Kind names a header field that the proxy looks at.
type Kind uint8

// The header fields that are told apart; every other one is Other and only its place is known.
const (
	Other Kind = iota
	ViaField
	From
	To
	CallID
	CSeq
	MaxForwards
	Route
	RecordRoute
	Contact
	ContentLength
	ContentType
	ContentEncoding
	Authorization
	ProxyAuthorization
	ProxyRequire
	Path
	Supported
	ReferTo
	Replaces
	UserAgent
	Internal // VB-* and VBOUT-*: spoken between edge and farm only
	numKinds
)

// kindRoom is the next power of two: a table of this size needs no check of a Kind's bounds.
const kindRoom = 32

// fieldNames are the names that are told apart, long and compact, as they are usually written.
var fieldNames = []struct {
	usual string
	kind  Kind
}{
	{"To", To}, {"Via", ViaField}, {"From", From}, {"CSeq", CSeq}, {"Path", Path}, {"Route", Route}, {"Call-ID", CallID}, {"Contact", Contact},
	{"Refer-To", ReferTo}, {"Replaces", Replaces}, {"Supported", Supported}, {"User-Agent", UserAgent}, {"Content-Type", ContentType},
	{"Max-Forwards", MaxForwards}, {"Record-Route", RecordRoute}, {"Authorization", Authorization}, {"Proxy-Require", ProxyRequire},
	{"Content-Length", ContentLength}, {"Content-Encoding", ContentEncoding}, {"Proxy-Authorization", ProxyAuthorization},
	{"v", ViaField}, {"f", From}, {"t", To}, {"i", CallID}, {"m", Contact}, {"l", ContentLength}, {"c", ContentType}, {"e", ContentEncoding},
	{"k", Supported}, {"r", ReferTo},
}

// otherNames are frequent ones that the proxy does not look at. In their usual spelling they are passed without reading them letter by letter.
var otherNames = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events", "Call-Info", "Content-Disposition", "Date", "Diversion",
	"Event", "Expires", "History-Info", "Min-SE", "Organization", "P-Access-Network-Info", "P-Asserted-Identity", "P-Preferred-Identity", "Privacy",
	"Proxy-Authenticate", "RAck", "RSeq", "Reason", "Referred-By", "Remote-Party-ID", "Require", "Retry-After", "Server", "Session-Expires",
	"Subject", "Subscription-State", "Timestamp", "WWW-Authenticate", "Warning", "b", "o", "u", "x",
}

type knownName struct {
	words [3]uint64 // the usual spelling, as it lies in memory
	lower string
	kind  Kind
}

// knownNames holds each name in the slot of its own that nameSlot gives it, which a test proves.
var knownNames = func() (t [256]knownName) {
	add := func(usual string, kind Kind) {
		e := knownName{lower: strings.ToLower(usual), kind: kind}
		var room [24]byte
		copy(room[:], usual)
		for i := range e.words {
			e.words[i] = binary.LittleEndian.Uint64(room[8*i:])
		}
		t[nameSlot(len(usual), usual[0], usual[len(usual)-1])] = e
	}
	for _, n := range fieldNames {
		add(n.usual, n.kind)
	}
	for _, n := range otherNames {
		add(n, Other)
	}
	return t
}()

// nameSlot is a perfect hash of the known names: length, first and last letter tell them apart, in any case.
func nameSlot(size int, first, last byte) uint8 {
	return uint8(13*size) + (first | 0x20) + 8*(last|0x20)
}

// kindOf finds the kind of a header field's name, long or compact, in any case (RFC 3261 sections 7.3.1 and 7.3.3).
func kindOf(name []byte) Kind {
	if n := &knownNames[nameSlot(len(name), name[0], name[len(name)-1])]; EqualFold(name, n.lower) {
		return n.kind
	}
	if isInternal(name) {
		return Internal
	}
	return Other
}

// fieldName reads the name at the start of b eight bytes at a time, up to the colon that follows at once, and returns where that is. 0: the
// name is too long for this or no token, the colon is not there, or the message ends too soon.
func fieldName(b []byte) (colon int, kind Kind) {
	if len(b) < 24 {
		return 0, Other
	}
	p := (*[24]byte)(b)
	w0, w1, w2 := binary.LittleEndian.Uint64(p[:]), uint64(0), uint64(0)
	n := 0
	if m := zeros(w0 ^ ':'*everyByte); m != 0 {
		n = firstByte(m)
		w0 &= bytesBelow(m)
	} else {
		w1 = binary.LittleEndian.Uint64(p[8:])
		if m := zeros(w1 ^ ':'*everyByte); m != 0 {
			n = 8 + firstByte(m)
			w1 &= bytesBelow(m)
		} else {
			w2 = binary.LittleEndian.Uint64(p[16:])
			m := zeros(w2 ^ ':'*everyByte)
			n = 16 + firstByte(m)
			w2 &= bytesBelow(m)
		}
	}
	if uint(n-1) >= 23 {
		return 0, Other
	}
	k := &knownNames[nameSlot(n, p[0], p[n-1])]
	if w0 == k.words[0] && w1 == k.words[1] && w2 == k.words[2] {
		return n, k.kind
	}
	for _, c := range p[:n] {
		if !tokenChar[c] {
			return 0, Other
		}
	}
	return n, kindOf(p[:n])
}

// zeros has the top bit of the first zero byte of a word, none below it, and 0 if there is none.
func zeros(w uint64) uint64 { return (w - everyByte) &^ w & (0x80 * everyByte) }

// firstByte is the place of the byte whose top bit is the lowest in m; 8 if there is none.
func firstByte(m uint64) int { return bits.TrailingZeros64(m) / 8 }

// bytesBelow has all bits of the bytes before that one.
func bytesBelow(m uint64) uint64 { return (m&-m)>>7 - 1 }

// isInternal finds the names that only edge and farm may say to each other.
func isInternal(name []byte) bool {
	return len(name) > 3 && name[0]|0x20 == 'v' && name[1]|0x20 == 'b' &&
		(name[2] == '-' || len(name) > 6 && EqualFold(name[:6], "vbout-"))
}

// Method is a request method; Unknown is any other token, read it by Message.MethodName.
type Method uint8

// The methods that are told apart.
const (
	Unknown Method = iota
	Invite
	Ack
	Bye
	Cancel
	Register
	Options
	Update
	Prack
	Subscribe
	Notify
	Info
	Refer
	Publish
	Text // MESSAGE, RFC 3428
	NumMethods
)

var methodNames = [NumMethods]string{"other", "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "UPDATE",
	"PRACK", "SUBSCRIBE", "NOTIFY", "INFO", "REFER", "PUBLISH", "MESSAGE"}

// String is the method's name, "other" for an unknown one.
func (m Method) String() string {
	if m < NumMethods {
		return methodNames[m]
	}
	return methodNames[Unknown]
}

// methodOf compares by case: methods are case-sensitive, RFC 3261 section 7.1.
func methodOf(b []byte) Method {
	switch string(b) {
	case "INVITE":
		return Invite
	case "ACK":
		return Ack
	case "BYE":
		return Bye
	case "CANCEL":
		return Cancel
	case "REGISTER":
		return Register
	case "OPTIONS":
		return Options
	case "UPDATE":
		return Update
	case "PRACK":
		return Prack
	case "SUBSCRIBE":
		return Subscribe
	case "NOTIFY":
		return Notify
	case "INFO":
		return Info
	case "REFER":
		return Refer
	case "PUBLISH":
		return Publish
	case "MESSAGE":
		return Text
	}
	return Unknown
}
