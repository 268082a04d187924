package media

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/ng"
)

// Engine holds the calls and the workers that carry their packets.
type Engine struct {
	// Constant after New.
	cfg       Config
	workers   []*worker
	networks  []*network
	pools     []*portPool
	dtls      *dtlsAgent
	recorder  *recorder  // nil without a directory
	id        string     // of this process, for loop-protect
	handovers *sync.Pool // of packets between workers
	clips     *clips
	forwards  *forwards  // nil: nowhere
	teardowns *teardowns // nil: nobody is told

	// Counters.
	callsTotal, timeouts, rejected, limited, failed atomic.Uint64
	deleted, restored                               atomic.Uint64
	lifetime                                        atomic.Int64     // ns, of all calls that have ended
	rate                                            [3]atomic.Uint64 // packets, bytes and drops of the last sweep's second
	started                                         atomic.Int64     // Unix ns of Run

	records records // that are to be made

	before [3]uint64 // of rate; owned by the goroutine of Run

	mu struct { // guards what follows
		sync.Mutex
		calls map[string]*call
		ended bool
	}
}

// network is an interface with the ports of its address.
type network struct {
	Interface
	pool *portPool
}

// Chosen by us: how often calls are looked at for timeouts.
const sweepEvery = time.Second

// Chosen by rtpengine: how many calls its list has unless asked for more.
const defaultList = 32

// New makes an engine. It checks that the interfaces exist and opens no port. Calls may be set up before Run; their packets
// wait.
func New(cfg Config) (*Engine, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, id: iceChars(12), handovers: newHandovers()}
	e.mu.calls = make(map[string]*call)
	var err error
	if e.forwards, err = newForwards(cfg.ForwardTo); err != nil {
		return nil, err
	}
	if e.teardowns, err = newTeardowns(cfg.TeardownURL, cfg.TeardownFormat, cfg.Logger); err != nil {
		return nil, err
	}
	if e.dtls, err = newDTLSAgent(dtlsConfig{Cert: cfg.Certificate}); err != nil {
		return nil, err
	}
	if cfg.RecordingDir != "" {
		if e.recorder, err = newRecorder(&cfg); err != nil {
			return nil, err
		}
	}
	if e.clips, err = newClips(cfg.MediaDir); err != nil {
		return nil, err
	}
	for _, i := range cfg.Interfaces {
		e.networks = append(e.networks, &network{Interface: i, pool: e.poolOf(i)})
	}
	for range cfg.NumThreads {
		w, err := newWorker(e)
		if err != nil {
			for _, w := range e.workers {
				w.loop.Discard()
			}
			if e.recorder != nil {
				_ = e.recorder.root.Close()
			}
			e.clips.close()
			return nil, fmt.Errorf("start worker: %w", err)
		}
		e.workers = append(e.workers, w)
	}
	return e, nil
}

// poolOf finds the pool of the interface's address: two names of one address share its ports.
func (e *Engine) poolOf(i Interface) *portPool {
	for _, p := range e.pools {
		if p.addr == i.Addr {
			return p
		}
	}
	p := newPortPool(i.Name, i.Addr, e.cfg.PortMin, e.cfg.PortMax)
	e.pools = append(e.pools, p)
	return p
}

// Run carries packets and ends idle calls until ctx ends; then it ends all calls, closes all ports and returns.
func (e *Engine) Run(ctx context.Context) error {
	e.started.Store(e.cfg.Now().UnixNano())
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	errs := make(chan error, len(e.workers))
	for _, w := range e.workers {
		go func() { errs <- w.run(inner) }()
	}
	recorded := make(chan struct{})
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriting()
	go func() {
		defer close(recorded)
		if e.recorder != nil {
			e.recorder.run(writing)
		}
	}()
	recording, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	forwarding, stopForwarding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopForwarding()
	var keeping, sinks sync.WaitGroup
	if e.forwards != nil {
		sinks.Go(func() { e.forwards.run(forwarding) })
	}
	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelling()
	if e.teardowns != nil {
		sinks.Go(func() { e.teardowns.run(telling) })
	}
	if e.cfg.OnRecord != nil {
		keeping.Go(func() { e.keepRecords(recording) })
	}
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	var err error
	left := len(e.workers)
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			e.sweep(e.cfg.Now())
			e.measure()
		case err = <-errs:
			left--
			if err == nil {
				err = errors.New("a worker ended by itself")
			}
		}
	}
	stopKeeping()
	keeping.Wait() // the last records need calls and workers
	e.shutDown()
	cancel()
	for range left {
		if other := <-errs; err == nil {
			err = other
		}
	}
	stopForwarding()
	stopTelling()
	sinks.Wait()
	e.dtls.close()
	e.clips.close()
	stopWriting() // the workers have ended, so every packet is in a ring
	<-recorded
	return err
}

