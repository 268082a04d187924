package bridge

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/internal/store"
)

// Config is what a bridge process needs. Nodes and Store must be given.
type Config struct {
	Nodes     []string      // ARI of each farm node: http://USER:PASSWORD@IP:PORT
	Clients   []*ari.Client // of nodes that connect by themselves (ari.Outbound)
	Store     *store.Store
	Owner     string        // IP:PORT of this process' API, by which the others find it; it must be its own
	Numbers   Numbers       // what numbers are
	Rules     Rules         // times and limits of calls
	Flows     []Flow        // of files; those that are posted come before them
	Directory Directory     // nil: no users, every number goes to the provider
	LeaseTTL  time.Duration // a process that dies loses its nodes after it, default 1.2 s
	MaxCalls  int           // more are refused, default 10000
	Queue     int           // events that wait for one call, default 256; more is a gap, which is repaired by reading
	Logger    *slog.Logger  // default: none
}

func (c *Config) validate() error {
	if len(c.Nodes)+len(c.Clients) == 0 {
		return errors.New("bridge: no farm node (allowed: http://USER:PASSWORD@IP:PORT of each, or nodes that connect by themselves)")
	}
	if c.Store == nil {
		return errors.New("bridge: a store is needed")
	}
	if c.LeaseTTL <= 0 {
		c.LeaseTTL = 1200 * time.Millisecond
	}
	if c.MaxCalls <= 0 {
		c.MaxCalls = 10000
	}
	if c.Queue <= 0 {
		c.Queue = 256
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Numbers.fill()
	c.Rules.fill()
	return nil
}

// Stats are the counters of a bridge process.
type Stats struct {
	Calls, Legs, Conferences       int64 // now
	Started, Ended, Refused        int64
	Events, Unknown, Gaps, Repairs int64
	Failed                         int64    // actions that a node refused
	Resumed                        int64    // legs that recovery brought back
	Unsaved                        int64    // records whose write had to be repeated
	Actions                        []Timing // how long nodes took for commands
	Setup                          []Timing // when calls of two reached a step, from the caller's coming on
}

// Bridge controls calls and conferences of the nodes that it holds the lease of.
type Bridge struct {
	// Constant after New.
	cfg   Config
	nodes []*node
	hub   *hub

	// Set by Run before ready is closed.
	ready   chan struct{}
	taking  chan struct{} // closed when a node is controlled for the first time
	first   sync.Once     // closes it
	ctx     context.Context
	buckets struct{ nodes, calls, conferences, flows *store.Bucket }
	flows   *flowBook
	group   sync.WaitGroup // calls and what they start

	stats   counters
	actions timings // of commands to nodes
	setup   timings // of steps of calls

	mu       sync.Mutex // guards the rest
	calls    map[string]*session
	channels map[string]*session // by ARI channel id; also playbacks' and recordings' targets lead here
	meeting  map[string]*session // by conference name
	held     map[string]Call     // conferences of all processes, as the store tells, by call id
	known    map[NodeID]Node     // as the store tells
	draining bool
}

type counters struct {
	started, ended, refused, events, unknown, gaps, repairs, failed, resumed, unsaved atomic.Int64
}

// New checks the configuration. Nothing is connected before Run.
func New(cfg Config) (*Bridge, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	b := &Bridge{cfg: cfg, actions: newTimings(doAnswer, doRing, doHangup, doResolve, doOriginate, doCreateBridge, doDestroy, doJoin, doLeave, doMute,
		doMusic, doPlay, doStopPlay, doRecord, doStopRecord, doSnoop), setup: newTimings(stepResolved, stepOriginated, stepRinging, stepRung, stepAnswered,
		stepTalking), hub: newHub(), flows: newFlowBook(cfg.Flows), ready: make(chan struct{}), taking: make(chan struct{}),
		calls: map[string]*session{}, channels: map[string]*session{}, meeting: map[string]*session{},
		held: map[string]Call{}, known: map[NodeID]Node{}}
	for _, u := range cfg.Nodes {
		client, err := ari.NewClient(ari.ClientConfig{URL: u, App: App, Logger: cfg.Logger})
		if err != nil {
			return nil, err
		}
		b.nodes = append(b.nodes, &node{b: b, client: client})
	}
	for _, client := range cfg.Clients {
		b.nodes = append(b.nodes, &node{b: b, client: client})
	}
	return b, nil
}

// Run controls until ctx ends. Channels and bridges stay as they are then: another process, or this one when it starts again, goes on.
func (b *Bridge) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.ctx = ctx
	if err := b.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	close(b.ready)
	var parts sync.WaitGroup
	parts.Go(func() { b.flows.watch(ctx, b.buckets.flows, b.cfg.Logger) })
	parts.Go(func() { b.watchCalls(ctx) })
	parts.Go(func() { b.watchNodes(ctx) })
	for _, n := range b.nodes {
		parts.Go(func() { n.run(ctx) })
	}
	parts.Wait()
	b.group.Wait()
	return nil
}

