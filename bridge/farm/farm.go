package farm

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo"
	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
	"rtcedge/sip/auth"
)

// sweepEvery is how often expired registrations are forgotten; readers never see them anyway.
const sweepEvery = 10 * time.Second

// Farm is the three farms in one process.
type Farm struct {
	// Constant after New.
	cfg       Config
	listeners []*listener
	rtpAddr   netip.Addr
	ua        *sipgo.UserAgent
	clock     *clock // nil: no ARI
	locations *locations
	ari       *ari.Server    // nil: off
	verifier  *auth.Verifier // nil: no challenge
	qualifier *qualifier     // nil: off
	node      *node          // nil: no ARI
	seed      maphash.Seed
	started   time.Time
	prefix    string          // of channel and bridge names, as Asterisk's: the start time
	draining  chan struct{}   // closed when Run is asked to end
	life      context.Context // of everything that waits for a far end; ends after draining
	kill      context.CancelFunc

	serial atomic.Uint64
	stats  counters

	wg sync.WaitGroup // of every goroutine but sipgo's

	mu      sync.Mutex // guards the rest
	closed  bool       // no request is taken any more
	dialogs map[dialogID]*leg
	calls   map[*call]struct{}
}

type counters struct {
	calls, refused, registers atomic.Uint64
}

// New checks the configuration and binds all listeners, or none.
func New(cfg Config) (*Farm, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("farm: %w", err)
	}
	f := &Farm{
		cfg:      cfg,
		started:  time.Now(),
		seed:     maphash.MakeSeed(),
		draining: make(chan struct{}),
		dialogs:  make(map[dialogID]*leg),
		calls:    make(map[*call]struct{}),
		locations: &locations{
			defaultExpires: cfg.DefaultExpires, minExpires: cfg.MinExpires, maxExpires: cfg.MaxExpires,
			maxContacts: cfg.MaxContacts, maxUsers: cfg.MaxUsers, users: make(map[string][]binding),
		},
	}
	if cfg.Auth != nil {
		v, err := auth.New(auth.Config{Provider: cfg.Auth, Secret: cfg.AuthSecret})
		if err != nil {
			return nil, fmt.Errorf("farm: %w", err)
		}
		f.verifier = v
	}
	if cfg.Qualify > 0 && f.has(RoleRegistrar) {
		f.qualifier = newQualifier(cfg.Qualify, f.locations, f.askContact)
	}
	f.life, f.kill = context.WithCancel(context.Background())
	if err := f.bind(); err != nil {
		f.unbind()
		return nil, fmt.Errorf("farm: %w", err)
	}
	// As Asterisk does with a systemname: farms that start in the same second must not name two channels alike.
	f.prefix = strings.NewReplacer(":", "-", "[", "", "]", "").Replace(f.nodeID()) + "-" + strconv.FormatInt(f.started.Unix(), 10) + "."
	return f, nil
}

func (f *Farm) bind() error {
	for _, name := range f.cfg.Listen {
		l, err := listen(name)
		if err != nil {
			return err
		}
		f.listeners = append(f.listeners, l)
	}
	f.rtpAddr = f.cfg.RTPAddr
	if !f.rtpAddr.IsValid() {
		f.rtpAddr = f.listeners[0].addr.Addr()
	}
	// One pair is opened and let go, so that an impossible media address ends here and not in the first call.
	probe, err := newStream(f.rtpAddr, f.cfg.PortMin, f.cfg.PortMax)
	if err != nil {
		return fmt.Errorf("media on %s: %w", f.rtpAddr, err)
	}
	probe.close()
	if f.cfg.ARI.IsValid() {
		f.node = newNode(f)
		f.node.name()
		f.ari, err = ari.New(ari.Config{
			Listen: f.cfg.ARI, User: f.cfg.ARIUser, Password: f.cfg.ARIPassword, NodeID: f.nodeID(), Routes: f.node.routes(),
			Clients: f.cfg.ARIClients, Queue: f.cfg.ARIQueue, Logger: f.cfg.Logger,
		})
		if err != nil {
			return err
		}
		f.clock = &clock{melody: melody(), tick: f.node.tick}
	}
	raiseDatagramLimit()
	// sipgo logs what strangers send, whole and without a limit; what matters of it is answered and counted here.
	quiet := slog.New(slog.DiscardHandler)
	f.ua, err = sipgo.NewUA(
		sipgo.WithUserAgent(userAgent),
		sipgo.WithUserAgentParser(sipmsg.NewParser(sipmsg.WithHeadersParsers(rawRoutes()))),
		sipgo.WithUserAgentTransactionLayerOptions(sipmsg.WithTransactionLayerLogger(quiet),
			sipmsg.WithTransactionLayerUnhandledResponseHandler(func(*sipmsg.Response) {})),
		sipgo.WithUserAgentTransportLayerOptions(sipmsg.WithTransportLayerLogger(quiet)),
	)
	if err != nil {
		return fmt.Errorf("start sipgo: %w", err)
	}
	f.ua.TransactionLayer().OnRequest(f.onRequest)
	return nil
}

