package hep

import (
	"encoding/binary"
	"net/netip"
)

// fixed4 is the length of what every IPv4 packet has: header, family, transport, two addresses, two ports, seconds,
// microseconds, protocol type, capture id, and the payload's chunk header. IPv6 has 12 bytes more for each address.
const (
	fixed4 = headerLen + 11*chunkLen + 1 + 1 + 2*4 + 2*2 + 4 + 4 + 1 + 4
	fixed6 = fixed4 + 2*12
)

// Append writes p behind dst, which grows only if its capacity is too small. A packet that is too large leaves dst as it
// was. Nothing of p is kept.
func Append(dst []byte, p Packet) ([]byte, Fault) {
	src, tgt := addresses(&p)
	n := size(&p, src.Is4())
	if n > MaxPacket {
		return dst, FaultTooLarge
	}
	return appendSized(dst, &p, src, tgt, n), FaultNone
}

// size is the packet's length as int: the parts may be larger than a length field can tell.
func size(p *Packet, ipv4 bool) int {
	n := fixed6
	if ipv4 {
		n = fixed4
	}
	n += len(p.Payload)
	for _, opt := range [...][]byte{p.Node, p.AuthKey, p.CorrelationID} {
		if len(opt) > 0 {
			n += chunkLen + len(opt)
		}
	}
	return n
}

// addresses brings both addresses to one family, since a packet has only one: a socket that is bound to [::] talks to
// IPv4 peers, and names itself by the wildcard of the other family.
func addresses(p *Packet) (src, tgt netip.Addr) {
	src, tgt = p.Source.Addr().Unmap(), p.Destination.Addr().Unmap()
	switch {
	case src.Is4() && tgt.Is4() || src.Is6() && tgt.Is6():
		return src, tgt
	case src.Is4() && nowhere(tgt):
		return src, netip.IPv4Unspecified()
	case tgt.Is4() && nowhere(src):
		return netip.IPv4Unspecified(), tgt
	case !src.IsValid() && !tgt.IsValid():
		return netip.IPv4Unspecified(), netip.IPv4Unspecified()
	}
	return wide(src), wide(tgt)
}

func nowhere(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

// wide is a as IPv6; an IPv4 address as IPv4-mapped, its wildcard as that of IPv6.
func wide(a netip.Addr) netip.Addr {
	if nowhere(a) {
		return netip.IPv6Unspecified()
	}
	return netip.AddrFrom16(a.As16())
}

// appendSized writes a packet whose size n was found good. The payload is last: that is where all known senders have it.
func appendSized(dst []byte, p *Packet, src, tgt netip.Addr, n int) []byte {
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	if src.Is4() {
		dst = append8(dst, chunkFamily, familyIPv4)
		dst = append8(dst, chunkTransport, orDefault(p.Transport, UDP))
		s, t := src.As4(), tgt.As4()
		dst = append(appendHead(dst, chunkSource4, 4), s[:]...)
		dst = append(appendHead(dst, chunkTarget4, 4), t[:]...)
	} else {
		dst = append8(dst, chunkFamily, familyIPv6)
		dst = append8(dst, chunkTransport, orDefault(p.Transport, UDP))
		s, t := src.As16(), tgt.As16()
		dst = append(appendHead(dst, chunkSource6, 16), s[:]...)
		dst = append(appendHead(dst, chunkTarget6, 16), t[:]...)
	}
	dst = binary.BigEndian.AppendUint16(appendHead(dst, chunkSourcePort, 2), p.Source.Port())
	dst = binary.BigEndian.AppendUint16(appendHead(dst, chunkTargetPort, 2), p.Destination.Port())
	sec, usec := stamp(p)
	dst = append32(dst, chunkSeconds, sec)
	dst = append32(dst, chunkMicros, usec)
	dst = append8(dst, chunkProtocol, orDefault(uint8(p.Protocol), uint8(SIP)))
	dst = append32(dst, chunkCaptureID, p.CaptureID)
	dst = appendOptional(dst, chunkAuthKey, p.AuthKey)
	dst = appendOptional(dst, chunkCorrelation, p.CorrelationID)
	dst = appendOptional(dst, chunkNode, p.Node)
	return append(appendHead(dst, chunkPayload, len(p.Payload)), p.Payload...)
}

// stamp splits the time; what 32 bits of seconds cannot tell is written as not known.
func stamp(p *Packet) (sec, usec uint32) {
	s := p.Time.Unix()
	if s <= 0 || s > 0xffffffff {
		return 0, 0
	}
	return uint32(s), uint32(p.Time.Nanosecond() / 1000)
}

func orDefault(v, d uint8) uint8 {
	if v == 0 {
		return d
	}
	return v
}

// appendHead writes the header of a chunk of vendor 0 with n bytes of value.
func appendHead(dst []byte, kind uint16, n int) []byte {
	n += chunkLen
	return append(dst, 0, 0, byte(kind>>8), byte(kind), byte(n>>8), byte(n))
}

func append8(dst []byte, kind uint16, v uint8) []byte { return append(appendHead(dst, kind, 1), v) }

func append32(dst []byte, kind uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHead(dst, kind, 4), v)
}

func appendOptional(dst []byte, kind uint16, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return append(appendHead(dst, kind, len(v)), v...)
}
