package sip

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// Fixed by RFC 3261 section 8.1.1.7.
const magicCookie = "z9hG4bK"

// The purposes of the keyed hash, so that no value made for one passes for another.
const (
	hashBranch   = 'B'
	hashLoop     = 'L'
	hashVia      = 'V'
	hashRoute    = 'R'
	hashPath     = 'P'
	hashToTag    = 'T'
	hashDispatch = 'D'
	hashProbe    = 'O'
	hashAuth     = 'A'
	hashSource   = 'S'
	hashRelay    = 'N'
)

// Bits of viaState.flags.
const (
	viaOffer    = 1 << iota // the request carried an offer
	viaInDialog             // the request had a To tag
	viaOutside              // the request came from outside
	viaMedia                // its bodies pass through the media node
	viaProbe                // an OPTIONS of ours
	viaFlow                 // the response leaves through a connection
	viaSix                  // its address is IPv6
	viaNode                 // the connection is that of another edge node
	viaLarge                // sent over TCP for its size only
)

// viaState is what the response must know, carried in a signed parameter of our Via. It holds the address for the response as
// well (by RFC 3261 section 18.2.2 and RFC 3581 section 4), so that nobody on the way can turn us into a reflector by changing the next Via.
type viaState struct {
	flags    uint16
	listener uint8 // index of the listener through which the response leaves
	loop     uint32
	dest     netip.AddrPort
	flow     transport.Flow
	node     netip.AddrPort // the edge node that has the connection; invalid: this one
}

// maxViaState: flags, listener, loop, port, IPv6 address, flow, node, signature.
const maxViaState = 2 + 1 + 4 + 2 + 16 + 8 + maxNode + 8

// branchOf is the transaction part of our branch: a keyed pure function of the transaction without the method, so that CANCEL and
// the ACK of a non-2xx get that of their INVITE (RFC 3261 section 16.11).
func (k key) branchOf(m *message.Message) (lo, hi uint64) {
	h := k.hasher(hashBranch)
	v := m.Via()
	if v.Unique() {
		h.part(v.Branch)
		h.part(v.SentBy)
		return h.sum()
	}
	// RFC 2543: the To tag stays out, since the ACK of a non-2xx has one and its INVITE has not.
	h.part(v.SentBy)
	h.part(m.FromTag())
	h.part(m.CallID())
	h.part(m.URI())
	h.word(uint64(m.CSeq()))
	return h.sum()
}

// loopOf is a keyed hash of what decides a request's way. The same request that comes back with the same hash is in a
// loop, with another one it spirals (RFC 3261 section 16.3 item 4).
func (k key) loopOf(m *message.Message, inside bool) uint32 {
	h := k.hasher(hashLoop)
	h.part(m.URI())
	h.part(m.CallID())
	h.part(m.FromTag())
	h.part(m.Get(message.Route))
	w := uint64(m.CSeq())
	if inside {
		w |= 1 << 32
	}
	h.word(w)
	lo, _ := h.sum()
	return uint32(lo)
}

// appendBranch writes the branch's value.
func appendBranch(dst []byte, lo, hi uint64) []byte {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], lo)
	binary.LittleEndian.PutUint64(b[8:], hi)
	dst = append(dst, magicCookie...)
	return base64.RawURLEncoding.AppendEncode(dst, b[:])
}

// appendVia writes the signed parameter's value; branch is the value that stands beside it.
func (k key) appendVia(dst []byte, s *viaState, branch []byte) []byte {
	var buf [maxViaState]byte
	b := buf[:0]
	flags := s.flags &^ (viaFlow | viaSix | viaNode)
	if s.flow != 0 {
		flags |= viaFlow
		if s.node.IsValid() {
			flags |= viaNode
		}
	}
	if s.dest.Addr().Is6() {
		flags |= viaSix
	}
	b = append(binary.LittleEndian.AppendUint16(b, flags), s.listener)
	b = binary.LittleEndian.AppendUint32(b, s.loop)
	b = appendAddr(b, s.dest)
	if s.flow != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.flow))
	}
	if flags&viaNode != 0 {
		b = appendNode(b, s.node)
	}
	b = binary.LittleEndian.AppendUint64(b, k.sign(hashVia, b, branch))
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

// readVia verifies and reads our Via's parameter.
func (k key) readVia(s *viaState, v *message.Via) bool {
	var buf [maxViaState + 4]byte
	b, ok := decode(buf[:], v.Signed)
	if !ok || len(b) < 2+1+4+2+4+8 {
		return false
	}
	b, sig := b[:len(b)-8], binary.LittleEndian.Uint64(b[len(b)-8:])
	if sig != k.sign(hashVia, b, v.Branch) {
		return false
	}
	s.flags, s.listener, s.loop = binary.LittleEndian.Uint16(b), b[2], binary.LittleEndian.Uint32(b[3:])
	b = b[7:]
	if s.dest, b, ok = cutAddr(b, s.flags&viaSix != 0); !ok {
		return false
	}
	s.flow, s.node = 0, netip.AddrPort{}
	if s.flags&viaFlow != 0 {
		if len(b) < 8 {
			return false
		}
		s.flow, b = transport.Flow(binary.LittleEndian.Uint64(b)), b[8:]
	}
	if s.flags&viaNode != 0 {
		s.node, _, ok = cutNode(b)
	}
	return ok
}

// sign binds a payload to its purpose and to a part of the message.
func (k key) sign(purpose byte, payload, bound []byte) uint64 {
	h := k.hasher(purpose)
	h.part(payload)
	h.part(bound)
	lo, _ := h.sum()
	return lo
}

// decode reads base64 of at most len(buf) bytes.
func decode(buf, text []byte) ([]byte, bool) {
	if len(text) == 0 || base64.RawURLEncoding.DecodedLen(len(text)) > len(buf) {
		return nil, false
	}
	n, err := base64.RawURLEncoding.Decode(buf, text)
	return buf[:n], err == nil
}

// maxNode is the length of an edge node's address: family, port, IPv6 address.
const maxNode = 1 + 2 + 16

// appendNode writes an address with its family.
func appendNode(b []byte, a netip.AddrPort) []byte {
	if a.Addr().Is6() {
		return appendAddr(append(b, 6), a)
	}
	return appendAddr(append(b, 4), a)
}

func cutNode(b []byte) (netip.AddrPort, []byte, bool) {
	if len(b) == 0 {
		return netip.AddrPort{}, nil, false
	}
	return cutAddr(b[1:], b[0] == 6)
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	b = binary.LittleEndian.AppendUint16(b, a.Port())
	if a.Addr().Is6() {
		x := a.Addr().As16()
		return append(b, x[:]...)
	}
	if !a.Addr().Is4() {
		return append(b, 0, 0, 0, 0)
	}
	x := a.Addr().As4()
	return append(b, x[:]...)
}

func cutAddr(b []byte, six bool) (netip.AddrPort, []byte, bool) {
	n := 4
	if six {
		n = 16
	}
	if len(b) < 2+n {
		return netip.AddrPort{}, nil, false
	}
	port := binary.LittleEndian.Uint16(b)
	addr := b[2 : 2+n]
	var a netip.Addr
	if six {
		a = netip.AddrFrom16([16]byte(addr))
	} else {
		a = netip.AddrFrom4([4]byte(addr))
	}
	return netip.AddrPortFrom(a, port), b[2+n:], true
}
