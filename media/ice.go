package media

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"rtcedge/media/sdp"
	"rtcedge/nat"
	"rtcedge/nat/ice"
)

// ICE, on the control side: who has it, our credentials, and what SDP says. The agent itself is nat.ICELite, on the worker; for a peer
// that is lite itself, or where NG's ICE-lite=off asks for it, the full one of nat/ice, under rtcp-mux.

// iceAgent is what the worker asks. *nat.ICELite and *ice.Agent satisfy it.
type iceAgent interface {
	Handle(packet []byte, from netip.AddrPort, now time.Time, out []byte) ([]byte, nat.ICEEvent)
	Selected() netip.AddrPort
	Validated(from netip.AddrPort) bool
	Refresh(now time.Time)
	Consent(now time.Time) bool
	State() *nat.ICEState
}

// Fixed by RFC 8445 section 5.1.2.1: type preference 126 of a host candidate, one local address; less the component.
const icePriority = 126<<24 + 65535<<8 + 256

// Chosen by us: at least 4 and 22 characters (RFC 8839 section 5.4), of 6 bits each.
const (
	iceUfragLen = 8
	icePwdLen   = 24

	iceCandidates = 16 // of a party's that a full agent checks
)

// credentials are what an m= line says of ICE and DTLS.
type credentials struct {
	ufrag, pwd string // "": no ICE, or none with us
	lite       bool
	candidates []string // of a lite party, which we check
	setup      string
	tlsID      string
	prints     []sdp.Fingerprint
}

// readCredentials leaves out the ICE of a lite agent without rtcp-mux: our full one has one component. SDP and latch know the way.
func readCredentials(m *sdp.Media) credentials {
	c := credentials{setup: m.Setup(), tlsID: m.TLSID(), prints: m.Fingerprints(), lite: m.ICELite()}
	ufrag, pwd, ok := m.ICE()
	if !ok || c.lite && !m.RTCPMux() {
		return c
	}
	c.ufrag, c.pwd = ufrag, pwd
	for _, cand := range m.Candidates() {
		if cand.Component == 1 && len(c.candidates) < iceCandidates {
			c.candidates = append(c.candidates, cand.String())
		}
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

	full  *ice.Agent // in place of the two; nil: none
	start func()     // what full begins with, once the route is published
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

// checked takes the party's offer or answer where we are the full agent.
func (p *iceParty) checked(l *leg, far credentials, controlling bool) (iceAgent, error) {
	restart := p.full != nil && p.far.ice() && p.far.ufrag != far.ufrag && p.far.pwd != far.pwd
	if restart {
		p.ufrag, p.pwd = iceChars(iceUfragLen), iceChars(icePwdLen)
	}
	ufrag, pwd := p.local()
	p.far = far
	full := p.full
	if restart {
		p.start = func() { _ = full.Restart(ufrag, pwd, far.ufrag, far.pwd, far.candidates) } // it fails only if it was closed
		return full, nil
	}
	if full != nil {
		p.start = func() { full.Add(far.candidates...) }
		return full, nil
	}
	w := l.stream.worker
	full, err := ice.New(ice.Config{
		Ufrag: ufrag, Pwd: pwd, Local: l.local(), Controlling: controlling,
		Send: func(b []byte, to netip.AddrPort) {
			b = slices.Clone(b)
			w.loop.Do(func() {
				if !l.stream.closed {
					l.sendControl(l.rtp, b, to)
				}
			})
		},
		Changed: func() {
			w.loop.Do(func() {
				if !l.stream.closed && l.flow != nil {
					l.connect()
					l.stream.touched()
				}
			})
		},
	})
	if err != nil {
		return nil, err
	}
	p.full = full
	p.start = func() { full.Start(far.ufrag, far.pwd, far.candidates) }
	return full, nil
}

// published lets a full agent begin, or ends one that the new route does not need.
func (p *iceParty) published(agent iceAgent) {
	if p.full != nil && agent != iceAgent(p.full) {
		p.close()
	}
	if p.start != nil {
		p.start()
		p.start = nil
	}
}

// close ends a full agent.
func (p *iceParty) close() {
	if p.full != nil {
		p.full.Close()
		p.full, p.start = nil, nil
	}
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
	for i, number := range []uint16{l.number, l.localRTCP()} {
		if i == 1 && !rtcp {
			break
		}
		all = append(all, sdp.Candidate{
			Foundation: "1", Component: i + 1, Transport: "udp", Priority: icePriority - uint32(i+1), Addr: addr,
			Port: int(number), Type: "host",
		})
	}
	m.SetCandidates(all...)
	m.AddAttr("end-of-candidates", "")
}
