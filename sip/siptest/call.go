package siptest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Call is one side of an answered call.
type Call struct {
	ua    *UA
	tx    *sipmsg.ClientTx // of the INVITE, on the caller's side; nil on the called side
	setup time.Duration
	done  chan struct{}

	mu        sync.Mutex
	dialog    *dialog
	localSDP  []byte
	remoteSDP []byte
	acked     chan struct{} // closed by the ACK of the last 2xx
	ended     bool
	byPeer    bool
}

// CallID is the Call-ID header field's value.
func (c *Call) CallID() string { return c.dialog.id.callID }

// SetupTime is the time from the first INVITE to the 2xx, challenges included. On the called side it is zero.
func (c *Call) SetupTime() time.Duration { return c.setup }

// RemoteSDP is the newest body that the far end sent as offer or answer.
func (c *Call) RemoteSDP() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remoteSDP
}

// LocalSDP is the newest body that this side sent as offer or answer.
func (c *Call) LocalSDP() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.localSDP
}

// Done closes when the dialog has ended: a BYE of either side, or the end of the user agent.
func (c *Call) Done() <-chan struct{} { return c.done }

// EndedByPeer reports whether the far end sent the BYE.
func (c *Call) EndedByPeer() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byPeer
}

// Hangup sends BYE and returns with its answer. A call that has ended already is no error.
func (c *Call) Hangup(ctx context.Context) error {
	if !c.end(false) {
		return nil
	}
	defer c.ua.remove(c)
	req, err := c.next(sipmsg.BYE)
	if err != nil {
		return err
	}
	res, err := c.ua.do(ctx, req)
	if err != nil {
		return err
	}
	c.advance(req)
	if !res.IsSuccess() {
		return statusError(req, res)
	}
	return nil
}

// Reinvite offers new media inside the call and returns the answer's SDP.
func (c *Call) Reinvite(ctx context.Context, offer []byte) ([]byte, error) {
	req, err := c.next(sipmsg.INVITE)
	if err != nil {
		return nil, err
	}
	c.ua.decorate(req, offer)
	tx, req, res, err := c.ua.invite(ctx, req, nil)
	if err != nil {
		return nil, err
	}
	if err := c.acknowledge(req, tx); err != nil {
		tx.Terminate()
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tx != nil {
		c.tx.Terminate()
	}
	c.tx = tx
	c.dialog.cseq = req.CSeq().SeqNo
	// A 2xx to re-INVITE refreshes the remote target. RFC 3261 section 12.2.1.2.
	if contact := res.Contact(); contact != nil {
		c.dialog.target = *contact.Address.Clone()
	}
	c.localSDP, c.remoteSDP = offer, res.Body()
	return res.Body(), nil
}

// Request sends any other method inside the dialog, INFO for one, and returns the status code of its answer.
func (c *Call) Request(ctx context.Context, method, contentType string, body []byte) (int, error) {
	req, err := c.next(sipmsg.RequestMethod(method))
	if err != nil {
		return 0, err
	}
	if contentType != "" {
		req.AppendHeader(sipmsg.NewHeader("Content-Type", contentType))
	}
	req.SetBody(body)
	res, err := c.ua.do(ctx, req)
	if err != nil {
		return 0, err
	}
	c.advance(req)
	return res.StatusCode, nil
}

// next builds the following request of the dialog and reserves its CSeq.
func (c *Call) next(method sipmsg.RequestMethod) (*sipmsg.Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialog.cseq++
	req := c.dialog.request(method, c.dialog.cseq)
	if err := c.ua.address(req, c.dialog.next(), netip.AddrPort{}); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return req, nil
}

// advance takes over the CSeq of a request that challenges may have raised.
func (c *Call) advance(req *sipmsg.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialog.cseq = max(c.dialog.cseq, req.CSeq().SeqNo)
}

// acknowledge sends the ACK of a 2xx, now and for every repetition of it. It carries the INVITE's credentials,
// RFC 3261 section 13.2.2.4.
func (c *Call) acknowledge(invite *sipmsg.Request, tx *sipmsg.ClientTx) error {
	c.mu.Lock()
	ack := c.dialog.request(sipmsg.ACK, invite.CSeq().SeqNo)
	err := c.ua.address(ack, c.dialog.next(), netip.AddrPort{})
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		if h := invite.GetHeader(name); h != nil {
			ack.AppendHeader(sipmsg.HeaderClone(h))
		}
	}
	c.ua.stamp(ack)
	// Each sending gets its own copy, because the transport writes into the message.
	first := ack.Clone()
	tx.OnRetransmission(func(res *sipmsg.Response) {
		if res.IsSuccess() {
			_ = c.ua.stack.TransportLayer().WriteMsg(ack.Clone())
		}
	})
	if err := c.ua.stack.TransportLayer().WriteMsg(first); err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	return nil
}

// end closes Done once and reports whether this call did it.
func (c *Call) end(byPeer bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended, c.byPeer = true, byPeer
	if c.tx != nil {
		c.tx.Terminate()
	}
	close(c.done)
	return true
}

func (u *UA) add(c *Call) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.calls[c.dialog.id] = c
	return true
}

func (u *UA) remove(c *Call) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.calls, c.dialog.id)
}

// find returns the call that a request inside a dialog belongs to.
func (u *UA) find(req *sipmsg.Request) *Call {
	to, from, id := req.To(), req.From(), req.CallID()
	if to == nil || from == nil || id == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[dialogID{callID: id.Value(), localTag: to.Params.GetOr("tag", ""), remoteTag: from.Params.GetOr("tag", "")}]
}

// inOrder reports whether a request's CSeq is higher than all before it, and remembers it. RFC 3261 section 12.2.2.
func (c *Call) inOrder(req *sipmsg.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.dialog
	if d.hasRemoteSeq && req.CSeq().SeqNo <= d.remoteCSeq {
		return false
	}
	d.remoteCSeq, d.hasRemoteSeq = req.CSeq().SeqNo, true
	return true
}

// waitACK repeats a 2xx until its ACK comes, because no proxy and no transaction does it. RFC 3261 section 13.3.1.4.
func (c *Call) waitACK(ctx context.Context, again func() error) error {
	c.mu.Lock()
	acked := c.acked
	c.mu.Unlock()
	interval, limit := sipmsg.T1, time.NewTimer(64*sipmsg.T1)
	defer limit.Stop()
	for {
		repeat := time.NewTimer(interval)
		select {
		case <-acked:
			repeat.Stop()
			return nil
		case <-c.done:
			repeat.Stop()
			return errors.New("answer: the call ended before its ACK")
		case <-ctx.Done():
			repeat.Stop()
			return fmt.Errorf("answer: no ACK: %w", ctx.Err())
		case <-limit.C:
			repeat.Stop()
			return errors.New("answer: no ACK in 32 s")
		case <-repeat.C:
		}
		if err := again(); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		interval = min(2*interval, sipmsg.T2)
	}
}
