package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// The functions of this file occur in the order in which a crash meets them.

// Chosen by us.
const (
	defaultParallel = 16                      // INVITEs at a time: 400 dialogs took one Asterisk 1.3 s with 8
	defaultGiveUp   = 60 * time.Second        // for a whole farm to come back
	inviteTimeout   = 12 * time.Second        // a phone that asks its user nothing answers in far less; SIP alone would wait for 32 s
	slotTime        = 1500 * time.Millisecond // a phone that does not answer keeps others waiting no longer
	askEvery        = 40 * time.Millisecond
	existsEvery     = 400 * time.Millisecond
	captureLag      = 150 * time.Millisecond // what the node said last, a BYE perhaps, has to reach the history
	batchOf         = 50                     // Call-IDs per question: one of 200 took HOMER 0.5 s, one of 50 0.15 s
	maxTries        = 6
	lateAfter       = 400 * time.Millisecond
	lateLooks       = 5

	// byesOver is when the last repetition of a BYE has been sent: 64 of RFC 3261's T1 (timer F), and a bit.
	byesOver = 33 * time.Second
)

// Results of a leg.
const (
	ResultPending   = "pending"
	ResultRecovered = "recovered"
	ResultRefused   = "refused" // there is no dialog to go on with, or not enough is known of it
	ResultClosed    = "closed"  // the far end has no such dialog any more
	ResultKept      = "kept"    // its node went on before another one had it
	ResultFailed    = "failed"  // the far end got a BYE
)

// Config is what a Recoverer needs.
type Config struct {
	Store   *store.Store
	History History
	Farm    Farm
	Media   Media  // nil: the gap stays silent
	Edges   []Edge // none: a dead node that comes back is not kept out

	Controller string        // name of this process among several; default a random one
	Parallel   int           // INVITEs at a time; default 16
	GiveUp     time.Duration // how long a leg waits for a healthy node; default 60 s
	Logger     *slog.Logger  // default: none
}

func (c *Config) validate() error {
	if c.Store == nil || c.History == nil || c.Farm == nil {
		return errors.New("recovery: a store, a history and a farm are needed")
	}
	if c.Parallel < 0 || c.GiveUp < 0 {
		return errors.New("recovery: a number or time is negative")
	}
	c.Controller = cmp.Or(c.Controller, fmt.Sprintf("recovery-%08x", rand.Uint32()))
	c.Parallel = cmp.Or(c.Parallel, defaultParallel)
	c.GiveUp = cmp.Or(c.GiveUp, defaultGiveUp)
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

	tasks sync.WaitGroup // fences that wait to fall; Run waits for them

	mu     sync.Mutex // guards the rest
	deaths []Death    // not begun
	died   map[bridge.NodeID]int
	moving map[string]bool // Call-IDs that another node is asked to take
	stats  Stats
}

// Stats count since the start.
type Stats struct {
	Crashes   int // that this controller recovered
	Watched   int // that another one recovers
	Recovered int // legs
	Refused   int
	Closed    int
	Kept      int
	Failed    int
}

// New checks the configuration.
func New(cfg Config) (*Recoverer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Recoverer{cfg: cfg, slots: make(chan struct{}, cfg.Parallel), wake: make(chan struct{}, 1),
		died: map[bridge.NodeID]int{}, moving: map[string]bool{}}, nil
}

