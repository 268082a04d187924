package farm

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Numbers, fixed by the design (see the package doc).
const (
	echoNumber  = "600"
	musicNumber = "601"
)

// T2 and the patience for an ACK in terms of T1 (RFC 3261, section 13.3.1.4).
const (
	t2Factor      = 8
	timeoutFactor = 64
)

// Q.850 causes that are looked at.
const (
	causeNormal   = 16
	causeBusy     = 17
	causeNoReply  = 18
	causeNoAnswer = 19
	causeRejected = 21
)

type eventKind uint8

const (
	evRequest  eventKind = iota // a request in one of our dialogs
	evResponse                  // to the INVITE of an originated call
	evGone                      // that INVITE's transaction ended without a final response
	evByeDone                   // our BYE was answered, or never will be
	evStray                     // a 2xx of another branch of a fork downstream
	evHangup                    // asked for by ARI
	evDo                        // something that ARI wants done by the owner of the call
)

// event is what happens to a call. Which fields are set depends on its kind.
type event struct {
	kind  eventKind
	req   *sipmsg.Request
	tx    *sipmsg.ServerTx
	res   *sipmsg.Response
	cause int
	do    func()
}

// call is one dialog with a far end, and the channel that ARI sees of it. Its goroutine (run) owns all of it but what is marked.
type call struct {
	// Constant once run has begun.
	farm      *Farm
	number    string // dialled, or called
	place     string // of an incoming one that no application gets: echo or music
	started   time.Time
	leg       *leg
	channel   *channel      // of an incoming one, set by begin
	events    chan event    // unbuffered: an event that was taken is handled
	cancelled chan struct{} // the caller's CANCEL; sipgo has answered it
	done      chan struct{} // closed when run has ended

	view atomic.Pointer[callView] // for readers from outside

	offered   []byte    // our answer to the caller, kept until the application answers
	ringUntil time.Time // zero when nobody rings
	answered  time.Time
}

// callView is a consistent picture of a call.
type callView struct {
	answered time.Time
	callID   string
	from, to string
	state    legState
}

// post hands an event to the call; false if it has ended. It waits until the call takes it.
func (c *call) post(ev event) bool {
	select {
	case c.events <- ev:
		return true
	case <-c.done:
		return false
	}
}

// run owns the call from its INVITE to the last BYE.
func (c *call) run() {
	f := c.farm
	defer f.forgetCall(c)
	defer close(c.done)
	c.begin()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	draining := f.draining
	defer func() { f.node.lose(c.channel, 0) }()
	for c.leg.state != legEnded {
		c.publish()
		if at := c.deadline(); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case ev := <-c.events:
			c.handle(ev)
		case <-c.cancelled:
			c.callerCancelled()
		case <-timer.C:
			c.onTime(time.Now())
		case <-draining:
			draining = nil
			c.hangupAll(503)
		case <-f.life.Done():
			c.leg.end()
		}
	}
}

// begin hands a call that came in to the application, or answers it when that is away and the number needs none.
func (c *call) begin() {
	l := c.leg
	if !l.incoming {
		return
	}
	if body := l.invite.Body(); len(body) > 0 {
		remote, answer, err := l.neg.answer(body)
		if err != nil {
			c.refuseCaller(488, "Not Acceptable Here")
			return
		}
		l.stream.setRemote(remote)
		l.held = !remote.dir.Receives()
		c.offered = answer
	}
	c.farm.node.arrive(c)
	if c.place != "" {
		c.answerCaller()
	}
}

// link lets the channel follow the far end's hold.
func (c *call) link() { c.farm.node.linked(c.channel, c.leg.held) }

// answerCaller sends the 2xx of the call's INVITE. It is false if the caller has cancelled.
func (c *call) answerCaller() bool {
	l := c.leg
	body, ours := c.offered, false
	if body == nil {
		body, ours = l.neg.offer(), true // RFC 3261, section 13.2.1: the INVITE had no offer
	}
	before := l.state
	l.state, c.answered = legUp, time.Now()
	c.link() // media first: who has our 200 may count on it
	c.publish()
	if !l.accept(l.tx, l.invite, body, ours) {
		l.silence()
		l.state, c.answered = before, time.Time{}
		return false
	}
	c.farm.node.up(c.channel)
	return true
}

// accept sends a 2xx with an SDP to an INVITE and expects its ACK.
func (l *leg) accept(tx *sipmsg.ServerTx, req *sipmsg.Request, body []byte, ourOffer bool) bool {
	res := sipmsg.NewResponseFromRequest(req, 200, "OK", body)
	for _, h := range append(capabilities(), sipmsg.NewHeader("Contact", l.d.contact()),
		sipmsg.NewHeader("Content-Type", "application/sdp"), sipmsg.NewHeader("Server", userAgent)) {
		res.AppendHeader(h)
	}
	if err := tx.Respond(res); err != nil {
		return false
	}
	if req.Method == sipmsg.INVITE {
		t1, now := l.call.farm.cfg.T1, time.Now()
		l.unacked = unacked{
			tx: tx, res: res, seq: req.CSeq().SeqNo, offer: ourOffer,
			again: now.Add(t1), until: now.Add(timeoutFactor * t1), step: t1,
		}
	}
	return true
}