// unbind releases what bind has opened.
func (f *Farm) unbind() {
	for _, l := range f.listeners {
		l.close()
	}
	if f.ari != nil {
		_ = f.ari.Close() // a listener that nobody used
	}
}

// rawRoutes is sipgo's list of header parsers without Record-Route: its parser keeps only the URI, but what the edge
// writes there comes back to it byte for byte.
func rawRoutes() map[string]sipmsg.HeaderParser {
	m := maps.Clone(sipmsg.DefaultHeadersParser())
	delete(m, "record-route")
	return m
}

// Run serves until ctx ends, hangs up what is still there, and has released all when it returns.
func (f *Farm) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, len(f.listeners)+1)
	var serving sync.WaitGroup
	for _, l := range f.listeners {
		serving.Go(func() {
			err := f.serve(l)
			if ctx.Err() == nil {
				failed <- fmt.Errorf("farm: serve %s:%s: %w", l.proto, l.addr, err)
			}
		})
	}
	if f.ari != nil {
		serving.Go(func() {
			if err := f.ari.Run(work); err != nil {
				failed <- fmt.Errorf("farm: %w", err)
			}
		})
	}
	if f.node != nil {
		serving.Go(func() { f.node.run(work) })
		serving.Go(func() { f.clock.run(work) })
	}
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	if f.qualifier != nil {
		serving.Go(func() { f.qualifier.run(asking) })
	}
	f.cfg.Logger.Info("farm is up", "listen", f.Addrs(), "roles", f.cfg.Roles)

	err := f.wait(ctx, failed)
	stopAsking()
	f.drain()
	stop()
	// The listeners go first: sipgo would open a new socket to answer what arrives after its pool was emptied.
	for _, l := range f.listeners {
		l.close()
	}
	serving.Wait()
	if e := f.ua.Close(); e != nil {
		f.cfg.Logger.Debug("close sipgo", "error", e)
	}
	return err
}

func (f *Farm) serve(l *listener) error {
	if l.packet != nil {
		if err := f.ua.TransportLayer().ServeUDP(l.packet); err != nil {
			return err
		}
		return net.ErrClosed
	}
	return f.ua.TransportLayer().ServeTCP(l.stream)
}

// wait returns when ctx ends or a listener dies.
func (f *Farm) wait(ctx context.Context, failed <-chan error) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case now := <-sweep.C:
			f.locations.sweep(now)
		}
	}
}

// drain ends all calls and waits for the answers of the far ends, for a limited time.
func (f *Farm) drain() {
	close(f.draining)
	limit := time.AfterFunc(f.cfg.DrainTimeout, f.kill)
	defer limit.Stop()
	f.waitCalls()
	f.node.close()
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.kill() // transactions that no call waits for
	f.wg.Wait()
}

// waitCalls returns when no call is left, which the end of f.life enforces.
func (f *Farm) waitCalls() {
	for {
		f.mu.Lock()
		var next *call
		for c := range f.calls {
			next = c
			break
		}
		f.mu.Unlock()
		if next == nil {
			return
		}
		<-next.done
		f.forgetCall(next)
	}
}

