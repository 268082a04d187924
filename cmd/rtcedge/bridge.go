package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"rtcedge/bridge"
	"rtcedge/bridge/ari"
	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/internal/store"
)

type bridgeRole struct {
	common
	controlKnobs
	ari       []string
	ariListen netip.AddrPort
	ariNodes  []string
	api       netip.AddrPort
	advertise string
	access    storeAccess
	store     string
	storeDir  string
	replicas  int
	grace     time.Duration
	lease     time.Duration
	maxCalls  int
}

func runBridge(e *env) error {
	c, err := parseBridge(e)
	if err != nil {
		return err
	}
	return c.run(e)
}

func parseBridge(e *env) (*bridgeRole, error) {
	c := new(bridgeRole)
	s := config.New("bridge", e.getenv)
	s.List(&c.ari, "ari", nil, "URL", "ARI of a farm node, one each", "http://USER:PASSWORD@IP:PORT", func(t string) error {
		if !strings.HasPrefix(t, "http://") && !strings.HasPrefix(t, "https://") || !strings.Contains(t, "@") {
			return errors.New("not a URL with an account")
		}
		return nil
	})
	s.Addr(&c.ariListen, "ari-listen", netip.AddrPort{}, "where nodes open ARI's WebSocket by themselves (asterisk-config --ari-connect ws://IP:PORT/); none: off")
	s.List(&c.ariNodes, "ari-node", nil, "NAME=PASSWORD", "a node that may, with its --name and --ari-password", "NAME=PASSWORD", func(t string) error {
		if name, password, ok := strings.Cut(t, "="); !ok || name == "" || password == "" {
			return errors.New("not NAME=PASSWORD")
		}
		return nil
	})
	s.Addr(&c.api, "api", loopback(8090), "HTTP API; its document is /v1/openapi.json")
	s.String(&c.advertise, "api-advertise", "", "IP:PORT", "address by which other bridge processes reach the API; none: that of --api")
	s.String(&c.store, "store", store.Embedded, "URL", "shared state: embedded, or nats://[USER:PASSWORD@]IP:PORT[,nats://...], tls:// for TLS")
	c.access.declare(s)
	s.String(&c.storeDir, "store-dir", "", "DIR", "files of the embedded store; none: in memory")
	s.Int(&c.replicas, "store-replicas", 0, 0, 5, "COPIES", storeCopies)
	s.Duration(&c.grace, "recovery-wait", time.Minute, time.Second, "legs of a crashed node wait for their recovery so long")
	s.Duration(&c.lease, "lease", 1200*time.Millisecond, 300*time.Millisecond, "a process that dies loses its nodes to another one after it")
	s.Int(&c.maxCalls, "max-calls", 10000, 1, 1000000, "CALLS", "more calls are refused with 503")
	c.controlKnobs.declare(s)
	c.common.declare(s, netip.AddrPort{}, 0, 10*time.Second)
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *bridgeRole) run(e *env) error {
	e.level.Set(c.level())
	keep := store.Config{URL: c.store, Dir: c.storeDir, Replicas: c.replicas, Name: "rtcedge-bridge", Logger: e.log}
	if err := c.access.apply(&keep); err != nil {
		return usage(err)
	}
	st, err := store.New(keep)
	if err != nil {
		return usage(err)
	}
	tokens, err := readTokens(c.tokens)
	if err != nil {
		return flagError("bridge", "token-file", err, "a file with a token a line")
	}
	out, err := c.outbound(e)
	if err != nil {
		return err
	}
	cfg, err := c.config("bridge", e, c.ari, out.Clients()...)
	if err != nil {
		return err
	}
	cfg.Store, cfg.Owner, cfg.LeaseTTL, cfg.MaxCalls, cfg.Rules.LostGrace = st, c.advertise, c.lease, c.maxCalls, c.grace
	if cfg.Owner == "" {
		cfg.Owner = c.api.String()
	}
	b, err := bridge.New(cfg)
	if err != nil {
		return usage(err)
	}
	api, err := bridge.NewAPI(b, bridge.APIConfig{Listen: c.api, Tokens: tokens})
	if err != nil {
		return usage(err)
	}
	status := newStatus("bridge")
	status.listeners = []string{"api " + api.Addr().String()}
	status.counts = func() map[string]int64 { return bridgeCounts(b) }
	parts := []part{{"store", st.Run}, {"bridge", b.Run}, {"api", api.Run}}
	if out != nil {
		status.listeners = append(status.listeners, "ari "+out.Addr().String())
		parts = append(parts, part{"ari", out.Run})
	}
	// Calls stay up without us, so the drain does not wait for them.
	return status.serve(e, c.common, []obs.Source{bridgeSource(b), storeSource(st)}, nil, drainer{refuse: b.Drain}, parts...)
}

