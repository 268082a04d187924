package farm

import (
	"slices"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Functions of this file occur in the order in which a request meets them.

// onRequest takes every request that is no retransmission. It runs on a goroutine of its own per request.
func (f *Farm) onRequest(req *sipmsg.Request, tx *sipmsg.ServerTx) {
	if !f.enter() {
		tx.Terminate()
		return
	}
	defer f.wg.Done()
	from, to := req.From(), req.To()
	if from == nil || to == nil || req.CallID() == nil || req.CSeq() == nil {
		f.refuse(tx, req, 400, "Missing Header Field")
		return
	}
	tag, _ := to.Params.Get("tag")
	switch {
	case tag != "":
		f.inDialog(req, tx, tag)
	case req.Method == sipmsg.ACK:
		tx.Terminate() // of nothing that we know
	case req.Method == sipmsg.INVITE:
		f.onInvite(req, tx)
	case req.Method == sipmsg.REGISTER:
		f.onRegister(req, tx)
	case req.Method == sipmsg.OPTIONS:
		f.respond(tx, req, 200, "OK", capabilities()...)
	case slices.Contains([]sipmsg.RequestMethod{sipmsg.BYE, sipmsg.CANCEL, sipmsg.UPDATE, sipmsg.INFO}, req.Method):
		f.respond(tx, req, 481, "Call/Transaction Does Not Exist")
	default:
		f.respond(tx, req, 405, "Method Not Allowed", allowHeader())
	}
}

// inDialog posts a request to the call that owns its dialog.
func (f *Farm) inDialog(req *sipmsg.Request, tx *sipmsg.ServerTx, tag string) {
	f.mu.Lock()
	l := f.dialogs[dialogID{req.CallID().Value(), tag}]
	f.mu.Unlock()
	if req.Method == sipmsg.ACK {
		// sipgo makes a transaction for the ACK of a 2xx, too, which nothing would end.
		tx.Terminate()
		if l != nil {
			l.call.post(event{kind: evRequest, req: req})
		}
		return
	}
	if l == nil || !l.call.post(event{kind: evRequest, req: req, tx: tx}) {
		f.respond(tx, req, 481, "Call/Transaction Does Not Exist")
	}
}

// onInvite makes a call of an INVITE outside of any dialog.
func (f *Farm) onInvite(req *sipmsg.Request, tx *sipmsg.ServerTx) {
	// 100 at once: behind a stateless edge nobody else sends it, and sipgo's own, which would come after 200 ms, is off.
	f.respond(tx, req, 100, "Trying")
	number := dialled(&req.Recipient)
	unknown := options(req, "Require")
	contentType := ""
	if h := req.ContentType(); h != nil {
		contentType = strings.ToLower(strings.TrimSpace(strings.Split(h.Value(), ";")[0]))
	}
	switch {
	case len(unknown) > 0:
		f.refuse(tx, req, 420, "Bad Extension", sipmsg.NewHeader("Unsupported", strings.Join(unknown, ", ")))
		return
	case number == "" || !f.has(RoleCall) && !f.has(RoleConference):
		f.refuse(tx, req, 404, "Not Found")
		return
	case req.Contact() == nil || req.Contact().Address.Host == "":
		f.refuse(tx, req, 400, "Missing Contact") // RFC 3261, section 8.1.1.8
		return
	case len(req.Body()) > 0 && contentType != "application/sdp":
		f.refuse(tx, req, 415, "Unsupported Media Type", sipmsg.NewHeader("Accept", "application/sdp"))
		return
	}
	place := ""
	if !f.node.takes() {
		if place = alone(number); place == "" {
			f.refuse(tx, req, 503, "Service Unavailable") // as our Asterisk nodes do: the edge may ask another node
			return
		}
	}
	c := f.newCall(number)
	if c == nil {
		f.refuse(tx, req, 503, "Service Unavailable", sipmsg.NewHeader("Retry-After", "10"))
		return
	}
	l, err := c.newLeg(true, req.From().Address.User)
	if err != nil {
		f.cfg.Logger.Warn("no media ports for a call", "error", err)
		close(c.done)
		f.forgetCall(c)
		f.refuse(tx, req, 503, "Service Unavailable", sipmsg.NewHeader("Retry-After", "10"))
		return
	}
	// All responses, sipgo's 487 too, carry the tag that the dialog is found by.
	tag := sipmsg.GenerateTagN(16)
	req.To().Params.Add("tag", tag)
	l.d = uasDialog(req, tag, f.arrivedOn(tx))
	l.invite, l.tx, l.protocolID = req, tx, l.d.callID
	c.place = place
	if !tx.OnCancel(func(*sipmsg.Request) {
		select { // sipgo holds the transaction's lock here
		case c.cancelled <- struct{}{}:
		default:
		}
	}) {
		c.cancelled <- struct{}{} // the CANCEL was faster
	}
	l.open()
	f.wg.Go(c.run)
}

// alone is what a node can do with a number when no application is there: the context of that name in our Asterisk nodes' dialplan.
func alone(number string) (place string) {
	switch number {
	case echoNumber:
		return placeEcho
	case musicNumber:
		return placeMusic
	}
	return ""
}

// dialled is the number or name in a Request-URI.
func dialled(uri *sipmsg.Uri) string {
	if uri.Scheme == "tel" {
		number, _, _ := strings.Cut(uri.Raw(), ";")
		return number
	}
	return uri.User
}

// arrivedOn is the listener that a request came by.
func (f *Farm) arrivedOn(tx *sipmsg.ServerTx) *listener {
	proto, local := "udp", tx.Connection().LocalAddr()
	if local.Network() == "tcp" {
		proto = "tcp"
	}
	for _, l := range f.listeners {
		if l.proto == proto && l.addr.String() == local.String() {
			return l
		}
	}
	return f.listenerFor(proto == "tcp")
}

// listenerFor is what requests to a next hop leave from.
func (f *Farm) listenerFor(tcp bool) *listener {
	for _, l := range f.listeners {
		if (l.proto == "tcp") == tcp {
			return l
		}
	}
	return f.listeners[0]
}

// refuse answers with a final response that is counted.
func (f *Farm) refuse(tx *sipmsg.ServerTx, req *sipmsg.Request, status int, reason string, extra ...sipmsg.Header) {
	f.stats.refused.Add(1)
	if req.IsAck() {
		tx.Terminate() // an ACK is never answered
		return
	}
	f.respond(tx, req, status, reason, extra...)
}

// respond sends a response without a body. A response that cannot be sent is one that was lost: the far end asks again.
func (f *Farm) respond(tx *sipmsg.ServerTx, req *sipmsg.Request, status int, reason string, extra ...sipmsg.Header) {
	res := sipmsg.NewResponseFromRequest(req, status, reason, nil)
	for _, h := range extra {
		res.AppendHeader(h)
	}
	res.AppendHeader(sipmsg.NewHeader("Server", userAgent))
	if err := tx.Respond(res); err != nil {
		f.cfg.Logger.Debug("respond", "call_id", callIDOf(req), "status", status, "error", err)
	}
}

func capabilities() []sipmsg.Header {
	return []sipmsg.Header{
		allowHeader(),
		sipmsg.NewHeader("Accept", "application/sdp, application/dtmf-relay"),
		sipmsg.NewHeader("Supported", "path"),
	}
}

// callIDOf is a request's Call-ID for the log; "" if it has none.
func callIDOf(req *sipmsg.Request) string {
	if h := req.CallID(); h != nil {
		return h.Value()
	}
	return ""
}
