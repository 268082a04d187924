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
	"rtcedge/transcode"
)

// Answer takes the SDP of an answer, sets the packet path up and returns the SDP for the offerer, with the transport that it
// offered. from-tag is the offerer's, to-tag the answerer's, as in rtpengine.
func (e *Engine) Answer(_ context.Context, req *ng.Request) (*ng.Response, error) {
	if req.Has("fragment") {
		return e.takeFragment(req)
	}
	body, warning, err := e.answer(req)
	if err != nil {
		e.rejected.Add(1)
		return e.refuse(err), nil
	}
	e.changed(req.CallID)
	return &ng.Response{Result: ng.ResultOK, SDP: body, Warning: warning}, nil
}

func (e *Engine) answer(req *ng.Request) (out []byte, warning string, err error) {
	body, err := readBody(req)
	if err != nil {
		return nil, "", err
	}
	if out := e.passedBefore(body, req); out != nil {
		return out, "", nil
	}
	c, err := e.lock(req.CallID, false)
	if err != nil {
		return nil, "", err
	}
	if c == nil {
		return nil, "", errors.New("unknown call-id: the offer was not seen here, or the call has ended")
	}
	defer c.mu.Unlock()
	d, tag := c.answering(req.FromTag, req.ToTag, req.ViaBranch)
	if d == nil {
		return nil, "", errors.New("no offer with this from-tag")
	}
	out, err = d.takeAnswer(body, req, &e.cfg)
	if err != nil {
		return nil, "", err
	}
	d.parties[1-d.offer.side].note(tag)
	if label := cmp.Or(req.SetLabel, req.Label); label != "" {
		d.parties[1-d.offer.side].label = label
	}
	c.lastSignal = e.cfg.Now()
	c.options.take(req)
	c.metadata = cmp.Or(req.Metadata, c.metadata)
	c.apply()
	d.name()
	c.follow(d, &e.cfg)
	return out, e.recordAsAsked(c, req), nil
}

// answering finds the dialog whose offer is answered, and the answerer's tag. Clients that put the answerer's tag into from-tag
// are understood too.
func (c *call) answering(from, to, branch string) (*dialog, string) {
	if d := c.forked(from, branch); d != nil && d.offer != nil && d.offer.side == 0 {
		return d, to
	}
	for _, tags := range [2][2]string{{from, to}, {to, from}} {
		d, side := c.find(tags[0], tags[1])
		if d != nil && d.offer != nil && d.offer.side == side {
			return d, tags[1]
		}
	}
	return nil, ""
}

// settled is what an answer makes of one m= line, before anything is changed.
type settled struct {
	pair  pair
	far   description // of the answerer
	mux   bool        // towards the offerer
	proto string      // towards the offerer
	route *route      // nil: no media
}

// takeAnswer checks the whole answer, then publishes the routes and rewrites it.
func (d *dialog) takeAnswer(body *sdp.Session, req *ng.Request, cfg *Config) ([]byte, error) {
	o := d.offer
	if len(body.Media) > len(o.media) {
		return nil, fmt.Errorf("answer has %d m= lines, the offer %d", len(body.Media), len(o.media))
	}
	var room [1]settled
	all := room[:]
	if len(body.Media) != len(room) {
		all = make([]settled, len(body.Media))
	}
	for i, m := range body.Media {
		all[i].proto = o.media[i].from.proto
		if m.Rejected() || o.media[i].rejected {
			continue
		}
		if err := d.settle(&all[i], &o.media[i], d.streams[i], m, req, cfg); err != nil {
			return nil, fmt.Errorf("m= line %d (%s): %w", i+1, m.Kind(), err)
		}
	}
	given := bundled(body)
	addr := d.parties[o.side].network.address(req)
	rewriteSession(body, addr, len(body.Groups("BUNDLE")) > 0)
	for i, m := range body.Media {
		st, om, s := &all[i], &o.media[i], d.streams[i]
		if om.rtp {
			m.SetProtocol(st.proto)
		}
		if st.route == nil {
			m.SetPort(0)
			closeMedia(m, addr)
			if s != nil {
				s.route.Store(nil)
			}
			continue
		}
		near := &s.legs[o.side]
		near.far, s.legs[1-o.side].far = om.from, st.far
		near.far.mux, near.far.proto, near.far.feedback = st.mux, st.proto, strings.HasSuffix(st.proto, "F")
		s.worker.table.Update(s, st.route)
		if req.Has("pierce-nat") {
			s.worker.loop.Do(s.pierce)
		}
		if om.rtp {
			m.SetCrypto()
			if om.sdes[0] != sdesNone {
				m.SetCrypto(near.keys.answer())
			}
			switch {
			case om.choice.managed:
				m.SetCodecs(st.pair.list)
			case req.Has("single-codec"):
				m.SetCodecs(single(m.Codecs()))
			}
		}
		if st.far.creds.ice() {
			m.SetConnection(addr)
		}
		rewriteMedia(m, near, addr, st.mux, req)
		om.answerRTC(body, m, near, &st.route.flows[o.side], addr)
	}
	o.bundle(body, d, given)
	d.parties[o.side].sign(body, req)
	return body.Bytes(), nil
}

