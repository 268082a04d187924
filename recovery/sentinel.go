package recovery

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"time"

	"rtcedge/bridge"
)

// Death is a verdict: a node of an epoch is dead.
type Death struct {
	Node   bridge.NodeID
	Epoch  string    // startup_time of the process that died
	Number int       // of its deaths, from 0; the sentinel leaves it to the Recoverer
	SIP    string    // udp:IP:PORT, or tcp:
	Roles  []string  // what it was for
	Since  time.Time // when the first witness turned bad
	At     time.Time // when the verdict fell
	Reason string
	Gone   bool // its process is gone: it says nothing any more
	Ended  bool // and if it is not, nobody is behind its ports: it was killed, or stopped

	unread bool // it answered before, and no crash in the store says so yet
}

// Return is a node that answers, for the first time or after its death. Epoch tells whether it is a new process.
type Return struct {
	Node  bridge.NodeID
	Epoch string
	SIP   string // udp:IP:PORT, or tcp:
}

// SentinelConfig is what a sentinel needs.
type SentinelConfig struct {
	Nodes  []Target     // farm nodes; SIP may be left out: the node is asked
	Rule   Rule         // of the verdict
	Logger *slog.Logger // default: none

	// Dead and Back are called from one goroutine per node, in their order; Back also for a node that is seen for the first time. The node is not looked at
	// meanwhile. What is said stands in Nodes already.
	Dead func(context.Context, Death)
	Back func(context.Context, Return)
}

// Sentinel watches farm nodes.
type Sentinel struct {
	cfg   SentinelConfig
	app   string // ARI's name for who follows the streams: a second one of the same name would take them over
	nodes []*watched

	mu      sync.Mutex // guards the rest, and the status of all nodes
	quiet   int
	stalls  int
	longest time.Duration
}

// watched is a node under watch; all but status belongs to its goroutine.
type watched struct {
	prober   *prober
	detector *detector
	known    identity
	dead     bool      // said, and not back yet
	sure     time.Time // when it was asked for its epoch, and it was the known one
	asking   bool
	quiet    bool
	isolated bool // so were most nodes, at the last look
	status   NodeStatus
}

// NodeStatus is what the sentinel knows of a node, for the operator.
type NodeStatus struct {
	ID      bridge.NodeID `json:"id"`
	ARI     string        `json:"ari"`
	SIP     string        `json:"sip"`
	Roles   []string      `json:"roles"`
	Epoch   string        `json:"epoch"`
	Verdict string        `json:"verdict"`
	Reason  string        `json:"reason,omitempty"`
}

// Lives tells whether the node has answered and is not dead: it may be doubtful.
func (n *NodeStatus) Lives() bool {
	return n.ID != "" && (n.Verdict == Alive.String() || n.Verdict == Doubtful.String())
}

// NewSentinel checks the configuration; nothing is asked before Run.
func NewSentinel(cfg SentinelConfig) (*Sentinel, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sentinel{cfg: cfg, app: "rtcedge-sentinel-" + strings.ToLower(rand.Text()[:8])}
	for _, t := range cfg.Nodes {
		p, err := newProber(t)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, &watched{prober: p, detector: newDetector(cfg.Rule), status: NodeStatus{ARI: t.ARI, Verdict: Unknown.String()}})
	}
	return s, nil
}

// Run watches until ctx ends.
func (s *Sentinel) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, n := range s.nodes {
		all.Go(func() { s.watch(ctx, n) })
	}
	all.Wait()
	return nil
}

// Nodes is the status of all nodes, in the order of the configuration.
func (s *Sentinel) Nodes() []NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]NodeStatus, 0, len(s.nodes))
	for _, n := range s.nodes {
		out = append(out, n.status)
	}
	return out
}

