package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// The fence of a node stands from its death until it is known what became of the process (B54). It is a state that is kept up, not a message: a crash that
// is not settled in the store is a fence that must stand. One controller, which has the lease for it, tells every edge again and again, since an edge that
// starts meanwhile has none, and lets the node in again. Functions occur in the order in which a death meets them.

// Chosen by us.
const (
	byesOver   = 33 * time.Second       // the last repetition of a BYE has been sent: 64 of RFC 3261's T1 (timer F), and a bit
	fenceWait  = 500 * time.Millisecond // an edge that does not answer keeps nobody waiting for longer
	fenceEvery = time.Second
	clearWait  = 5 * time.Second

	// blindFor is how long a node must have answered before a controller settles a death that only others saw: theirs may be an earlier sight of one that
	// is about to show here as well. It is longer than the longest time of a verdict.
	blindFor = 15 * time.Second
)

// presence is what our own sentinel says of a node. Deaths are told apart by counting: clocks of machines differ, and jump (F17).
type presence struct {
	Return             // the process that answered last
	at       time.Time // since when
	dead     bool
	died     time.Time
	gone     bool // its process is
	returned bool // it was dead before it answered, and that is not settled
	deaths   int  // of this process, in our eyes
	next     int  // the lowest number that its next death can have
	unread   bool // that it answers is not in the store yet
}

// Dead is for the sentinel; it returns at once.
func (r *Recoverer) Dead(_ context.Context, d Death) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[d.Node]
	if s == nil || s.Epoch != d.Epoch {
		s = &presence{Return: Return{Node: d.Node, Epoch: d.Epoch, SIP: d.SIP}}
		r.seen[d.Node] = s
	}
	if !s.dead {
		s.dead, s.died, s.gone = true, time.Now(), d.Gone
		s.deaths++
		s.next++
	}
	d.Number, d.unread = s.next-1, s.unread
	r.deaths = append(r.deaths, d)
	r.barred[d.Node] = d.Epoch
	clear(r.sticky) // they may lead to the dead node
	r.guardLocked(d.Node)
}

// Back is for the sentinel: a node that answers, for the first time or after its death. It returns at once.
func (r *Recoverer) Back(_ context.Context, back Return) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.seen[back.Node]
	s := &presence{}
	if was != nil && was.Epoch == back.Epoch {
		s = was
	}
	s.returned = r.absent[back.Node] || was != nil && (was.dead || was.returned)
	delete(r.absent, back.Node)
	s.Return, s.at, s.dead, s.unread = back, time.Now(), false, true
	r.seen[back.Node] = s
	r.guardLocked(back.Node)
}

// guardLocked has somebody look after the fence of a node, soon.
func (r *Recoverer) guardLocked(node bridge.NodeID) {
	g := r.guards[node]
	if g == nil {
		g = &guard{r: r, node: node, poked: make(chan struct{}, 1), log: r.cfg.Logger.With("node", node), told: map[Edge]bool{}, failing: map[Edge]bool{}}
		r.guards[node] = g
	}
	select {
	case g.poked <- struct{}{}:
	default:
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Recoverer) guard(node bridge.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.guardLocked(node)
}

// view is what is known of a node now; nobody has seen one of which ok is false.
func (r *Recoverer) view(node bridge.NodeID) (s presence, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.seen[node]
	if p == nil {
		return s, false
	}
	return *p, true
}

// healthy are the nodes that may take calls: none behind a fence (B54), whatever its own farm says of it.
func (r *Recoverer) healthy(role string) []bridge.NodeID {
	nodes := r.cfg.Farm.Healthy(role)
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(nodes, func(n bridge.NodeID) bool {
		epoch, ok := r.barred[n]
		return ok && r.seen[n] != nil && r.seen[n].Epoch == epoch
	})
}

// places says which nodes of a role may take calls, and why the others may not.
func (r *Recoverer) places(role string) (fit, not string) {
	healthy := r.healthy(role)
	slices.Sort(healthy)
	unfit := r.cfg.Farm.Unfit(role)
	for _, n := range r.cfg.Farm.Healthy(role) {
		if !slices.Contains(healthy, n) {
			unfit[n] = "fenced"
		}
	}
	var why []string
	for _, n := range slices.Sorted(maps.Keys(unfit)) {
		why = append(why, fmt.Sprintf("not %s: %s", n, unfit[n]))
	}
	return cmp.Or(strings.Trim(fmt.Sprint(healthy), "[]"), "none"), strings.Join(why, ", ")
}

// Fenced are the nodes that are kept out, as far as this controller knows.
func (r *Recoverer) Fenced() []bridge.NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.barred))
}

