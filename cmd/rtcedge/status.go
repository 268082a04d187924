package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rtcedge/internal/obs"
	"rtcedge/media"
	"rtcedge/media/ng"
	"rtcedge/sip"
	"rtcedge/web"
)

// status collects what the admin port tells of a role and runs the role under it.
type status struct {
	role      string
	started   time.Time
	ready     atomic.Bool
	listeners []string
	counts    func() map[string]int64
	nodes     func() []NodeStatus               // nil: the role knows no farm
	actions   map[string]func(url.Values) error // what a POST to the admin port does, besides /drain
	onAdmin   func(netip.AddrPort) error        // nil; called with the admin port's address before anything starts
}

func newStatus(role string) *status { return &status{role: role, started: time.Now()} }

// always is a page that knows its value at once.
func always(value func() any) obs.Page {
	return func(context.Context, url.Values) (any, error) { return value(), nil }
}

func (st *status) page(pages map[string]obs.Page) any {
	s := Status{Role: st.role, Version: versionText(), Uptime: time.Since(st.started).Round(time.Second).String(),
		Ready: st.ready.Load(), Listeners: st.listeners, Counts: st.counts(), Pages: slices.Sorted(maps.Keys(pages))}
	if st.nodes != nil {
		s.Farm = st.nodes()
	}
	return s
}

// serve opens the admin port and runs the parts, the admin port outliving all of them.
func (st *status) serve(e *env, c common, sources []obs.Source, pages map[string]obs.Page, d drainer, parts ...part) error {
	if pages == nil {
		pages = map[string]obs.Page{}
	}
	pages["/status"] = always(func() any { return st.page(pages) })
	ctx, drain := context.WithCancel(e.ctx)
	defer drain()
	d.notice, d.limit = c.drainNotice, c.drainLimit
	d.ready = st.ready.Store
	if c.admin.IsValid() {
		var once sync.Once
		actions := map[string]func(url.Values) error{"/drain": func(url.Values) error {
			err := errors.New("already draining")
			once.Do(func() { drain(); err = nil })
			return err
		}}
		maps.Copy(actions, st.actions)
		admin, err := obs.New(obs.Config{Addr: c.admin, Sources: sources, Pages: pages, Actions: actions, Site: web.Handler()})
		if err != nil {
			return usage(err)
		}
		if st.onAdmin != nil {
			if err := st.onAdmin(admin.Addr()); err != nil {
				return errors.Join(usage(err), admin.Close())
			}
		}
		e.log.Info("admin port", "addr", admin.Addr())
		d.ready = func(r bool) { st.ready.Store(r); admin.SetReady(r) }
		parts = append([]part{{"admin", admin.Run}}, parts...)
	}
	return serve(ctx, e.log, d, parts...)
}

// onHangup reloads at each SIGHUP until its context ends.
func (st *status) onHangup(log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangup:
			}
			if err := st.actions["/reload"](nil); err != nil {
				log.Error("not reloaded, everything stays as it was", "error", err)
				continue
			}
			log.Info("reloaded")
		}
	}
}

// farmActions let an operator take farm nodes out and back in.
func farmActions(p *sip.Proxy) map[string]func(url.Values) error {
	act := func(do func(name string, now time.Time) int) func(url.Values) error {
		return func(q url.Values) error {
			if name := q.Get("node"); do(name, time.Now()) == 0 {
				return fmt.Errorf("no farm node %q (allowed: IP:PORT or PROTO:IP:PORT of a node, or call, conference, registrar)", name)
			}
			return nil
		}
	}
	return map[string]func(url.Values) error{"/farm/drain": act(p.Farms().Drain), "/farm/up": act(p.Farms().Up), "/farm/fence": act(p.Farms().Fence),
		"/farm/unfence": act(p.Farms().Unfence), "/farm/speak": func(q url.Values) error { return speak(p, q) }}
}

// speak takes a SIP message of recovery in place of one of a dead node: node=PROTO:IP:PORT, at=IP:PORT of the listener that it spoke to, message.
func speak(p *sip.Proxy, q url.Values) error {
	_, addr, _ := strings.Cut(q.Get("node"), ":")
	node, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("node %q: %w (allowed: PROTO:IP:PORT)", q.Get("node"), err)
	}
	at, _ := netip.ParseAddrPort(q.Get("at")) // only where nothing in the message names a listener
	return p.Speak(node, at, []byte(q.Get("message")))
}

// callEndLog writes one line for each ended call, with its quality.
func callEndLog(log *slog.Logger) func(media.CallEnd) {
	return func(end media.CallEnd) {
		t := end.Info.Totals.RTP
		log.Info("call ended", "call_id", end.CallID, "reason", end.Reason, "duration", end.At.Sub(end.Info.Created).Round(time.Millisecond),
			"packets", t.Packets, "lost", t.Lost, "errors", t.Errors, "jitter", t.Jitter.Round(100*time.Microsecond))
	}
}

// mediaPages is /calls, from the engine's own queries.
func mediaPages(engine *media.Engine) map[string]obs.Page {
	return map[string]obs.Page{"/calls": func(ctx context.Context, _ url.Values) (any, error) { return listCalls(ctx, engine) }}
}

func listCalls(ctx context.Context, engine *media.Engine) ([]Call, error) {
	calls := []Call{}
	list, err := engine.List(ctx, &ng.Request{Command: ng.CmdList})
	if err != nil {
		return nil, err
	}
	for _, id := range list.Calls {
		resp, err := engine.Query(ctx, &ng.Request{Command: ng.CmdQuery, CallID: id})
		if err != nil || resp.Call == nil {
			continue // it ended in the meantime
		}
		calls = append(calls, toCall(id, resp.Call))
	}
	return calls, nil
}

func toCall(id string, info *ng.CallInfo) Call {
	call := Call{CallID: id, Created: info.Created, Legs: []Leg{}}
	for _, tag := range info.Tags {
		for _, m := range tag.Medias {
			for _, s := range m.Streams {
				if s.RTCP {
					continue
				}
				call.Legs = append(call.Legs, Leg{Side: m.Interface, Codec: m.Codec, Crypto: s.Crypto, LocalPort: s.LocalPort,
					Remote: s.Endpoint.String(), Packets: s.Stats.Packets, Lost: s.Stats.Lost})
			}
		}
	}
	return call
}
