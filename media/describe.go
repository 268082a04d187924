package media

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/nat"
)

// What a party said of a stream, and what we say of it to the other one.

// description is one m= line of a party as far as packets depend on it.
type description struct {
	proto    string
	rtp      netip.AddrPort
	rtcp     netip.AddrPort
	mux      bool // RTCP goes to the RTP port, in both directions
	hold     bool // c=0.0.0.0 (RFC 2543 section B.5)
	silent   bool // on hold in any way: the long timeout counts
	source   netip.Addr
	mode     learning
	feedback bool
	wait     bool // flag NAT-wait
	creds    credentials
	mid      string
	bundled  bool // the party's BUNDLE group holds it
}

// describe reads an m= line that is not rejected, of a party that n faces.
func describe(m *sdp.Media, req *ng.Request, n *network) description {
	addr := m.Connection()
	if held := addr.IsValid() && addr.IsUnspecified(); !held && req.Has("sip-source-address") && req.ReceivedFrom.IsValid() {
		addr = req.ReceivedFrom // rtpengine's opposite of trust-address
	}
	d := description{proto: m.Protocol(), mux: m.RTCPMux(), feedback: strings.HasSuffix(m.Protocol(), "F")}
	d.rtp = netip.AddrPortFrom(addr, uint16(m.Port()))
	d.rtcp = m.RTCP()
	d.hold = addr.IsValid() && addr.IsUnspecified()
	d.silent = d.hold || m.Direction() != sdp.SendRecv
	if d.source = req.ReceivedFrom; !d.source.IsValid() && n.inside() && private(addr) {
		d.source = addr // no NAT stands between neighbours of one private network: the farm sends from where it says
	}
	d.mode, d.wait = learningOf(latchMode(req)), req.Has("nat-wait")
	d.describeRTC(m)
	return d
}

// forget is the flag reset: behind the party is somebody else from now on.
func (d *description) forget() { d.proto, d.mid, d.bundled, d.creds = "", "", false, credentials{} }

// follow takes over for the offerer that the answerer speaks AVPF where AVP was offered, or the reverse. Another security than was
// offered needs keys that nobody has.
func (d *description) follow(offered, answered string) {
	if strings.TrimSuffix(offered, "F") != strings.TrimSuffix(answered, "F") || offered == answered {
		return
	}
	d.feedback = strings.HasSuffix(answered, "F")
	d.proto = strings.TrimSuffix(d.proto, "F")
	if d.feedback {
		d.proto += "F"
	}
}

// nowhere is the address of a party that is not there.
var nowhere = netip.IPv4Unspecified()

// inside tells if the interface is in a private network without 1:1 NAT in front of it.
func (n *network) inside() bool { return private(n.Addr) && n.Advertised == n.Addr }

func private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
}

// latchMode reads the flags that rule learning (rtpengine's strict-source, asymmetric, media-handover, endpoint-learning). Its
// port-latching is another thing, the keeping of local ports, which are always kept here.
func latchMode(req *ng.Request) (cfg nat.LatchConfig) {
	cfg.StrictSource = req.Has("strict-source")
	cfg.Asymmetric = req.Has("asymmetric")
	cfg.Handover = req.Has("media-handover")
	switch {
	case req.Has("endpoint-learning-off"):
		cfg.Mode = nat.Off
	case req.Has("endpoint-learning-immediate"):
		cfg.Mode = nat.Immediate
	case req.Has("endpoint-learning-delayed"):
		cfg.Mode = nat.Delayed
	}
	return cfg
}

// learning is what a description keeps of a latch's configuration: a twentieth of its size.
type learning struct {
	mode                         nat.Mode
	strict, asymmetric, handover bool
}

func learningOf(c nat.LatchConfig) learning {
	return learning{c.Mode, c.StrictSource, c.Asymmetric, c.Handover}
}

func (l learning) config() nat.LatchConfig {
	return nat.LatchConfig{Mode: l.mode, StrictSource: l.strict, Asymmetric: l.asymmetric, Handover: l.handover}
}

// latches makes the configurations of the two latches.
func (d *description) latches() (rtp, rtcp nat.LatchConfig) {
	rtp, rtcp = d.mode.config(), d.mode.config()
	rtp.Expected, rtcp.Expected = d.rtp, d.rtcp
	rtp.Signalling, rtcp.Signalling = d.source, d.source
	return rtp, rtcp
}

// rule gives what the party said to the flow of its packets.
func (d *description) rule(f *flow) {
	f.source, f.sourceRTCP = d.latches()
	f.hold, f.mux, f.feedback, f.wait = d.hold, d.mux, d.feedback, d.wait
}

