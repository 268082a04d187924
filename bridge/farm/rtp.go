package farm

import "encoding/binary"

// Fixed by RFC 3550 and RFC 3551.
const (
	rtpHeader  = 12
	rtpVersion = 2
	ptPCMU     = 0
	ptEvent    = 101 // what we offer; an answer takes the number of the offer (RFC 3264, section 6.1)
)

// rtpPacket is a received packet. Payload is borrowed from the receive buffer.
type rtpPacket struct {
	pt      uint8
	marker  bool
	seq     uint16
	ts      uint32
	ssrc    uint32
	payload []byte
}

// parseRTP reads a packet without copying it. CSRCs, an extension and padding are passed over.
func parseRTP(b []byte) (rtpPacket, bool) {
	if len(b) < rtpHeader || b[0]>>6 != rtpVersion {
		return rtpPacket{}, false
	}
	p := rtpPacket{
		pt:     b[1] & 0x7f,
		marker: b[1]&0x80 != 0,
		seq:    binary.BigEndian.Uint16(b[2:]),
		ts:     binary.BigEndian.Uint32(b[4:]),
		ssrc:   binary.BigEndian.Uint32(b[8:]),
	}
	at := rtpHeader + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < at+4 {
			return rtpPacket{}, false
		}
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		end -= int(b[len(b)-1])
	}
	if at >= end {
		return rtpPacket{}, false // no payload: nothing to hear
	}
	p.payload = b[at:end]
	return p, true
}

// appendRTP prints a header without CSRCs behind b.
func appendRTP(b []byte, pt uint8, marker bool, seq uint16, ts, ssrc uint32) []byte {
	if marker {
		pt |= 0x80
	}
	b = append(b, rtpVersion<<6, pt)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = binary.BigEndian.AppendUint32(b, ts)
	return binary.BigEndian.AppendUint32(b, ssrc)
}