// settle decides one m= line.
func (d *dialog) settle(st *settled, om *offeredMedia, s *stream, m *sdp.Media, req *ng.Request, cfg *Config) error {
	a, b := d.offer.side, 1-d.offer.side
	st.far = describe(m, req, d.parties[b].network)
	r := &route{at: cfg.Now(), raw: !om.rtp, plain: om.rtp && om.kind != "audio"}
	if om.rtp != m.IsRTP() {
		return fmt.Errorf("offered over %s, answered over %s", om.proto, m.Protocol())
	}
	st.far.mux = om.muxAsked && m.RTCPMux()
	near := om.from
	switch om.muxGiven {
	case muxAccept:
	case muxReject:
		near.mux = false
	default:
		near.mux = near.mux && st.far.mux
	}
	st.mux = near.mux
	r.own = om.ownRTCP || req.Has("generate-rtcp")
	if req.Transport == "accept" && om.rtp {
		near.follow(om.proto, m.Protocol())
		st.proto = near.proto
	}
	r.flows[b].fresh = om.reset
	near.rule(&r.flows[a])
	st.far.rule(&r.flows[b])
	if om.rtp {
		if err := d.settleKeys(r, om, s, m); err != nil {
			return err
		}
		if err := s.settleRTC(r, om, a, &near, &st.far); err != nil {
			return err
		}
		if err := d.settleCodecs(st, r, om, s, m, req, cfg); err != nil {
			return err
		}
	}
	st.route = r
	return nil
}

// settleKeys puts the SRTP contexts into the route.
func (d *dialog) settleKeys(r *route, om *offeredMedia, s *stream, m *sdp.Media) error {
	a, b := d.offer.side, 1-d.offer.side
	var use [2]bool
	use[a], use[b] = om.sdes[0] != sdesNone, om.sdes[1] == sdesMust
	switch {
	case use[b]:
		if !secure(m.Protocol()) {
			return fmt.Errorf("offered over %s, answered over %s", om.proto, m.Protocol())
		}
		if err := s.legs[b].keys.answered(m.Crypto()); err != nil {
			return err
		}
	case om.sdes[1] == sdesIfWanted:
		// RFC 8643 section 3.1: an answer without a key that can be used means plain RTP.
		if use[b] = s.legs[b].keys.answered(m.Crypto()) == nil; !use[b] {
			s.legs[b].keys.forget()
		}
	}
	for side := range use {
		if !use[side] {
			continue
		}
		f := &r.flows[side]
		var err error
		if f.rx, f.tx, err = s.legs[side].keys.contexts(); err != nil {
			return err
		}
	}
	return nil
}

// settleCodecs fills in the payload types and makes the pipes.
func (d *dialog) settleCodecs(st *settled, r *route, om *offeredMedia, s *stream, m *sdp.Media, req *ng.Request, cfg *Config) error {
	a, b := d.offer.side, 1-d.offer.side
	answer := m.Codecs()
	if eventless := !hasEvents(om.choice.offered) || !hasEvents(answer); om.choice.inject && eventless {
		om.choice.managed = true
	}
	if !om.choice.managed {
		r.flows[a].passAll(om.choice.offered)
		r.flows[b].passAll(answer)
		st.pair.voice = [2]sdp.Codec{firstVoice(answer), firstVoice(answer)}
		r.names[0], r.names[1] = st.pair.voice[0].Name, st.pair.voice[1].Name
		st.pair.listen(r, a, om.detect || req.Has("detect-dtmf"), cfg)
		return nil
	}
	p, err := om.choice.settle(answer)
	if err != nil {
		return err
	}
	st.pair = p
	r.flows[a].heard, r.flows[b].heard = om.choice.offered, answer
	from, to := &r.flows[a], &r.flows[b]
	r.names[a], r.names[b] = p.voice[0].Name, p.voice[1].Name
	from.mapTypes(&p, 0)
	to.mapTypes(&p, 1)
	p.listen(r, a, om.detect || req.Has("detect-dtmf"), cfg)
	for _, also := range p.alias {
		sent, answered := also.sent, also.answered
		to.types[sent], to.event[sent], to.cn[sent] = to.types[answered], to.event[answered], to.cn[answered]
	}
	if p.relay {
		return nil
	}
	there := pipeConfig(&p, 0, m.PTime(), cfg)
	back := pipeConfig(&p, 1, om.ptime, cfg)
	configure(&there, p.voice[1], m.PTime(), om.choice.options)
	configure(&back, p.voice[0], om.ptime, om.choice.options)
	if om.choice.inject {
		for _, c := range []*transcode.PipeConfig{&there, &back} {
			if c.FromEvents == 0 && c.ToEvents == 0 {
				c.FromEvents = c.From.Rate
			}
		}
	}
	if from.pipe, err = s.pipe(a, there); err != nil {
		return err
	}
	to.pipe, err = s.pipe(b, back)
	return err
}

