package sip

import (
	"context"
	"strings"

	"rtcedge/media/ng"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// The interfaces of the media node, by rtpengine's usual names.
const (
	farmSide  = "priv"
	phoneSide = "pub"
)

// Profiles of RTP (RFC 3551, 3711, 5764).
const (
	profilePlain = "RTP/AVP"
	profileSDES  = "RTP/SAVP"
	profileDTLS  = "UDP/TLS/RTP/SAVPF"
)

// crosses tells if the request goes between farm and outside: only such bodies pass through the media node. What farms say to
// each other is PCMU already.
func (p *Proxy) crosses(c *pass) bool { return !c.inside || c.next.node == nil }

// media asks the media node about a request's body, or tells it the end of the call. It answers what it refuses: 488 for a
// refusal, 503 for silence, and never lets a call pass that would hear nothing.
func (p *Proxy) media(c *pass) bool {
	m := &c.msg
	if p.cfg.Media == nil || !p.crosses(c) {
		return true
	}
	if m.Method() == message.Bye {
		// Told when the BYE has left, so that media's pace does not hold it up; and only if the sender proves that he takes part.
		c.ending = c.inside || c.routed
		return true
	}
	trickle := hasCandidates(m)
	if !hasSDP(m) && !trickle {
		return true
	}
	if !p.maySpeak(c) {
		p.refuse(c, 481, "Call/Transaction Does Not Exist", DropNoDialog)
		return false
	}
	req := &ng.Request{Command: ng.CmdOffer, CallID: string(m.CallID()), FromTag: string(m.FromTag()), ToTag: string(m.ToTag()), SDP: m.Body()}
	switch m.Method() {
	case message.Invite, message.Update:
	case message.Ack:
		req.Command = ng.CmdAnswer
	case message.Prack:
		// RFC 3262 section 5: the offer was in the 18x if the INVITE had none, and this is its answer.
		if c.routed && c.route.flags&routeNoOffer != 0 {
			req.Command = ng.CmdAnswer
		}
	default:
		if !trickle {
			return true
		}
	}
	if trickle {
		// The candidates are for media's agent. The other side, where ICE ends, hears that no more come: no address crosses.
		req.Flags = []string{"fragment"}
	} else if req.Command == ng.CmdAnswer {
		req.FromTag, req.ToTag = req.ToTag, req.FromTag // the offerer is the callee
	} else {
		shape(req, !c.inside, c.next.side, c.policy.codecs)
	}
	req.ReceivedFrom = c.from.Addr()
	sdp, verdict := p.ask(c, req)
	switch verdict {
	case mediaRefused:
		c.warn(sdp)
		p.refuse(c, 488, "Not Acceptable Here", DropMedia)
		return false
	case mediaSilent:
		c.extra = append(c.extra, "Retry-After: 2\r\n"...)
		p.refuse(c, 503, "No Media Node", DropMedia)
		return false
	}
	p.replaceBody(c, sdp)
	return true
}

// maySpeak tells if the sender may change the media of its call. Within a dialog only its signed Route proves that he takes part:
// whoever knows Call-ID and tags could move the media to himself, with an ACK even past every challenge (F34). The body of an ACK is an
// answer only where the INVITE had no offer.
func (p *Proxy) maySpeak(c *pass) bool {
	m := &c.msg
	if c.inside || len(m.ToTag()) == 0 {
		return c.inside || m.Method() != message.Ack
	}
	return c.routed && (m.Method() != message.Ack || c.route.flags&routeNoOffer != 0)
}

// shape writes what an offer is turned into. The farm sees PCMU and telephone-event only; phones see the preference list, in the
// profile that their transport speaks.
func shape(req *ng.Request, fromOutside bool, to *side, codecs []string) {
	req.Replace = []string{"origin", "session-connection"}
	if fromOutside {
		req.Direction = [2]string{phoneSide, farmSide}
		req.Transport, req.ICE, req.RTCPMux = profilePlain, "remove", []string{"demux"}
		req.Codec = ng.Codec{Mask: []string{"all"}, Transcode: []string{"PCMU"}, Except: []string{"telephone-event"}, Offer: []string{"telephone-event"}}
		return
	}
	req.Direction = [2]string{farmSide, phoneSide}
	req.Codec.Transcode = codecs
	req.Transport, req.ICE = profilePlain, "remove"
	switch to.Proto() {
	case transport.TLS:
		req.Transport = profileSDES
	case transport.WS, transport.WSS: // a browser: RFC 8834 and 8835
		req.Transport, req.ICE, req.RTCPMux = profileDTLS, "force", []string{"require"}
		req.Flags = []string{"generate-mid"}
	}
	if req.ToTag != "" {
		// What a phone speaks is in its SDP, not in its transport: media remembers it (behaviour 18).
		req.Flags = append(req.Flags, "keep-transport")
	}
}

// asksMedia tells if a response has something for the media node: a description, or the end of a call that never was.
func (p *Proxy) asksMedia(c *pass) bool {
	if p.cfg.Media == nil || c.via.flags&viaMedia == 0 {
		return false
	}
	return p.described(c) || p.failed(c)
}

// described: a description in an 18x or 2xx.
func (p *Proxy) described(c *pass) bool {
	m := &c.msg
	switch m.Method() {
	case message.Invite, message.Update, message.Prack:
		return m.Status() > 100 && m.Status() < 300 && hasSDP(m)
	}
	return false
}

// failed: the first INVITE of a call is turned down for good. After 401 and 407 the next INVITE has the same Call-ID and must find its
// ports again; a failed re-INVITE leaves the call as it was.
func (p *Proxy) failed(c *pass) bool {
	m := &c.msg
	return m.Method() == message.Invite && m.Status() >= 300 && m.Status() != 401 && m.Status() != 407 && c.via.flags&viaInDialog == 0
}

// mediaResponse asks the media node about a response. It works from the response alone: that the request carried the offer
// stands in our Via. An answer that media cannot use ends the call at the caller.
func (p *Proxy) mediaResponse(c *pass) bool {
	if !p.asksMedia(c) {
		return true
	}
	m := &c.msg
	if p.failed(c) {
		p.forget(c)
		return true
	}
	req := &ng.Request{Command: ng.CmdAnswer, CallID: string(m.CallID()), FromTag: string(m.FromTag()), ToTag: string(m.ToTag()), SDP: m.Body()}
	req.ReceivedFrom = c.from.Addr()
	if c.via.flags&viaOffer == 0 { // the offer comes from the callee
		req.Command = ng.CmdOffer
		req.FromTag, req.ToTag = req.ToTag, req.FromTag
		shape(req, c.via.flags&viaOutside == 0, p.sides[c.via.listener], c.policy.codecs)
	}
	sdp, verdict := p.ask(c, req)
	switch verdict {
	case mediaSilent: // sent again by the callee: then media is asked again
		c.drop(DropMedia)
		return false
	case mediaRefused:
		c.drop(DropMedia)
		if m.Status() >= 200 && m.Method() == message.Invite {
			p.turnDown(c, sdp)
		}
		return false
	}
	p.replaceBody(c, sdp)
	return true
}

// turnDown makes a 488 of a 2xx that cannot be used. It carries our own To tag, so that the ACK stays here and the callee, never
// acknowledged, hangs up (RFC 3261 section 13.3.1.4).
func (p *Proxy) turnDown(c *pass, reason []byte) {
	c.warn(reason)
	out, ok := p.buildReply(c, 488, "Not Acceptable Here", false)
	if ok {
		p.sendResponse(c, out)
	}
	p.forget(c)
}

type mediaVerdict uint8

const (
	mediaDone mediaVerdict = iota
	mediaRefused
	mediaSilent
)

// ask puts one question. The result is the new description, or the reason of a refusal.
func (p *Proxy) ask(c *pass, req *ng.Request) ([]byte, mediaVerdict) {
	ctx, cancel := context.WithTimeout(c.ctx, p.cfg.MediaTimeout)
	defer cancel()
	put := p.cfg.Media.Offer
	if req.Command == ng.CmdAnswer {
		put = p.cfg.Media.Answer
		c.count.answers.Add(1)
	} else {
		c.count.offers.Add(1)
	}
	resp, err := put(ctx, req)
	switch {
	case err != nil || resp == nil:
		c.count.mediaErrs.Add(1)
		p.cfg.Log.Debug("media node gives no answer", "call_id", req.CallID, "command", req.Command, "err", err)
		return nil, mediaSilent
	case resp.Result == ng.ResultOK && len(resp.SDP) > 0:
		return resp.SDP, mediaDone
	case resp.Result == ng.ResultLoadLimit:
		c.count.mediaErrs.Add(1)
		return nil, mediaSilent
	}
	c.count.mediaErrs.Add(1)
	return []byte(resp.ErrorReason), mediaRefused
}

// forget tells the media node that the call is over. Nothing depends on the answer: the node's own timeout would do it too.
func (p *Proxy) forget(c *pass) {
	m := &c.msg
	ctx, cancel := context.WithTimeout(c.ctx, p.cfg.MediaTimeout)
	defer cancel()
	c.count.deletes.Add(1)
	req := &ng.Request{Command: ng.CmdDelete, CallID: string(m.CallID()), FromTag: string(m.FromTag()), ToTag: string(m.ToTag())}
	if _, err := p.cfg.Media.Delete(ctx, req); err != nil {
		c.count.mediaErrs.Add(1)
	}
}

// warn adds the media node's reason: RFC 3261 section 20.43, code 399 is free text.
func (c *pass) warn(reason []byte) {
	if len(reason) == 0 || len(reason) > 200 {
		return
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' || r > '~' {
			return ' '
		}
		return r
	}, string(reason))
	c.extra = append(append(append(c.extra, "Warning: 399 rtcedge \""...), text...), "\"\r\n"...)
}

// replaceBody puts the new description in place, with its length.
func (p *Proxy) replaceBody(c *pass, body []byte) {
	m := &c.msg
	s := &c.splice
	if f := m.First(message.ContentLength); f != nil {
		s.Cut(int(f.Val), int(f.ValEnd))
		s.Num(len(body))
	} else {
		s.Cut(m.HeaderEnd(), m.HeaderEnd())
		s.Str("Content-Length: ")
		s.Num(len(body))
		s.Str("\r\n")
	}
	s.CutFor(m.BodyAt(), len(m.Bytes()), body)
}
