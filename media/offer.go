package media

import (
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
	lines    []sdp.Crypto  // to the answerer
	ptime    time.Duration // that the offerer asks for

	ice          [2]bool // the offerer has it, the answerer is offered it
	muxOnly      bool    // the answerer must accept rtcp-mux
	setup        string  // DTLS role that the answerer is offered
	preferActive bool    // where the offerer leaves the DTLS role to us
}

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
	body, err := e.offer(req)
	switch {
	case errors.Is(err, errLoad):
		e.limited.Add(1)
		return &ng.Response{Result: ng.ResultLoadLimit, ErrorReason: fmt.Sprintf("limit of %d calls reached", e.cfg.MaxSessions)}, nil
	case err != nil:
		e.rejected.Add(1)
		return e.refuse(err), nil
	}
	return &ng.Response{Result: ng.ResultOK, SDP: body}, nil
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

func (e *Engine) offer(req *ng.Request) ([]byte, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	c, err := e.lock(req.CallID, true)
	if err != nil {
		return nil, err
	}
	d, side := c.find(req.FromTag, req.ToTag)
	fresh := d == nil
	if fresh {
		d, err = c.open(req.FromTag, req.ToTag, e.networksOf(req, body), e.cfg.Now())
	}
	var out []byte
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
		return nil, err
	}
	c.lastSignal, c.deleteAt = e.cfg.Now(), time.Time{}
	d.parties[side].note(req.FromTag)
	d.parties[1-side].note(req.ToTag)
	c.mu.Unlock()
	return out, nil
}

// takeOffer checks the offer, makes ports for it and rewrites it.
func (d *dialog) takeOffer(side int, body *sdp.Session, req *ng.Request) ([]byte, error) {
	o := &offer{side: side, media: make([]offeredMedia, len(body.Media))}
	for i, m := range body.Media {
		if err := o.media[i].read(m, req); err != nil {
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
	for i, m := range body.Media {
		om := &o.media[i]
		if om.rejected {
			closeMedia(m, addr)
			continue
		}
		if om.rtp {
			m.SetProtocol(om.proto)
			m.SetCrypto(om.lines...)
			if om.choice.managed {
				m.SetCodecs(om.choice.sent)
			}
			if req.PTime > 0 && om.kind == "audio" {
				m.SetPTime(req.PTime)
			}
		}
		if om.from.creds.ice() {
			m.SetConnection(addr)
		}
		rewriteMedia(m, &d.streams[i].legs[1-side], addr, om.muxAsked, !req.Has("no-rtcp-attribute"))
		om.offerRTC(body, m, &d.streams[i].legs[1-side], addr, req)
	}
	d.offer = o
	return body.Bytes(), nil
}

// read takes what an m= line offers.
func (om *offeredMedia) read(m *sdp.Media, req *ng.Request) error {
	om.kind, om.rejected, om.rtp = m.Kind(), m.Rejected(), m.IsRTP()
	if om.rejected {
		return nil
	}
	om.from, om.ptime = describe(m, req), m.PTime()
	if req.PTimeReverse > 0 {
		om.ptime = req.PTimeReverse
	}
	om.proto = om.from.proto
	if !om.rtp {
		return nil
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
	if secure(om.from.proto) {
		// Tried on a spare party, before ports are opened for what cannot work.
		if err := new(sdesParty).offered(m.Crypto(), sdesPolicy{suites: sdesSuites()}); err != nil {
			return err
		}
	}
	rules := req.Codec
	if om.kind != "audio" {
		rules = ng.Codec{}
	}
	var err error
	om.choice, err = newChoice(m.Codecs(), rules)
	return err
}

// offerKeys chooses the offerer's key and makes the lines for the answerer.
func (d *dialog) offerKeys(om *offeredMedia, s *stream, side int, m *sdp.Media, req *ng.Request) error {
	if om.rejected || !om.rtp {
		return nil
	}
	if near := &s.legs[side].keys; secure(om.from.proto) {
		if err := near.offered(m.Crypto(), sdesPolicy{suites: sdesSuites()}); err != nil {
			return err
		}
	} else {
		near.forget()
	}
	far := &s.legs[1-side].keys
	if !secure(om.proto) {
		far.forget()
		return nil
	}
	if om.lines = far.offer(newSDESPolicy(req.SDES)); len(om.lines) == 0 {
		words := strings.Join(req.SDES, ", ")
		return fmt.Errorf("transport %s needs SDES, and the SDES flags (%s) leave no suite", om.proto, words)
	}
	return nil
}
