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

	late  time.Duration // how long a crash stays open after its last leg
	byes  time.Duration // how long a fence stands after the last BYE behind it
	every time.Duration // how often edges are told of a fence
	blind time.Duration // see blindFor
	tasks sync.WaitGroup
	meter meter

	mu     sync.Mutex      // guards the rest
	deaths []Death         // not begun
	open   map[string]bool // crashes that this controller recovers, or waits for
	seen   map[bridge.NodeID]*presence
	guards map[bridge.NodeID]*guard
	barred map[bridge.NodeID]string // epochs of nodes that are behind a fence
	absent map[bridge.NodeID]bool   // that we fenced before we ever saw them
	fates  map[fateKey]fate
	sticky map[string]bridge.NodeID // where a call or conference goes, so that its legs meet
	active map[*report]bool         // of the crashes that this controller recovers
	stats  Stats
}

// New checks the configuration.
func New(cfg Config) (*Recoverer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Recoverer{cfg: cfg, late: lateFor, byes: byesOver, every: fenceEvery, blind: blindFor, slots: make(chan struct{}, cfg.Parallel),
		wake: make(chan struct{}, 1), open: map[string]bool{}, seen: map[bridge.NodeID]*presence{}, guards: map[bridge.NodeID]*guard{},
		barred: map[bridge.NodeID]string{}, absent: map[bridge.NodeID]bool{}, fates: map[fateKey]fate{}, sticky: map[string]bridge.NodeID{}, active: map[*report]bool{}}, nil
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
		for _, g := range r.guards {
			if !g.running {
				g.running = true
				all.Go(func() { g.run(ctx) })
			}
		}
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
					if err != nil || c.Node == "" {
						continue
					}
					if c.Settled.IsZero() && r.cfg.Farm.Watched(c.Node) {
						r.guard(c.Node)
					}
					if !c.Closed.IsZero() {
						continue
					}
					all.Go(func() {
						r.crash(ctx, Death{Node: c.Node, Epoch: c.Epoch, Number: c.Number, SIP: c.SIP, Ended: c.Ended, Since: c.Since, At: c.Detected, Reason: c.Reason}, false)
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

// numbered asks the store which death of its process this is, until it answers; false if it is none of its own: it was over when we saw it.
func (r *Recoverer) numbered(ctx context.Context, d *Death, seen bool) bool {
	for seen {
		over, err := r.over(ctx, d)
		switch {
		case err == nil && !over:
			return true
		case ctx.Err() != nil:
			return false
		case err == nil && !r.staysDead(ctx, d):
			r.cfg.Logger.Info("this death was over when it was seen here", "node", d.Node, "epoch", d.Epoch)
			return false
		case err == nil:
			d.Number++
			continue
		}
		r.cfg.Logger.Error("crash is not recovered yet", "node", d.Node, "err", err)
		sleep(ctx, r.cfg.TakeOver/4)
	}
	return true
}

// over tells that the death of d's number is behind its process already.
func (r *Recoverer) over(ctx context.Context, d *Death) (bool, error) {
	b, err := r.buckets(ctx)
	if err != nil {
		return false, err
	}
	if d.unread { // that the process had come back before is written first
		next, err := r.returned(ctx, b.crashes, Return{Node: d.Node, Epoch: d.Epoch, SIP: d.SIP})
		if err != nil {
			return false, err
		}
		d.Number, d.unread = max(d.Number, next), false
	}
	c, err := b.crashes.read(ctx, d.key())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && !c.Returned.IsZero(), err
}

// staysDead waits for what our own sentinel says of a node that another controller has seen come back.
func (r *Recoverer) staysDead(ctx context.Context, d *Death) bool {
	for end := time.Now().Add(settleTime); time.Now().Before(end); {
		if !sleep(ctx, storePause) {
			return false
		}
		if s, ok := r.view(d.Node); ok && (!s.dead || s.Epoch != d.Epoch) {
			return false
		}
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
		if taken {
			s.TakenOver++
		}
	})
	w := newRescue(r, d, b, log)
	defer r.tracked(w.rep)()
	defer r.undecide(key)
	if before {
		flush, cancel := context.WithTimeout(work, time.Second)
		_ = r.cfg.Store.Flush(flush) // what we wrote ourselves, before we lost the lease
		cancel()
		if w.former, err = w.rep.resume(work, c.Taken); err != nil {
			return false, err
		}
		if err = w.decided(work); err != nil {
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
	r.guard(d.Node)
	// Who lives is not fenced, whatever a crash says that only the store tells of (F34).
	if seen || !r.cfg.Farm.Alive(d.Node, d.SIP) {
		var beside sync.WaitGroup
		defer beside.Wait()
		// What a node whose process is gone said last may wait in an edge's queue, the BYEs of one that was stopped in order for instance: the fence
		// would swallow them (B45). It can speak into no dialog.
		if d.Gone {
			beside.Go(func() {
				if sleep(work, lastWords) && !r.cfg.Farm.Alive(d.Node, d.SIP) {
					r.fenceFirst(work, d, b.crashes, w.rep, log)
				}
			})
		} else if now, ok := r.view(d.Node); !ok || now.dead || now.Epoch == d.Epoch { // a new process has come by now: it is not the one to fence
			r.fenceFirst(work, d, b.crashes, w.rep, log)
		}
		beside.Go(func() { r.speak(work, d, b.calls, &w.spoke, log) })
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

// fenceFirst fences before any INVITE, tells the report, and writes that it did.
func (r *Recoverer) fenceFirst(ctx context.Context, d Death, b book, rep *report, log *slog.Logger) {
	r.fence(ctx, d, func(e Edge, err error) {
		if err != nil {
			log.Warn("an edge does not fence", "edge", e, "err", err)
			rep.note("fence at "+e.String(), "failed", err.Error())
			return
		}
		rep.note("fence at "+e.String(), "fenced")
	})
	r.tasks.Go(func() { r.fenced(ctx, d, b) })
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
