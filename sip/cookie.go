package sip

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"

	"rtcedge/sip/transport"
)

// Bits of routeState.flags.
const (
	routePath    = 1 << iota // stands in a Path, not in a Record-Route
	routeNoOffer             // the dialog's INVITE had no offer: it comes in the 200
	routeClient              // client holds the address that the phone really has
	routeFlow                // flow holds its connection
	routeFarm                // farm holds the dialog's farm node
	routeSix                 // client is IPv6
	routeFarmSix             // farm is IPv6
	routeNode                // node holds the edge node that has the connection
)

// routeState is what requests within a dialog (Record-Route) or to a registered phone (Path) must know.
type routeState struct {
	flags    uint8
	listener uint8 // index of the listener on the client's side
	client   netip.AddrPort
	flow     transport.Flow
	farm     netip.AddrPort
	node     netip.AddrPort
}

const maxRouteState = 1 + 1 + 18 + 8 + 18 + maxNode + 8

// appendRoute writes the cookie. That of a Record-Route is bound to the Call-ID: it proves this dialog and no other.
func (k key) appendRoute(dst []byte, s *routeState, callID []byte) []byte {
	var buf [maxRouteState]byte
	b := append(buf[:0], s.flags, s.listener)
	if s.flags&routeClient != 0 {
		if s.client.Addr().Is6() {
			b[0] |= routeSix
		}
		b = appendAddr(b, s.client)
	}
	if s.flags&routeFlow != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.flow))
	}
	if s.flags&routeFarm != 0 {
		if s.farm.Addr().Is6() {
			b[0] |= routeFarmSix
		}
		b = appendAddr(b, s.farm)
	}
	if s.flags&routeNode != 0 {
		b = appendNode(b, s.node)
	}
	purpose := byte(hashRoute)
	if s.flags&routePath != 0 {
		purpose, callID = hashPath, nil
	}
	b = binary.LittleEndian.AppendUint64(b, k.sign(purpose, b, callID))
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

// readRoute verifies and reads a cookie.
func (k key) readRoute(s *routeState, text, callID []byte) bool {
	var buf [maxRouteState + 2]byte
	b, ok := decode(buf[:], text)
	if !ok || len(b) < 2+8 {
		return false
	}
	b, sig := b[:len(b)-8], binary.LittleEndian.Uint64(b[len(b)-8:])
	*s = routeState{flags: b[0], listener: b[1]}
	purpose := byte(hashRoute)
	if s.flags&routePath != 0 {
		purpose, callID = hashPath, nil
	}
	if sig != k.sign(purpose, b, callID) {
		return false
	}
	b = b[2:]
	if s.flags&routeClient != 0 {
		if s.client, b, ok = cutAddr(b, s.flags&routeSix != 0); !ok {
			return false
		}
	}
	if s.flags&routeFlow != 0 {
		if len(b) < 8 {
			return false
		}
		s.flow, b = transport.Flow(binary.LittleEndian.Uint64(b)), b[8:]
	}
	if s.flags&routeFarm != 0 {
		if s.farm, b, ok = cutAddr(b, s.flags&routeFarmSix != 0); !ok {
			return false
		}
	}
	if s.flags&routeNode != 0 {
		if s.node, _, ok = cutNode(b); !ok {
			return false
		}
	}
	return true
}