// shutDown ends all calls and refuses new ones.
func (e *Engine) shutDown() {
	e.mu.Lock()
	e.mu.ended = true
	var calls []*call
	for _, c := range e.mu.calls {
		calls = append(calls, c)
	}
	e.mu.Unlock()
	for _, c := range calls {
		e.end(c, "shutdown")
	}
}

// endTimeout is the reason of an end for want of packets.
const endTimeout = "timeout"

// measure notes how much went through since the last sweep.
func (e *Engine) measure() {
	var now [3]uint64
	for _, w := range e.workers {
		now[0] += w.packetsOut.Load()
		now[1] += w.bytesOut.Load()
		now[2] += w.drops.total()
	}
	for i := range now {
		e.rate[i].Store(now[i] - e.before[i])
	}
	e.before = now
}

// sweep ends the calls whose delay is over or whose packets have stopped.
func (e *Engine) sweep(now time.Time) {
	e.mu.Lock()
	calls := make([]*call, 0, len(e.mu.calls))
	for _, c := range e.mu.calls {
		calls = append(calls, c)
	}
	e.mu.Unlock()
	for _, c := range calls {
		switch c.due(now, e.cfg.Timeout, e.cfg.SilentTimeout) {
		case dueDelete:
			e.end(c, "delete")
		case dueTimeout:
			e.timeouts.Add(1)
			e.end(c, endTimeout)
		}
	}
}

// end releases a call and tells the hook, once.
func (e *Engine) end(c *call, reason string) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	if reason == endTimeout && e.teardowns != nil {
		e.teardowns.of(c)
	}
	info, recordings := c.info(), c.recorded
	e.endRecording(c)
	c.unsubscribe(func(*subscription) bool { return true })
	for _, d := range c.dialogs {
		d.release()
	}
	c.mu.Unlock()
	c.worker.load.Add(-1)
	if reason == "delete" {
		e.deleted.Add(1)
	}
	e.lifetime.Add(int64(e.cfg.Now().Sub(c.created)))
	e.mu.Lock()
	if e.mu.calls[c.id] == c {
		delete(e.mu.calls, c.id)
	}
	e.mu.Unlock()
	if e.cfg.OnRecord != nil && reason != "shutdown" {
		e.records.touched(c.id)
	}
	if e.cfg.Ended != nil {
		e.cfg.Ended(CallEnd{CallID: c.id, Reason: reason, At: e.cfg.Now(), Info: info, Recordings: recordings})
	}
}

// errLoad says that MaxSessions is reached.
var errLoad = errors.New("load limit")

// lock finds a call and locks it, or makes it. The caller unlocks. nil without an error is an unknown call.
func (e *Engine) lock(id string, create bool) (*call, error) {
	for {
		e.mu.Lock()
		c := e.mu.calls[id]
		if c == nil {
			if !create {
				e.mu.Unlock()
				return nil, nil
			}
			if e.mu.ended {
				e.mu.Unlock()
				return nil, errors.New("the node is shutting down")
			}
			if e.cfg.MaxSessions > 0 && len(e.mu.calls) >= e.cfg.MaxSessions {
				e.mu.Unlock()
				return nil, errLoad
			}
			c = newCall(id, e.emptiest(), e.cfg.Now())
			c.mu.Lock()
			e.mu.calls[id] = c
			e.callsTotal.Add(1)
			e.mu.Unlock()
			return c, nil
		}
		e.mu.Unlock()
		c.mu.Lock()
		if !c.closed {
			return c, nil
		}
		c.mu.Unlock()
		// It is being ended by somebody else: a new one may take its place.
		e.mu.Lock()
		if e.mu.calls[id] == c {
			delete(e.mu.calls, id)
		}
		e.mu.Unlock()
	}
}

// emptiest is the worker with the fewest calls; it counts the new one.
func (e *Engine) emptiest() *worker {
	best := e.workers[0]
	for _, w := range e.workers[1:] {
		if w.load.Load() < best.load.Load() {
			best = w
		}
	}
	best.load.Add(1)
	return best
}

// Handle answers one command of the NG protocol. It satisfies the server of media/ng.
func (e *Engine) Handle(ctx context.Context, req *ng.Request) *ng.Response {
	resp, err := e.command(ctx, req)
	if err != nil {
		return e.refuse(err)
	}
	return resp
}