// Dead is for the sentinel; it returns at once.
func (r *Recoverer) Dead(_ context.Context, d Death) {
	r.mu.Lock()
	r.deaths = append(r.deaths, d)
	r.died[d.Node]++
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
	for {
		r.mu.Lock()
		todo := r.deaths
		r.deaths = nil
		r.mu.Unlock()
		for _, d := range todo {
			all.Go(func() { r.crash(ctx, d) }) // a target that dies is a crash beside the one that it was a target of
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// crash claims a death and brings its calls back.
func (r *Recoverer) crash(ctx context.Context, d Death) {
	log := r.cfg.Logger.With("node", d.Node, "epoch", d.Epoch)
	crashes, calls, err := r.buckets(ctx)
	if err != nil {
		log.Error("crash is not recovered", "err", err)
		return
	}
	c, won, err := claim(ctx, crashes, d, r.cfg.Controller)
	if err != nil {
		log.Error("crash is not recovered", "err", err)
		return
	}
	if !won {
		log.Info("another controller recovers", "controller", c.Controller)
		r.count(func(s *Stats) { s.Watched++ })
		return
	}
	r.count(func(s *Stats) { s.Crashes++ })
	r.fence(ctx, d, log)
	jobs, err := lookup(ctx, calls, d.Node)
	if err != nil {
		log.Error("crash is not recovered", "err", err)
		return
	}
	rep := newReport(crashes, c, jobs)
	log.Warn("recovering", "legs", len(jobs), "reason", d.Reason)
	r.bring(ctx, d, jobs, calls, rep, 0)
	rep.finish()
	log.Warn("recovery done", "legs", len(jobs), "took_ms", time.Since(d.At).Milliseconds(), "results", rep.results())
	r.late(ctx, d, calls, rep, log)
}

// late looks once more. A node that dies while it takes calls over may have had a 200 OK in its last moment, and the bridge role writes that leg
// into the record when everything else of the node was found already (F3).
func (r *Recoverer) late(ctx context.Context, d Death, calls *store.Bucket, rep *report, log *slog.Logger) {
	for range lateLooks {
		if !sleep(ctx, lateAfter) {
			return
		}
		jobs, err := lookup(ctx, calls, d.Node)
		if err != nil {
			log.Error("late legs are not recovered", "err", err)
			return
		}
		// Lost, not up: a new process of the same name may have taken over calls of other nodes already.
		jobs = slices.DeleteFunc(jobs, func(j job) bool { return rep.has(j.leg.SIPCallID) || j.leg.State != bridge.LegLost })
		if len(jobs) == 0 {
			continue
		}
		log.Warn("recovering", "legs", len(jobs), "reason", "they came in the node's last moment")
		r.bring(ctx, d, jobs, calls, rep, rep.add(jobs))
		rep.finish()
	}
}

func (r *Recoverer) buckets(ctx context.Context) (crashes, calls *store.Bucket, err error) {
	if crashes, err = r.cfg.Store.Bucket(ctx, BucketCrashes); err != nil {
		return nil, nil, err
	}
	calls, err = r.cfg.Store.Bucket(ctx, bridge.BucketCalls)
	return crashes, calls, err
}

// fence keeps the dead node out at every edge before anybody else speaks in its dialogs (B54). An edge that does not answer has been told as
// well as possible: calls do not wait for it.
func (r *Recoverer) fence(ctx context.Context, d Death, log *slog.Logger) {
	if d.SIP == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for _, e := range r.cfg.Edges {
		all.Go(func() {
			if err := e.Fence(ctx, d.SIP); err != nil {
				log.Warn("an edge does not fence", "err", err)
			}
		})
	}
	all.Wait()
}

// bring rebuilds the dialogs in batches (base is the first one's place in the report), joins who can be joined, and starts a goroutine per leg; slots bound how many of them are at it.
func (r *Recoverer) bring(ctx context.Context, d Death, jobs []job, calls *store.Bucket, rep *report, base int) {
	var all sync.WaitGroup
	defer all.Wait()
	for first := 0; first < len(jobs); {
		end := min(first+batchOf, len(jobs))
		for end < len(jobs) && jobs[end].call.ID == jobs[end-1].call.ID { // who is joined must be in one batch
			end++
		}
		batch := jobs[first:end]
		ids := make([]string, 0, len(batch))
		for _, j := range batch {
			ids = append(ids, j.leg.SIPCallID)
		}
		dialogs := r.cfg.History.Dialogs(ctx, d.SIP, ids)
		all.Go(func() { r.soothe(ctx, batch, dialogs) })
		for i, j := range batch {
			built, ok := dialogs[j.leg.SIPCallID]
			if !ok {
				built.Err = errors.New("nothing was captured of it")
			}
			n := base + first + i
			rep.step(n, "dialog")
			all.Go(func() { r.leg(ctx, d, j, built, calls, rep, n) })
		}
		first = end
	}
}

// soothe joins the two of a call directly and gives all others comfort noise, until their farm sides speak again. It is best effort: it fails
// where the two are at different media nodes.
func (r *Recoverer) soothe(ctx context.Context, batch []job, dialogs map[string]Rebuilt) {
	if r.cfg.Media == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	first := map[string]job{}
	limit := make(chan struct{}, 8)
	do := func(f func()) {
		limit <- struct{}{}
		all.Go(func() { defer func() { <-limit }(); f() })
	}
	for _, j := range batch {
		b, ok := dialogs[j.leg.SIPCallID]
		if !ok || b.Err != nil {
			continue
		}
		do(func() { _ = r.cfg.Media.Comfort(ctx, j.leg.SIPCallID, b.RemoteTag, true) })
		if j.call.Conference != "" || j.call.Up() != 2 || j.leg.Held || j.leg.Muted {
			continue
		}
		other, paired := first[j.call.ID]
		if !paired {
			first[j.call.ID] = j
			continue
		}
		o := dialogs[other.leg.SIPCallID]
		do(func() { _ = r.cfg.Media.Join(ctx, j.leg.SIPCallID, b.RemoteTag, other.leg.SIPCallID, o.RemoteTag) })
	}
}

// leg brings one leg back: node, channel, INVITE, and again where that can help.
func (r *Recoverer) leg(ctx context.Context, d Death, j job, built Rebuilt, calls *store.Bucket, rep *report, n int) {
	if built.Err != nil {
		r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultRefused, built.Err)
		return
	}
	var avoid []bridge.NodeID
	var last error
	generation := j.leg.Generation
	for range maxTries {
		node, err := r.node(ctx, &j, avoid)
		if err != nil {
			r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultFailed, err)
			return
		}
		if gone, err := current(ctx, calls, &j, d.Node); gone && err == nil {
			r.there(ctx, d, j, built, calls, rep, n)
			return
		}
		if slices.Contains(r.cfg.Farm.Healthy(roleOf(&j.call)), d.Node) { // it stood still, and nobody had the call meanwhile
			r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultKept, nil)
			return
		}
		generation++
		last = r.try(ctx, d, node, &j, built, generation, calls, rep, n)
		switch {
		case last == nil:
			r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultRecovered, nil)
			return
		case ctx.Err() != nil:
			return
		case errors.Is(last, errGone):
			r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultClosed, last)
			return
		case errors.Is(last, errEnded):
			r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultFailed, last)
			return
		case errors.Is(last, errPending):
			// RFC 3261, section 14.1: who does not own the Call-ID waits for up to 2 s.
			rep.step(n, "491")
			sleep(ctx, time.Duration(100+rand.IntN(1900))*time.Millisecond)
		default:
			rep.step(n, "again: "+last.Error())
			avoid = append(avoid, node)
			sleep(ctx, captureLag)
		}
		// What was sent meanwhile counts: the next INVITE needs a higher CSeq.
		if again, ok := r.cfg.History.Dialogs(ctx, d.SIP, []string{j.leg.SIPCallID})[j.leg.SIPCallID]; ok && again.Err == nil && again.CSeq > built.CSeq {
			built = again
		} else if ok && again.Err != nil {
			r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultRefused, again.Err)
			return
		} else {
			built = built.next()
		}
	}
	r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultFailed, last)
}