// guard looks after the fence of one node, as long as a crash of it is not settled.
type guard struct {
	r       *Recoverer
	node    bridge.NodeID
	poked   chan struct{} // something is new; capacity 1
	running bool          // Recoverer.mu
	log     *slog.Logger

	// The rest belongs to its goroutine.
	since   time.Time     // of the first look at what only others saw
	ended   time.Time     // channels of the process that went on, for the last time
	told    map[Edge]bool // that the node is let in again
	about   string        // which fences they were told of
	failing map[Edge]bool // edges, for the log
}

// run ends when nothing is left to settle.
func (g *guard) run(ctx context.Context) {
	for ctx.Err() == nil {
		done, err := g.stand(ctx)
		switch {
		case errors.Is(err, store.ErrHeld):
		case err != nil && ctx.Err() == nil:
			g.log.Warn("the fence is not looked after yet", "err", err)
		}
		if done && g.leave() {
			return
		}
		g.wait(ctx, g.r.cfg.TakeOver/4, nil)
	}
}

// leave ends the guard, unless something is new.
func (g *guard) leave() bool {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	if len(g.poked) > 0 {
		return false
	}
	delete(g.r.guards, g.node)
	return true
}

// wait ends early where something is new.
func (g *guard) wait(ctx context.Context, d time.Duration, lost <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.poked:
	case <-lost:
	case <-ctx.Done():
	}
}

// stand keeps the fence for as long as its lease is ours.
func (g *guard) stand(ctx context.Context) (done bool, err error) {
	b, err := g.r.buckets(ctx)
	if err != nil {
		return false, err
	}
	open, err := g.look(ctx, b)
	if err != nil {
		return false, err
	}
	s, seen := g.r.view(g.node)
	if len(open) == 0 || !seen && !g.r.cfg.Farm.Watched(g.node) { // of a node that is not ours nobody here can say whether it lives
		return !s.dead, nil
	}
	if !g.judges(open) {
		return false, nil
	}
	lease, err := g.r.cfg.Store.Lease(ctx, "fence."+string(g.node), g.r.cfg.Controller, g.r.cfg.TakeOver)
	if err != nil {
		return false, err
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = lease.Release(release) // an error leaves it to its end
	}()
	for ctx.Err() == nil {
		select {
		case <-lease.Lost():
			return false, nil
		default:
		}
		next := g.r.every
		if open, err = g.look(ctx, b); err != nil {
			g.log.Warn("the fence is not looked after", "err", err)
		} else if len(open) == 0 || !g.judges(open) {
			return false, nil // the next look says that it is done
		} else {
			next = g.turn(ctx, b, open)
		}
		g.wait(ctx, next, lease.Lost())
	}
	return false, nil
}

// look reads which crashes of the node are not settled, and notes in the store that it answers.
func (g *guard) look(ctx context.Context, b buckets) ([]Crash, error) {
	if s, ok := g.r.view(g.node); ok && s.unread {
		if _, err := g.r.returned(ctx, b.crashes, s.Return); err != nil {
			return nil, err
		}
	}
	all, err := b.crashes.of(ctx, g.node)
	if err != nil {
		return nil, err
	}
	open := slices.DeleteFunc(all, func(c Crash) bool { return !c.Settled.IsZero() })
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	if s := g.r.seen[g.node]; s != nil && !s.dead && !slices.ContainsFunc(open, func(c Crash) bool { return c.Freed.IsZero() }) {
		delete(g.r.barred, g.node)
		// A node may be back before the crash of its death is written.
		s.returned = s.returned && (len(open) > 0 || time.Since(s.at) < g.r.blind)
	}
	return open, nil
}

