package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// offer is an offer as it went through, until the next one: answers are made with it.
type offer struct {
	side  int // of the offerer
	media []offeredMedia

	bundled []string // mids of the offerer's BUNDLE group
}

// offeredMedia is one m= line of it.
type offeredMedia struct {
	rejected bool
	kind     string
	rtp      bool
	from     description // of the offerer; mux is what it offered
	choice   choice
	proto    string // towards the answerer
	muxAsked bool   // a=rtcp-mux went to the answerer
	muxGiven muxAnswer
	sdes     [2]sdesUse    // with the offerer, with the answerer
	lines    []sdp.Crypto  // to the answerer
	ptime    time.Duration // that the offerer asks for

	ice          [2]bool // the offerer has it, the answerer is offered it
	iceFull      [2]bool // by a full agent of ours
	detect       bool    // keys are looked for in the voice
	ownRTCP      bool    // reports of our own though nothing is transcoded
	reset        bool    // the answerer is another one than before
	muxOnly      bool    // the answerer must accept rtcp-mux
	setup        string  // DTLS role that the answerer is offered
	preferActive bool    // where the offerer leaves the DTLS role to us
}

// sdesUse says if SRTP with SDES is spoken with a party.
type sdesUse uint8

const (
	sdesNone     sdesUse = iota
	sdesMust             // the profile is SAVP or SAVPF
	sdesIfWanted         // opportunistic: a=crypto under AVP, which the other side may ignore (RFC 8643)
)

// muxAnswer is how the offerer's a=rtcp-mux is answered.
type muxAnswer uint8

const (
	muxAsAnswered muxAnswer = iota // as the answerer does
	muxAccept                      // yes, if offered
	muxReject
)

// Offer takes the SDP of an offer and returns the one for the other party. A known Call-ID and from-tag keep their ports,
// SSRCs and keys, whatever address the offer names.
func (e *Engine) Offer(_ context.Context, req *ng.Request) (*ng.Response, error) {
	if req.Has("fragment") {
		return e.takeFragment(req)
	}
	body, warning, err := e.offer(req)
	switch {
	case errors.Is(err, errLoad):
		e.limited.Add(1)
		reason := fmt.Sprintf("limit of %d calls reached", e.cfg.MaxSessions)
		return &ng.Response{Result: ng.ResultLoadLimit, ErrorReason: reason, Message: reason}, nil
	case err != nil:
		e.rejected.Add(1)
		return e.refuse(err), nil
	}
	e.changed(req.CallID)
	return &ng.Response{Result: ng.ResultOK, SDP: body, Warning: warning}, nil
}

// readBody checks what offer and answer have in common.
func readBody(req *ng.Request) (*sdp.Session, error) {
	if req.CallID == "" || req.FromTag == "" {
		return nil, errors.New("call-id and from-tag are needed")
	}
	if len(req.SDP) == 0 {
		return nil, errors.New("sdp is needed")
	}
	body, err := sdp.Parse(req.SDP)
	if err != nil {
		return nil, fmt.Errorf("sdp: %w", err)
	}
	return body, nil
}

func (e *Engine) offer(req *ng.Request) (out []byte, warning string, err error) {
	body, err := readBody(req)
	if err != nil {
		return nil, "", err
	}
	if out := e.passedBefore(body, req); out != nil {
		return out, "", nil
	}
	c, err := e.lock(req.CallID, true)
	if err != nil {
		return nil, "", err
	}
	d, side := c.offering(req.FromTag, req.ToTag, req.ViaBranch)
	fresh := d == nil
	switch {
	case fresh:
		if d, err = c.open(req.FromTag, req.ToTag, e.networksOf(req, body), e.cfg.Now()); err == nil {
			d.branch = req.ViaBranch
		}
	case d.published():
		err = fmt.Errorf("the from-tag %q publishes media; nobody is called by it", req.FromTag)
	}
	if err == nil {
		out, err = d.takeOffer(side, body, req)
	}
	if err != nil {
		if fresh && d != nil {
			c.forget(d)
		}
		empty := len(c.dialogs) == 0
		c.mu.Unlock()
		if empty {
			e.discard(c)
		}
		return nil, "", err
	}
	c.lastSignal, c.deleteAt = e.cfg.Now(), time.Time{}
	d.parties[side].note(req.FromTag)
	d.parties[1-side].note(req.ToTag)
	c.options.take(req)
	c.options.callback(req.XMLRPCCallback, req.Source)
	c.metadata = cmp.Or(req.Metadata, c.metadata)
	c.apply()
	d.name()
	if label := cmp.Or(req.SetLabel, req.Label); label != "" {
		d.parties[side].label = label
	}
	warning = e.recordAsAsked(c, req)
	c.mu.Unlock()
	return out, warning, nil
}

