package sip

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// side is a listener with the texts that name it in messages. It never changes.
type side struct {
	*transport.Listener
	index  int
	via    string // "Via: SIP/2.0/UDP host:port;branch="
	uri    string // "<sip:host:port;transport=tcp;lr", to be closed
	host   string // advertised, lower case, without brackets
	port   uint16
	addr   netip.AddrPort // bound
	six    bool
	stream bool
}

func newSide(l *transport.Listener, index int) *side {
	s := &side{Listener: l, index: index, addr: l.Addr(), stream: l.Proto() != transport.UDP}
	s.six = s.addr.Addr().Is6() && !s.addr.Addr().Is4In6()
	s.host, s.port = s.addr.Addr().String(), s.addr.Port()
	if adv := l.Advertise(); adv != "" {
		s.host = strings.Trim(adv, "[]")
		if host, port, err := net.SplitHostPort(adv); err == nil {
			s.host = host
			if n, err := strconv.ParseUint(port, 10, 16); err == nil {
				s.port = uint16(n)
			}
		}
		s.host = strings.ToLower(s.host)
	}
	hostport := net.JoinHostPort(s.host, strconv.Itoa(int(s.port)))
	proto := l.Proto().String()
	s.via = "Via: SIP/2.0/" + strings.ToUpper(proto) + " " + hostport + ";branch="
	s.uri = "<sip:" + hostport
	if l.Proto() != transport.UDP {
		s.uri += ";transport=" + proto
	}
	s.uri += ";lr"
	return s
}

// defaultPort is the port that a URI or Via without one means, RFC 3261 section 19.1.2 and RFC 7118 section 5.
func defaultPort(p transport.Proto) uint16 {
	switch p {
	case transport.TLS:
		return 5061
	case transport.WS:
		return 80
	case transport.WSS:
		return 443
	}
	return 5060
}

// named tells if host and port of a message name this listener.
func (s *side) named(host []byte, port uint16) bool {
	if port == 0 {
		port = defaultPort(s.Proto())
	}
	if port == s.port && message.EqualFold(host, s.host) {
		return true
	}
	if port != s.addr.Port() {
		return false
	}
	a, ok := message.ParseAddr(host)
	return ok && a.Unmap() == s.addr.Addr().Unmap()
}

// ours finds the listener that host and port name, nil if none does.
func (p *Proxy) ours(host []byte, port uint16) *side {
	for _, s := range p.sides {
		if s.named(host, port) {
			return s
		}
	}
	return nil
}

// served tells if a Request-URI is for us to route: it names a listener, or a domain that we serve.
func (p *Proxy) served(pol *policy, u *message.URI) bool {
	if u.Scheme == message.SchemeTel {
		return true
	}
	if len(pol.domains) == 0 || pol.domain(u.Host) {
		return true
	}
	for _, s := range p.sides { // at any port: SRV records may have led here
		if s.named(u.Host, s.port) || s.named(u.Host, s.addr.Port()) {
			return true
		}
	}
	return false
}

// sideFor finds the listener to send from: of the protocol and the address family, on the side wanted, preferably the one that
// the message came in on.
func (p *Proxy) sideFor(proto transport.Proto, to netip.Addr, inside bool, prefer *side) *side {
	six := to.Is6() && !to.Is4In6()
	fits := func(s *side) bool {
		return s.Proto() == proto && s.six == six && (!p.split || s.Internal() == inside)
	}
	if prefer != nil && fits(prefer) {
		return prefer
	}
	for _, s := range p.sides {
		if fits(s) {
			return s
		}
	}
	return nil
}