// open waits for the store: an external one may start later than we do.
func (b *Bridge) open(ctx context.Context) error {
	for name, into := range map[string]**store.Bucket{BucketNodes: &b.buckets.nodes, BucketCalls: &b.buckets.calls,
		BucketConferences: &b.buckets.conferences, BucketFlows: &b.buckets.flows} {
		for {
			bucket, err := b.cfg.Store.Bucket(ctx, name)
			if err == nil {
				*into = bucket
				break
			}
			b.cfg.Logger.Warn("store", "bucket", name, "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
}

// watchCalls hears what others write into records of ours: recovery gives a leg up, another process took a call over.
func (b *Bridge) watchCalls(ctx context.Context) {
	for ctx.Err() == nil {
		entries, err := b.buckets.calls.Watch(ctx, "")
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		for e := range entries {
			if e.Key == "" {
				continue
			}
			var c Call
			if e.Deleted || json.Unmarshal(e.Value, &c) != nil {
				b.note(e.Key, nil)
				continue
			}
			b.note(e.Key, &c)
			switch s := b.session(e.Key); {
			case s != nil && s.isForeign(&c):
				s.post(foreign{c})
			case s == nil && c.From != "" && c.Owner == b.cfg.Owner:
				// A conference that another process opened at a node of ours: if that one dies before the first leg comes, somebody has to end it.
				if n := b.node(c.Node, nil); n != nil && n.controlled() {
					_, _ = b.adoptRecord(n, e)
				}
			}
		}
	}
}

// note keeps where conferences are held, and tells one that comes here from another process' node that all have arrived.
func (b *Bridge) note(id string, c *Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c == nil || c.Conference == "" || c.From != "" || c.Moving != nil && c.Moving.Done {
		delete(b.held, id)
	} else {
		b.held[id] = Call{ID: id, Node: c.Node, Conference: c.Conference, Owner: c.Owner}
	}
	if c != nil && c.Moving != nil && c.Moving.Done {
		if s := b.calls[c.Moving.Call]; s != nil {
			s.post(settled{*c})
		}
	}
}

// watchNodes hears of drains and fences that others wrote.
func (b *Bridge) watchNodes(ctx context.Context) {
	for ctx.Err() == nil {
		entries, err := b.buckets.nodes.Watch(ctx, "")
		if err != nil {
			pause(ctx, time.Second)
			continue
		}
		for e := range entries {
			var rec Node
			if e.Deleted || e.Key == "" || json.Unmarshal(e.Value, &rec) != nil {
				continue
			}
			b.mu.Lock()
			b.known[rec.ID] = rec
			b.mu.Unlock()
			n := b.node(rec.ID, nil)
			if n != nil {
				n.fenced(&rec)
			}
			if n != nil && n.controlled() && n.drained(rec.State == NodeDrain, rec.State == NodeUp) {
				n.leaveConferences(rec.State == NodeDrain)
			}
		}
	}
}

func (b *Bridge) session(id string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[id]
}

// newID is the id of a call: short enough to be read, random enough to be alone. It has no character that channel ids or the store mind.
func newID() string {
	var raw [10]byte
	_, _ = rand.Read(raw[:]) // it never fails
	return "c" + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}

// begin makes the call of an incoming leg, or leads it to the conference that it asked for.
func (b *Bridge) begin(n *node, number string, l Leg) {
	if d, ok := b.cfg.Numbers.local(number); ok && d.Local == localConference {
		b.enterConference(n, d.Conference, l)
		return
	}
	if roles := n.record().Roles; len(roles) == 1 && roles[0] == RoleConference && b.flows.get(number) == nil {
		b.enterConference(n, number, l) // such a node has nothing else: a call node's trunk names the conference, also one that is no number
		return
	}
	c := Call{ID: newID(), Node: n.id(), Number: number, Created: time.Now(), Owner: b.cfg.Owner}
	if d, ok := b.cfg.Numbers.local(number); ok {
		c.Program = d.Local
	} else if f := b.flows.get(number); f != nil {
		c.Program, c.Flow = ProgramFlow, &FlowState{Name: number, Actions: f}
	}
	s, err := b.open1(n, c, 0)
	if err != nil {
		b.refuse(n, l, err)
		return
	}
	s.post(arrived{leg: l})
}

func (b *Bridge) refuse(n *node, l Leg, why error) {
	b.stats.refused.Add(1)
	b.cfg.Logger.Info("leg refused", "node", n.id(), "leg", l.ID, "error", why)
	b.group.Go(func() { _ = n.client.Hangup(b.ctx, l.ID, causeFull) })
}

var errFull = errors.New("the limit of calls is reached, or the process ends")

// open1 starts the goroutine of a call. rev is the revision of its record in the store, 0 if there is none.
func (b *Bridge) open1(n *node, c Call, rev uint64) (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.calls[c.ID]; s != nil {
		return s, nil
	}
	carried := c.Trunk != "" && len(c.Legs) > 0 // a member of a conference that moved: no new call
	if (len(b.calls) >= b.cfg.MaxCalls || b.draining && rev == 0) && !carried || b.ctx.Err() != nil {
		return nil, errFull
	}
	s := newSession(b, n, c, rev)
	b.calls[c.ID] = s
	for _, l := range c.Legs {
		b.channels[l.ID] = s
	}
	if c.Conference != "" && c.From == "" && (c.Moving == nil || !c.Moving.Done) {
		b.meeting[c.Conference] = s
	}
	b.stats.started.Add(1)
	b.group.Go(func() { s.run(b.ctx) })
	return s, nil
}

func (b *Bridge) closed(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &s.m.call
	delete(b.calls, (*c).ID)
	if name := (*c).Conference; name != "" && b.meeting[name] == s {
		delete(b.meeting, name)
	}
	for id, owner := range b.channels {
		if owner == s {
			delete(b.channels, id)
		}
	}
	b.stats.ended.Add(1)
}

// Ready is closed when calls of a node have come under control for the first time.
func (b *Bridge) Ready() <-chan struct{} { return b.taking }

// Drain takes no new calls from now on.
func (b *Bridge) Drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draining = true
}

// Calls returns the records that this process controls.
func (b *Bridge) Calls() []Call {
	b.mu.Lock()
	all := make([]*session, 0, len(b.calls))
	for _, s := range b.calls {
		all = append(all, s)
	}
	b.mu.Unlock()
	out := make([]Call, 0, len(all))
	for _, s := range all {
		out = append(out, s.record())
	}
	return out
}

// Stats returns the counters.
func (b *Bridge) Stats() Stats {
	c := &b.stats
	s := Stats{Started: c.started.Load(), Ended: c.ended.Load(), Refused: c.refused.Load(), Events: c.events.Load(), Unknown: c.unknown.Load(),
		Gaps: c.gaps.Load(), Repairs: c.repairs.Load(), Failed: c.failed.Load(), Resumed: c.resumed.Load(), Unsaved: c.unsaved.Load(),
		Actions: b.actions.snapshot(), Setup: b.setup.snapshot()}
	for _, call := range b.Calls() {
		s.Calls++
		s.Legs += int64(len(call.Legs))
		if call.Conference != "" {
			s.Conferences++
		}
	}
	return s
}

// Command runs a command on a call that this process controls.
func (b *Bridge) Command(ctx context.Context, call string, c Command) error {
	s := b.session(call)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoCall, call)
	}
	if (c.Do == CmdAdd || c.Do == CmdTransfer) && c.To != "" {
		d, err := b.resolve(ctx, c.To)
		if err != nil {
			return err
		}
		c.targets, c.local = d.Targets, d.Local
		if len(d.Targets) == 0 && d.Local == "" {
			return fmt.Errorf("%w: %q leads nowhere", ErrState, c.To)
		}
	}
	done := make(chan error, 1)
	if !s.post(asked{c, done}) {
		if s.ending() {
			return s.afterEnd() // as for one that waits while the call ends
		}
		return ErrBusy
	}
	select {
	case err := <-done:
		return err
	case <-s.gone:
		return s.afterEnd()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Errors of the API.
var (
	ErrNoCall = errors.New("no such call")
	ErrBusy   = errors.New("the call has too many events waiting")
	ErrNoNode = errors.New("no farm node is there for it")
)

// Place makes a call: first to from, then, when that answers, to number.
func (b *Bridge) Place(ctx context.Context, from, number, callerName string) (Call, error) {
	d, err := b.resolve(ctx, from)
	if err != nil {
		return Call{}, err
	}
	if len(d.Targets) == 0 {
		return Call{}, fmt.Errorf("%w: %q leads nowhere", ErrState, from)
	}
	id := newID()
	n := b.pick(id, RoleCall)
	if n == nil {
		return Call{}, ErrNoNode
	}
	s, err := b.open1(n, Call{ID: id, Node: n.id(), Number: number, Next: number, Created: time.Now(), Owner: b.cfg.Owner, Legs: []Leg{}}, 0)
	if err != nil {
		return Call{}, err
	}
	done := make(chan error, 1)
	s.post(placed{d.Targets, from, callerName, done})
	select {
	case <-done:
	case <-ctx.Done():
	}
	return s.record(), nil
}
