package mediatest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rtcedge/media/sdp"
)

// session is what offer and answer agreed on. It is not changed once published to the peer.
type session struct {
	rtp, rtcp netip.AddrPort // of the far end
	mux       bool
	pt        uint8
	coder     string
	events    map[uint8]int // payload type of telephone-event to its clock
	eventPT   uint8
	hasEvent  bool
	suite     string
	print     string // of the certificate that DTLS must show
	sends     bool   // the far end wants to hear us
}

// Offer makes the SDP that offers the peer's codecs, with keys if it has suites. Each call raises the version.
func (p *Peer) Offer() ([]byte, error) {
	var codecs []sdp.Codec
	for _, name := range p.cfg.Codecs {
		c, err := sdpCodec(name)
		if err != nil {
			return nil, fmt.Errorf("offer: %w", err)
		}
		codecs = append(codecs, c)
	}
	if !p.cfg.NoEvents {
		if slices.ContainsFunc(codecs, func(c sdp.Codec) bool { return c.Rate == 48000 }) {
			codecs = append(codecs, sdp.Codec{PT: ptEvent48k, Name: "telephone-event", Rate: 48000, Channels: 1, Params: "0-16"})
		}
		codecs = append(codecs, sdp.Codec{PT: ptEvent8k, Name: "telephone-event", Rate: 8000, Channels: 1, Params: "0-16"})
	}
	return p.describe(codecs, p.profile(), p.cfg.Mux, p.own, "actpass"), nil
}

// Answer takes an offer and makes the answer: the first codec of the offer that the peer has, the first key that it can use.
func (p *Peer) Answer(offer []byte) ([]byte, error) {
	m, err := audioOf(offer)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	s, codecs, err := p.agree(m)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	var own []sdp.Crypto
	if len(p.own) > 0 {
		line, ours, err := p.choose(m.Crypto())
		if err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
		if err := p.setKeys(ours, line); err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
		ours.Tag = line.Tag
		own, s.suite = []sdp.Crypto{ours}, ours.Suite
	} else if p.dtls == nil && strings.Contains(m.Protocol(), "SAVP") {
		return nil, fmt.Errorf("answer: the offer is %s and this peer is plain", m.Protocol())
	}
	s.mux = m.RTCPMux() && p.cfg.Mux
	body := p.describe(codecs, m.Protocol(), s.mux, own, "active")
	p.session.Store(s)
	return body, nil
}

// SetAnswer takes the answer to Offer. It may be called again after a new offer, also while Run is active.
func (p *Peer) SetAnswer(answer []byte) error {
	m, err := audioOf(answer)
	if err != nil {
		return fmt.Errorf("set answer: %w", err)
	}
	s, _, err := p.agree(m)
	if err != nil {
		return fmt.Errorf("set answer: %w", err)
	}
	if len(p.own) > 0 {
		line, ours, err := p.choose(m.Crypto())
		if err != nil {
			return fmt.Errorf("set answer: %w", err)
		}
		if line.Tag != ours.Tag {
			return fmt.Errorf("set answer: crypto tag %d, offered was %s with tag %d", line.Tag, ours.Suite, ours.Tag)
		}
		if err := p.setKeys(ours, line); err != nil {
			return fmt.Errorf("set answer: %w", err)
		}
		s.suite = ours.Suite
	}
	s.mux = m.RTCPMux() && p.cfg.Mux
	p.session.Store(s)
	return nil
}

func (p *Peer) profile() string {
	switch {
	case p.dtls != nil:
		return dtlsProfile
	case len(p.own) > 0:
		return "RTP/SAVP"
	}
	return "RTP/AVP"
}

func (p *Peer) describe(codecs []sdp.Codec, profile string, mux bool, own []sdp.Crypto, role string) []byte {
	at := p.Addr()
	p.version++
	s := sdp.New(sdp.Origin{ID: p.id, Version: strconv.Itoa(p.version)}, at.Addr())
	m := s.AddMedia("audio", int(at.Port()), profile, codecs...)
	m.SetPTime(p.cfg.PTime)
	m.SetDirection(sdp.SendRecv)
	m.SetRTCPMux(mux)
	if len(own) > 0 {
		m.SetCrypto(own...)
	}
	if p.dtls != nil {
		p.dtls.describe(m, role)
	}
	return s.Bytes()
}

func audioOf(body []byte) (*sdp.Media, error) {
	s, err := sdp.Parse(body)
	if err != nil {
		return nil, err
	}
	for _, m := range s.Media {
		if m.Kind() == "audio" && m.Port() != 0 {
			return m, nil
		}
	}
	return nil, errors.New("no audio in the SDP, or rejected")
}

// agree finds the codec that both have, in the far end's order, and returns it with its events.
func (p *Peer) agree(m *sdp.Media) (*session, []sdp.Codec, error) {
	s := &session{events: map[uint8]int{}, rtcp: m.RTCP(), sends: m.Direction().Receives()}
	if addr := m.Connection(); addr.IsValid() {
		s.rtp = netip.AddrPortFrom(addr, uint16(m.Port()))
	} else {
		return nil, nil, errors.New("no connection address in the SDP")
	}
	if p.dtls != nil {
		if err := p.dtls.agree(m, s); err != nil {
			return nil, nil, err
		}
	}
	var codecs []sdp.Codec
	for _, c := range m.Codecs() {
		if !slices.ContainsFunc(p.cfg.Codecs, c.Is) {
			continue
		}
		coder, err := newCoder(c.Name)
		if err != nil || coder.clock != c.Rate {
			continue
		}
		s.pt, s.coder = c.PT, coder.name
		codecs = append(codecs, c)
		break
	}
	if codecs == nil {
		return nil, nil, fmt.Errorf("no codec of %v in the SDP", p.cfg.Codecs)
	}
	for _, c := range m.Codecs() {
		if p.cfg.NoEvents || !c.Is("telephone-event") {
			continue
		}
		s.events[c.PT] = c.Rate
		// The clock of the codec if there is one (RFC 4733 section 2.1), else what the far end has.
		if !s.hasEvent || c.Rate == codecs[0].Rate {
			s.eventPT, s.hasEvent = c.PT, true
		}
		codecs = append(codecs, c)
	}
	return s, codecs, nil
}

// choose finds the first line of the far end whose suite is ours.
func (p *Peer) choose(lines []sdp.Crypto) (theirs, ours sdp.Crypto, err error) {
	for _, l := range lines {
		for _, o := range p.own {
			if l.Suite == o.Suite {
				return l, o, nil
			}
		}
	}
	return sdp.Crypto{}, sdp.Crypto{}, fmt.Errorf("none of %d crypto lines has a suite of %v", len(lines), p.cfg.Suites)
}

// setKeys makes the contexts. Ours stays while its key does.
func (p *Peer) setKeys(ours, theirs sdp.Crypto) error {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if p.tx == nil || p.txSuite != ours.Suite {
		tx, err := cryptoContext(ours)
		if err != nil {
			return err
		}
		p.tx, p.txSuite = tx, ours.Suite
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if line := theirs.String(); p.rx == nil || p.rxLine != line {
		rx, err := cryptoContext(theirs)
		if err != nil {
			return err
		}
		p.rx, p.rxLine = rx, line
	}
	return nil
}
