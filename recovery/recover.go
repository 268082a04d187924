package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// The functions of this file occur in the order in which a crash meets them.

// Chosen by us.
const (
	defaultParallel = 32               // INVITEs at a time: one takes about 0.1 s, 400 dialogs took one Asterisk 1.3 s with 8
	defaultGiveUp   = 60 * time.Second // for a whole farm to come back
	defaultTakeOver = 2 * time.Second  // a store may be away for a second while its cluster elects

	// lateFor is how long a crash stays open after its last leg. A node that dies while it takes calls over may have had a 200 OK in its last
	// moment, and the bridge role writes that leg into its record when everything else of the node was found already (F3).
	lateFor = 5 * time.Second

	// settleTime is what a sentinel needs to look at every node once. A crash that another controller has left is not judged earlier.
	settleTime = 1500 * time.Millisecond
)

// Config is what a Recoverer needs.
type Config struct {
	Store   *store.Store
	History History
	Farm    Farm
	Media   Media  // nil: the gap stays silent
	Edges   []Edge // none: a dead node that comes back is not kept out

	Controller string        // name of this process among several; default a random one
	Parallel   int           // INVITEs at a time; default 32
	GiveUp     time.Duration // how long a leg waits for a healthy node; default 60 s
	TakeOver   time.Duration // a controller that is silent for so long loses its crashes to another one; default 2 s
	KeepFor    time.Duration // a crash that is over is forgotten after it; default 30 days
	Keep       int           // of those that are over, the oldest beyond so many are forgotten; default 1000
	Logger     *slog.Logger  // default: none
}

