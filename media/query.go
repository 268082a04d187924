package media

import (
	"context"
	"errors"
	"slices"

	"rtcedge/media/ng"
)

// The commands beside offer and answer.

// Delete ends a call, or of a call the dialogs that one from-tag has a part in, after the delay. An unknown call is no error: who
// deletes wants it gone.
func (e *Engine) Delete(_ context.Context, req *ng.Request) (*ng.Response, error) {
	if req.CallID == "" {
		return e.refuse(errors.New("call-id is needed")), nil
	}
	c, err := e.lock(req.CallID, false)
	if err != nil {
		return e.refuse(err), nil
	}
	unknown := &ng.Response{Result: ng.ResultOK, Warning: "Call-ID not found or tags didn't match"}
	if req.Has("fatal") {
		unknown = &ng.Response{Result: ng.ResultError, ErrorReason: "delete: " + unknown.Warning}
	}
	if c == nil {
		return unknown, nil
	}
	delay := max(e.cfg.DeleteDelay, 0)
	if req.DeleteDelay != nil {
		delay = max(*req.DeleteDelay, 0)
	}
	info := c.info()
	if req.FromTag != "" {
		ended := c.over(req.FromTag, req.ToTag, req.ViaBranch)
		if len(ended) == 0 {
			c.mu.Unlock()
			return unknown, nil
		}
		if len(ended) < len(c.dialogs) {
			for _, d := range ended {
				c.forget(d)
			}
			c.mu.Unlock()
			e.changed(req.CallID)
			return &ng.Response{Result: ng.ResultOK, Call: &info}, nil
		}
	}
	c.deleteAt = e.cfg.Now().Add(delay)
	c.mu.Unlock()
	if delay == 0 {
		e.end(c, "delete")
	} else {
		e.changed(req.CallID)
	}
	return &ng.Response{Result: ng.ResultOK, Call: &info}, nil
}

// discard removes a call that never had a dialog; nobody is told.
func (e *Engine) discard(c *call) {
	c.mu.Lock()
	empty := len(c.dialogs) == 0 && !c.closed
	c.closed = c.closed || empty
	c.mu.Unlock()
	if !empty {
		return
	}
	c.worker.load.Add(-1)
	e.mu.Lock()
	if e.mu.calls[c.id] == c {
		delete(e.mu.calls, c.id)
	}
	e.mu.Unlock()
}

// Query tells of one call, by Call-ID alone.
func (e *Engine) Query(_ context.Context, req *ng.Request) (*ng.Response, error) {
	c, err := e.lock(req.CallID, false)
	if err != nil {
		return e.refuse(err), nil
	}
	if c == nil {
		return e.refuse(errors.New("unknown call-id")), nil
	}
	defer c.mu.Unlock()
	info := c.info()
	return &ng.Response{Result: ng.ResultOK, Call: &info}, nil
}

// List names the calls, those first that come first in the alphabet; limit bounds them.
func (e *Engine) List(_ context.Context, req *ng.Request) (*ng.Response, error) {
	e.mu.Lock()
	ids := make([]string, 0, len(e.mu.calls))
	for id := range e.mu.calls {
		ids = append(ids, id)
	}
	e.mu.Unlock()
	slices.Sort(ids)
	if req.Limit > 0 && len(ids) > req.Limit {
		ids = ids[:req.Limit]
	}
	return &ng.Response{Result: ng.ResultOK, Calls: ids}, nil
}

// Ping says that the node lives.
func (e *Engine) Ping(context.Context, *ng.Request) (*ng.Response, error) {
	return &ng.Response{Result: ng.ResultPong}, nil
}

// info describes the call; c.mu is held.
func (c *call) info() ng.CallInfo {
	info := ng.CallInfo{Created: c.created, LastSignal: c.lastSignal, Joined: c.joinedWith()}
	for _, d := range c.dialogs {
		for side := range d.parties {
			p := &d.parties[side]
			tag := ng.TagInfo{Tag: p.tag(), InDialogueWith: d.parties[1-side].tag(), Label: p.label, Created: p.created}
			for i, s := range d.streams {
				if s == nil {
					continue
				}
				m := s.info(side, d.offer, i)
				for _, st := range m.Streams {
					total := &info.Totals.RTP
					if st.RTCP {
						total = &info.Totals.RTCP
					}
					total.Packets += st.Stats.Packets
					total.Bytes += st.Stats.Bytes
					total.Errors += st.Stats.Errors
					total.Lost += st.Stats.Lost
				}
				tag.Medias = append(tag.Medias, m)
			}
			if !p.absent {
				info.Tags = append(info.Tags, tag)
			}
		}
	}
	for _, sub := range c.subscriptions {
		info.Tags = append(info.Tags, sub.info())
	}
	return info
}

// info describes one m= line of one party.
func (s *stream) info(side int, o *offer, index int) ng.MediaInfo {
	l := &s.legs[side]
	m := ng.MediaInfo{Index: index + 1, Protocol: l.far.proto, Interface: l.network.Name}
	if o != nil && index < len(o.media) {
		m.Type = o.media[index].kind
	}
	suite := ""
	if r := s.route.Load(); r != nil {
		m.Codec = r.names[side]
		if f := &r.flows[side]; f.rx != nil {
			suite = f.rx.suite.String()
		} else if f.dtls != nil {
			suite = srtpSuite(f.dtls.suite.Load()).String()
		}
	}
	n := s.worker.table.Counters(s, side)
	rtp := ng.StreamInfo{
		LocalPort: int(l.number), Advertised: l.far.rtp, Endpoint: l.far.rtp, Crypto: suite, SSRC: n.SSRC, LastPacket: n.Last,
	}
	if n.Source.IsValid() {
		rtp.Endpoint, rtp.Latched = n.Source, true
	}
	packets := int64(n.RTP.Packets)
	rtp.Stats = ng.StreamStats{
		Packets: packets, Bytes: int64(n.RTP.Bytes), Errors: int64(n.Drops), Lost: n.Lost, Jitter: n.Jitter,
		RoundTrip: n.Trip, MOS: mos(m.Codec, packets, n.Lost, n.Jitter, n.Trip),
	}
	rtcp := ng.StreamInfo{
		RTCP: true, LocalPort: int(l.localRTCP()), Advertised: l.far.rtcp, Endpoint: l.far.rtcp, Crypto: suite,
		Stats: ng.StreamStats{Packets: int64(n.RTCP.Packets), Bytes: int64(n.RTCP.Bytes)},
	}
	if l.far.mux {
		rtcp.LocalPort, rtcp.Endpoint = rtp.LocalPort, rtp.Endpoint
	}
	m.Streams = []ng.StreamInfo{rtp, rtcp}
	return m
}
