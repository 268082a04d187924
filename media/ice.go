package media

import (
	"crypto/rand"
	"net/netip"

	"rtcedge/media/sdp"
	"rtcedge/nat"
)

// ICE, on the control side: who has it, our credentials, and what SDP says. The agent itself is nat.ICELite, on the worker.

// Fixed by RFC 8445 section 5.1.2.1: type preference 126 of a host candidate, one local address; less the component.
const icePriority = 126<<24 + 65535<<8 + 256

// Chosen by us: at least 4 and 22 characters (RFC 8839 section 5.4), of 6 bits each.
const (
	iceUfragLen = 8
	icePwdLen   = 24
)

// credentials are what an m= line says of ICE and DTLS.
type credentials struct {
	ufrag, pwd string // "": no ICE, or none with us
	setup      string
	tlsID      string
	prints     []sdp.Fingerprint
}

// readCredentials leaves out the ICE of a lite agent: two of them would wait for each other's checks for ever. SDP and latch know the
// way without.
func readCredentials(m *sdp.Media) credentials {
	c := credentials{setup: m.Setup(), tlsID: m.TLSID(), prints: m.Fingerprints()}
	if ufrag, pwd, ok := m.ICE(); ok && !m.ICELite() {
		c.ufrag, c.pwd = ufrag, pwd
	}
	return c
}

func (c *credentials) ice() bool { return c.ufrag != "" && c.pwd != "" }

// wantsICE decides by NG's key ICE if an offer goes out with it; offered says that it came with it.
func wantsICE(word string, offered bool) bool {
	switch word {
	case "force":
		return true
	case "remove", "force-relay", "force_relay":
		return false
	}
	return offered
}

// iceParty is the ICE of one stream of one party. Our credentials stay over re-INVITEs.
type iceParty struct {
	agent      *nat.ICELite // the worker's; nil before the first answer with ICE
	agentRTCP  *nat.ICELite // of component 2; nil before the first answer without rtcp-mux
	ufrag, pwd string       // ours; "" until asked for
	far        credentials  // the party's in the last answered exchange
}

// local returns our credentials, made when first asked for.
func (p *iceParty) local() (ufrag, pwd string) {
	if p.ufrag == "" {
		p.ufrag, p.pwd = iceChars(iceUfragLen), iceChars(icePwdLen)
	}
	return p.ufrag, p.pwd
}

// offered takes the party's offer, when it is answered. New credentials in it are a restart (RFC 8839 section 4.4.1.1.1), which
// gets new ones of ours.
func (p *iceParty) offered(w *worker, far credentials, mux bool) (rtp, rtcp *nat.ICELite) {
	restart := p.agent != nil && p.far.ice() && p.far.ufrag != far.ufrag && p.far.pwd != far.pwd
	if restart {
		p.ufrag, p.pwd = iceChars(iceUfragLen), iceChars(icePwdLen)
		ufrag, pwd, rtp, rtcp := p.ufrag, p.pwd, p.agent, p.agentRTCP
		w.loop.Do(func() {
			rtp.Restart(ufrag, pwd)
			if rtcp != nil {
				rtcp.Restart(ufrag, pwd)
			}
		})
	}
	return p.answered(far, mux)
}

// answered takes the party's answer. Other credentials than before are another branch of a forked call: it was told ours, so they
// stay.
func (p *iceParty) answered(far credentials, mux bool) (rtp, rtcp *nat.ICELite) {
	ufrag, pwd := p.local()
	if p.agent == nil {
		p.agent = nat.NewICELite(nat.ICEConfig{Ufrag: ufrag, Pwd: pwd})
	}
	p.far = far
	if mux {
		return p.agent, nil
	}
	if p.agentRTCP == nil {
		p.agentRTCP = nat.NewICELite(nat.ICEConfig{Ufrag: ufrag, Pwd: pwd})
	}
	return p.agent, p.agentRTCP
}

// iceChars is a random text of ice-char (RFC 8839 section 5.4).
func iceChars(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	for i := range b {
		b[i] = alphabet[b[i]&63]
	}
	return string(b)
}

// writeICE makes an m= line say how the party of l reaches us. All candidates are in it: a lite agent has its address and no more.
func (l *leg) writeICE(m *sdp.Media, addr netip.Addr, rtcp bool) {
	m.SetICE(l.ice.local())
	var all []sdp.Candidate
	for i, p := range []*port{l.rtp, l.rtcp} {
		if p.rtcp && !rtcp {
			break
		}
		all = append(all, sdp.Candidate{
			Foundation: "1", Component: i + 1, Transport: "udp", Priority: icePriority - uint32(i+1), Addr: addr,
			Port: int(p.conn.LocalAddr().Port()), Type: "host",
		})
	}
	m.SetCandidates(all...)
	m.AddAttr("end-of-candidates", "")
}