// refuseCaller ends the caller's INVITE with a final response, if it has none yet.
func (c *call) refuseCaller(status int, reason string) {
	l := c.leg
	if !l.incoming || l.state != legCalling && l.state != legRinging {
		return
	}
	c.farm.refuse(l.tx, l.invite, status, reason)
	l.end()
}

// callerCancelled ends a call whose caller gave up; sipgo has answered the CANCEL and sent 487.
func (c *call) callerCancelled() {
	if l := c.leg; l.state == legCalling || l.state == legRinging {
		c.farm.node.hangupAsked(c.channel, causeNormal, nil)
		l.end()
	}
}

// hangupAll ends the call; an INVITE that waits for an answer gets this status.
func (c *call) hangupAll(status int) {
	c.ringUntil = time.Time{}
	c.refuseCaller(status, reasonOf(status))
	c.hangup(c.leg)
	c.farm.node.lose(c.channel, 0) // a channel goes at once, its dialog when the far end has answered
}

// hangup ends one leg as its state demands: CANCEL, BYE, or BYE after the ACK.
func (c *call) hangup(l *leg) {
	switch {
	case l.state == legUnopened:
		l.end()
	case l.state >= legEnding:
	case l.state == legUp && l.incoming && l.unacked.res != nil && !c.farm.isDraining():
		// RFC 3261, section 15: no BYE before the ACK, or before waiting for it ends.
		l.silence()
		l.bye = true
	case l.state == legUp:
		c.sendBye(l)
	case !l.incoming:
		l.cancel = true
		c.sendCancel(l)
	}
}

func (c *call) sendBye(l *leg) {
	l.silence()
	l.unacked = unacked{}
	l.state = legEnding
	req := l.d.request(sipmsg.BYE, "", nil)
	req.AppendHeader(sipmsg.NewHeader("Reason", "Q.850;cause="+strconv.Itoa(l.cause))) // RFC 3326
	c.farm.transact(req, nil, nil, func(res *sipmsg.Response) {
		if res == nil || !res.IsProvisional() {
			c.post(event{kind: evByeDone})
		}
	})
}

func (c *call) handle(ev event) {
	l := c.leg
	switch ev.kind {
	case evRequest:
		c.onDialogRequest(l, ev.req, ev.tx)
	case evResponse:
		c.onOriginated(l, ev.res)
	case evGone:
		c.onOriginateFailed(l, 408)
	case evByeDone:
		l.end()
	case evStray:
		c.onStray(l, ev.res)
	case evHangup:
		l.cause = ev.cause
		c.hangupAll(statusOf(ev.cause))
	case evDo:
		ev.do()
	}
}

// deadline is when onTime has something to do; zero is never.
func (c *call) deadline() time.Time {
	at := c.ringUntil
	for _, t := range []time.Time{c.leg.unacked.again, c.leg.unacked.until, c.leg.giveUp} {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

func (c *call) onTime(now time.Time) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if due(c.ringUntil) {
		c.farm.node.lose(c.channel, causeNoAnswer)
		c.hangupAll(480)
	}
	l := c.leg
	switch u := &l.unacked; {
	case due(u.until):
		// RFC 3261, section 13.3.1.4: without an ACK the dialog is there, but the session ends.
		l.unacked = unacked{}
		c.hangupAll(408)
	case due(u.again):
		u.step = min(2*u.step, t2Factor*c.farm.cfg.T1)
		u.again = now.Add(u.step)
		if err := u.tx.Respond(u.res); err != nil {
			c.farm.cfg.Logger.Debug("repeat 2xx", "call_id", l.d.callID, "error", err)
		}
	}
	if due(l.giveUp) {
		close(l.forget)
		l.giveUp = time.Time{}
		l.end()
	}
}

// publish makes the call's state visible to Calls.
func (c *call) publish() {
	l := c.leg
	v := &callView{answered: c.answered, callID: l.d.callID, from: l.d.remote, to: l.d.localName, state: l.state}
	if !l.incoming {
		v.from, v.to = v.to, v.from
	}
	c.view.Store(v)
}

func channelName(number string, serial uint64) string {
	s := strconv.FormatUint(serial, 16)
	return "PJSIP/" + number + "-" + strings.Repeat("0", max(0, 8-len(s))) + s
}

// statusOf is the response to an INVITE that ends with a Q.850 cause (hangup_cause2sip in chan_pjsip.c).
func statusOf(cause int) int {
	switch cause {
	case 1:
		return 404
	case causeBusy:
		return 486
	case causeNoReply:
		return 408
	case causeRejected:
		return 403
	case 58:
		return 488
	case 34, 38:
		return 503
	}
	return 480
}

func reasonOf(status int) string {
	switch status {
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 408:
		return "Request Timeout"
	case 480:
		return "Temporarily Unavailable"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 500:
		return "Server Internal Error"
	case 503:
		return "Service Unavailable"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	case 604:
		return "Does Not Exist Anywhere"
	case 606:
		return "Not Acceptable"
	}
	return "Call Failed"
}
