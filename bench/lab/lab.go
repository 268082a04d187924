package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"rtcedge/bench/rawphone"
	"rtcedge/e2e/farms"
	"rtcedge/internal/store"
)

// Callees is how many phones have a fixed address in the bridge's directory, so that they need not register. The last one is the lab's own.
const Callees = 300

// Config is the system under test. Root, Binary, Modules and Dir must be given.
type Config struct {
	Root, Binary, Modules, Dir string
	Out                        io.Writer // the timeline; nil: nobody reads it

	Call, Conference int        // nodes of the farms
	Public, Inside   netip.Addr // of the edge; default 127.0.0.1 and 127.0.0.10
	Phones           netip.Addr // the callers have the addresses after it; default 127.20.0.0
	Called           netip.Addr // network of the callees; default 127.30.0.0

	Frame       time.Duration              // audio of a packet of the phones; default 20 ms
	NoRecovery  bool                       // shows what is lost without
	Recovery    []string                   // more flags of recovery
	Controllers int                        // recoveries at once; default 1
	NoPIDFiles  bool                       // recovery sees the nodes over the network only
	HEP         netip.AddrPort             // where farms and edge send HEP; default: to recovery
	Watch       netip.Addr                 // where recovery is; default: Inside
	Store       string                     // URL of a store that is not the lab's own; "": it has one
	Bridge      []string                   // more flags of bridge
	Edge        []string                   // more flags of sip
	Enter       func(name string) []string // see farms.Config
}

func (c *Config) fill() (err error) {
	for _, a := range []struct {
		field *netip.Addr
		value string
	}{{&c.Public, "127.0.0.1"}, {&c.Inside, "127.0.0.10"}, {&c.Phones, "127.20.0.0"}, {&c.Called, "127.30.0.0"}} {
		if !a.field.IsValid() {
			*a.field = netip.MustParseAddr(a.value)
		}
	}
	if !c.Watch.IsValid() {
		c.Watch = c.Inside
	}
	c.Frame = cmp.Or(c.Frame, 20*time.Millisecond)
	if c.Out == nil {
		c.Out = io.Discard
	}
	c.Modules, err = filepath.Abs(c.Modules)
	return err
}

// Lab is the system with its phones.
type Lab struct {
	*farms.System
	Legs []*Leg // that were made, the lab's own not

	cfg     Config
	run     context.Context
	end     context.CancelFunc // of the phones
	all     sync.WaitGroup     // of the phones
	host    netip.Addr         // the last caller's address
	pacer   *rawphone.Pacer
	made    int // callers
	secret  []byte
	close   context.CancelFunc // of the store
	storing chan error
}

// Start brings up store, farms with the patched module, edge, media, bridge and recovery. What it started is gone after Stop, also where Start
// returns an error.
func Start(ctx context.Context, cfg Config) (*Lab, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	l := &Lab{cfg: cfg, host: cfg.Phones, secret: make([]byte, 32), storing: make(chan error, 1), pacer: rawphone.NewPacer(cfg.Frame)}
	rand.Read(l.secret)
	l.run, l.end = context.WithCancel(ctx)
	l.all.Go(func() { _ = l.pacer.Run(l.run) })
	// The store is not under test: it ends after all that writes to it.
	life, done := context.WithCancel(context.WithoutCancel(ctx))
	l.close = done
	if cfg.Store == "" {
		st, err := store.New(store.Config{Listen: netip.AddrPortFrom(cfg.Inside, 4222), Token: store.TokenOf(l.secret)})
		if err != nil {
			return nil, err
		}
		go func() { l.storing <- st.Run(life) }()
	} else {
		l.storing <- nil
	}
	bridge := append(l.StoreFlags(), cfg.Bridge...)
	for i := range Callees {
		bridge = append(bridge, "--user", l.directory(i))
	}
	var recovery []string
	if !cfg.NoRecovery {
		recovery = append(l.StoreFlags(), cfg.Recovery...)
	}
	began := time.Now()
	var err error
	l.System, err = farms.Start(farms.Config{
		Root: cfg.Root, Binary: cfg.Binary, Dir: cfg.Dir, Public: cfg.Public, Inside: cfg.Inside, Call: cfg.Call, Conference: cfg.Conference, Registrar: 1,
		Modules: cfg.Modules, Capture: netip.AddrPortFrom(cfg.Watch, 9060), Watch: cfg.Watch, HEP: cfg.HEP, Bridge: bridge, Recovery: recovery,
		Controllers: cfg.Controllers, NoPIDFiles: cfg.NoPIDFiles, Enter: cfg.Enter,
		EdgeArgs: append([]string{"--listen", "wss:" + netip.AddrPortFrom(cfg.Public, wssPort).String()}, cfg.Edge...),
	})
	if err != nil {
		return nil, errors.Join(err, l.Stop())
	}
	l.Printf("%d Asterisks (%s), edge, media, bridge up after %.1f s", len(l.Nodes), l.Nodes[0].Version, time.Since(began).Seconds())
	if err := l.awake(ctx); err != nil {
		return nil, errors.Join(err, l.Stop())
	}
	return l, nil
}

