package sip

import (
	"context"
	"sync/atomic"
	"time"

	"rtcedge/sip/auth"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// queue is one of the places where messages wait for media or DNS. One goroutine serves it, so that the messages of a call,
// which all meet in one queue, keep their order.
type queue struct {
	jobs    chan *job
	pending atomic.Int64 // waiting or being worked on
}

// job is a message that left its worker; the bytes are a copy, since the worker's are borrowed.
type job struct {
	raw    []byte
	in     transport.Message
	spoken bool // see Speak
	proven bool // what who found: it is not asked again, as a nonce count must not be seen twice
	auth   int

	// Of requests that wait for a proof, see proof.go.
	value   []byte // of the field with the credentials
	arrived time.Time
	verdict auth.Reason
}

func newQueue(length int) *queue { return &queue{jobs: make(chan *job, length)} }

func (p *Proxy) queueOf(hash uint64) *queue { return p.queues[(hash>>32)%uint64(len(p.queues))] }

// enqueue copies the message into its queue. It must be the last thing that happens to it on this goroutine.
func (p *Proxy) enqueue(c *pass) {
	q := p.queueOf(c.hash)
	j := &job{raw: append([]byte(nil), c.raw...), in: c.in, spoken: c.spoken, proven: c.proven, auth: c.auth}
	j.in.Bytes, j.in.Worker = j.raw, nil
	q.pending.Add(1)
	select {
	case q.jobs <- j:
		c.count.queued.Add(1)
	default:
		q.pending.Add(-1)
		if c.msg.Request() {
			c.extra = append(c.extra, "Retry-After: 2\r\n"...)
			p.refuse(c, 503, "Overloaded", DropQueueFull)
			return
		}
		c.drop(DropQueueFull) // the farm or phone sends it again
	}
}

// serveQueue works until ctx ends.
func (p *Proxy) serveQueue(ctx context.Context, q *queue) {
	c := p.newPass()
	for {
		select {
		case j := <-q.jobs:
			p.work(ctx, c, q, j)
		case <-ctx.Done():
			return
		}
	}
}

func (p *Proxy) work(ctx context.Context, c *pass, q *queue, j *job) {
	defer q.pending.Add(-1)
	c.ctx = ctx
	c.in, c.raw, c.from = j.in, j.raw, j.in.From
	c.send, c.now = p.out, p.now()
	c.waited, c.again, c.spoken, c.auth, c.vouched = true, true, j.spoken, j.auth, j.proven
	p.handle(c)
}

// hasSDP tells if the body is a session description as a whole; multipart and encoded bodies are left alone.
func hasSDP(m *message.Message) bool { return bodyIs(m, "application/sdp") }

// hasCandidates tells if the message brings candidates that were found since the last description (RFC 8840 section 4.3).
func hasCandidates(m *message.Message) bool {
	return m.Method() == message.Info && bodyIs(m, "application/trickle-ice-sdpfrag")
}

func bodyIs(m *message.Message, want string) bool {
	if len(m.Body()) == 0 || m.First(message.ContentEncoding) != nil {
		return false
	}
	t := m.Get(message.ContentType)
	if len(t) < len(want) || !message.EqualFold(t[:len(want)], want) {
		return false
	}
	return len(t) == len(want) || t[len(want)] == ';' || t[len(want)] == ' ' || t[len(want)] == '\t'
}
