package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bridge"
)

// Chosen by us.
const batchOf = 50 // Call-IDs per question: one of 200 took HOMER 0.5 s, one of 50 0.15 s

// rescue is the recovery of one crash, by the controller that has its lease. It goes by the calls' records and nothing else: a leg whose record says
// that it is on the dead node is brought back, whenever that shows. Functions occur in the order in which a crash meets them.
type rescue struct {
	r *Recoverer
	d Death
	buckets
	key    string // of the crash
	rep    *report
	roster *roster
	log    *slog.Logger

	all  sync.WaitGroup // legs and batches
	idle chan struct{}  // busy has become empty

	former map[string]bool // calls that a controller before us had to do with
	pairs  pairs

	spoke atomic.Bool // for the node, to who waited for it

	mu   sync.Mutex // guards the rest
	busy map[string]bool
	lost map[string]bool // legs that do not come back: what the store told before it was told so brings nobody back again
}

func newRescue(r *Recoverer, d Death, b buckets, log *slog.Logger) *rescue {
	return &rescue{r: r, d: d, buckets: b, key: d.key(), rep: newReport(r, d, b.legs), roster: newRoster(), log: log,
		idle: make(chan struct{}, 1), busy: map[string]bool{}, lost: map[string]bool{}, pairs: newPairs()}
}

var errWatch = errors.New("the store tells of no more changes")

// run brings legs back until none has come for lateFor, or ctx ends.
func (w *rescue) run(ctx context.Context) error {
	defer w.all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	changes, err := w.calls.Watch(ctx, "")
	if err != nil {
		return err
	}
	var first []job // until the store has told all that is there
	listed := false
	var late <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-changes:
			if !ok {
				return errWatch
			}
			if e.Key == "" {
				listed = true
				w.inherit(ctx)
				w.log.Warn("recovering", "legs", len(first))
				w.rep.note("sessions found", strconv.Itoa(len(first))+" legs")
				w.notePlaces(first)
				w.bring(ctx, first)
				w.rest()
				continue
			}
			call, ok := w.roster.take(e, w.concerns)
			if !ok {
				continue
			}
			jobs := w.todo(&call)
			switch {
			case !listed:
				first = append(first, jobs...)
			case len(jobs) > 0:
				w.bring(ctx, jobs)
			}
		case <-w.idle:
			if w.working() {
				continue
			}
			if err := w.finish(ctx, false); err != nil {
				return err
			}
			w.log.Warn("recovery done", "took_ms", time.Since(w.d.At).Milliseconds(), "results", w.rep.results())
			late = time.After(w.r.late)
		case <-late:
			if w.working() {
				continue // its end comes here again
			}
			return w.finish(ctx, true)
		}
	}
}

// notePlaces says in the report where the legs may go.
func (w *rescue) notePlaces(jobs []job) {
	var roles []string
	for _, j := range jobs {
		if role := roleOf(&j.call); !slices.Contains(roles, role) {
			roles = append(roles, role)
			fit, not := w.r.places(role)
			w.rep.note("nodes for farm "+role, fit, not)
		}
	}
}

func (w *rescue) concerns(c *bridge.Call) bool {
	if w.former[c.ID] {
		return true
	}
	for _, l := range c.Legs {
		if l.Node == w.d.Node {
			return true
		}
	}
	return false
}

// todo are the legs of a call that nobody is at yet; they are in the caller's hands.
func (w *rescue) todo(c *bridge.Call) []job {
	jobs := legsOf(c, w.d.Node, w.r.cfg.Farm.Alive(w.d.Node, ""))
	w.mu.Lock()
	defer w.mu.Unlock()
	left := jobs[:0]
	for _, j := range jobs {
		if id := jobID(&j); !w.busy[id] && !w.lost[id] {
			w.busy[id] = true
			left = append(left, j)
		}
	}
	return left
}

func jobID(j *job) string { return j.call.ID + " " + bridge.BaseID(j.leg.ID) }

func (w *rescue) working() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.busy) > 0
}

// leave is the end of a job.
func (w *rescue) leave(j *job) {
	w.mu.Lock()
	delete(w.busy, jobID(j))
	w.mu.Unlock()
	w.rest()
}

func (w *rescue) rest() {
	if w.working() {
		return
	}
	select {
	case w.idle <- struct{}{}:
	default:
	}
}

