package media

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/nat"
)

// What offers and answers have to do with ICE, DTLS and BUNDLE, in the order in which a call meets it: read, settle, publish, write. Our
// lines are written after rewriteSession and rewriteMedia have taken the other party's out.

// describeRTC adds what describe leaves out. With ICE the address 0.0.0.0 means that candidates follow later (RFC 8838 section 4.1),
// not hold.
func (d *description) describeRTC(m *sdp.Media) {
	d.creds = readCredentials(m)
	if d.hold && d.creds.ice() {
		d.hold, d.silent = false, m.Direction() != sdp.SendRecv
	}
	d.mid = m.MID()
}

// bundled are the mids of the first BUNDLE group.
func bundled(body *sdp.Session) []string {
	if groups := body.Groups("BUNDLE"); len(groups) > 0 {
		return groups[0]
	}
	return nil
}

// keeping answers the flag keep-transport: within a call its receiver is offered the profile that it has spoken so far, with ICE and
// rtcp-mux as agreed. A stateless sender cannot know them, and a re-INVITE in plain RTP would end a call of a phone that wants SRTP.
func (d *dialog) keeping(req *ng.Request, side, index int) *ng.Request {
	if !req.Has("keep-transport") || index >= len(d.streams) || d.streams[index] == nil {
		return req
	}
	far := &d.streams[index].legs[1-side].far
	if far.proto == "" {
		return req
	}
	kept := *req
	kept.Transport, kept.ICE, kept.RTCPMux = far.proto, "remove", nil
	if far.creds.ice() {
		kept.ICE = "force"
	}
	if far.mux {
		kept.RTCPMux = []string{"require"}
	}
	return &kept
}

// readRTC takes what an m= line asks for in ICE, DTLS and rtcp-mux.
func (om *offeredMedia) readRTC(req *ng.Request) error {
	demux := slices.Contains(req.RTCPMux, "demux") || slices.Contains(req.RTCPMux, "reject")
	far := wantsICE(req.ICE, om.from.creds.ice())
	// One port is one way to be checked and one handshake.
	om.muxAsked = om.muxAsked || !demux && (far || dtls(om.proto))
	om.ice = [2]bool{om.from.creds.ice(), far}
	full := req.ICELite == "off" && !demux
	om.iceFull = [2]bool{om.ice[0] && (om.from.creds.lite || full && om.from.mux), far && full}
	om.muxOnly = om.muxAsked && (slices.Contains(req.RTCPMux, "require") || om.iceFull[1])
	if om.muxGiven == muxAsAnswered && (om.ice[0] || dtls(om.from.proto)) {
		om.muxGiven = muxAccept // both end here, so the answerer has no say
	}
	return om.readDTLS(req)
}

// errNoDTLS is about an answerer who wants no DTLS-SRTP though it was offered nothing else.
var errNoDTLS = errors.New("DTLS-SRTP was offered, and the answer has no fingerprint")

// settleRTC puts the ICE agents and the DTLS associations into the route.
func (s *stream) settleRTC(r *route, om *offeredMedia, offerer int, near, far *description) error {
	a, b := offerer, 1-offerer
	if err := s.settleICE(r, om, a, near, far); err != nil {
		return err
	}
	if l, f := &s.legs[a], &r.flows[a]; dtls(om.from.proto) {
		if err := l.dtls.offered(l, near.creds, f.ice != nil, near.mux, om.preferActive); err != nil {
			return err
		}
		f.dtls, f.dtlsRTCP = l.dtls.rtp, l.dtls.rtcp
	}
	if l, f := &s.legs[b], &r.flows[b]; dtls(om.proto) {
		if len(far.creds.prints) == 0 {
			return errNoDTLS
		}
		if err := l.dtls.answered(l, far.creds, om.setup, f.ice != nil, far.mux); err != nil {
			return err
		}
		f.dtls, f.dtlsRTCP = l.dtls.rtp, l.dtls.rtcp
	}
	return nil
}

// settleICE makes or keeps the agents. Two lite ones would wait for each other's checks for ever: SDP and latch know the way without.
func (s *stream) settleICE(r *route, om *offeredMedia, a int, near, far *description) (err error) {
	set := func(f *flow, rtp, rtcp *nat.ICELite) {
		if f.ice = rtp; rtcp != nil {
			f.iceRTCP = rtcp
		}
	}
	l, f := &s.legs[a], &r.flows[a]
	switch {
	case om.ice[0] && om.iceFull[0] && near.mux:
		// RFC 8445 section 6.1.1: the offerer controls, unless it is lite.
		if f.ice, err = l.ice.checked(l, near.creds, near.creds.lite); err != nil {
			return err
		}
	case om.ice[0] && !near.creds.lite:
		rtp, rtcp := l.ice.offered(s.worker, near.creds, near.mux)
		set(f, rtp, rtcp)
	}
	l, f = &s.legs[1-a], &r.flows[1-a]
	switch {
	case !om.ice[1] || !far.creds.ice():
	case om.iceFull[1] && far.mux:
		f.ice, err = l.ice.checked(l, far.creds, true)
	case !om.iceFull[1] && !far.creds.lite:
		rtp, rtcp := l.ice.answered(far.creds, far.mux)
		set(f, rtp, rtcp)
	}
	return err
}

// offerRTC writes the offer of one m= line to the party of l.
func (om *offeredMedia) offerRTC(body *sdp.Session, m *sdp.Media, l *leg, addr netip.Addr, req *ng.Request) {
	if om.ice[1] {
		l.writeICE(m, addr, !om.muxOnly)
		if !om.iceFull[1] {
			body.SetAttr("ice-lite", "")
		}
	}
	if dtls(om.proto) {
		l.writeDTLS(m, om.setup, req.DTLSFingerprint)
	}
	// A party that has named its m= lines knows them by these names (RFC 9143 section 7.3).
	switch {
	case l.far.mid != "":
		m.SetAttr("mid", l.far.mid)
		if l.far.bundled {
			body.SetBundle(l.far.mid)
		}
	case m.MID() == "" && req.Has("generate-mid"):
		m.SetAttr("mid", strconv.Itoa(l.stream.index))
	}
}

// answerRTC writes the answer of one m= line to the offerer, whose leg is l and whose flow is f.
func (om *offeredMedia) answerRTC(body *sdp.Session, m *sdp.Media, l *leg, f *flow, addr netip.Addr) {
	if f.ice != nil {
		l.writeICE(m, addr, f.iceRTCP != nil)
		if l.ice.full == nil {
			body.SetAttr("ice-lite", "")
		}
	}
	if f.dtls != nil {
		l.writeDTLS(m, l.dtls.setup, "")
	}
	if om.from.mid == "" {
		m.DelAttr("mid")
		return
	}
	m.SetAttr("mid", om.from.mid)
}

// bundle answers a BUNDLE group with its first m= line that is accepted. Each m= line has a port of its own here, so it is alone in
// it; the others stay outside (RFC 9143 section 7.3.3). given are the mids of the answerer's group.
func (o *offer) bundle(body *sdp.Session, d *dialog, given []string) {
	done := false
	for i, m := range body.Media {
		s := d.streams[i]
		if s == nil {
			continue
		}
		in := !done && !m.Rejected() && m.MID() != "" && slices.Contains(o.bundled, m.MID())
		if in {
			body.SetBundle(m.MID())
			done = true
		}
		near, far := &s.legs[o.side].far, &s.legs[1-o.side].far
		near.bundled, far.bundled = in, far.mid != "" && slices.Contains(given, far.mid)
	}
}
