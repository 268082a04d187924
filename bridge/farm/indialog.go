package farm

import (
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// onDialogRequest answers a request in a dialog of the call. tx is nil for ACK.
func (c *call) onDialogRequest(l *leg, req *sipmsg.Request, tx *sipmsg.ServerTx) {
	f := c.farm
	if req.Method == sipmsg.ACK {
		c.onAck(l, req)
		return
	}
	if tag, _ := req.From().Params.Get("tag"); l.state == legEnded || tag != l.d.remoteTag {
		f.respond(tx, req, 481, "Call/Transaction Does Not Exist")
		return
	}
	seq := req.CSeq().SeqNo
	if seq < l.d.remoteSeq {
		f.respond(tx, req, 500, "CSeq Out Of Order") // RFC 3261, section 12.2.2
		return
	}
	l.d.remoteSeq = seq
	switch req.Method {
	case sipmsg.BYE:
		f.respond(tx, req, 200, "OK")
		c.onBye(l)
	case sipmsg.INVITE, sipmsg.UPDATE:
		c.onModify(l, req, tx)
	case sipmsg.INFO:
		f.respond(tx, req, 200, "OK")
		c.infoKey(req)
	case sipmsg.NOTIFY:
		f.respond(tx, req, 200, "OK") // how our REFER goes (RFC 3515): the far end's BYE tells enough
	case sipmsg.REFER:
		c.onRefer(l, req, tx)
	case sipmsg.OPTIONS:
		f.respond(tx, req, 200, "OK", capabilities()...)
	case sipmsg.CANCEL:
		// Of a re-INVITE that was answered at once: too late to have an effect (RFC 3261, section 9.2).
		f.respond(tx, req, 200, "OK")
	default:
		f.respond(tx, req, 405, "Method Not Allowed", allowHeader())
	}
}

func (c *call) onAck(l *leg, req *sipmsg.Request) {
	u := l.unacked
	if !u.pending() || req.CSeq().SeqNo != u.seq {
		return
	}
	l.unacked = unacked{}
	if u.offer && !l.bye {
		// The offer went out in the 2xx, the answer is here; without one there is no session.
		remote, err := l.neg.accept(req.Body())
		if err != nil {
			c.hangupAll(488)
			return
		}
		l.stream.setRemote(remote)
		l.held = !remote.dir.Receives()
		c.link()
	}
	if l.bye {
		c.sendBye(l)
	}
}

// onBye ends the call: a call ends at one participant (B38).
func (c *call) onBye(l *leg) {
	early := l.state < legUp && l.incoming
	if early {
		// A caller may end an early dialog with BYE (RFC 3261, section 15); its INVITE still needs an answer.
		c.farm.respond(l.tx, l.invite, 487, "Request Terminated")
	}
	c.farm.node.hangupAsked(c.channel, causeNormal, nil)
	l.end()
	c.hangupAll(480)
}

// onModify answers a re-INVITE or an UPDATE: hold, resume, another address, or only a refresh. Nobody else is asked: the media ends here.
func (c *call) onModify(l *leg, req *sipmsg.Request, tx *sipmsg.ServerTx) {
	f, body := c.farm, req.Body()
	switch {
	case l.state >= legEnding || l.bye:
		f.respond(tx, req, 481, "Call/Transaction Does Not Exist")
		return
	case l.state != legUp && len(body) > 0:
		// RFC 3311, section 5.2: our answer to the first offer is still to come.
		f.respond(tx, req, 500, "Answer Pending", sipmsg.NewHeader("Retry-After", "5"))
		return
	}
	l.d.refreshTarget(req)
	if len(body) == 0 {
		if req.Method == sipmsg.UPDATE {
			f.respond(tx, req, 200, "OK", sipmsg.NewHeader("Contact", l.d.contact()), allowHeader())
		} else {
			l.accept(tx, req, l.neg.offer(), true)
		}
		return
	}
	remote, answer, err := l.neg.answer(body)
	if err != nil {
		f.respond(tx, req, 488, "Not Acceptable Here") // the session stays as it was (RFC 3261, section 14.2)
		return
	}
	// Media first: who has our 200 may count on it.
	l.stream.setRemote(remote)
	l.held = !remote.dir.Receives()
	c.link()
	l.accept(tx, req, answer, false)
}

// sendCancel asks the far end to stop ringing, as soon as it may be asked.
func (c *call) sendCancel(l *leg) {
	if !l.early || !l.giveUp.IsZero() {
		return // later, with the first provisional response; without any, sipgo's timer B ends the leg
	}
	l.giveUp = time.Now().Add(timeoutFactor * c.farm.cfg.T1)
	c.farm.transact(l.d.cancel(l.invite), nil, nil, func(*sipmsg.Response) {})
}

// infoKey takes a key that came by INFO (application/dtmf-relay: Signal=5, Duration=160; application/dtmf: 5).
func (c *call) infoKey(req *sipmsg.Request) {
	h := req.ContentType()
	if h == nil || !strings.HasPrefix(strings.ToLower(h.Value()), "application/dtmf") {
		return
	}
	digit, ms := strings.TrimSpace(string(req.Body())), 100
	for line := range strings.Lines(string(req.Body())) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "signal":
			digit = strings.TrimSpace(value)
		case "duration":
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n > 0 && n < 60000 {
				ms = n
			}
		}
	}
	digit = strings.ToUpper(digit)
	if len(digit) == 1 && strings.Contains(keyNames, digit) {
		c.farm.node.later(func() { c.farm.node.pressed(c.channel, digit, ms) })
	}
}
