package message

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

// kindOf finds the kind of a header field's name, long or compact, in any case (RFC 3261 sections 7.3.1 and 7.3.3).
func kindOf(name []byte) Kind {
	if isInternal(name) {
		return Internal
	}
	switch len(name) {
	case 1:
		switch name[0] | 0x20 {
		case 'v':
			return ViaField
		case 'f':
			return From
		case 't':
			return To
		case 'i':
			return CallID
		case 'm':
			return Contact
		case 'l':
			return ContentLength
		case 'c':
			return ContentType
		case 'e':
			return ContentEncoding
		case 'k':
			return Supported
		case 'r':
			return ReferTo
		}
		return Other
	case 2:
		return match(name, "To", "to", To)
	case 3:
		return match(name, "Via", "via", ViaField)
	case 4:
		switch name[0] | 0x20 {
		case 'f':
			return match(name, "From", "from", From)
		case 'c':
			return match(name, "CSeq", "cseq", CSeq)
		case 'p':
			return match(name, "Path", "path", Path)
		}
	case 5:
		return match(name, "Route", "route", Route)
	case 7:
		switch name[0] | 0x20 {
		case 'c':
			if name[1]|0x20 == 'a' {
				return match(name, "Call-ID", "call-id", CallID)
			}
			return match(name, "Contact", "contact", Contact)
		}
	case 8:
		switch name[2] | 0x20 {
		case 'f':
			return match(name, "Refer-To", "refer-to", ReferTo)
		case 'p':
			return match(name, "Replaces", "replaces", Replaces)
		}
	case 9:
		return match(name, "Supported", "supported", Supported)
	case 10:
		return match(name, "User-Agent", "user-agent", UserAgent)
	case 12:
		switch name[0] | 0x20 {
		case 'c':
			return match(name, "Content-Type", "content-type", ContentType)
		case 'm':
			return match(name, "Max-Forwards", "max-forwards", MaxForwards)
		case 'r':
			return match(name, "Record-Route", "record-route", RecordRoute)
		}
	case 13:
		switch name[0] | 0x20 {
		case 'a':
			return match(name, "Authorization", "authorization", Authorization)
		case 'p':
			return match(name, "Proxy-Require", "proxy-require", ProxyRequire)
		}
	case 14:
		return match(name, "Content-Length", "content-length", ContentLength)
	case 16:
		return match(name, "Content-Encoding", "content-encoding", ContentEncoding)
	case 19:
		return match(name, "Proxy-Authorization", "proxy-authorization", ProxyAuthorization)
	}
	return Other
}

// match tries the usual spelling first: it is compared by whole words.
func match(name []byte, usual, lower string, k Kind) Kind {
	if string(name) == usual || EqualFold(name, lower) {
		return k
	}
	return Other
}

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