// returned writes that the process of a node answers into the crashes that it had before. It returns the number that its next death has at least.
func (r *Recoverer) returned(ctx context.Context, b book, back Return) (next int, err error) {
	all, err := b.of(ctx, back.Node)
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if c.Epoch != back.Epoch {
			continue
		}
		next = max(next, c.Number+1)
		if !c.Returned.IsZero() {
			continue
		}
		if err := b.change(ctx, c.key(), func(c *Crash, there bool) bool {
			c.Returned = time.Now()
			return there
		}); err != nil {
			return 0, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.seen[back.Node]; s != nil && s.Epoch == back.Epoch {
		s.next = max(s.next, next)
		s.unread = s.unread && s.dead // a death that waits for its number reads again
	}
	return next, nil
}

// judges tells whether we know enough of the node to look after its fence: that it is dead, that it came back, or that it has lived for long whatever
// others saw. One that is dead for us and came back for others is theirs: it may be our own network that is away.
func (g *guard) judges(open []Crash) bool {
	s, ok := g.r.view(g.node)
	if s.dead && !slices.ContainsFunc(open, func(c Crash) bool { return c.Epoch != s.Epoch || c.Returned.IsZero() }) {
		return false
	}
	if !ok || s.dead || s.returned {
		g.since = time.Time{}
		return true
	}
	if g.since.IsZero() {
		g.since = time.Now()
	}
	return time.Since(g.since) >= g.r.blind && time.Since(s.at) >= g.r.blind
}

// turn does what is due, and returns when it is to be looked at again.
func (g *guard) turn(ctx context.Context, b buckets, open []Crash) time.Duration {
	last := slices.MaxFunc(open, func(a, b Crash) int { return a.Detected.Compare(b.Detected) })
	s, seen := g.r.view(g.node)
	switch {
	case !seen && g.r.cfg.Farm.Alive(g.node, last.SIP):
		return g.r.every // it has not told its name yet
	case s.gone && s.dead && time.Since(s.died) < lastWords:
		return lastWords - time.Since(s.died) // the BYEs of a node that was stopped in order may be on their way (B45)
	case !seen || s.dead:
		if !seen {
			g.r.mu.Lock()
			g.r.absent[g.node] = true
			g.r.mu.Unlock()
		}
		g.ended = time.Time{}
		g.raise(ctx, last.SIP, last.Epoch)
		return g.r.every
	}
	same := slices.DeleteFunc(slices.Clone(open), func(c Crash) bool { return c.Epoch != s.Epoch })
	if len(same) > 0 && slices.ContainsFunc(open, func(c Crash) bool { return c.Freed.IsZero() }) {
		if s.returned { // who lives is not fenced, whatever a crash says that only the store tells of (F34)
			g.raise(ctx, s.SIP, s.Epoch)
		}
		ready, err := g.rid(ctx, b, s, same)
		if err != nil {
			g.log.Warn("node stays fenced: it is not rid of what others took yet", "err", err)
		}
		if err != nil || !ready {
			return g.r.every
		}
	}
	if !g.lower(ctx, b, s, open) {
		return g.r.every
	}
	return 0
}

// raise tells all edges, and the bridge role by the node's record.
func (g *guard) raise(ctx context.Context, sip, epoch string) {
	clear(g.told)
	g.r.fence(ctx, Death{Node: g.node, Epoch: epoch, SIP: sip}, func(e Edge, err error) { g.note(e, "an edge does not fence", err) })
}

// note logs what changes: an edge that is away is told each second.
func (g *guard) note(e Edge, what string, err error) {
	g.r.mu.Lock()
	was := g.failing[e]
	g.failing[e] = err != nil
	g.r.mu.Unlock()
	if err != nil && !was {
		g.log.Warn(what, "err", err)
	}
}

// fence keeps the dead node out at every edge before anybody else speaks in its dialogs (B54). Who does not answer within fenceWait keeps calls waiting
// no longer, and is told again by the guard.
func (r *Recoverer) fence(ctx context.Context, d Death, tell func(Edge, error)) {
	r.mu.Lock()
	r.barred[d.Node] = d.Epoch
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fenceWait)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		if err := r.flag(ctx, d.Node, d.Epoch, true); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("the bridge role does not know of the fence yet", "node", d.Node, "err", err)
		}
	})
	for _, e := range r.cfg.Edges {
		if d.SIP != "" {
			all.Go(func() { tell(e, e.Fence(ctx, d.SIP)) })
		}
	}
	all.Wait()
}