func (c *Config) validate() error {
	if c.Store == nil || c.History == nil || c.Farm == nil {
		return errors.New("recovery: a store, a history and a farm are needed")
	}
	if c.Parallel < 0 || c.GiveUp < 0 || c.TakeOver < 0 || c.KeepFor < 0 || c.Keep < 0 {
		return errors.New("recovery: a number or time is negative")
	}
	c.Controller = cmp.Or(c.Controller, fmt.Sprintf("recovery-%08x", rand.Uint32()))
	c.Parallel = cmp.Or(c.Parallel, defaultParallel)
	c.GiveUp = cmp.Or(c.GiveUp, defaultGiveUp)
	c.TakeOver = cmp.Or(c.TakeOver, defaultTakeOver)
	c.KeepFor = cmp.Or(c.KeepFor, defaultKeepFor)
	c.Keep = cmp.Or(c.Keep, defaultKeep)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Recoverer brings the calls of dead nodes back.
type Recoverer struct {
	cfg   Config
	slots chan struct{} // Config.Parallel of them
	wake  chan struct{}

	late  time.Duration  // how long a crash stays open after its last leg
	tasks sync.WaitGroup // fences that wait to fall; Run waits for them
	meter meter

	mu     sync.Mutex      // guards the rest
	deaths []Death         // not begun
	open   map[string]bool // crashes that this controller recovers, or waits for
	died   map[bridge.NodeID]int
	back   map[bridge.NodeID]cameBack
	moving map[string]bool          // Call-IDs that another node is asked to take
	sticky map[string]bridge.NodeID // where a call or conference goes, so that its legs meet
	active map[*report]bool         // of the crashes that this controller recovers
	stats  Stats
}

// Stats count since the start.
type Stats struct {
	Crashes   int // that this controller recovered
	Watched   int // that another one recovers
	TakenOver int // from a controller that was silent; they count as Crashes, too
	Recovered int // legs
	Refused   int
	Closed    int
	Kept      int
	Failed    int

	Open    int             // crashes that this controller recovers now
	Pending int             // their legs without a result
	Timings []bridge.Timing // how long it took: spanVerdict, ...
}

// New checks the configuration.
func New(cfg Config) (*Recoverer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Recoverer{cfg: cfg, late: lateFor, slots: make(chan struct{}, cfg.Parallel), wake: make(chan struct{}, 1),
		open: map[string]bool{}, died: map[bridge.NodeID]int{}, back: map[bridge.NodeID]cameBack{}, moving: map[string]bool{}, sticky: map[string]bridge.NodeID{}, active: map[*report]bool{}}, nil
}

// Dead is for the sentinel; it returns at once.
func (r *Recoverer) Dead(_ context.Context, d Death) {
	r.mu.Lock()
	r.deaths = append(r.deaths, d)
	r.died[d.Node]++
	clear(r.sticky) // they may lead to the dead node
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run recovers until ctx ends; what is under way then is left to another controller.
func (r *Recoverer) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer r.tasks.Wait()
	defer all.Wait()
	all.Go(func() { r.adopt(ctx) })
	all.Go(func() { r.forget(ctx) })
	for {
		r.mu.Lock()
		todo := r.deaths
		r.deaths = nil
		r.mu.Unlock()
		for _, d := range todo {
			all.Go(func() { r.crash(ctx, d, true) }) // a target that dies is a crash beside the one that it was a target of
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// adopt reads the crashes that others wrote, to go on with those whose controller falls silent.
func (r *Recoverer) adopt(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	if !sleep(ctx, settleTime) {
		return
	}
	for ctx.Err() == nil {
		b, err := r.buckets(ctx)
		if err == nil {
			var changes <-chan store.Entry
			if changes, err = b.crashes.Watch(ctx, ""); err == nil {
				for e := range changes {
					if e.Key == "" || e.Deleted {
						continue
					}
					c, err := readCrash(e.Key, e.Value)
					if err != nil || !c.Closed.IsZero() || c.Node == "" {
						continue
					}
					all.Go(func() {
						r.crash(ctx, Death{Node: c.Node, Epoch: c.Epoch, Number: c.Number, SIP: c.SIP, Since: c.Since, At: c.Detected, Reason: c.Reason}, false)
					})
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("crashes are not read", "err", err)
		}
		sleep(ctx, time.Second)
	}
}

// crash has one death recovered: by us if we get its lease, else we wait until it is closed, or until the one who has the lease falls silent.
// seen tells that our own sentinel saw the death.
func (r *Recoverer) crash(ctx context.Context, d Death, seen bool) {
	if !r.numbered(ctx, &d, seen) {
		return
	}
	key := d.key()
	r.mu.Lock()
	again := r.open[key]
	r.open[key] = true
	r.mu.Unlock()
	if again {
		return
	}
	defer func() {
		r.mu.Lock()
		delete(r.open, key)
		r.mu.Unlock()
	}()
	log := r.cfg.Logger.With("node", d.Node, "epoch", d.Epoch)
	watched := false
	for ctx.Err() == nil {
		closed, err := r.hold(ctx, d, seen, log)
		switch {
		case closed:
			return
		case errors.Is(err, store.ErrHeld):
			if !watched {
				log.Info("another controller recovers")
				r.count(func(s *Stats) { s.Watched++ })
			}
			watched = true
		case err != nil && ctx.Err() == nil:
			log.Error("crash is not recovered yet", "err", err)
		}
		sleep(ctx, r.cfg.TakeOver/4)
	}
}

// numbered asks the store which death of its epoch this is, until it answers.
func (r *Recoverer) numbered(ctx context.Context, d *Death, seen bool) bool {
	for seen {
		b, err := r.buckets(ctx)
		if err == nil {
			err = number(ctx, b.crashes, d)
		}
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		r.cfg.Logger.Error("crash is not recovered yet", "node", d.Node, "err", err)
		sleep(ctx, r.cfg.TakeOver/4)
	}
	return true
}

// hold takes the lease of a crash and works as long as it is ours. closed tells that nothing is left to do, for anybody.
func (r *Recoverer) hold(ctx context.Context, d Death, seen bool, log *slog.Logger) (closed bool, err error) {
	if !seen && !r.cfg.Farm.Watched(d.Node) {
		return true, nil // of a node that is not ours: nobody here can say whether it lives
	}
	b, err := r.buckets(ctx)
	if err != nil {
		return false, err
	}
	key := d.key()
	if c, err := b.crashes.read(ctx, key); err == nil && !c.Closed.IsZero() {
		return true, nil
	}
	lease, err := r.cfg.Store.Lease(ctx, "crash."+key, r.cfg.Controller, r.cfg.TakeOver)
	if err != nil {
		return false, err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = lease.Release(release) // an error leaves it to its end
	}()
	r.tasks.Go(func() {
		select {
		case <-lease.Lost():
			cancel()
		case <-work.Done():
		}
	})
	c, before, taken, err := begin(work, b.crashes, d, r.cfg.Controller)
	if err != nil {
		return false, err
	}
	if !c.Closed.IsZero() {
		return true, nil
	}
	r.count(func(s *Stats) {
		if !before || taken {
			s.Crashes++
		}
		if taken {
			s.TakenOver++
		}
	})
	w := newRescue(r, d, b, log)
	defer r.tracked(w.rep)()
	if before {
		flush, cancel := context.WithTimeout(work, time.Second)
		_ = r.cfg.Store.Flush(flush) // what we wrote ourselves, before we lost the lease
		cancel()
		if w.former, err = w.rep.resume(work, c.Taken); err != nil {
			return false, err
		}
	}
	switch {
	case taken:
		w.rep.note("taken over", r.cfg.Controller)
	case before:
		w.rep.note("lease again", r.cfg.Controller)
	default:
		w.rep.note("lease", r.cfg.Controller)
		r.meter.add(spanVerdict, d.At.Sub(d.Since))
	}
	log.Warn("crash", "reason", d.Reason, "taken_over", taken)
	// Who lives is not fenced, whatever a crash says that only the store tells of (F34).
	if seen || !r.cfg.Farm.Alive(d.Node, d.SIP) {
		var beside sync.WaitGroup
		defer beside.Wait()
		if d.Gone {
			beside.Go(func() { r.fenceLater(work, d, w.rep, log) })
		} else {
			r.fence(work, d, w.rep, log)
		}
		if early, ok := r.backSince(d); ok {
			r.tasks.Go(func() { r.Back(ctx, early) }) // it was back before its crash was begun
		}
		beside.Go(func() { r.speak(work, d, b.calls, log) })
	}
	if err := w.run(work); err != nil {
		return false, err
	}
	return work.Err() == nil, nil
}

// buckets are those that recovery reads and writes.
type buckets struct {
	crashes             book
	legs, claims, calls *store.Bucket
}

func (r *Recoverer) buckets(ctx context.Context) (b buckets, err error) {
	for _, f := range []struct {
		to   **store.Bucket
		name string
	}{{&b.crashes.Bucket, BucketCrashes}, {&b.legs, BucketCrashLegs}, {&b.claims, BucketClaims}, {&b.calls, bridge.BucketCalls}} {
		if *f.to, err = r.cfg.Store.Bucket(ctx, f.name); err != nil {
			return b, err
		}
	}
	return b, nil
}

// fence keeps the dead node out at every edge before anybody else speaks in its dialogs (B54). An edge that does not answer has been told as
// well as possible: calls do not wait for it.
func (r *Recoverer) fence(ctx context.Context, d Death, rep *report, log *slog.Logger) {
	if d.SIP == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for _, e := range r.cfg.Edges {
		all.Go(func() {
			if err := e.Fence(ctx, d.SIP); err != nil {
				log.Warn("an edge does not fence", "edge", e, "err", err)
				rep.note("fence at "+e.String(), "failed", err.Error())
				return
			}
			rep.note("fence at "+e.String(), "fenced")
		})
	}
	all.Wait()
}

// fenceLater is for a node whose process is gone. It can speak into no dialog, and what it said last may wait in an edge's queue: the BYEs of a
// node that was stopped in order, which the fence would swallow (B45).
func (r *Recoverer) fenceLater(ctx context.Context, d Death, rep *report, log *slog.Logger) {
	if sleep(ctx, lastWords) && !r.cfg.Farm.Alive(d.Node, d.SIP) {
		r.fence(ctx, d, rep, log)
	}
}

func (r *Recoverer) count(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
}

// Stats returns the counters.
func (r *Recoverer) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Open = len(r.active)
	for rep := range r.active {
		s.Pending += rep.inFlight()
	}
	s.Timings = r.meter.snapshot()
	return s
}

// tracked counts a report in the Stats until what it returns is called.
func (r *Recoverer) tracked(rep *report) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active[rep] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.active, rep)
	}
}

// sleep waits, and tells whether ctx lives on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