// enter lets a request in and counts its goroutine, or refuses it when Run is about to return.
func (f *Farm) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.wg.Add(1)
	return true
}

func (f *Farm) isDraining() bool {
	select {
	case <-f.draining:
		return true
	default:
		return false
	}
}

// nodeID is the farm's name among the nodes: Asterisk's entityid.
func (f *Farm) nodeID() string {
	if f.cfg.NodeID != "" {
		return f.cfg.NodeID
	}
	return f.listeners[0].addr.String()
}

func (f *Farm) has(r Role) bool { return slices.Contains(f.cfg.Roles, r) }

func (f *Farm) newID() string { return f.prefix + strconv.FormatUint(f.serial.Add(1), 10) }

func (f *Farm) newCallID() string { return sipmsg.GenerateTagN(24) + "@" + f.rtpAddr.String() }

// newCall makes a call, or nil if there are too many or the farm drains. Its run is started by the caller.
func (f *Farm) newCall(number string) *call {
	c := &call{
		farm: f, number: number, started: time.Now(),
		events: make(chan event), cancelled: make(chan struct{}, 1), done: make(chan struct{}),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isDraining() || len(f.calls) >= f.cfg.MaxCalls {
		return nil
	}
	f.calls[c] = struct{}{}
	f.stats.calls.Add(1)
	return c
}

func (f *Farm) forgetCall(c *call) {
	f.mu.Lock()
	delete(f.calls, c)
	f.mu.Unlock()
}

// transact sends a request and hands each response to on; nil says that no final one will come. Repeated 2xx of an INVITE
// go to again. Closing stop forgets the transaction. on runs on a goroutine of the farm, again on one of sipgo.
func (f *Farm) transact(req *sipmsg.Request, stop <-chan struct{}, again, on func(*sipmsg.Response)) {
	f.wg.Go(func() {
		ctx, cancel := context.WithTimeout(f.life, timeoutFactor*f.cfg.T1)
		defer cancel()
		tx, err := f.ua.TransactionLayer().Request(ctx, req)
		if err != nil {
			f.cfg.Logger.Debug("send request", "method", req.Method, "call_id", callIDOf(req), "error", err)
			on(nil)
			return
		}
		if again != nil {
			tx.OnRetransmission(again)
		}
		for {
			select {
			case res := <-tx.Responses():
				on(res)
				if !res.IsProvisional() {
					return // sipgo keeps the transaction for repeated responses
				}
			case <-tx.Done():
				on(nil)
				return
			case <-stop:
				tx.Terminate()
				return
			case <-f.life.Done():
				tx.Terminate()
				return
			}
		}
	})
}

// write sends an ACK, which has no transaction. One that cannot be sent is asked for again by a repeated 2xx.
func (f *Farm) write(req *sipmsg.Request) {
	if err := f.ua.TransportLayer().WriteMsg(req); err != nil {
		f.cfg.Logger.Debug("send ACK", "call_id", callIDOf(req), "error", err)
	}
}

// Addrs are the bound SIP listeners, PROTO:IP:PORT, in the order of Config.Listen.
func (f *Farm) Addrs() []string {
	out := make([]string, len(f.listeners))
	for i, l := range f.listeners {
		out[i] = l.proto + ":" + l.addr.String()
	}
	return out
}

// ARIAddr is the bound address of ARI; invalid if it is off.
func (f *Farm) ARIAddr() netip.AddrPort {
	if f.ari == nil {
		return netip.AddrPort{}
	}
	return f.ari.Addr()
}

// Close releases the listeners of a farm that was never run.
func (f *Farm) Close() error {
	f.unbind()
	return f.ua.Close()
}

var datagramLimit sync.Once // sipgo's limit is of the process, so ours must be, too

// raiseDatagramLimit lets sipgo send datagrams of any size: it refuses those above 1300 bytes, but behind an edge whose
// answers fit one hop a fragmented datagram is better than none.
func raiseDatagramLimit() {
	datagramLimit.Do(func() {
		if sipmsg.UDPMTUSize < 1<<16 {
			sipmsg.UDPMTUSize = 1 << 16
		}
	})
}