// Stop ends phones, system and store, in this order.
func (l *Lab) Stop() error {
	l.end()
	l.all.Wait()
	if l.System != nil {
		l.System.Stop()
	}
	l.close()
	return <-l.storing
}

// Printf writes a line of the timeline.
func (l *Lab) Printf(format string, args ...any) {
	fmt.Fprintf(l.cfg.Out, "%s  "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}

// wssPort is where the edge takes secure WebSockets.
const wssPort = 5443

// StoreAddr is where the system keeps its records.
func (l *Lab) StoreAddr() netip.AddrPort { return netip.AddrPortFrom(l.cfg.Inside, 4222) }

// StoreFlags lead a role to it, with the secret that it asks for, and by which crashes are sealed.
func (l *Lab) StoreFlags() []string {
	return []string{"--store", cmp.Or(l.cfg.Store, "nats://"+l.StoreAddr().String()), "--secret", hex.EncodeToString(l.secret)}
}

// StoreToken lets somebody in who has got that far, and does not have the secret.
func (l *Lab) StoreToken() string { return store.TokenOf(l.secret) }

// Steer has the edge send new calls and conferences to the first node of their farm only ("drain"), or to all of them again ("up").
func (l *Lab) Steer(verb string) error {
	for _, n := range append(l.Farm("call")[1:], l.Farm("conference")[1:]...) {
		q := url.Values{"node": {n.SIP.String()}}
		res, err := http.Post("http://"+l.Admin("sip").String()+"/farm/"+verb+"?"+q.Encode(), "", nil)
		if err != nil {
			return err
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("edge: %s of %s: %s: %s", verb, n.ID, res.Status, text)
		}
	}
	return nil
}

// EndAll ends every call that the bridge knows, so that nobody hears of it later.
func (l *Lab) EndAll(ctx context.Context) error {
	var calls []struct{ ID string }
	res, err := http.Get("http://" + l.API().String() + "/v1/calls")
	if err != nil {
		return err
	}
	err = json.NewDecoder(res.Body).Decode(&calls)
	_ = res.Body.Close()
	for _, c := range calls {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+l.API().String()+"/v1/calls/"+c.ID, nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}
	return err
}

// awake returns when a call between two phones and one into a conference are answered: the bridge has its event streams then, and the
// edge its probes.
func (l *Lab) awake(ctx context.Context) error {
	for _, n := range append(l.Farm("call"), l.Farm("conference")...) {
		if err := l.Streamed(ctx, n); err != nil {
			return err
		}
	}
	run, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer end()
	for _, number := range []string{fmt.Sprint("c", Callees-1), "7999"} {
		for began := time.Now(); ; Sleep(ctx, 200*time.Millisecond) {
			to, err1 := newLeg(run, &all, l.callee(Callees-1))
			p, err2 := newLeg(run, &all, legConfig{name: "first", host: l.next(), edge: l.SIP()})
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			err := p.Dial(ctx, number)
			if err == nil {
				err = p.HangUp(ctx)
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

// Streamed returns when the bridge has its event stream of a node.
func (l *Lab) Streamed(ctx context.Context, n *farms.Node) error {
	for began := time.Now(); ; Sleep(ctx, 50*time.Millisecond) {
		err := n.Get("/applications/rtcedge", &struct{}{})
		if err == nil {
			return nil
		}
		if time.Since(began) > 20*time.Second || ctx.Err() != nil {
			return fmt.Errorf("the bridge has no stream of %s after 20 s: %w", n.ID, err)
		}
	}
}

// Holder is the farm node that holds most of the calls, by ARI, and how many channels that is.
func (l *Lab) Holder(role string) (*farms.Node, int, error) {
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

// Held are the phones whose calls a node has, by the Call-ID that ARI calls protocol_id.
func Held(n *farms.Node, phones []*Leg) ([]*Leg, error) {
	var list []struct {
		ProtocolID string `json:"protocol_id"`
	}
	if err := n.Get("/channels", &list); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, c := range list {
		ids[c.ProtocolID] = true
	}
	var legs []*Leg
	for _, p := range phones {
		if d := p.Dialog(); d != nil && ids[d.CallID] {
			legs = append(legs, p)
		}
	}
	return legs, nil
}

// Each runs f for every element, a few at a time, and joins the first errors.
func Each[T any](items []T, parallel int, f func(T) error) error {
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

// Sleep waits, but not longer than ctx.
func Sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
