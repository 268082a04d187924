package farm

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Limits of the questions to registered contacts. They hold 10,000 contacts at the default interval, of which up to a third
// may fall silent in one moment before others are asked late.
const (
	qualifyWait   = 3 * time.Second // for an answer; sipgo repeats the question after 0.5 s and 1.5 s
	qualifyRate   = 2000            // questions a second
	qualifySlack  = 10 * time.Millisecond
	qualifyAsked  = 1024 // at a time
	qualifySilent = 256  // of these, contacts that did not answer the last time
)

// flowFailed is the answer of an edge whose connection to the phone is gone (RFC 5626, section 5.3.1).
const flowFailed = 430

// qualifier asks every registered contact for a sign of life. Question and answer keep the mapping of a NAT between the edge
// and the phone alive, which the edge, being stateless, has no timers for. Nothing but the state that is shown depends on
// the answer: a silent contact stays registered and is called like any other.
type qualifier struct {
	table *locations
	ask   func(context.Context, binding) bool // tells if there was an answer before the context ended
	wait  time.Duration                       // for an answer

	schedule   schedule // of run's goroutine
	registered chan contactID
	answers    chan contactAnswer
	ended      chan struct{}  // closed when nobody reads the channels any more
	asking     sync.WaitGroup // of the questions' goroutines
}

// contactAnswer is what became of a question.
type contactAnswer struct {
	id       contactID
	answered bool
}

func newQualifier(interval time.Duration, table *locations, ask func(context.Context, binding) bool) *qualifier {
	return &qualifier{
		table: table,
		ask:   ask,
		wait:  min(qualifyWait, interval/2), // a silent contact, too, is asked in every interval
		schedule: schedule{
			interval: interval, pace: time.Second / qualifyRate, slack: qualifySlack,
			maxAsked: qualifyAsked, maxSilent: qualifySilent, phase: rand.Float64,
			watched: make(map[contactID]*watch),
		},
		registered: make(chan contactID),
		answers:    make(chan contactAnswer),
		ended:      make(chan struct{}),
	}
}

// watch has a contact asked that was put into the table before.
func (q *qualifier) watch(id contactID) {
	select {
	case q.registered <- id:
	case <-q.ended:
	}
}

// run asks until ctx ends.
func (q *qualifier) run(ctx context.Context) {
	defer q.asking.Wait()
	defer close(q.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-q.registered:
			q.schedule.add(id, time.Now())
		case a := <-q.answers:
			q.schedule.done(a.id, a.answered, time.Now())
		case <-timer.C:
			q.askDue(ctx)
		}
		if at, ok := q.schedule.next(); ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Stop()
		}
	}
}

// askDue asks who is due. Who has left the table since leaves the schedule here, too: a contact that comes back in this
// moment is in the table before watch is called, so it is either found here or added after.
func (q *qualifier) askDue(ctx context.Context) {
	for {
		now := time.Now()
		id, ok := q.schedule.take(now)
		if !ok {
			return
		}
		b, ok := q.table.find(id, now)
		if !ok {
			q.schedule.forget(id)
			continue
		}
		q.asking.Go(func() {
			limited, cancel := context.WithTimeout(ctx, q.wait)
			defer cancel()
			answered := q.ask(limited, b)
			if ctx.Err() != nil {
				return // we gave up, which says nothing about the contact
			}
			q.table.mark(id, b, answered, time.Since(now))
			select {
			case q.answers <- contactAnswer{id, answered}:
			case <-q.ended:
			}
		})
	}
}

// askContact sends OPTIONS to a contact (RFC 3261, section 11) on the way that a call would take, and tells if it answered.
// Any final answer is one, but for that of an edge which says that there is no way to the contact any more.
func (f *Farm) askContact(ctx context.Context, b binding) bool {
	w, err := f.wayTo(b)
	if err != nil {
		return false
	}
	d := dialog{
		callID:    f.newCallID(),
		localTag:  sipmsg.GenerateTagN(16),
		localName: "<sip:" + w.via.addr.String() + ">",
		remote:    nameAddr("", &w.target),
		target:    w.target,
		routes:    w.routes,
		via:       w.via,
	}
	req := d.request(sipmsg.OPTIONS, "", nil)
	req.AppendHeader(sipmsg.NewHeader("Accept", "application/sdp"))
	tx, err := f.ua.TransactionLayer().Request(ctx, req)
	if err != nil {
		return false
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if res.IsProvisional() {
				continue // may be of any hop
			}
			// sipgo's state machine still holds its lock. Terminate would overtake it, and it would then start a timer that
			// keeps the transaction for 32 s; Err waits for the lock.
			_ = tx.Err()
			return res.StatusCode != flowFailed
		case <-tx.Done():
			return false
		case <-ctx.Done():
			return false
		}
	}
}