// outbound is where nodes connect by themselves; nil is off.
func (c *bridgeRole) outbound(e *env) (*ari.Outbound, error) {
	if !c.ariListen.IsValid() {
		if len(c.ariNodes) > 0 {
			return nil, flagError("bridge", "ari-node", errors.New("nobody listens"), "together with --ari-listen")
		}
		return nil, nil
	}
	nodes := map[string]string{}
	for _, text := range c.ariNodes {
		name, password, _ := strings.Cut(text, "=")
		nodes[name] = password
	}
	out, err := ari.NewOutbound(ari.OutboundConfig{Listen: c.ariListen, Nodes: nodes, Client: ari.ClientConfig{App: bridge.App, Logger: e.log}})
	return out, usage(err)
}

func readTokens(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	tokens := strings.Fields(string(text))
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%s holds no token", path)
	}
	return tokens, nil
}

// directory is the users of --user, then those that register.
type directory []bridge.Directory

func (d directory) Contacts(ctx context.Context, user string) ([]bridge.Contact, error) {
	for _, one := range d {
		if contacts, err := one.Contacts(ctx, user); err != nil || len(contacts) > 0 {
			return contacts, err
		}
	}
	return nil, nil
}

// fixedUsers is the directory of --user.
type fixedUsers []string

func (f fixedUsers) Contacts(_ context.Context, user string) ([]bridge.Contact, error) {
	var out []bridge.Contact
	for _, text := range f {
		if name, uri, _ := strings.Cut(text, "="); name == user {
			out = append(out, bridge.Contact{URI: uri})
		}
	}
	return out, nil
}

func bridgeCounts(b *bridge.Bridge) map[string]int64 {
	s := b.Stats()
	return map[string]int64{"calls": s.Calls, "legs": s.Legs, "conferences": s.Conferences, "calls_started": s.Started, "calls_ended": s.Ended,
		"legs_refused": s.Refused, "events": s.Events, "events_of_nobody": s.Unknown, "gaps": s.Gaps, "repairs": s.Repairs,
		"actions_failed": s.Failed, "legs_resumed": s.Resumed, "writes_repeated": s.Unsaved}
}

func bridgeSource(b *bridge.Bridge) obs.Source {
	return func() []obs.Sample {
		s := b.Stats()
		n := func(v int64) uint64 { return uint64(v) }
		return append([]obs.Sample{
			gauge("bridge_calls", "calls and conferences that this process controls", float64(s.Calls)),
			gauge("bridge_legs", "their legs", float64(s.Legs)),
			gauge("bridge_conferences", "conferences that this process controls", float64(s.Conferences)),
			counter("bridge_calls_started", "calls that began here or were taken over", n(s.Started)),
			counter("bridge_calls_ended", "calls that ended here or were given away", n(s.Ended)),
			counter("bridge_legs_refused", "incoming legs that found no room", n(s.Refused)),
			counter("bridge_events", "events of the farm nodes", n(s.Events)),
			counter("bridge_events_of_nobody", "events of channels that belong to no call", n(s.Unknown)),
			counter("bridge_gaps", "event streams and queues that lost events", n(s.Gaps)),
			counter("bridge_repairs", "readings of channels and bridges after a gap", n(s.Repairs)),
			counter("bridge_actions_failed", "commands that a node refused", n(s.Failed)),
			counter("bridge_legs_resumed", "legs that recovery brought back", n(s.Resumed)),
			counter("bridge_writes_repeated", "records that were not written at the first try", n(s.Unsaved)),
		}, bridgeTimings(s)...)
	}
}

func bridgeTimings(s bridge.Stats) []obs.Sample {
	return append(timingSamples("bridge_action_seconds", "how long farm nodes took for commands", "action", s.Actions),
		timingSamples("bridge_setup_seconds", "when calls of two reached a step, from the moment at which the node told of the caller", "step", s.Setup)...)
}

func timingSamples(name, help, label string, all []bridge.Timing) []obs.Sample {
	var out []obs.Sample
	for _, t := range all {
		buckets := map[float64]uint64{}
		for limit, n := range t.Buckets {
			buckets[limit.Seconds()] = uint64(n)
		}
		out = append(out, obs.Sample{Name: name, Help: help, Value: t.Sum.Seconds(), Count: uint64(t.Count), Buckets: buckets, Labels: []string{label, t.Name}})
	}
	return out
}
