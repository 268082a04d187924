package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"rtcedge/e2e/farms"
	"rtcedge/internal/store"
)

// Addresses of the lab, all of loopback; each phone has one of its own.
var (
	public  = netip.MustParseAddr("127.0.0.1")
	inside  = netip.MustParseAddr("127.0.0.10")
	records = netip.MustParseAddrPort("127.0.0.10:4222") // the store
	capture = netip.MustParseAddrPort("127.0.0.10:9060") // HEP
)

// callees is how many phones have a fixed address in the bridge's directory, so that they need not register: the bench is about what
// happens after that.
const callees = 300

// lab is the system under test with its phones.
type lab struct {
	*farms.System
	cfg     config
	out     io.Writer
	run     context.Context
	all     *sync.WaitGroup
	host    netip.Addr // the last phone's address
	legs    []*leg
	end     context.CancelFunc
	storing chan error
}

// calleeHost is the address of a callee.
func calleeHost(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 30, byte(i / 250), byte(1 + i%250)})
}

// start brings up store, farms with the patched module, edge, media, bridge and recovery.
func start(ctx context.Context, all *sync.WaitGroup, out io.Writer, cfg config) (*lab, error) {
	l := &lab{cfg: cfg, out: out, run: ctx, all: all, host: netip.MustParseAddr("127.20.0.0"), storing: make(chan error, 1)}
	st, err := store.New(store.Config{Listen: records})
	if err != nil {
		return nil, err
	}
	// The store is not under test: it ends after all that writes to it.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	l.end = end
	go func() { l.storing <- st.Run(life) }()
	bridge := []string{"--store", "nats://" + records.String()}
	for i := range callees {
		bridge = append(bridge, "--user", fmt.Sprintf("c%d=sip:c%d@%s:5060", i, i, calleeHost(i)))
	}
	modules, err := filepath.Abs(cfg.modules)
	if err != nil {
		return l, err
	}
	var recovery []string
	if cfg.recovery {
		recovery = []string{"--store", "nats://" + records.String()}
	}
	began := time.Now()
	l.System, err = farms.Start(farms.Config{
		Root: cfg.root, Binary: cfg.binary, Dir: cfg.dir, Public: public, Inside: inside, Call: cfg.call, Conference: cfg.conference, Registrar: 1,
		Modules: modules, Capture: capture, Bridge: bridge, Recovery: recovery,
	})
	if err != nil {
		return l, err
	}
	l.printf("%d Asterisks (%s), edge, media, bridge up after %.1f s", len(l.Nodes), l.Nodes[0].Version, time.Since(began).Seconds())
	return l, nil
}

func (l *lab) stop() {
	if l.System != nil {
		l.Stop()
	}
	l.end()
	<-l.storing
}

func (l *lab) printf(format string, args ...any) {
	fmt.Fprintf(l.out, "%s  "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}

// callers makes phones that call. Every second one talks TCP; the others have 0 to 3 Record-Routes in front of them, in turn.
func (l *lab) callers(count int) ([]*leg, error) {
	var legs []*leg
	for i := range count {
		l.host = l.host.Next()
		p, err := newLeg(l.run, l.all, fmt.Sprint("a", i), l.host, l.SIP(), i%2 == 1, i/2%4)
		if err != nil {
			return legs, err
		}
		legs = append(legs, p)
	}
	l.legs = append(l.legs, legs...)
	return legs, nil
}

// called makes phones that are called, over UDP, with 1 to 3 Record-Routes.
func (l *lab) called(count int) ([]*leg, error) {
	var legs []*leg
	for i := range count {
		p, err := newLeg(l.run, l.all, fmt.Sprint("c", i), calleeHost(i), l.SIP(), false, 1+i%3)
		if err != nil {
			return legs, err
		}
		legs = append(legs, p)
	}
	l.legs = append(l.legs, legs...)
	return legs, nil
}

// pair is a 1:1 call.
type pair struct{ a, b *leg }

// pairs puts 1:1 calls up: 20 at a time, each heard on both sides.
func (l *lab) pairs(ctx context.Context, count int) ([]pair, error) {
	if count > callees {
		return nil, fmt.Errorf("%d calls, allowed are up to %d", count, callees)
	}
	from, err1 := l.callers(count)
	to, err2 := l.called(count)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var pairs []pair
	for i := range from {
		pairs = append(pairs, pair{from[i], to[i]})
	}
	if err := l.awake(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	err := each(pairs, 20, func(p pair) error { return p.a.dial(ctx, p.b.name, l.SIP()) })
	if err == nil {
		err = l.heard(ctx, l.legs)
	}
	l.printf("%d calls up after %.1f s: %d dialogs with the farm", count, time.Since(began).Seconds(), 2*count)
	return pairs, err
}

// awake returns when a call between two phones and one into a conference are answered: the bridge has its event streams then, and the
// edge its probes.
func (l *lab) awake(ctx context.Context) error {
	for _, n := range append(l.Farm("call"), l.Farm("conference")...) {
		for began := time.Now(); ; sleep(ctx, 100*time.Millisecond) {
			err := n.Get("/applications/rtcedge", &struct{}{})
			if err == nil {
				break
			}
			if time.Since(began) > 20*time.Second || ctx.Err() != nil {
				return fmt.Errorf("the bridge has no stream of %s after 20 s: %w", n.ID, err)
			}
		}
	}
	run, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer end()
	for _, number := range []string{fmt.Sprint("c", callees-1), "7999"} {
		for began := time.Now(); ; sleep(ctx, 200*time.Millisecond) {
			l.host = l.host.Next()
			to, err1 := newLeg(run, &all, fmt.Sprint("c", callees-1), calleeHost(callees-1), l.SIP(), false, 1)
			p, err2 := newLeg(run, &all, "first", l.host, l.SIP(), false, 0)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			err := p.dial(ctx, number, l.SIP())
			if err == nil {
				err = p.hangUp(ctx)
			}
			err = errors.Join(err, to.Close())
			if err == nil {
				break
			}
			if time.Since(began) > 20*time.Second || ctx.Err() != nil {
				return fmt.Errorf("the system takes no call after 20 s: %w", err)
			}
		}
	}
	return nil
}

// heard waits until every phone hears something.
func (l *lab) heard(ctx context.Context, legs []*leg) error {
	return each(legs, len(legs), func(p *leg) error {
		for end := time.Now().Add(answerTime); p.Media().Heard().Packets < 5; sleep(ctx, 20*time.Millisecond) {
			if time.Now().After(end) || ctx.Err() != nil {
				return fmt.Errorf("%s hears nothing", p.name)
			}
		}
		return nil
	})
}

// holder is the farm node that holds most of the calls, by ARI.
func (l *lab) holder(role string) (*farms.Node, int, error) {
	var best *farms.Node
	most := 0
	for _, n := range l.Farm(role) {
		var channels []struct{ ID string }
		if err := n.Get("/channels", &channels); err != nil {
			continue // it is down
		}
		if len(channels) > most {
			best, most = n, len(channels)
		}
	}
	if best == nil {
		return nil, 0, errors.New("no node of farm " + role + " holds a call")
	}
	return best, most, nil
}

// each runs f for every element, a few at a time, and joins the first errors.
func each[T any](items []T, parallel int, f func(T) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, max(1, parallel))
	for _, it := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := f(it); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := len(errs); n > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", n-5))
	}
	return errors.Join(errs...)
}

// sleep waits, but not longer than ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
