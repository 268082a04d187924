package sip

import (
	"crypto/x509"
	"strings"

	"rtcedge/sip/transport"
)

// peers knows who is at the other end of a connection: the transport, or a test.
type peers interface {
	Peer(f transport.Flow) (transport.Peer, bool)
}

// certified tells if the sender's connection has proved a name by a client certificate. The chain was verified when the connection was opened.
func (p *Proxy) certified(c *pass, name string) bool {
	if c.in.Flow == 0 || !c.side.Proto().Secure() || p.peers == nil {
		return false
	}
	peer, ok := p.peers.Peer(c.in.Flow)
	return ok && peer.TLS != nil && len(peer.TLS.VerifiedChains) > 0 && certifies(peer.TLS.VerifiedChains[0][0], name)
}

// certifies tells if a certificate is one for a SIP domain, given in lower case: RFC 5922 section 7.1. A wildcard fits nothing (section 7.2).
func certifies(cert *x509.Certificate, domain string) bool {
	found := false
	for _, u := range cert.URIs {
		if u.Scheme != "sip" || strings.Contains(u.Opaque, "@") { // with a user it names a person, not a domain
			continue
		}
		found = true
		if strings.EqualFold(u.Opaque, domain) {
			return true
		}
	}
	if found {
		return false
	}
	for _, d := range cert.DNSNames {
		if strings.EqualFold(d, domain) {
			return true
		}
	}
	return len(cert.DNSNames) == 0 && len(cert.URIs) == 0 && strings.EqualFold(cert.Subject.CommonName, domain)
}
