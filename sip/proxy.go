package sip

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/sip/auth"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// Proxy is the edge proxy. Its Handle runs on many goroutines at once; all that it shares never changes or is atomic.
type Proxy struct {
	// Constant after New.
	cfg       Config
	key       key
	realm     string
	sides     []*side
	split     bool // there are internal listeners
	farms     *dispatch.Set
	policy    atomic.Pointer[policy]
	transport *transport.Transport
	out       sender
	peers     peers // nil: no connections
	now       func() time.Time
	queues    []*queue
	proofs    chan *job // requests whose user must be asked for; nil where all users are known
	late      chan *job // refused requests whose answer waits
	names     names
	spare     sync.Pool // of *pass with the shared counters, for the goroutines of connections

	refused  refused     // peers that take no TCP
	credit   credit      // of addresses that our longer answers wait for
	draining atomic.Bool // no new dialogs
	loads    [maxLoads]atomic.Uint32
	loadNext atomic.Uint32

	reloading sync.Mutex // one Reload at a time

	mu      sync.Mutex // guards the rest
	counted []*counters
}

// sender sends or queues a copy of b: a transport worker, the transport itself, or a test.
type sender interface {
	Send(b []byte, to transport.Target) error
}

// New opens the listeners and makes the proxy; it serves nothing before Run.
func New(cfg Config) (*Proxy, error) {
	p, err := newProxy(cfg, time.Now)
	if err != nil {
		return nil, err
	}
	t, err := transport.New(cfg.Transport, p)
	if err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	p.attach(t.Listeners(), t)
	p.transport = t
	return p, nil
}

// newProxy makes all but the listeners.
func newProxy(cfg Config, now func() time.Time) (*Proxy, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	p := &Proxy{key: newKey(cfg.Secret), now: now}
	farms, err := dispatch.New(cfg.Farms, now())
	if err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	p.farms = farms
	p.cfg = cfg
	reloadable := cfg.Reloadable()
	pol, err := p.policyOf(&reloadable, nil)
	if err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	p.policy.Store(pol)
	p.names.init(cfg.DNSTimeout, now)
	shared := p.newPass()
	p.spare.New = func() any { return &pass{out: make([]byte, 0, maxOut), count: shared.count} }
	if cfg.Auth != nil && cfg.Auth.Patience() > 0 {
		p.proofs, p.late = make(chan *job, cfg.ProofLength), make(chan *job, cfg.ProofLength)
	}
	for range cfg.Queues {
		p.queues = append(p.queues, newQueue(cfg.QueueLength))
	}
	return p, nil
}

// attach takes the open listeners and what sends on them.
func (p *Proxy) attach(listeners []*transport.Listener, out sender) {
	p.out = out
	p.peers, _ = out.(peers)
	for i, l := range listeners {
		p.sides = append(p.sides, newSide(l, i))
		p.split = p.split || l.Internal()
	}
	switch {
	case p.cfg.Realm != "":
		p.realm = p.cfg.Realm
	case len(p.cfg.Domains) > 0:
		p.realm = strings.ToLower(p.cfg.Domains[0])
	default:
		p.realm = p.sides[0].host
	}
}

// Listeners are the open listeners, with the ports that were really bound.
func (p *Proxy) Listeners() []*transport.Listener { return p.transport.Listeners() }

// Transport is the transport, for its statistics and for reloading certificates.
func (p *Proxy) Transport() *transport.Transport { return p.transport }

// Realm is the digest realm in force.
func (p *Proxy) Realm() string { return p.realm }

// Farms are the farm nodes, for their state and for draining.
func (p *Proxy) Farms() *dispatch.Set { return p.farms }

// Run serves until ctx ends and has then released all.
func (p *Proxy) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	for _, q := range p.queues {
		tasks.Go(func() { p.serveQueue(ctx, q) })
	}
	if p.proofs != nil {
		for range askers {
			tasks.Go(func() { p.serveProofs(ctx) })
		}
		tasks.Go(func() { p.serveLate(ctx) })
	}
	tasks.Go(func() { p.probe(ctx) })
	err := p.transport.Run(ctx)
	tasks.Wait()
	return err
}

// Close releases the listeners of a proxy whose Run was never called.
func (p *Proxy) Close() { p.transport.Close() }

