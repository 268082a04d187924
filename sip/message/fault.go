package message

// Fault says what is wrong with a message. The order is no ranking; the first one found stays.
type Fault uint8

// What can be wrong.
const (
	FaultNone        Fault = iota
	FaultNotSIP            // no start line of SIP: nothing can be answered
	FaultStartLine         // white space or brackets where none may be, RFC 4475 3.1.2.8 to 3.1.2.10
	FaultVersion           // SIP/7.0
	FaultStatus            // a status code that is no three digits
	FaultField             // a header line without a name or colon
	FaultTooMany           // more header fields than MaxFields
	FaultUnfinished        // the header ends without an empty line
	FaultLength            // Content-Length is no number, negative, or beyond the datagram
	FaultDuplicate         // two From, To, Call-ID, CSeq, Max-Forwards or Content-Length, or two values in one
	FaultMissing           // no Via, From, To, Call-ID or CSeq
	FaultVia               // the top Via cannot be read
	FaultAddress           // From, To or Contact cannot be read
	FaultCSeq              // no number below 2^31, or another method than the start line's
	FaultMaxForwards       // no number up to 255
	FaultURI               // the Request-URI cannot be read
	FaultScheme            // a Request-URI of an unknown scheme
	NumFaults
)

var faultNames = [NumFaults]string{"none", "not SIP", "bad start line", "version not supported", "bad status code",
	"bad header line", "too many header fields", "header without an end", "bad Content-Length", "duplicate header field",
	"missing header field", "bad Via", "bad address", "bad CSeq", "bad Max-Forwards", "bad Request-URI", "unknown URI scheme"}

// String names the fault in a few words; it is fit for a reason phrase.
func (f Fault) String() string {
	if f < NumFaults {
		return faultNames[f]
	}
	return faultNames[FaultNotSIP]
}