// next is the dialog after an INVITE of which nothing was captured.
func (b Rebuilt) next() Rebuilt {
	b.CSeq++
	vars := make(map[string]string, len(b.Variables))
	for k, v := range b.Variables {
		vars[k] = v
	}
	if vars["PJSIP_RECOVERY_CSEQ"] != "" {
		vars["PJSIP_RECOVERY_CSEQ"] = fmt.Sprint(b.CSeq)
	}
	b.Variables = vars
	return b
}

// node waits for a healthy node of the call's farm, for GiveUp at most (F4).
func (r *Recoverer) node(ctx context.Context, j *job, avoid []bridge.NodeID) (bridge.NodeID, error) {
	role := roleOf(&j.call)
	for deadline := time.Now().Add(r.cfg.GiveUp); ; {
		if node, ok := choose(&j.call, r.cfg.Farm.Healthy(role), avoid); ok {
			return node, nil
		}
		if !time.Now().Before(deadline) {
			return "", fmt.Errorf("no healthy node of farm %s for %v", role, r.cfg.GiveUp)
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return "", ctx.Err()
		}
	}
}

// try places the channel and waits until the bridge role has it, or it is certain that it never will.
func (r *Recoverer) try(ctx context.Context, d Death, node bridge.NodeID, j *job, built Rebuilt, generation int, calls *store.Bucket, rep *report, n int) error {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	release := sync.OnceFunc(func() { <-r.slots })
	defer release()
	r.move(j.leg.SIPCallID, true)
	defer r.move(j.leg.SIPCallID, false)
	ch := channelFor(&j.call, &j.leg, built, generation)
	rep.target(n, node)
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	err := r.cfg.Farm.Originate(ask, node, ch)
	cancel()
	if err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	rep.step(n, "invite")
	sent := time.Now()
	asked := sent
	for {
		if !sleep(ctx, askEvery) {
			return ctx.Err()
		}
		probe := *j
		if gone, err := current(ctx, calls, &probe, d.Node); err == nil && gone {
			if probe.leg.ID == ch.ID && probe.leg.State == bridge.LegUp {
				rep.step(n, "answered")
				return nil
			}
			return errGone // the call ended while it was brought back
		}
		if status, ok := r.cfg.History.Final(ctx, j.leg.SIPCallID, built.CSeq); ok && status >= 300 {
			switch status {
			case 491:
				return errPending
			case 408, 481:
				return errGone
			}
			return fmt.Errorf("the far end answers %d: %w", status, errEnded)
		}
		if time.Since(sent) >= slotTime {
			release()
		}
		if time.Since(asked) >= existsEvery {
			asked = time.Now()
			ask, cancel := context.WithTimeout(ctx, time.Second)
			there, err := r.cfg.Farm.Exists(ask, node, ch.ID)
			cancel()
			if err == nil && !there {
				return fmt.Errorf("node %s gave the channel up", node)
			}
			if err != nil && !slices.Contains(r.cfg.Farm.Healthy(roleOf(&j.call)), node) {
				return fmt.Errorf("node %s died as well", node)
			}
		}
		if time.Since(sent) > inviteTimeout {
			ask, cancel := context.WithTimeout(ctx, 3*time.Second)
			err := r.cfg.Farm.Hangup(ask, node, ch.ID)
			cancel()
			return errors.Join(fmt.Errorf("no answer for %v: %w", inviteTimeout, errEnded), err)
		}
	}
}

