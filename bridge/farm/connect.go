package farm

import (
	"fmt"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Functions of this file occur in the order in which a call to a user meets them.

// connect calls every contact of the user at once: the first 2xx wins.
func (c *call) connect() {
	f := c.farm
	if !f.knows(c.number) {
		c.refuseCaller(404, "Not Found")
		return
	}
	contacts := f.locations.contacts(c.number, time.Now())
	for _, b := range contacts {
		c.invite(b)
	}
	if len(c.legs) == 1 { // the caller's only
		c.refuseCaller(480, "Temporarily Unavailable")
		return
	}
	c.ringUntil = time.Now().Add(f.cfg.RingTimeout)
}

// invite makes a leg to one contact, by the Path that it was registered with.
func (c *call) invite(b binding) {
	f := c.farm
	way, err := f.wayTo(b)
	if err != nil {
		return
	}
	l, err := c.newLeg(false, c.number)
	if err != nil {
		f.cfg.Logger.Warn("no media ports for a contact", "error", err)
		return
	}
	from := c.caller.invite.From()
	to := c.caller.invite.To().Address
	l.d = dialog{
		callID:    f.newCallID(),
		localTag:  sipmsg.GenerateTagN(16),
		localName: nameAddr(from.DisplayName, &from.Address),
		remote:    nameAddr("", &to),
		target:    way.target,
		routes:    way.routes,
		via:       way.via,
		user:      from.Address.User,
		forwards:  c.forwards(),
	}
	l.protocolID = l.d.callID
	l.open()
	req := l.d.request(sipmsg.INVITE, "application/sdp", l.neg.offer())
	l.invite = req.Clone() // sipgo owns what it sends
	again := func(res *sipmsg.Response) { c.onRepeated(l, res) }
	f.transact(req, l.forget, again, func(res *sipmsg.Response) {
		if res == nil {
			c.post(event{kind: evGone, leg: l})
		} else {
			c.post(event{kind: evResponse, leg: l, res: res})
		}
	})
}

// way is how requests reach a contact.
type way struct {
	target sipmsg.Uri
	routes []string  // each with angle brackets
	via    *listener // what they leave from
}

// wayTo is the way to a registered contact.
func (f *Farm) wayTo(b binding) (way, error) {
	w := way{routes: b.path}
	if err := sipmsg.ParseUri(b.uri, &w.target); err != nil {
		return way{}, fmt.Errorf("read contact: %w", err)
	}
	if len(w.routes) == 0 && f.cfg.Edge.IsValid() {
		w.routes = []string{"<sip:" + f.cfg.Edge.String() + ";lr>"}
	}
	hop := w.target
	if len(w.routes) > 0 {
		if uri, err := routeURI(w.routes[0]); err == nil {
			hop = uri
		}
	}
	w.via = f.listenerFor(wantsTCP(&hop))
	return w, nil
}

// forwards is the caller's Max-Forwards less one: a contact that leads back here is a loop that nothing else ends.
func (c *call) forwards() uint32 {
	if h := c.caller.invite.MaxForwards(); h != nil && h.Val() <= 70 {
		return h.Val() - 1 // dispatch has refused 0 and 1
	}
	return 0
}

// onAnswer takes a response to the INVITE of an outgoing leg.
func (c *call) onAnswer(l *leg, res *sipmsg.Response) {
	if l.state == legEnded {
		return
	}
	switch {
	case res.IsProvisional():
		l.early = true
		if l.cancel {
			c.sendCancel(l)
			return
		}
		if res.StatusCode > 100 {
			c.ring(l)
		}
	case res.IsSuccess():
		c.onAccepted(l, res)
	default:
		c.onFailure(l, res.StatusCode)
	}
}

// ring tells the caller once that somebody rings.
func (c *call) ring(l *leg) {
	l.state = legRinging
	if caller := c.caller; caller.state == legCalling {
		caller.state = legRinging
		c.farm.respond(caller.tx, caller.invite, 180, "Ringing",
			sipmsg.NewHeader("Contact", caller.d.contact()), allowHeader())
	}
}

// onAccepted joins the first leg that answers to the caller; a later one, or one that was cancelled too late, gets BYE.
func (c *call) onAccepted(l *leg, res *sipmsg.Response) {
	l.d.confirm(res)
	l.giveUp = time.Time{}
	l.state = legUp
	c.sendAck(l)
	if l.cancel || c.callee != nil {
		c.sendBye(l)
		return
	}
	remote, err := l.neg.accept(res.Body())
	if err != nil {
		c.sendBye(l)
		c.failed(488)
		return
	}
	l.stream.setRemote(remote)
	l.held = !remote.dir.Receives()
	c.callee, c.ringUntil = l, time.Time{}
	for _, other := range c.legs {
		if other != l && !other.incoming {
			c.hangup(other)
		}
	}
	if !c.answerCaller() {
		c.caller.end() // cancelled in the same moment
		c.hangup(l)
	}
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
			c.post(event{kind: evStray, leg: l, res: res})
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

// onFailure ends an outgoing leg and, with the last one, the call.
func (c *call) onFailure(l *leg, status int) {
	if l.state == legEnded {
		return
	}
	l.end()
	if l.cancel || c.callee != nil {
		return
	}
	c.failed(status)
	if status >= 600 {
		// RFC 3261, section 16.7, step 5: nobody else is to be asked.
		c.hangupAll(status)
	}
}

// failed remembers the best of the failures and hands it to the caller when nobody is left.
func (c *call) failed(status int) {
	if c.worst == 0 || rank(status) < rank(c.worst) {
		c.worst = status
	}
	for _, l := range c.legs {
		if !l.incoming && l.state < legEnding {
			return
		}
	}
	c.hangupAll(passed(c.worst))
}

// rank orders failures: global ones, busy, then by class (RFC 3261, section 16.7, step 6).
func rank(status int) int {
	switch {
	case status >= 600:
		return 0
	case status == 486:
		return 1
	case status == 408:
		return 999 // silence says least
	}
	return status
}

// passed is the status that the caller gets. What concerns our request to the contact only (its challenge, its redirection,
// its route) is no business of the caller's: for it the user cannot be reached.
func passed(status int) int {
	switch {
	case status >= 600, status == 404, status == 480, status == 486, status == 488:
		return status
	case status == 415:
		return 488
	}
	return 480
}