// finish writes that no leg is left, behind the legs' own reports.
func (w *rescue) finish(ctx context.Context, closed bool) error {
	flush, cancel := context.WithTimeout(ctx, time.Second)
	_ = w.r.cfg.Store.Flush(flush) // a report that comes late is no reason to wait
	cancel()
	if closed {
		w.disclaim(ctx)
	}
	stopped := w.d.Ended && !w.spoke.Load() && w.rep.orderly()
	err := mark(ctx, w.crashes, w.key, closed, stopped, w.rep.results())
	if err == nil && closed {
		w.r.count(func(s *Stats) {
			if stopped {
				s.Stops++
			} else {
				s.Crashes++
			}
		})
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// disclaim removes the claims of legs that were answered when their controller died: nobody released them.
func (w *rescue) disclaim(ctx context.Context) {
	entries, err := w.claims.List(ctx, "")
	if err != nil {
		return // the next crash takes what is left of a closed one
	}
	for _, e := range entries {
		var c claim
		if json.Unmarshal(e.Value, &c) == nil && c.Crash == w.key {
			_ = w.claims.Delete(ctx, e.Key, e.Revision)
		}
	}
}

// inherit ends what a controller before us had brought back, and could not write down any more.
func (w *rescue) inherit(ctx context.Context) {
	for n, l := range w.rep.pending() {
		j := job{call: bridge.Call{ID: l.Call}, leg: bridge.Leg{ID: l.Leg, SIPCallID: l.SIPCallID}}
		w.mu.Lock()
		busy := w.busy[jobID(&j)]
		w.mu.Unlock()
		if busy {
			continue
		}
		_, leg, _, gone := w.roster.leg(&j)
		switch {
		case gone:
			w.rep.end(n, ResultClosed, errors.New("the call ended meanwhile"))
		case w.stays(&j):
			w.soothed(ctx, &j, "", true)
			w.rep.target(n, leg.Node)
			w.rep.end(n, ResultKept, nil)
		default:
			w.rep.target(n, leg.Node)
			w.rep.end(n, ResultRecovered, nil)
		}
	}
}

// bring rebuilds the dialogs in batches, joins who can be joined, and starts the legs in order, as many at a time as there are slots. Legs of one call
// and calls of one age stay together.
func (w *rescue) bring(ctx context.Context, jobs []job) {
	sortJobs(jobs)
	var batches []*batch
	for first := 0; first < len(jobs); {
		end := min(first+batchOf, len(jobs))
		for end < len(jobs) && jobs[end].call.ID == jobs[end-1].call.ID { // who is joined must be in one batch
			end++
		}
		b := &batch{jobs: jobs[first:end], first: make(chan map[string]Rebuilt, 1)}
		for i := range b.jobs {
			b.places = append(b.places, w.rep.add(&b.jobs[i]))
		}
		if w.r.cfg.Media != nil {
			w.pairs.expect(b.jobs)
		}
		batches = append(batches, b)
		first = end
	}
	for _, b := range batches {
		w.all.Go(func() { w.ask(ctx, b) })
	}
	w.all.Go(func() {
		for _, b := range batches {
			w.start(ctx, b, <-b.first)
		}
	})
}

// batch is what is asked of the history at once.
type batch struct {
	jobs   []job
	places []int                   // in the report
	first  chan map[string]Rebuilt // what was at hand: it is started in the order of the batches
}

// ask reads the dialogs of a batch. Behind the first group nobody waits for the others: HOMER takes seconds.
func (w *rescue) ask(ctx context.Context, b *batch) {
	left := make(map[string]Rebuilt, len(b.jobs))
	for i := range b.jobs {
		left[b.jobs[i].leg.SIPCallID] = Rebuilt{Err: refuse(ReasonNoMessages, "nothing was captured of it")}
	}
	first := true
	group := func(dialogs map[string]Rebuilt) {
		if ctx.Err() != nil {
			dialogs = nil // what could not be asked to the end is no answer; another controller asks again
		}
		for i := range b.jobs {
			if built, ok := dialogs[b.jobs[i].leg.SIPCallID]; ok {
				w.rep.step(b.places[i], "dialog", built.about()...)
			}
		}
		if first {
			b.first <- dialogs
		} else {
			w.all.Go(func() { w.start(ctx, b, dialogs) })
		}
		first = false
		w.all.Go(func() { w.soothe(ctx, b.jobs, dialogs) })
	}
	for dialogs := range w.r.cfg.History.Dialogs(ctx, w.d.SIP, asked(b.jobs)) {
		for id := range dialogs {
			delete(left, id)
		}
		group(dialogs)
	}
	if len(left) > 0 || first {
		group(left)
	}
}

// start begins with the legs of a group.
func (w *rescue) start(ctx context.Context, b *batch, dialogs map[string]Rebuilt) {
	for i, j := range b.jobs {
		built, ok := dialogs[j.leg.SIPCallID]
		if !ok {
			continue
		}
		n := b.places[i]
		s := &slot{all: w.r.slots}
		_ = s.take(ctx) // if ctx ends the leg sees it
		w.rep.step(n, "turn")
		w.all.Go(func() {
			defer s.give()
			e := &effort{rescue: w, job: j, built: built, slot: s, n: n}
			e.bring(ctx)
			w.leave(&j)
			if e.back { // nobody waits for what is only looked at
				w.all.Go(func() { e.listen(ctx) })
				if e.followed() {
					w.all.Go(func() { e.watchAnswers(ctx) })
				}
			}
		})
	}
}

func asked(jobs []job) []Asked {
	out := make([]Asked, 0, len(jobs))
	for _, j := range jobs {
		since := j.call.Created
		if at := j.leg.Answered; !at.IsZero() && at.Before(since) { // it came from another call
			since = at
		}
		out = append(out, Asked{CallID: j.leg.SIPCallID, Role: j.leg.Role, URI: j.leg.URI, Since: since})
	}
	return out
}

// slot is a leg's place among those that are at it.
type slot struct {
	all  chan struct{}
	mine bool
}

func (s *slot) take(ctx context.Context) error {
	if s.mine {
		return nil
	}
	select {
	case s.all <- struct{}{}:
		s.mine = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slot) give() {
	if s.mine {
		s.mine = false
		<-s.all
	}
}