// there is for a leg that needs nothing any more: it lives on another node, or it ended.
func (r *Recoverer) there(ctx context.Context, d Death, j job, built Rebuilt, calls *store.Bucket, rep *report, n int) {
	if j.leg.State == bridge.LegUp && j.leg.Node != d.Node {
		r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultRecovered, nil)
		return
	}
	r.end(ctx, d, j, calls, rep, n, built.RemoteTag, ResultClosed, errors.New("the call ended meanwhile"))
}

// end writes a leg's result; one that does not come back is given up in the call's record, and its far end is left in silence no longer.
func (r *Recoverer) end(ctx context.Context, d Death, j job, calls *store.Bucket, rep *report, n int, remoteTag, result string, why error) {
	rep.end(n, result, why)
	r.count(func(s *Stats) {
		switch result {
		case ResultRecovered:
			s.Recovered++
		case ResultRefused:
			s.Refused++
		case ResultClosed:
			s.Closed++
		case ResultKept:
			s.Kept++
		default:
			s.Failed++
		}
	})
	if r.cfg.Media != nil {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		_ = r.cfg.Media.Comfort(ctx, j.leg.SIPCallID, remoteTag, false) // the call goes on, or is over
		cancel()
	}
	if result == ResultRecovered || result == ResultKept {
		return
	}
	if err := giveUp(ctx, calls, &j, d.Node); err != nil && !errors.Is(err, store.ErrNotFound) {
		r.cfg.Logger.Warn("leg is not given up", "call", j.call.ID, "leg", j.leg.ID, "err", err)
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
	return r.stats
}

func (r *Recoverer) move(callID string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.moving[callID] = true
	} else {
		delete(r.moving, callID)
	}
}

// Back is for the sentinel: a node that answers again. A new process has none of the old dialogs, so the fence falls. The old process still has
// them (it stood still): it is rid of those that others took, behind the fence. Their BYEs reach nobody there, and they are repeated for half a
// minute, so that the fence falls only after that. What nobody took stays where it is.
func (r *Recoverer) Back(ctx context.Context, b Return) {
	crashes, calls, err := r.buckets(ctx)
	if err != nil {
		return
	}
	wait := time.Duration(0)
	if _, err := crashes.Get(ctx, crashKey(b.Node, b.Epoch)); err == nil {
		ended, err := r.clear(ctx, b.Node, calls)
		if err != nil {
			r.cfg.Logger.Warn("node stays fenced: its old channels are still there", "node", b.Node, "err", err)
			return
		}
		if ended > 0 {
			wait = byesOver
		}
	}
	r.mu.Lock()
	deaths := r.died[b.Node]
	r.mu.Unlock()
	unfence := func() {
		r.mu.Lock()
		again := r.died[b.Node] != deaths
		r.mu.Unlock()
		if again {
			return
		}
		for _, e := range r.cfg.Edges {
			if err := e.Unfence(ctx, b.SIP); err != nil {
				r.cfg.Logger.Warn("an edge does not take the node back", "node", b.Node, "err", err)
			}
		}
	}
	if wait == 0 {
		unfence()
		return
	}
	r.tasks.Go(func() {
		if sleep(ctx, wait) {
			unfence()
		}
	})
}

// clear ends the channels of a node whose legs live elsewhere, or are on their way there.
func (r *Recoverer) clear(ctx context.Context, node bridge.NodeID, calls *store.Bucket) (ended int, err error) {
	jobs, err := lookup(ctx, calls, node)
	if err != nil {
		return 0, err
	}
	keep := map[string]bool{}
	r.mu.Lock()
	for _, j := range jobs {
		keep[j.leg.ID] = !r.moving[j.leg.SIPCallID]
	}
	r.mu.Unlock()
	return r.cfg.Farm.Clear(ctx, node, keep)
}

// Crashes lists what the store knows, for the operator.
func (r *Recoverer) Crashes(ctx context.Context) ([]Crash, error) {
	crashes, _, err := r.buckets(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := crashes.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := make([]Crash, 0, len(entries))
	for _, e := range entries {
		var c Crash
		if err := json.Unmarshal(e.Value, &c); err != nil {
			return nil, fmt.Errorf("crash %s: %w", e.Key, err)
		}
		out = append(out, c)
	}
	return out, nil
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
