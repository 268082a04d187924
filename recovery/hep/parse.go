package hep

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Length tells how many bytes the packet has that begins with head, of which six bytes are enough: so a stream is cut.
func Length(head []byte) (int, Fault) {
	if len(head) < headerLen {
		return 0, FaultShort
	}
	if string(head[:len(magic)]) != magic {
		return 0, FaultMagic
	}
	n := int(binary.BigEndian.Uint16(head[len(magic):]))
	if n < headerLen {
		return 0, FaultLength
	}
	return n, FaultNone
}

// valueSize is the size that a chunk's value must have; 0 is any.
var valueSize = [...]uint8{chunkFamily: 1, chunkTransport: 1, chunkSource4: 4, chunkTarget4: 4, chunkSource6: 16, chunkTarget6: 16,
	chunkSourcePort: 2, chunkTargetPort: 2, chunkSeconds: 4, chunkMicros: 4, chunkProtocol: 1, chunkCaptureID: 4, chunkNode: 0}

// Parse reads the one packet that fills b. The byte slices of the Packet are views into b. Chunks that are not known, and
// all chunks of vendors, are skipped: a number means something else with each vendor. With a fault the Packet is empty.
func Parse(b []byte) (Packet, Fault) {
	n, fault := Length(b)
	if fault != FaultNone {
		return Packet{}, fault
	}
	if n != len(b) {
		return Packet{}, FaultLength
	}
	var r reading
	for rest := b[headerLen:]; len(rest) > 0; {
		if len(rest) < chunkLen {
			return Packet{}, FaultChunk
		}
		vendor, kind := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		end := int(binary.BigEndian.Uint16(rest[4:]))
		if end < chunkLen || end > len(rest) {
			return Packet{}, FaultChunk
		}
		if vendor == 0 {
			if fault := r.chunk(kind, rest[chunkLen:end:end]); fault != FaultNone {
				return Packet{}, fault
			}
		}
		rest = rest[end:]
	}
	return r.packet()
}

// reading is what the chunks so far have said; they may come in any order.
type reading struct {
	seen     uint32 // a bit per known chunk type
	p        Packet
	family   uint8
	ip4, ip6 [2]netip.Addr // source, destination
	port     [2]uint16
	sec      uint32
	usec     uint32
}

func (r *reading) has(kind uint16) bool { return r.seen&(1<<kind) != 0 }

func (r *reading) chunk(kind uint16, v []byte) Fault {
	if int(kind) >= len(valueSize) {
		return FaultNone
	}
	if want := int(valueSize[kind]); want != 0 && len(v) != want {
		return FaultSize
	}
	if r.has(kind) && known(kind) {
		return FaultDuplicate
	}
	r.seen |= 1 << kind
	switch kind {
	case chunkFamily:
		r.family = v[0]
	case chunkTransport:
		r.p.Transport = v[0]
	case chunkSource4, chunkTarget4:
		r.ip4[kind-chunkSource4] = netip.AddrFrom4([4]byte(v))
	case chunkSource6, chunkTarget6:
		r.ip6[kind-chunkSource6] = netip.AddrFrom16([16]byte(v))
	case chunkSourcePort, chunkTargetPort:
		r.port[kind-chunkSourcePort] = binary.BigEndian.Uint16(v)
	case chunkSeconds:
		r.sec = binary.BigEndian.Uint32(v)
	case chunkMicros:
		r.usec = binary.BigEndian.Uint32(v)
	case chunkProtocol:
		r.p.Protocol = Protocol(v[0])
	case chunkCaptureID:
		r.p.CaptureID = binary.BigEndian.Uint32(v)
	case chunkAuthKey:
		r.p.AuthKey = v
	case chunkPayload:
		r.p.Payload = v
	case chunkCompressed:
		return FaultCompressed
	case chunkCorrelation:
		r.p.CorrelationID = v
	case chunkNode:
		r.p.Node = v
	}
	return FaultNone
}

// known excludes the types within the table's range that are not read here: 0x00, the keep-alive timer and the VLAN.
func known(kind uint16) bool { return kind != 0x00 && kind != 0x0d && kind != 0x12 }

// packet checks what only the whole can tell.
func (r *reading) packet() (Packet, Fault) {
	if !r.has(chunkFamily) || !r.has(chunkProtocol) || !r.has(chunkPayload) {
		return Packet{}, FaultMissing
	}
	if r.usec >= 1e6 {
		return Packet{}, FaultTime
	}
	ip := r.ip4
	switch r.family {
	case familyIPv4:
	case familyIPv6:
		ip = r.ip6
	default:
		return Packet{}, FaultFamily
	}
	if !ip[0].IsValid() || !ip[1].IsValid() {
		return Packet{}, FaultMissing
	}
	r.p.Source, r.p.Destination = netip.AddrPortFrom(ip[0], r.port[0]), netip.AddrPortFrom(ip[1], r.port[1])
	if r.sec != 0 {
		r.p.Time = time.Unix(int64(r.sec), int64(r.usec)*1000)
	}
	return r.p, FaultNone
}