// listen puts detectors into the route, where they are wanted and the codec can be decoded. a is the offerer's side.
func (p *pair) listen(r *route, a int, wanted bool, cfg *Config) {
	if !wanted || cfg.Digit == nil {
		return
	}
	for i, side := range []int{a, 1 - a} {
		if converts(p.voice[i]) {
			r.flows[side].listener, _ = detector(p, i) // an error leaves it nil: nothing is heard then
		}
	}
}

func hasEvents(list []sdp.Codec) bool { return slices.ContainsFunc(list, isEvent) }

// pipeConfig is the pipe from the side of p with this index to the other; ptime is what the receiver asks for.
func pipeConfig(p *pair, from int, ptime time.Duration, cfg *Config) transcode.PipeConfig {
	c := transcode.PipeConfig{
		From: p.format(from), To: p.format(1 - from), OpusComplexity: cfg.OpusComplexity,
		ToNoise: p.noise[1-from].PT != noType,
	}
	c.To.PTime = ptime
	if p.event[from].PT != noType {
		c.FromEvents = p.event[from].Rate
	}
	if p.event[1-from].PT != noType {
		c.ToEvents = p.event[1-from].Rate
	}
	return c
}

// pipe keeps the pipe of this direction if it does the same already: a re-INVITE for hold must not lose the codec's state.
func (s *stream) pipe(side int, cfg transcode.PipeConfig) (*transcode.Pipe, error) {
	l := &s.legs[side]
	if l.pipe != nil && *l.pipeConfig == cfg {
		return l.pipe, nil
	}
	shared := cfg
	shared.Room = s.worker.room
	p, err := transcode.NewPipe(shared)
	if err != nil {
		return nil, fmt.Errorf("transcode %s to %s: %w", cfg.From.Codec, cfg.To.Codec, err)
	}
	l.pipe, l.pipeConfig = p, &cfg
	return p, nil
}

// passAll relays every payload type under its number.
func (f *flow) passAll(list []sdp.Codec) {
	for i := range f.types {
		f.types[i] = uint8(i)
	}
	f.passing, f.heard = true, list
	f.clock, f.toClock = clockOf(list), clockOf(list)
	for _, c := range list {
		f.event[c.PT&typeMask] = isEvent(c)
	}
}

// mapTypes lets only the negotiated types of one side of the pair pass, to those of the other.
func (f *flow) mapTypes(p *pair, side int) {
	for i := range f.types {
		f.types[i] = noType
	}
	in, out := side, 1-side
	f.clock, f.toClock = uint32(p.voice[in].Rate), uint32(p.voice[out].Rate)
	f.voice, f.events, f.noise = p.voice[out].PT, p.event[out].PT, p.noise[out].PT
	f.types[p.voice[in].PT&typeMask] = f.voice
	if e := p.event[in].PT; e != noType {
		// Behind a pipe the type is not used: tones take the place of events where the other side has none.
		f.types[e&typeMask], f.event[e&typeMask] = f.events&typeMask, true
		if p.relay && p.event[in].Rate != p.event[out].Rate {
			f.eventClocks = [2]uint32{uint32(p.event[in].Rate), uint32(p.event[out].Rate)}
		}
	}
	if n := p.noise[in].PT; n != noType {
		f.types[n&typeMask], f.cn[n&typeMask] = f.noise&typeMask, true
	}
}

func firstVoice(list []sdp.Codec) sdp.Codec {
	for _, c := range list {
		if isVoice(c) {
			return c
		}
	}
	return sdp.Codec{PT: noType}
}

func clockOf(list []sdp.Codec) uint32 {
	if c := firstVoice(list); c.Rate > 0 {
		return uint32(c.Rate)
	}
	return 8000
}

// single leaves of a list its first voice, and what goes with any.
func single(list []sdp.Codec) []sdp.Codec {
	found := false
	return slices.DeleteFunc(slices.Clone(list), func(c sdp.Codec) bool {
		if !isVoice(c) {
			return false
		}
		again := found
		found = true
		return again
	})
}
