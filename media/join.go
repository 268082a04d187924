package media

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rtcedge/media/ng"
)

// Joining two calls: the party of each that stays hears the other while the ones they spoke with are away. The streams are crossed
// where the absent ones would be: what a stream would send to its own absent party enters the other stream as if that one's absent
// party had sent it (joint.go). So each party keeps the port, the SSRC, the numbering, the keys and the codec that it knows, and
// neither is signalled anything.

// Join joins the calls call-id and other-call-id.
func (e *Engine) Join(req *ng.Request) (*ng.Response, error) {
	switch {
	case req.CallID == "" || req.OtherCallID == "":
		return nil, errors.New("join: call-id and other-call-id are needed")
	case req.CallID == req.OtherCallID:
		return nil, errors.New("join: call-id and other-call-id are the same; two calls can be joined")
	}
	var ends [2]joinEnd
	var err error
	if ends[0], err = e.joinEndOf(req.CallID, req.FromTag, req.Answered, "call-id", "from-tag"); err != nil {
		return nil, err
	}
	if ends[1], err = e.joinEndOf(req.OtherCallID, req.OtherTag, req.OtherAnswered, "other-call-id", "other-tag"); err != nil {
		return nil, err
	}
	j := &junction{calls: [2]string{req.CallID, req.OtherCallID}}
	for i := range ends {
		a, b := &ends[i], &ends[1-i]
		j.joints[i] = &joint{junction: j, stream: a.stream, away: a.away, route: a.route, other: b.stream, otherAway: b.away}
		// The worker makes the table of types again if a route changes; here it shows that there is one.
		if err := new(crossing).make(a.route, a.away, b.route, b.away, e.cfg.OpusComplexity); err != nil {
			return nil, fmt.Errorf("join: from %q to %q: %w", a.call.id, b.call.id, err)
		}
	}
	for i := range ends {
		if err := ends[i].enter(j); err != nil {
			j.end()
			return nil, err
		}
	}
	for i := range ends {
		x := j.joints[i]
		x.stream.worker.loop.Do(x.begin)
	}
	for i := range ends {
		e.changed(ends[i].call.id)
	}
	return &ng.Response{Result: ng.ResultOK}, nil
}

// joinEnd is the stream of one call that is joined.
type joinEnd struct {
	call   *call
	dialog *dialog
	stream *stream
	route  *route
	away   int // side of the party that is away
}

// joinEndOf finds the dialog of the party that stays, and its audio. With another answer than answered, if that is not 0, the party that was away is
// there again or about to be: a join that comes too late would take it for the one that has gone. The names of the keys are for the error.
func (e *Engine) joinEndOf(callID, tag string, answered int64, callKey, tagKey string) (joinEnd, error) {
	c, err := e.lock(callID, false)
	if err != nil {
		return joinEnd{}, err
	}
	if c == nil {
		return joinEnd{}, fmt.Errorf("join: unknown call-id %q in %s: both calls must be on this node", callID, callKey)
	}
	defer c.mu.Unlock()
	d, stays, err := c.staying(tag)
	if err != nil {
		return joinEnd{}, fmt.Errorf("join: %s %q: %w; give %s", callKey, callID, err, tagKey)
	}
	s, r := d.audio()
	switch {
	case s == nil:
		return joinEnd{}, fmt.Errorf("join: %s %q has no audio that was answered", callKey, callID)
	case answered != 0 && answered != r.at.UnixNano():
		return joinEnd{}, fmt.Errorf("join: %s %q has had another answer meanwhile", callKey, callID)
	}
	return joinEnd{call: c, dialog: d, stream: s, route: r, away: 1 - stays}, nil
}

// audio is the first stream of voice that was answered, with its route. The call's mu is held.
func (d *dialog) audio() (*stream, *route) {
	for _, s := range d.streams {
		if s == nil {
			continue
		}
		if r := s.route.Load(); r != nil && !r.raw && !r.plain {
			return s, r
		}
	}
	return nil, nil
}

// Heard tells of the party that may be away: when it was heard first after the answer that counts, and which one that is.
func (e *Engine) Heard(req *ng.Request) (*ng.Response, error) {
	c, err := e.lock(req.CallID, false)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, errors.New("heard: unknown call-id")
	}
	defer c.mu.Unlock()
	d, stays, err := c.staying(req.FromTag)
	if err != nil {
		return nil, fmt.Errorf("heard: %w; give from-tag", err)
	}
	s, r := d.audio()
	if s == nil {
		return nil, fmt.Errorf("heard: call %q has no audio that was answered", c.id)
	}
	now := e.cfg.Now()
	heard := &ng.Heard{Answered: r.at.UnixNano(), Age: now.Sub(r.at), Since: -1}
	if first := s.legs[1-stays].in.first.Load(); first != 0 && s.adopted.Load() == heard.Answered {
		heard.Since = max(0, now.Sub(time.Unix(0, first)))
	}
	return &ng.Response{Result: ng.ResultOK, Heard: heard}, nil
}

// staying finds the party with the tag. Without one it is that on the outer one of two different interfaces, else that of which a
// packet came last. c.mu is held.
func (c *call) staying(tag string) (*dialog, int, error) {
	if tag != "" {
		for _, d := range c.dialogs {
			for side := range d.parties {
				if d.parties[side].has(tag) {
					return d, side, nil
				}
			}
		}
		return nil, 0, fmt.Errorf("no party has the tag %q", tag)
	}
	if len(c.dialogs) != 1 {
		return nil, 0, fmt.Errorf("of %d dialogs one must be chosen", len(c.dialogs))
	}
	d := c.dialogs[0]
	if a, b := d.parties[0].network.inside(), d.parties[1].network.inside(); a != b {
		if a {
			return d, 1, nil
		}
		return d, 0, nil
	}
	var last [2]int64
	for _, s := range d.streams {
		for side := range last {
			if s != nil {
				last[side] = max(last[side], s.legs[side].in.last.Load())
			}
		}
	}
	switch {
	case last[0] > last[1]:
		return d, 0, nil
	case last[1] > last[0]:
		return d, 1, nil
	}
	return nil, 0, errors.New("no party was heard, so it is open which one stays")
}

// enter notes the junction in the dialog, in place of a former one.
func (x *joinEnd) enter(j *junction) error {
	x.call.mu.Lock()
	defer x.call.mu.Unlock()
	if x.call.closed {
		return fmt.Errorf("join: call %q has ended", x.call.id)
	}
	x.dialog.joined.end()
	x.dialog.joined = j
	return nil
}

// Unjoin ends the junction of a call, on both sides. One that has ended by itself is no error.
func (e *Engine) Unjoin(req *ng.Request) (*ng.Response, error) {
	live := false
	resp, err := e.withCall(req, func(c *call) error {
		for _, d := range c.dialogs {
			live = live || d.joined.lives()
			d.joined.end()
			d.joined = nil
		}
		return nil
	})
	if err == nil && !live {
		resp.Warning = "the call was not joined, or not any more"
	}
	return resp, err
}

// joinedWith is the other call of a junction that lives; c.mu is held.
func (c *call) joinedWith() string {
	for _, d := range c.dialogs {
		if j := d.joined; j.lives() {
			if j.calls[0] == c.id {
				return j.calls[1]
			}
			return j.calls[0]
		}
	}
	return ""
}

// source is where the absent party sent from; it belongs to the worker.
func (x *joint) source() netip.AddrPort {
	if src := x.stream.legs[x.away].latch.Source(); src.IsValid() {
		return src
	}
	return x.route.flows[x.away].source.Expected
}
