package sip

import (
	"context"
	"time"

	"rtcedge/sip/auth"
)

// A request whose user stands in a database elsewhere waits for it here: not on its worker, and not in the queues, where the calls that run must
// not wait behind a slow database. Only requests that start something come here, so nothing can overtake that belongs behind them: a phone sends
// CANCEL after a provisional response (RFC 3261 section 9.1), and ACK after a final one.
//
//  1. Check says Waiting: a copy goes to an asker, which asks and handles the request once more. Whoever asks for the same user shares the question.
//  2. A wrong password, and every user while the database is down, is answered when a fixed time has passed since the request came, so that the time
//     tells nothing about the user.

// askers is how many questions may be on their way at once. Chosen by us: with 5 ms for an answer they serve 6,400 new users a second.
const askers = 32

// askFirst lets a request wait for its user. It must be the last thing that happens to it on this goroutine.
func (p *Proxy) askFirst(c *pass, value []byte) {
	j := p.proofJob(c)
	at := c.msg.At(value)
	j.value = j.raw[at : at+len(value)]
	select {
	case p.proofs <- j:
		c.count.queued.Add(1)
	default:
		c.drop(DropQueueFull) // without an answer: it may be a forged flood, and a phone comes again
	}
}

// refuseLater lets a refusal wait for its time; false: its time has come, or there is nothing to hide.
func (p *Proxy) refuseLater(c *pass, why auth.Reason) bool {
	if p.late == nil || p.now().Sub(c.arrived) >= p.cfg.Auth.Patience() {
		return false
	}
	j := p.proofJob(c)
	j.verdict = why
	select {
	case p.late <- j:
	default:
		c.drop(DropQueueFull)
	}
	return true
}

func (p *Proxy) proofJob(c *pass) *job {
	j := &job{raw: append([]byte(nil), c.raw...), in: c.in, arrived: c.arrived}
	j.in.Bytes, j.in.Worker = j.raw, nil
	return j
}

// serveProofs asks until ctx ends.
func (p *Proxy) serveProofs(ctx context.Context) {
	c := p.newPass()
	for {
		select {
		case j := <-p.proofs:
			p.prove(ctx, c, j)
		case <-ctx.Done():
			return
		}
	}
}

// prove asks and handles the request again. One that has waited for an asker for longer than it may goes by what is known already.
func (p *Proxy) prove(ctx context.Context, c *pass, j *job) {
	if p.now().Sub(j.arrived) < p.cfg.Auth.Patience() {
		p.cfg.Auth.Ask(ctx, auth.Request{Value: j.value})
	}
	p.resume(c, j)
}

// serveLate sends the refusals, each at its time, until ctx ends. They come in the order of their time, or almost: an asker may be late.
func (p *Proxy) serveLate(ctx context.Context) {
	c := p.newPass()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case j := <-p.late:
			timer.Reset(p.cfg.Auth.Patience() - p.now().Sub(j.arrived))
			select {
			case <-timer.C:
				p.resume(c, j)
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// resume handles a request again with what is known now.
func (p *Proxy) resume(c *pass, j *job) {
	c.in, c.raw, c.from = j.in, j.raw, j.in.From
	c.send, c.now = p.out, p.now()
	c.waited, c.again, c.auth, c.arrived = false, true, 0, j.arrived
	c.asked, c.verdict = true, j.verdict
	p.handle(c)
}
