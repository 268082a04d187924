package media

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/ng"
)

// Engine holds the calls and the workers that carry their packets.
type Engine struct {
	// Constant after New.
	cfg      Config
	workers  []*worker
	networks []*network
	pools    []*portPool
	dtls     *dtlsAgent

	// Counters.
	callsTotal, timeouts, rejected, limited, failed atomic.Uint64

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

// New makes an engine. It checks that the interfaces exist and opens no port. Calls may be set up before Run; their packets
// wait.
func New(cfg Config) (*Engine, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg}
	e.mu.calls = make(map[string]*call)
	var err error
	if e.dtls, err = newDTLSAgent(dtlsConfig{}); err != nil {
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
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	errs := make(chan error, len(e.workers))
	for _, w := range e.workers {
		go func() { errs <- w.run(inner) }()
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
		case err = <-errs:
			left--
			if err == nil {
				err = errors.New("a worker ended by itself")
			}
		}
	}
	e.shutDown()
	cancel()
	for range left {
		if other := <-errs; err == nil {
			err = other
		}
	}
	e.dtls.close()
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
			e.end(c, "timeout")
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
	info := c.info()
	for _, d := range c.dialogs {
		d.release()
	}
	c.mu.Unlock()
	c.worker.load.Add(-1)
	e.mu.Lock()
	if e.mu.calls[c.id] == c {
		delete(e.mu.calls, c.id)
	}
	e.mu.Unlock()
	if e.cfg.Ended != nil {
		e.cfg.Ended(CallEnd{CallID: c.id, Reason: reason, At: e.cfg.Now(), Info: info})
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
	commands := map[string]func(context.Context, *ng.Request) (*ng.Response, error){
		ng.CmdOffer: e.Offer, ng.CmdAnswer: e.Answer, ng.CmdDelete: e.Delete, ng.CmdQuery: e.Query, ng.CmdList: e.List,
		ng.CmdPing: e.Ping, ng.CmdStats: e.Statistics,
	}
	command, ok := commands[req.Command]
	if !ok {
		return e.refuse(fmt.Errorf("command %q is not known here; known are offer, answer, delete, query, list, ping, statistics",
			req.Command))
	}
	resp, err := command(ctx, req)
	if err != nil {
		return e.refuse(err)
	}
	return resp
}

// refuse makes an error answer.
func (e *Engine) refuse(err error) *ng.Response {
	e.failed.Add(1)
	return &ng.Response{Result: ng.ResultError, ErrorReason: err.Error()}
}

// Stats is a snapshot of the engine.
func (e *Engine) Stats() Stats {
	st := Stats{
		CallsTotal: e.callsTotal.Load(), Timeouts: e.timeouts.Load(), Rejected: e.rejected.Load(),
		LoadLimited: e.limited.Load(), ControlErrors: e.failed.Load(), Drops: make(map[string]uint64, numDrops),
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
	for _, p := range e.pools {
		st.Ports = append(st.Ports, p.stats())
	}
	return st
}