func (e *Engine) command(ctx context.Context, req *ng.Request) (*ng.Response, error) {
	switch req.Command {
	case ng.CmdOffer:
		return e.Offer(ctx, req)
	case ng.CmdAnswer:
		return e.Answer(ctx, req)
	case ng.CmdDelete:
		return e.Delete(ctx, req)
	case ng.CmdQuery:
		return e.Query(ctx, req)
	case ng.CmdList:
		if req.Limit == 0 {
			req.Limit = defaultList
		}
		return e.List(ctx, req)
	case ng.CmdPing:
		return e.Ping(ctx, req)
	case ng.CmdStats:
		return e.Statistics(ctx, req)
	case ng.CmdStartRecording:
		return e.StartRecording(req)
	case ng.CmdStopRecording:
		if req.Has("pause") {
			return e.PauseRecording(req)
		}
		return e.StopRecording(req)
	case ng.CmdPauseRecording:
		return e.PauseRecording(req)
	case ng.CmdBlockMedia, ng.CmdUnblockMedia:
		return e.setGate(req, gateMedia, req.Command == ng.CmdBlockMedia)
	case ng.CmdSilenceMedia, ng.CmdUnsilenceMedia:
		return e.setGate(req, gateSilence, req.Command == ng.CmdSilenceMedia)
	case ng.CmdBlockDTMF:
		return e.BlockDTMF(req)
	case ng.CmdUnblockDTMF:
		return e.setGate(req, gateDTMF, false)
	case ng.CmdPlayDTMF:
		return e.PlayDTMF(req)
	case ng.CmdJoin:
		return e.Join(req)
	case ng.CmdUnjoin:
		return e.Unjoin(req)
	case ng.CmdHeard:
		return e.Heard(req)
	case ng.CmdComfort:
		return e.Comfort(req)
	case ng.CmdStartForwarding, ng.CmdStopForwarding:
		return e.Forwarding(req, req.Command == ng.CmdStartForwarding)
	case ng.CmdPlayMedia:
		return e.PlayMedia(req)
	case ng.CmdStopMedia:
		return e.StopMedia(req)
	case ng.CmdPublish:
		return e.Publish(req)
	case ng.CmdSubscribe:
		return e.Subscribe(req)
	case ng.CmdSubscribeAnswer:
		return e.SubscribeAnswer(req)
	case ng.CmdUnsubscribe:
		return e.Unsubscribe(req)
	}
	return nil, fmt.Errorf("command %q is not known here; known are %s", req.Command, strings.Join(ng.Commands(), ", "))
}

// changed tells the hook; no lock is held.
func (e *Engine) changed(callID string) {
	if e.cfg.Changed != nil {
		e.cfg.Changed(callID)
	}
	if e.cfg.OnRecord != nil {
		e.records.touched(callID)
	}
}

// refuse makes an error answer.
func (e *Engine) refuse(err error) *ng.Response {
	e.failed.Add(1)
	return &ng.Response{Result: ng.ResultError, ErrorReason: err.Error()}
}

// Stats is a snapshot of the engine.
func (e *Engine) Stats() Stats {
	st := Stats{
		CallsTotal: e.callsTotal.Load(), Restored: e.restored.Load(), Deleted: e.deleted.Load(), Timeouts: e.timeouts.Load(), Rejected: e.rejected.Load(),
		LoadLimited: e.limited.Load(), ControlErrors: e.failed.Load(), Drops: make(map[string]uint64, numDrops),
	}
	st.Handshakes = e.dtls.stats()
	if w := e.teardowns; w != nil {
		st.Teardowns = map[string]uint64{"ok": w.sent.Load(), "failed": w.failed.Load(), "lost": w.lost.Load()}
	}
	e.mu.Lock()
	calls := make([]*call, 0, len(e.mu.calls))
	for _, c := range e.mu.calls {
		calls = append(calls, c)
	}
	e.mu.Unlock()
	st.Calls = len(calls)
	for _, c := range calls {
		streams, transcoded := c.size()
		st.Streams += streams
		st.Transcoded += transcoded
	}
	for _, w := range e.workers {
		st.Packets += w.packets.Load()
		st.Bytes += w.bytes.Load()
		st.PacketsOut += w.packetsOut.Load()
		st.BytesOut += w.bytesOut.Load()
		for r := range numDrops {
			st.Drops[r.String()] += w.drops[r].Load()
		}
	}
	if w := e.recorder; w != nil {
		st.Recordings, st.RecordingErrors, st.RecordingLost = int(w.active.Load()), w.failed.Load(), w.lost()
	}
	for _, p := range e.pools {
		st.Ports = append(st.Ports, p.stats())
	}
	return st
}
