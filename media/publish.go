package media

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

// Publish takes media of one party that nobody is called with: others subscribe to it. The answer is our own: one codec, recvonly.
func (e *Engine) Publish(req *ng.Request) (*ng.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	answer := body.Clone() // the offer is rewritten in place
	c, err := e.lock(req.CallID, true)
	if errors.Is(err, errLoad) {
		e.limited.Add(1)
		return &ng.Response{Result: ng.ResultLoadLimit, ErrorReason: err.Error(), Message: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := c.publish(e, body, answer, req)
	empty := len(c.dialogs) == 0
	c.mu.Unlock()
	if empty {
		e.discard(c)
	}
	if err != nil {
		e.rejected.Add(1)
		return nil, fmt.Errorf("publish: %w", err)
	}
	e.changed(req.CallID)
	return &ng.Response{Result: ng.ResultOK, SDP: out}, nil
}

// publish makes or renews the publisher's dialog; c.mu is held.
func (c *call) publish(e *Engine, body, answer *sdp.Session, req *ng.Request) ([]byte, error) {
	d, _ := c.find(req.FromTag, "")
	fresh := d == nil
	switch {
	case fresh:
		networks := e.networksOf(req, body)
		var err error
		if d, err = c.open(req.FromTag, "", [2]*network{networks[0], networks[0]}, e.cfg.Now()); err != nil {
			return nil, err
		}
		d.parties[1].absent = true
		d.parties[0].label = cmp.Or(req.SetLabel, req.Label)
	case !d.published():
		return nil, fmt.Errorf("the from-tag %q is that of a party in a dialog", req.FromTag)
	}
	out, err := d.takePublished(body, answer, req, &e.cfg)
	if err != nil {
		if fresh {
			c.forget(d)
		}
		return nil, err
	}
	c.lastSignal = e.cfg.Now()
	c.options.take(req)
	c.options.callback(req.XMLRPCCallback, req.Source)
	c.apply()
	c.follow(d, &e.cfg)
	return out, nil
}

// published tells a publisher's dialog.
func (d *dialog) published() bool { return d.parties[1].absent }

// takePublished offers the media to nobody and answers in its place.
func (d *dialog) takePublished(body, answer *sdp.Session, req *ng.Request, cfg *Config) ([]byte, error) {
	towards := *req
	towards.Transport, towards.ICE, towards.RTCPMux, towards.Codec, towards.OSRTP = "RTP/AVP", "remove", []string{"demux"}, ng.Codec{}, nil
	for i, m := range answer.Media {
		if !m.Rejected() && m.IsRTP() && m.Kind() == "audio" {
			list, err := publishedCodecs(m.Codecs(), req.Codec.Accept)
			if err != nil {
				return nil, fmt.Errorf("m= line %d: %w", i+1, err)
			}
			m.SetCodecs(list)
		}
	}
	if _, err := d.takeOffer(0, body, &towards); err != nil {
		return nil, err
	}
	answer.RemoveICE()
	answer.RemoveDTLS()
	for _, m := range answer.Media {
		if m.Rejected() {
			continue
		}
		if !m.IsRTP() {
			m.SetPort(0)
			continue
		}
		m.SetProtocol("RTP/AVP")
		m.SetCrypto()
		m.SetRTCPMux(false)
		m.DelAttr("ssrc", "ssrc-group", "rtcp", "msid")
		m.SetPort(discardPort)
		m.SetConnection(nowhere)
		if d := m.Direction(); d.Sends() {
			m.SetDirection(sdp.RecvOnly)
		} else {
			m.SetDirection(sdp.Inactive)
		}
	}
	towards.Replace = append(slices.Clone(req.Replace), "zero-address")
	return d.takeAnswer(answer, &towards, cfg)
}

// publishedCodecs chooses as rtpengine does: by the list of accept, else the first that can be converted. Events and noise of its clock
// stay. "any" takes the first whatever it is.
func publishedCodecs(offered []sdp.Codec, accept []string) ([]sdp.Codec, error) {
	i := -1
	for _, word := range accept {
		name, rate, channels := parseCodec(word)
		if i = slices.IndexFunc(offered, func(c sdp.Codec) bool { return isVoice(c) && isCodec(c, name, rate, channels) }); i >= 0 {
			break
		}
	}
	if i < 0 {
		anyone := slices.Contains(accept, "any")
		i = slices.IndexFunc(offered, func(c sdp.Codec) bool {
			f, ok := transcode.Lookup(c.Name, c.Rate, c.Channels, c.Params)
			return isVoice(c) && (anyone || ok && both(f.Codec))
		})
	}
	if i < 0 {
		return nil, fmt.Errorf("%w: none of %s can be converted here; give codec accept=any to take the first", errNoCodec, names(offered))
	}
	list := []sdp.Codec{offered[i]}
	for _, c := range offered {
		if (isEvent(c) || isNoise(c)) && c.Rate == offered[i].Rate {
			list = append(list, c)
		}
	}
	return list, nil
}
