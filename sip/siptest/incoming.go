package siptest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Incoming is a call that waits for an answer. Its methods are for the goroutine of Config.OnCall.
type Incoming struct {
	ua       *UA
	req      *sipmsg.Request
	tx       sipmsg.ServerTransaction
	tag      string
	canceled chan struct{}
	once     sync.Once
	final    bool
}

// Offer is the body of the INVITE.
func (in *Incoming) Offer() []byte { return in.req.Body() }

// CallID is the Call-ID header field's value.
func (in *Incoming) CallID() string { return in.req.CallID().Value() }

// From is the URI of the From header field.
func (in *Incoming) From() string { return in.req.From().Address.String() }

// Header is the first value of a header field of the INVITE, empty where there is none.
func (in *Incoming) Header(name string) string {
	if h := in.req.GetHeader(name); h != nil {
		return h.Value()
	}
	return ""
}

// Canceled closes when the caller gave up before an answer.
func (in *Incoming) Canceled() <-chan struct{} { return in.canceled }

// Ring sends 180.
func (in *Incoming) Ring() error { return in.respond(180, "Ringing", nil) }

// Progress sends 183 with early media.
func (in *Incoming) Progress(sdp []byte) error { return in.respond(183, "Session Progress", sdp) }

// Reject sends a final answer that is not 2xx.
func (in *Incoming) Reject(code int, reason string) error {
	if code < 300 {
		return fmt.Errorf("reject: %d is no refusal", code)
	}
	return in.respond(code, reason, nil)
}

// Answer sends 200 with an SDP answer and returns the call when the ACK has come.
func (in *Incoming) Answer(ctx context.Context, sdp []byte) (*Call, error) {
	d, ok := dialogFromInvite(in.req, in.tag)
	if !ok {
		return nil, errors.New("answer: the INVITE lacks To, From or Contact")
	}
	c := &Call{
		ua: in.ua, dialog: d, localSDP: sdp, remoteSDP: in.req.Body(),
		done: make(chan struct{}), acked: make(chan struct{}),
	}
	// The dialog must be known before the 200 leaves, or a fast ACK finds nobody.
	if !in.ua.add(c) {
		return nil, errors.New("answer: the user agent is closing")
	}
	if err := in.respond(200, "OK", sdp); err != nil {
		c.end(false)
		in.ua.remove(c)
		return nil, fmt.Errorf("answer: %w", err)
	}
	if err := c.waitACK(ctx, func() error { return in.tx.Respond(in.response(200, "OK", sdp)) }); err != nil {
		return nil, err
	}
	return c, nil
}

func (in *Incoming) respond(code int, reason string, sdp []byte) error {
	if in.final {
		return errors.New("the call has its final answer")
	}
	if err := in.tx.Respond(in.response(code, reason, sdp)); err != nil {
		return fmt.Errorf("respond %d: %w", code, err)
	}
	in.final = code >= 200
	return nil
}

func (in *Incoming) response(code int, reason string, sdp []byte) *sipmsg.Response {
	return in.ua.response(in.req, in.tag, code, reason, sdp)
}

// response builds an answer to an INVITE with our tag and contact.
func (u *UA) response(req *sipmsg.Request, tag string, code int, reason string, sdp []byte) *sipmsg.Response {
	res := sipmsg.NewResponseFromRequest(req, code, reason, sdp)
	if tag != "" {
		to := res.To()
		to.Params.Remove("tag")
		to.Params.Add("tag", tag)
	}
	if code < 300 {
		res.AppendHeader(sipmsg.NewHeader("Contact", "<"+u.Contact()+">"))
	}
	if sdp != nil {
		res.AppendHeader(sipmsg.NewHeader("Content-Type", "application/sdp"))
	}
	return res
}

func (u *UA) handleInvite(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	if to := req.To(); to != nil && to.Params.Has("tag") {
		u.handleReinvite(req, tx)
		return
	}
	if req.From() == nil || req.To() == nil || req.CallID() == nil || req.CSeq() == nil {
		_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 400, "Bad Request", nil))
		return
	}
	if u.cfg.OnCall == nil {
		_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 486, "Busy Here", nil))
		return
	}
	in := &Incoming{ua: u, req: req, tx: tx, tag: newToken(), canceled: make(chan struct{})}
	if !tx.OnCancel(func(*sipmsg.Request) { in.once.Do(func() { close(in.canceled) }) }) {
		return
	}
	u.cfg.OnCall(u.ctx, in)
	select {
	case <-in.canceled:
	default:
		if !in.final {
			_ = in.Reject(480, "Temporarily Unavailable")
		}
	}
}

func (u *UA) handleReinvite(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	c := u.find(req)
	if c == nil {
		_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 481, "Call/Transaction Does Not Exist", nil))
		return
	}
	if !c.inOrder(req) {
		_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 500, "CSeq Out Of Order", nil))
		return
	}
	answer := c.LocalSDP()
	if u.cfg.OnReinvite != nil {
		answer = u.cfg.OnReinvite(c, req.Body())
	}
	if answer == nil {
		_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 488, "Not Acceptable Here", nil))
		return
	}
	c.mu.Lock()
	if contact := req.Contact(); contact != nil {
		c.dialog.target = *contact.Address.Clone()
	}
	if len(req.Body()) > 0 {
		c.remoteSDP = req.Body()
	}
	c.localSDP = answer
	c.acked = make(chan struct{})
	c.mu.Unlock()
	if err := tx.Respond(u.response(req, "", 200, "OK", answer)); err != nil {
		return
	}
	_ = c.waitACK(u.ctx, func() error { return tx.Respond(u.response(req, "", 200, "OK", answer)) })
}

func (u *UA) handleAck(req *sipmsg.Request, _ sipmsg.ServerTransaction) {
	c := u.find(req)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.acked: // a repeated one
	default:
		close(c.acked) // it may come before waitACK looks
	}
}

func (u *UA) handleBye(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	c := u.find(req)
	if c == nil {
		_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 481, "Call/Transaction Does Not Exist", nil))
		return
	}
	_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 200, "OK", nil))
	c.end(true)
	u.remove(c)
}

// handleCancel answers a CANCEL that matches no pending INVITE; the others are answered by sipgo.
func (u *UA) handleCancel(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	_ = tx.Respond(sipmsg.NewResponseFromRequest(req, 481, "Call/Transaction Does Not Exist", nil))
}

// handleOther accepts what needs no action: OPTIONS always, the rest inside a known dialog.
func (u *UA) handleOther(req *sipmsg.Request, tx sipmsg.ServerTransaction) {
	code, reason := 200, "OK"
	if to := req.To(); to != nil && to.Params.Has("tag") {
		switch c, s := u.find(req), u.subscription(req); {
		case c != nil:
			c.inOrder(req)
			if req.Method == sipmsg.NOTIFY && u.cfg.OnNotice != nil {
				u.cfg.OnNotice(c, noticeOf(req))
			}
		case s != nil:
			s.take(noticeOf(req))
		default:
			code, reason = 481, "Call/Transaction Does Not Exist"
		}
	}
	_ = tx.Respond(sipmsg.NewResponseFromRequest(req, code, reason, nil))
}
