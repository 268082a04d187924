package siptest

import (
	"context"
	"errors"
	"fmt"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// methods are what every user agent here understands.
const methods = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY, MESSAGE"

// cancelLimit bounds the wait for the 487 after a CANCEL, so that a lost one does not hang a test.
const cancelLimit = 5 * time.Second

// InviteOptions of one call; the zero value is a plain call.
type InviteOptions struct {
	// OnProvisional is told each 1xx with its body, nil where there is none.
	OnProvisional func(code int, sdp []byte)
	// Headers are added to the INVITE: name and value in turn.
	Headers [][2]string
}

// Invite calls target (a user of Domain or a full URI) with an SDP offer and returns once the ACK is sent. An answer
// other than 2xx is a *StatusError. If ctx ends before the answer, the call is cancelled; the error then is ctx's.
func (u *UA) Invite(ctx context.Context, target string, offer []byte, opts InviteOptions) (*Call, error) {
	uri := u.URI(target)
	req, err := u.newRequest(sipmsg.INVITE, uri, uri, newToken(), newToken(), 1)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	u.decorate(req, offer)
	for _, h := range opts.Headers {
		req.AppendHeader(sipmsg.NewHeader(h[0], h[1]))
	}
	start := time.Now()
	tx, req, res, err := u.invite(ctx, req, opts.OnProvisional)
	if err != nil {
		return nil, err
	}
	setup := time.Since(start)
	d, ok := dialogFromAnswer(req, res)
	if !ok {
		tx.Terminate()
		return nil, errors.New("invite: the answer lacks To, From or Contact")
	}
	c := &Call{ua: u, dialog: d, localSDP: offer, remoteSDP: res.Body(), setup: setup, done: make(chan struct{})}
	if err := c.acknowledge(req, tx); err != nil {
		tx.Terminate()
		return nil, err
	}
	c.tx = tx
	if !u.add(c) {
		tx.Terminate()
		return nil, errors.New("invite: the user agent is closing")
	}
	return c, nil
}

// decorate adds what every INVITE carries besides its addresses.
func (u *UA) decorate(req *sipmsg.Request, body []byte) {
	req.AppendHeader(sipmsg.NewHeader("Contact", "<"+u.Contact()+">"))
	req.AppendHeader(sipmsg.NewHeader("Allow", methods))
	if body != nil {
		req.AppendHeader(sipmsg.NewHeader("Content-Type", "application/sdp"))
	}
	req.SetBody(body)
}

// invite runs the INVITE transactions of one request up to a 2xx: challenges are answered with the same Call-ID and
// From tag, which is what ties the second INVITE to the media ports of the first. It returns the request that was
// answered.
func (u *UA) invite(ctx context.Context, req *sipmsg.Request, provisional func(int, []byte)) (*sipmsg.ClientTx, *sipmsg.Request, *sipmsg.Response, error) {
	for try := 0; ; try++ {
		u.stamp(req)
		tx, err := u.transact(ctx, req)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("invite: %w", err)
		}
		res, err := u.await(ctx, tx, req, provisional)
		if err != nil {
			tx.Terminate()
			return nil, nil, nil, err
		}
		if res.IsSuccess() {
			return tx, req, res, nil
		}
		// The old transaction keeps the old request: it repeats the ACK when the 401 is sent again.
		req = req.Clone()
		again, err := u.authorize(req, res, try)
		if err != nil {
			return nil, nil, nil, err
		}
		if !again {
			return nil, nil, nil, statusError(req, res)
		}
		req.CSeq().SeqNo++
	}
}

// await returns the final answer of an INVITE. When ctx ends it sends the CANCEL, after a provisional answer has come as
// RFC 3261 section 9.1 demands, and returns ctx's error once the transaction is over.
func (u *UA) await(ctx context.Context, tx *sipmsg.ClientTx, req *sipmsg.Request, provisional func(int, []byte)) (*sipmsg.Response, error) {
	early, unwanted, cancelled := false, false, false
	done := ctx.Done()
	var limit <-chan time.Time
	for {
		select {
		case res := <-tx.Responses():
			if res.IsProvisional() {
				early = true
				if provisional != nil {
					provisional(res.StatusCode, res.Body())
				}
				break
			}
			if !unwanted {
				return res, nil
			}
			if res.IsSuccess() {
				// The 200 crossed the CANCEL: the call stands and has to be hung up. RFC 3261 section 9.1.
				u.drop(req, res, tx)
			}
			return nil, fmt.Errorf("invite: %w", ctx.Err())
		case <-tx.Done():
			return nil, fmt.Errorf("invite: %w", txError(tx))
		case <-limit:
			return nil, fmt.Errorf("invite: no answer to the cancelled call: %w", ctx.Err())
		case <-u.ctx.Done():
			return nil, errors.New("invite: the user agent is closing")
		case <-done:
			done, unwanted = nil, true
			limit = time.After(cancelLimit)
		}
		if unwanted && early && !cancelled {
			cancelled = true
			if err := u.cancel(req); err != nil {
				return nil, err
			}
		}
	}
}

// cancel sends CANCEL for a pending INVITE: the same Via, Request-URI, tags and CSeq number. RFC 3261 section 9.1.
func (u *UA) cancel(req *sipmsg.Request) error {
	c := sipmsg.NewRequest(sipmsg.CANCEL, *req.Recipient.Clone())
	for _, h := range []sipmsg.Header{req.Via(), req.From(), req.To(), req.CallID()} {
		c.AppendHeader(sipmsg.HeaderClone(h))
	}
	forwards := sipmsg.MaxForwardsHeader(70)
	c.AppendHeader(&sipmsg.CSeqHeader{SeqNo: req.CSeq().SeqNo, MethodName: sipmsg.CANCEL})
	c.AppendHeader(&forwards)
	c.SetBody(nil)
	c.SetTransport(req.Transport())
	c.SetDestination(req.Destination())
	c.Laddr = req.Laddr
	ctx, stop := context.WithTimeout(u.ctx, cancelLimit)
	defer stop()
	res, err := u.roundTrip(ctx, c)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	if !res.IsSuccess() {
		return statusError(c, res)
	}
	return nil
}

// drop acknowledges and ends a call that nobody wants any more.
func (u *UA) drop(req *sipmsg.Request, res *sipmsg.Response, tx *sipmsg.ClientTx) {
	d, ok := dialogFromAnswer(req, res)
	if !ok {
		return
	}
	c := &Call{ua: u, dialog: d, done: make(chan struct{})}
	if c.acknowledge(req, tx) != nil {
		return
	}
	ctx, stop := context.WithTimeout(u.ctx, cancelLimit)
	defer stop()
	_ = c.Hangup(ctx)
}
