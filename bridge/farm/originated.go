package farm

import (
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
)

// onOriginated takes a response to an originated INVITE. It runs on the call's goroutine.
func (c *call) onOriginated(l *leg, res *sipmsg.Response) {
	n := c.farm.node
	switch {
	case l.state == legEnded:
	case res.IsProvisional():
		l.early = true
		if l.cancel {
			c.sendCancel(l)
			return
		}
		if res.StatusCode > 100 && l.state == legCalling {
			l.state = legRinging
			n.rings(c.channel)
		}
	case res.IsSuccess():
		c.originated(l, res)
	default:
		if contact := res.Contact(); contact != nil && res.StatusCode/100 == 3 {
			n.forwarded(c.channel, contact.Address.User)
		}
		c.onOriginateFailed(l, res.StatusCode)
	}
}

// originated brings an answered call under control.
func (c *call) originated(l *leg, res *sipmsg.Response) {
	l.d.confirm(res)
	l.giveUp, c.ringUntil = time.Time{}, time.Time{}
	l.state = legUp
	c.sendAck(l)
	if l.cancel {
		c.sendBye(l)
		return
	}
	remote, err := l.neg.accept(res.Body())
	if err != nil {
		l.cause = causeOfStatus(488)
		c.sendBye(l)
		c.farm.node.lose(c.channel, l.cause)
		return
	}
	l.stream.setRemote(remote)
	l.held = !remote.dir.Receives()
	c.answered = time.Now()
	c.farm.node.answeredFar(c.channel, l.held)
}

func (c *call) sendAck(l *leg) {
	ack := l.d.ack(l.invite)
	l.ack.Store(ack.Clone())
	c.farm.write(ack)
}

// onRepeated answers a repeated 2xx with the same ACK. It runs on sipgo's goroutine.
func (c *call) onRepeated(l *leg, res *sipmsg.Response) {
	if tag, ok := res.To().Params.Get("tag"); ok && l.ack.Load() != nil {
		if own, _ := l.ack.Load().To().Params.Get("tag"); own != tag {
			c.post(event{kind: evStray, res: res})
			return
		}
	}
	if ack := l.ack.Load(); ack != nil {
		c.farm.write(ack.Clone())
	}
}

// onStray ends a second dialog that a fork downstream made of our INVITE (RFC 3261, section 13.2.2.4).
func (c *call) onStray(l *leg, res *sipmsg.Response) {
	d := l.d
	d.confirm(res)
	c.farm.write(d.ack(l.invite))
	c.farm.transact(d.request(sipmsg.BYE, "", nil), nil, nil, func(*sipmsg.Response) {})
}

// onOriginateFailed ends an originated call that was not answered. A dialog that was taken over is there all the same, so
// that the far end gets a BYE in it (B50, B61), unless it does not know it, or is only busy with an offer of its own.
func (c *call) onOriginateFailed(l *leg, status int) {
	if l.state == legEnded {
		return
	}
	c.ringUntil = time.Time{}
	cause := causeOfStatus(status)
	if l.cancel {
		cause = l.cause
	}
	c.farm.node.lose(c.channel, cause)
	if l.d.frozen && status != 481 && status != 491 {
		l.cause = cause
		c.sendBye(l)
		return
	}
	l.end()
}

// forwarded tells where a 302 points, as Asterisk does before it ends the channel (redirect_method=user). Who controls the call follows it.
func (n *node) forwarded(ch *channel, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch == nil || ch.gone {
		return
	}
	ch.dial = false
	n.farm.ari.Publish("Dial", map[string]any{"peer": ch.shown(), "dialstatus": "CANCEL", "dialstring": ch.target, "forward": to}, "channel:"+ch.id)
}

// rings tells that the far end of an originated call rings.
func (n *node) rings(ch *channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch.gone {
		return
	}
	n.tellDial(ch, "RINGING")
	n.become(ch, ari.StateRinging)
}

// answeredFar puts an originated call under control.
func (n *node) answeredFar(ch *channel, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch.gone {
		return
	}
	ch.dial, ch.farHeld = false, held
	n.become(ch, ari.StateUp)
	n.tellDial(ch, "ANSWER")
	n.start(ch)
	n.rewire(ch)
}

// causeOfStatus is the Q.850 cause of a refused INVITE (hangup_sip2cause in chan_pjsip.c).
func causeOfStatus(status int) int {
	causes := map[int]int{
		401: 21, 402: 21, 403: 21, 407: 21, 603: 21, 404: 1, 485: 1, 604: 1, 408: 18, 409: 41, 410: 22, 480: 19, 483: 19,
		484: 28, 486: 17, 600: 17, 488: 58, 606: 58, 500: 38, 501: 79, 502: 27, 504: 102, 420: 3, 414: 3, 413: 3, 405: 3,
		487: 16, 481: 127, 491: 127,
	}
	if cause, ok := causes[status]; ok {
		return cause
	}
	switch {
	case status >= 500 && status < 600:
		return 34
	default:
		return 127
	}
}

// causeText is a Q.850 cause in words (ast_cause2str).
func causeText(cause int) string {
	texts := map[int]string{
		0: "Unknown", 1: "Unallocated (unassigned) number", 16: "Normal Clearing", 17: "User busy", 18: "No user responding",
		19: "User alerting, no answer", 21: "Call Rejected", 26: "Answered elsewhere", 28: "Invalid number format",
		34: "Circuit/channel congestion", 38: "Network out of order", 58: "Bearer capability not available",
		127: "Interworking, unspecified",
	}
	if text, ok := texts[cause]; ok {
		return text
	}
	return "Unknown"
}
