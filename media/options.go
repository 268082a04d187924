package media

import (
	"net/netip"

	"rtcedge/media/ng"
)

// What an offer or answer says of the call as a whole.

// callOptions hold for all streams of a call, also those that a later offer adds. A record of the call has them.
type callOptions struct {
	TOS      *int `json:"tos,omitempty"` // nil is the node's
	Dropping bool `json:"dropping,omitempty"`
	// Callback is the address of the controller that is told when the call times out.
	Callback netip.Addr `json:"callback,omitzero"`
}

// take reads the keys TOS and drop-traffic. As in rtpengine a missing TOS means the node's, and stop wins over start.
func (o *callOptions) take(req *ng.Request) {
	switch {
	case req.TOS == nil:
		o.TOS = nil
	case *req.TOS >= 0:
		o.TOS = req.TOS
	}
	switch req.DropTraffic {
	case "start":
		o.Dropping = true
	case "stop":
		o.Dropping = false
	}
}

// apply makes the streams do what the options say; c.mu is held.
func (c *call) apply() {
	tos := c.worker.table.socket.TOS
	if c.options.TOS != nil {
		tos = *c.options.TOS
	}
	for _, d := range c.dialogs {
		c.options.applyTo(d, tos)
	}
	for _, sub := range c.subscriptions {
		c.options.applyTo(sub.dialog, tos)
	}
}

func (o *callOptions) applyTo(d *dialog, tos int) {
	for _, s := range d.streams {
		if s == nil {
			continue
		}
		for i := range s.legs {
			l := &s.legs[i]
			if o.Dropping {
				l.gate.Or(gateAll)
			} else {
				l.gate.And(^gateAll)
			}
			l.mark(tos)
		}
	}
}

// mark sets the traffic class of what goes to the party. A system that does not let us leaves the packets as they are.
func (l *leg) mark(tos int) {
	if l.tos == tos || l.pool == nil {
		return
	}
	l.tos = tos
	l.stream.worker.loop.Do(func() {
		for _, p := range []*port{l.rtp, l.rtcp} {
			if p.conn != nil {
				_ = p.conn.SetTOS(tos)
			}
		}
	})
}
