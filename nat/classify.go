package nat

// Class is the kind of a packet on a media port.
type Class uint8

// The kinds that may share a port (RFC 7983 section 7, RFC 5761 section 4).
const (
	Unknown Class = iota
	STUN
	ZRTP
	DTLS
	TURNChannel
	RTP
	RTCP
)

// Classify tells the kind of a packet by its first two bytes. RTP and SRTP are one class, RTCP and SRTCP another.
func Classify(b []byte) Class {
	if len(b) < 2 {
		return Unknown
	}
	switch c := b[0]; {
	case c >= 128 && c <= 191:
		// RFC 5761 section 4: payload types 64-95 with the marker bit are RTCP.
		if b[1] >= 192 && b[1] <= 223 {
			return RTCP
		}
		return RTP
	case c <= 3:
		return STUN
	case c >= 16 && c <= 19:
		return ZRTP
	case c >= 20 && c <= 63:
		return DTLS
	case c >= 64 && c <= 79:
		return TURNChannel
	}
	return Unknown
}