// fenced writes that the edges were told. Whoever was about to let the node in at the same time does it again: nobody knows which of the two an edge heard last.
func (r *Recoverer) fenced(ctx context.Context, d Death, b book) {
	for {
		err := b.change(ctx, d.key(), func(c *Crash, there bool) bool {
			c.Fenced, c.Freed, c.Settled = time.Now(), time.Time{}, time.Time{}
			return there
		})
		if err == nil || !sleep(ctx, storePause) {
			r.guard(d.Node)
			return
		}
	}
}

// lower lets the node in again: at the edges first, so that nobody gives it a call before it can answer. An edge that does not hear it is told again.
func (g *guard) lower(ctx context.Context, b buckets, s presence, open []Crash) (again bool) {
	about := ""
	for _, c := range open {
		about += fmt.Sprintln(c.key(), c.Fenced)
	}
	if about != g.about {
		clear(g.told)
		g.about = about
	}
	round, cancel := context.WithTimeout(ctx, 2*time.Second)
	var all sync.WaitGroup
	addrs := []string{s.SIP} // and where it was fenced, if it comes back elsewhere
	for _, c := range open {
		addrs = append(addrs, c.SIP)
	}
	slices.Sort(addrs)
	addrs = slices.DeleteFunc(slices.Compact(addrs), func(sip string) bool { return sip == "" })
	left := slices.DeleteFunc(slices.Clone(g.r.cfg.Edges), func(e Edge) bool { return g.told[e] })
	for _, e := range left {
		all.Go(func() {
			var err error
			for _, sip := range addrs {
				err = errors.Join(err, e.Unfence(round, sip))
			}
			g.note(e, "an edge does not take the node back", err)
			if err == nil {
				g.r.mu.Lock()
				g.told[e] = true
				g.r.mu.Unlock()
			}
		})
	}
	all.Wait()
	cancel()
	if now, _ := g.r.view(g.node); now.deaths != s.deaths || now.Epoch != s.Epoch || now.dead {
		clear(g.told)
		return true // it died meanwhile: its fence stands at once again
	}
	if err := g.r.flag(ctx, g.node, "", false); err != nil {
		g.log.Warn("the bridge role does not know that the node is back", "err", err)
		return false
	}
	whole := !slices.ContainsFunc(g.r.cfg.Edges, func(e Edge) bool { return !g.told[e] })
	for _, c := range open {
		if !c.Freed.IsZero() && !whole {
			continue
		}
		before := c.Fenced
		if err := b.crashes.change(ctx, c.key(), func(c *Crash, there bool) bool {
			again = again || !c.Fenced.Equal(before)
			now := time.Now()
			if c.Freed.IsZero() {
				c.Freed = now
			}
			if whole {
				c.Settled = now
			}
			return there && c.Fenced.Equal(before)
		}); err != nil {
			g.log.Warn("that the node is back is not written", "err", err)
			return false
		}
	}
	if again {
		clear(g.told)
		return true
	}
	if whole {
		g.log.Info("node is let in again")
	}
	return whole
}