// takeOffer checks the offer, makes ports for it and rewrites it.
func (d *dialog) takeOffer(side int, body *sdp.Session, req *ng.Request) ([]byte, error) {
	o := &offer{side: side, media: make([]offeredMedia, len(body.Media))}
	for i, m := range body.Media {
		if req.Has("reset") && i < len(d.streams) && d.streams[i] != nil {
			d.streams[i].legs[1-side].far.forget()
		}
		if err := o.media[i].read(m, d.keeping(req, side, i), d.parties[side].network, d.spoken(req, side, i)); err != nil {
			return nil, fmt.Errorf("m= line %d (%s): %w", i+1, m.Kind(), err)
		}
	}
	if err := d.grow(body); err != nil {
		return nil, err
	}
	for i := range o.media {
		if err := d.offerKeys(&o.media[i], d.streams[i], side, body.Media[i], req); err != nil {
			return nil, fmt.Errorf("m= line %d (%s): %w", i+1, body.Media[i].Kind(), err)
		}
	}
	o.bundled = bundled(body)
	addr := d.parties[1-side].network.address(req)
	rewriteSession(body, addr, len(body.Groups("BUNDLE")) > 0)
	stripExtmap(body, req.Extmap)
	for i, m := range body.Media {
		om := &o.media[i]
		if om.rejected {
			closeMedia(m, addr)
			continue
		}
		if om.rtp {
			m.SetProtocol(om.proto)
			m.SetCrypto(om.lines...)
			if om.choice.managed || om.choice.stripped {
				m.SetCodecs(om.choice.sent)
			}
			if req.PTime > 0 && om.kind == "audio" {
				m.SetPTime(req.PTime)
			}
		}
		if om.from.creds.ice() {
			m.SetConnection(addr)
		}
		rewriteMedia(m, &d.streams[i].legs[1-side], addr, om.muxAsked, req)
		om.offerRTC(body, m, &d.streams[i].legs[1-side], addr, req)
	}
	d.offer = o
	d.parties[1-side].sign(body, req)
	return body.Bytes(), nil
}

// read takes what an m= line offers.
func (om *offeredMedia) read(m *sdp.Media, req *ng.Request, n *network, spoken string) error {
	om.kind, om.rejected, om.rtp = m.Kind(), m.Rejected(), m.IsRTP()
	if om.rejected {
		return nil
	}
	om.from, om.ptime = describe(m, req, n), m.PTime()
	if req.PTimeReverse > 0 {
		om.ptime = req.PTimeReverse
	}
	om.proto = om.from.proto
	if !om.rtp {
		return nil
	}
	om.ownRTCP, om.reset = req.Has("generate-rtcp"), req.Has("reset")
	if req.Has("reject-ice") {
		om.from.creds.ufrag = ""
	}
	if req.Transport != "" {
		om.proto = req.Transport
	}
	switch om.proto {
	case om.from.proto, "RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF":
	default:
		return fmt.Errorf("transport-protocol %q: want RTP/AVP, RTP/AVPF, RTP/SAVP, RTP/SAVPF, UDP/TLS/RTP/SAVP or UDP/TLS/RTP/SAVPF",
			om.proto)
	}
	om.muxAsked = m.RTCPMux() && !slices.Contains(req.RTCPMux, "demux") ||
		slices.Contains(req.RTCPMux, "offer") || slices.Contains(req.RTCPMux, "require")
	switch {
	case slices.Contains(req.RTCPMux, "reject"):
		om.muxGiven = muxReject
	case slices.Contains(req.RTCPMux, "demux"), slices.Contains(req.RTCPMux, "accept"):
		om.muxGiven = muxAccept
	}
	if err := om.readRTC(req); err != nil {
		return err
	}
	if err := om.readSDES(m, req); err != nil {
		return err
	}
	rules := req.Codec
	if om.kind != "audio" {
		rules = ng.Codec{}
	}
	var err error
	om.choice, err = newChoice(prefer(m.Codecs(), spoken), rules)
	om.choice.inject, om.detect = om.kind == "audio" && req.Has("inject-dtmf"), req.Has("detect-dtmf")
	return err
}

// readSDES decides with whom SRTP is spoken, before ports are opened for what cannot work.
func (om *offeredMedia) readSDES(m *sdp.Media, req *ng.Request) error {
	must := secure(om.from.proto)
	if must || osrtp(req, "accept") && !dtls(om.from.proto) {
		_, err := usableLine(m.Crypto(), newSDESPolicy(req.SDES).accepting())
		switch {
		case must && err != nil:
			return err
		case must:
			om.sdes[0] = sdesMust
		case err == nil:
			om.sdes[0] = sdesIfWanted
		}
	}
	switch {
	case secure(om.proto):
		om.sdes[1] = sdesMust
	case osrtp(req, "offer") && !dtls(om.proto):
		om.sdes[1] = sdesIfWanted
	}
	return nil
}

// osrtp looks for rtpengine's word, which may name RFC 8643 behind it.
func osrtp(req *ng.Request, word string) bool {
	return slices.Contains(req.OSRTP, word) || slices.Contains(req.OSRTP, word+"-rfc")
}

// offerKeys chooses the offerer's key and makes the lines for the answerer.
func (d *dialog) offerKeys(om *offeredMedia, s *stream, side int, m *sdp.Media, req *ng.Request) error {
	if om.rejected || !om.rtp {
		return nil
	}
	if near := &s.legs[side].keys; om.sdes[0] != sdesNone {
		if err := near.offered(m.Crypto(), newSDESPolicy(req.SDES).accepting()); err != nil {
			return err
		}
	} else {
		near.forget()
	}
	far := &s.legs[1-side].keys
	if om.sdes[1] == sdesNone {
		far.forget()
		return nil
	}
	if om.lines = far.offer(newSDESPolicy(req.SDES)); len(om.lines) == 0 && om.sdes[1] == sdesMust {
		words := strings.Join(req.SDES, ", ")
		return fmt.Errorf("transport %s needs SDES, and the SDES flags (%s) leave no suite", om.proto, words)
	}
	return nil
}