// pass is one message's way through the proxy: what is known of it so far, and room for the outgoing one. Each worker has
// one and uses it again.
type pass struct {
	// Owned by the goroutine for its life.
	msg    message.Message
	splice message.Splice
	out    []byte
	count  *counters
	load   *load  // of a UDP worker, else nil
	batch  uint64 // the read batch that now is of

	// Of this message.
	policy   *policy
	in       transport.Message
	raw      []byte
	from     netip.AddrPort
	side     *side
	send     sender
	now      time.Time
	inside   bool
	relay    bool           // goes to the edge node that has the connection
	origin   netip.AddrPort // the farm node that sent it: from, or what a relaying edge node says
	node     *dispatch.Node // the farm node that it came from, nil from outside
	waited   bool           // runs in a queue: may wait for media and DNS
	spoken   bool           // Speak gave it to us: its node is dead
	again    bool           // came here before: counted, tapped and held against its source
	asked    bool           // its user was asked for
	verdict  auth.Reason    // what was found of its password, if its answer waited
	arrived  time.Time
	ctx      context.Context // in a queue: ends the waiting
	vouched  bool            // in a queue: the sender's address had proved itself before
	large    bool            // leaves over TCP for its size only
	ending   bool            // a BYE: media is told when it has left
	proven   bool            // the sender's address proved itself: no bound on our answers
	consumed *message.Field  // the Authorization that we used up
	auth     int             // its index in the message plus one, for a message that goes into a queue
	dest     netip.AddrPort  // where its response goes
	route    routeState      // the cookie of the Route, if routed
	routed   bool
	next     hop
	extra    []byte // header fields of our own answer
	extraMem [1024]byte
	via      viaState
	hash     uint64 // of the Call-ID, for the queue and the farm
}

// hop is where a request goes.
type hop struct {
	side   *side
	addr   netip.AddrPort
	flow   transport.Flow
	host   string         // the name that a TLS peer must prove
	node   *dispatch.Node // the farm node, nil towards outside
	tcp    *side          // where side is UDP: for a request that is too large for it; nil if the hop may not take TCP
	client bool           // addr or flow come from a cookie: the phone is behind NAT or on a connection
}

// Chosen by us: the largest message of a stream (64 KB) and what we add to it.
const maxOut = 64<<10 + 8<<10

func (p *Proxy) newPass() *pass {
	c := &pass{out: make([]byte, 0, maxOut), count: &counters{}}
	p.mu.Lock()
	p.counted = append(p.counted, c.count)
	p.mu.Unlock()
	return c
}

// Handle is called by the transport with every message, on the goroutine that read it.
func (p *Proxy) Handle(in *transport.Message) {
	if in.Worker == nil || in.Flow != 0 {
		// Connections borrow their workers for one message; a pool of our own keeps the large buffers few.
		c := p.spare.Get().(*pass)
		c.send = p.out
		p.begin(c, in)
		p.spare.Put(c)
		return
	}
	c, ok := in.Worker.State.(*pass)
	if !ok {
		c = p.newPass()
		c.load = p.newLoad()
		in.Worker.State = c
	}
	c.send = in.Worker
	p.begin(c, in)
}

// Unreachable is called by the transport when a peer cannot be reached.
func (p *Proxy) Unreachable(_ *transport.Listener, peer netip.AddrPort) {
	if n := p.farms.ByAddr(peer); n != nil {
		n.Unreachable()
	}
}

// begin sets up a pass and takes the message's way.
func (p *Proxy) begin(c *pass, in *transport.Message) {
	c.in = *in
	c.raw, c.from = in.Bytes, in.From
	if c.load == nil {
		c.now = p.now()
	} else if serial, _ := in.Worker.Batch(); serial == 0 || serial != c.batch {
		c.batch, c.now = serial, p.now() // good for the whole batch, which takes less than a millisecond
	}
	if c.load != nil {
		p.observe(c, in)
	}
	c.anew()
	p.handle(c)
}

// anew forgets what handle does not, of the message before: a pass is used again.
func (c *pass) anew() {
	c.waited, c.again, c.spoken, c.asked, c.verdict, c.auth, c.arrived = false, false, false, false, auth.OK, 0, c.now
}

// handle takes a message's way from the start; a message from a queue comes here a second time.
func (p *Proxy) handle(c *pass) {
	c.policy = p.policy.Load()
	c.side = p.sides[c.in.Listener.Index()]
	c.proven = c.in.Flow != 0
	c.consumed, c.routed, c.ending, c.large, c.next, c.extra = nil, false, false, false, hop{}, c.extraMem[:0]
	c.relay, c.origin = false, c.from
	c.splice.Reset()
	c.node = nil
	if !p.split || c.side.Internal() {
		c.node = p.farms.ByAddr(c.from)
	}
	c.inside = c.spoken || c.node != nil || p.split && c.side.Internal()
	c.proven = c.proven || c.inside
	if !c.spoken && p.farms.Cut(c.from, p.split && c.side.Internal(), c.in.Flow != 0) {
		c.drop(DropFenced)
		return
	}
	if !c.again {
		if p.flooded(c) {
			c.drop(DropRate)
			return
		}
		p.tapIn(c)
		if c.node != nil && !c.spoken {
			c.node.Heard()
		}
	}
	fault := c.msg.Scan(c.raw)
	if fault == message.FaultNotSIP {
		c.fault(fault)
		return
	}
	if fault == message.FaultNone && c.load != nil && !c.again && p.early(c) {
		return
	}
	fault = c.msg.Check(fault)
	if !c.msg.Request() {
		p.response(c, fault)
		return
	}
	if !c.again {
		c.count.requests[c.msg.Method()].Add(1)
	}
	p.request(c, fault)
}

func (c *pass) drop(d Drop) { c.count.drops[d].Add(1) }

func (c *pass) fault(f message.Fault) {
	c.count.faults[f].Add(1)
	c.drop(DropMalformed)
}
