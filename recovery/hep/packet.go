package hep

import (
	"net/netip"
	"time"
)

// Protocol says what the payload is.
type Protocol uint8

// The protocol types in use here (revision 37, chunk 0x0b).
const (
	SIP  Protocol = 1
	RTCP Protocol = 5 // as JSON, the form that rtpengine sends and HOMER reads
)

// The IP protocols of Packet.Transport (IANA protocol numbers).
const (
	UDP uint8 = 17
	TCP uint8 = 6 // also for TLS and WebSocket: HEP has no word for them
)

// A Packet is one captured message. Of a parsed packet the byte slices are views into the bytes that were parsed.
type Packet struct {
	Source, Destination netip.AddrPort // an address that is not valid is written as the unspecified one
	Transport           uint8          // UDP or TCP; 0 is written as UDP
	Protocol            Protocol       // 0 is written as SIP
	Time                time.Time      // with microseconds; zero: not known, HOMER takes the time of arrival
	CaptureID           uint32         // who captured it
	Node                []byte         // the name of who captured it; empty: none
	AuthKey             []byte         // travels in clear; empty: none
	CorrelationID       []byte         // the Call-ID; empty: none
	Payload             []byte         // the message
}

// Fixed by revision 37.
const (
	magic      = "HEP3"
	headerLen  = 6 // magic and the total length
	chunkLen   = 6 // vendor, type and length of a chunk
	familyIPv4 = 2
	familyIPv6 = 10

	// MaxPacket is the longest packet that its length field can tell.
	MaxPacket = 0xffff
)

// The chunks of vendor 0 (generic) that are read and written here.
const (
	chunkFamily      = 0x01
	chunkTransport   = 0x02
	chunkSource4     = 0x03
	chunkTarget4     = 0x04
	chunkSource6     = 0x05
	chunkTarget6     = 0x06
	chunkSourcePort  = 0x07
	chunkTargetPort  = 0x08
	chunkSeconds     = 0x09
	chunkMicros      = 0x0a
	chunkProtocol    = 0x0b
	chunkCaptureID   = 0x0c
	chunkAuthKey     = 0x0e
	chunkPayload     = 0x0f
	chunkCompressed  = 0x10
	chunkCorrelation = 0x11
	chunkNode        = 0x13
)

// Fault says why a packet could not be read or written.
type Fault uint8

// The faults.
const (
	FaultNone       Fault = iota
	FaultShort            // fewer bytes than a header
	FaultMagic            // not HEP3
	FaultLength           // the total length is not that of the packet
	FaultChunk            // a chunk that is shorter than its header or ends behind the packet
	FaultSize             // a chunk whose value has the wrong size for its type
	FaultDuplicate        // a chunk that comes twice: two readers could take different ones
	FaultFamily           // neither IPv4 nor IPv6
	FaultTime             // a million microseconds or more
	FaultMissing          // no family, address of that family, protocol type or payload
	FaultCompressed       // a compressed payload, which is not taken: a small packet could ask for much memory
	FaultTooLarge         // more than MaxPacket bytes
	NumFaults
)

var faultNames = [NumFaults]string{"none", "short", "magic", "length", "chunk", "size", "duplicate", "family", "time", "missing", "compressed",
	"too_large"}

// String returns the name for a metric's label.
func (f Fault) String() string {
	if f < NumFaults {
		return faultNames[f]
	}
	return "unknown"
}