// watch is a node's goroutine: looks overlap, their glimpses come to it, and after each it judges.
func (s *Sentinel) watch(ctx context.Context, n *watched) {
	var looks sync.WaitGroup
	defer looks.Wait()
	glimpses := make(chan glimpse, 64)
	report := func(g glimpse) {
		select {
		case glimpses <- g:
		case <-ctx.Done():
		}
	}
	look := time.NewTicker(probeEvery)
	defer look.Stop()
	glance := time.NewTicker(glanceEvery)
	defer glance.Stop()
	looks.Go(func() { n.prober.follow(ctx, s.app) })
	epochs := make(chan sameness, 1)
	looks.Go(func() { n.prober.look(ctx, report) })
	ran := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			looks.Go(func() { n.prober.look(ctx, report) })
		case <-n.prober.stream.broken:
			n.detector.see(time.Now(), Process, n.prober.process())
			looks.Go(func() { n.prober.look(ctx, report) })
		case <-glance.C:
			n.detector.see(time.Now(), Process, n.prober.process())
		case g := <-glimpses:
			back := g.witness == ARI && g.sign == Good && n.detector.signs[ARI] != Good
			n.detector.see(g.asked, g.witness, g.sign)
			n.doubt(ctx, back, func(asked time.Time) {
				looks.Go(func() { epochs <- n.prober.epoch(ctx, asked) })
			})
		case e := <-epochs:
			n.asking = false
			s.compare(ctx, n, e)
		}
		if ctx.Err() != nil {
			return // what was cut short says nothing
		}
		now := time.Now()
		if stood := now.Sub(ran); stood >= ownStall {
			// We stood still, or had no time: what was silent meanwhile may have spoken (F18).
			n.detector.forgive(now)
			s.stalled(stood)
		}
		s.judge(ctx, n)
		ran = time.Now() // judge may have waited for the node, or for who wants to know
	}
}

// ownStall is a time without a turn that tells of ourselves: a glance is due four times within it.
const ownStall = 4 * glanceEvery

// stalled counts, for all nodes.
func (s *Sentinel) stalled(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalls++
	s.longest = max(s.longest, d)
}

// Stalls tells how often this process had no turn in time, and for how long at most. Nobody is judged by the silence of such a time.
func (s *Sentinel) Stalls() (count int, longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stalls, s.longest
}

// judge says what follows from what was seen.
func (s *Sentinel) judge(ctx context.Context, n *watched) {
	alone := s.count(n)
	if n.isolated && !alone {
		n.detector.forgive(time.Now()) // those that were away together come back one after the other
	}
	n.isolated = alone
	verdict, reason := n.detector.verdict(time.Now(), alone)
	switch {
	case verdict == Alive && (n.dead || n.known.id == ""):
		id, err := n.prober.introduce(ctx)
		if err != nil {
			reason = err.Error()
			break
		}
		s.comes(ctx, n, id)
		return
	case verdict == Dead && !n.dead && n.known.id != "":
		n.dead = true
		s.show(n, verdict, reason)
		gone := n.detector.signs[Process] == Refused
		s.dies(ctx, n.known, Death{Since: n.detector.bad(), Reason: reason, Gone: gone, Ended: gone || n.detector.signs[Host] == Refused})
		return
	}
	if n.dead {
		verdict = Dead // it stays so until it has told who it is
	}
	s.show(n, verdict, reason)
}

// count keeps the number of quiet nodes and tells whether that is rather our own network, or a machine that all share.
func (s *Sentinel) count(n *watched) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := n.detector.quiet(); now != n.quiet {
		n.quiet = now
		if now {
			s.quiet++
		} else {
			s.quiet--
		}
	}
	return isolated(s.quiet, len(s.nodes))
}

func (s *Sentinel) show(n *watched, v Verdict, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.status.ID, n.status.SIP, n.status.Roles, n.status.Epoch = n.known.id, n.known.sip, n.known.roles, n.known.epoch
	n.status.Verdict, n.status.Reason = v.String(), reason
}

// bad is when the first of the witnesses that are bad now turned so.
func (d *detector) bad() time.Time {
	var first time.Time
	for w, s := range d.signs {
		if (s == Refused || s == Silent) && (first.IsZero() || d.since[w].Before(first)) {
			first = d.since[w]
		}
	}
	return first
}