// secure tells if a transport is SRTP with keys by SDES, dtls if they come by DTLS.
func secure(proto string) bool { return strings.Contains(proto, "SAVP") && !dtls(proto) }
func dtls(proto string) bool   { return strings.HasPrefix(proto, "UDP/TLS/RTP/") }

// rewriteSession rewrites what stands in front of the m= lines: addresses, and what cannot go through a proxy that ends ICE, DTLS and
// BUNDLE (behaviour 17: no private address crosses).
func rewriteSession(body *sdp.Session, addr netip.Addr, hadBundle bool) {
	o := body.Origin()
	o.Addr, o.Host = addr, ""
	body.SetOrigin(o)
	if c := body.Connection(); !c.IsValid() || !c.IsUnspecified() {
		if body.HasConnection() {
			body.SetConnection(addr)
		}
	}
	body.RemoveICE()
	body.RemoveDTLS()
	if hadBundle {
		body.SetBundle()
	}
}

// rewriteMedia makes an m= line name our ports of leg l.
func rewriteMedia(m *sdp.Media, l *leg, addr netip.Addr, mux bool, req *ng.Request) {
	if c := m.Connection(); !c.IsValid() || !c.IsUnspecified() || slices.Contains(req.Replace, "zero-address") {
		m.SetConnection(addr)
	}
	m.SetPort(int(l.number))
	if !m.IsRTP() {
		return
	}
	m.SetRTCPMux(mux)
	m.DelAttr("rtcp")
	if !req.Has("no-rtcp-attribute") {
		port := l.localRTCP()
		if mux {
			port = l.number
		}
		m.SetRTCP(netip.AddrPortFrom(netip.Addr{}, port))
		if req.Has("full-rtcp-attribute") {
			family := "IP4"
			if addr.Is6() {
				family = "IP6"
			}
			m.SetAttr("rtcp", fmt.Sprintf("%d IN %s %s", port, family, addr))
		}
	}
	stripExtmap(m, req.Extmap)
	if m.Kind() == "audio" {
		// Our SSRC is another one.
		m.DelAttr("ssrc", "ssrc-group")
	}
	if !strings.HasSuffix(m.Protocol(), "F") {
		m.DelAttr("rtcp-fb")
	}
}

// stripExtmap takes header extensions (RFC 8285) out by name: the URI, what stands behind its last colon or slash, or all.
func stripExtmap(m interface {
	DelAttrFunc(func(name, value string) bool)
}, words []string) {
	if len(words) == 0 {
		return
	}
	m.DelAttrFunc(func(name, value string) bool {
		if name != "extmap" {
			return false
		}
		_, uri, _ := strings.Cut(value, " ")
		uri, _, _ = strings.Cut(uri, " ")
		short := uri[strings.LastIndexAny(uri, ":/")+1:]
		return slices.ContainsFunc(words, func(w string) bool {
			return w == "all" || strings.EqualFold(w, uri) || strings.EqualFold(w, short)
		})
	})
}

// closeMedia keeps a rejected m= line from telling an address.
func closeMedia(m *sdp.Media, addr netip.Addr) {
	if m.HasConnection() {
		m.SetConnection(addr)
	}
	m.DelAttr("rtcp", "crypto")
}

// address is what the SDP towards that network says.
func (n *network) address(req *ng.Request) netip.Addr {
	if req.MediaAddress.IsValid() {
		return req.MediaAddress
	}
	return n.Advertised
}

// networkOf finds the interface of a direction: of that name, else the default one; of that family, if the name has one.
func (e *Engine) networkOf(name string, v6 bool) *network {
	named := slices.ContainsFunc(e.networks, func(n *network) bool { return n.Name == name })
	if !named {
		name = e.networks[0].Name
	}
	var found *network
	for _, n := range e.networks {
		if n.Name == name && (found == nil || n.Addr.Is6() == v6 && found.Addr.Is6() != v6) {
			found = n
		}
	}
	return found
}

// networks finds the interfaces of an offer: that of its sender and that of its receiver.
func (e *Engine) networksOf(req *ng.Request, body *sdp.Session) [2]*network {
	v6 := false
	for _, m := range body.Media {
		if a := m.Connection(); a.IsValid() {
			v6 = a.Unmap().Is6()
			break
		}
	}
	to := v6
	switch strings.ToUpper(req.AddressFamily) {
	case "IP4":
		to = false
	case "IP6":
		to = true
	}
	return [2]*network{e.networkOf(req.Direction[0], v6), e.networkOf(req.Direction[1], to)}
}
