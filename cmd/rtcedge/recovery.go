package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"rtcedge/bridge"
	"rtcedge/bridge/ari"
	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/internal/store"
	"rtcedge/media/ng"
	"rtcedge/recovery"
)

type recoveryRole struct {
	common
	historyKnobs
	access      storeAccess
	farm        []string
	pidFiles    []string
	store       string
	storeDir    string
	storeListen netip.AddrPort
	replicas    int
	edges       []string
	media       []string
	name        string
	parallel    int
	giveUp      time.Duration
	takeOver    time.Duration
	hang        time.Duration
	lost        time.Duration
	keepFor     time.Duration
	keep        int
}

func runRecovery(e *env) error {
	c, err := parseRecovery(e)
	if err != nil {
		return err
	}
	return c.run(e)
}

func parseRecovery(e *env) (*recoveryRole, error) {
	c := new(recoveryRole)
	s := config.New("recovery", e.getenv)
	s.List(&c.farm, "farm", nil, "URL", "ARI of a farm node, one each; the node tells its name, roles and SIP address", "http://USER:PASSWORD@IP:PORT", func(t string) error {
		_, err := farmTarget(t)
		return err
	})
	s.List(&c.pidFiles, "pid-file", nil, "IP:PORT=FILE", "process id of the node with this ARI address, if it runs on this machine", "IP:PORT=FILE", func(t string) error {
		if at, file, ok := strings.Cut(t, "="); !ok || at == "" || file == "" {
			return errors.New("not IP:PORT=FILE")
		}
		return nil
	})
	c.historyKnobs.declare(s)
	s.String(&c.store, "store", store.Embedded, "URL", "shared state: embedded, or nats://[USER:PASSWORD@]IP:PORT[,nats://...], tls:// for TLS; the bridge role needs the same")
	c.access.declare(s)
	s.String(&c.storeDir, "store-dir", "", "DIR", "files of the embedded store; none: in memory")
	s.Int(&c.replicas, "store-replicas", 0, 0, 5, "COPIES", storeCopies)
	s.Addr(&c.storeListen, "store-listen", netip.AddrPort{}, "address on which the embedded store serves the bridge role; on a network it needs --secret")
	s.List(&c.edges, "edge-admin", nil, "http://IP:PORT", "admin port of an edge, one each: dead nodes are fenced there", "http://IP:PORT", func(t string) error {
		_, err := edgeAdmin(t)
		return err
	})
	s.List(&c.media, "media", nil, "ng:IP:PORT[,...]", "media nodes, as the sip role has them: they bridge the silence; none: nobody does", "ng:IP:PORT[,...]", func(t string) error {
		_, err := parseMediaNodes([]string{t})
		return err
	})
	s.String(&c.name, "controller", "", "NAME", "name of this process among several; none: a random one")
	s.Int(&c.parallel, "parallel", 32, 1, 1000, "INVITES", "recovery INVITEs at a time")
	s.Duration(&c.giveUp, "give-up", time.Minute, time.Second, "how long calls wait for a healthy node")
	s.Duration(&c.takeOver, "take-over", 2*time.Second, 500*time.Millisecond, "a controller that is silent for so long loses its crashes to another one")
	s.Duration(&c.hang, "hang-after", 700*time.Millisecond, 300*time.Millisecond, "a node whose host answers and whose Asterisk does not is dead after it")
	s.Duration(&c.lost, "lost-after", 1200*time.Millisecond, 500*time.Millisecond, "a node whose host is silent is dead after it; eight seconds while most nodes are")
	s.Duration(&c.keepFor, "keep-crashes-for", 30*24*time.Hour, time.Hour, "the report of a crash that is over is forgotten after it")
	s.Int(&c.keep, "keep-crashes", 1000, 1, 100000, "CRASHES", "of the reports that are over, the oldest beyond so many are forgotten")
	c.common.declare(s, netip.AddrPort{}, 0, 0)
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	if len(c.farm) == 0 {
		return nil, flagError("recovery", "farm", errors.New("no farm node"), "http://USER:PASSWORD@IP:PORT, at least two of each farm for somebody to take over")
	}
	if c.storeListen.IsValid() && !c.storeListen.Addr().IsLoopback() && c.access.secret == "" {
		return nil, flagError("recovery", "secret", fmt.Errorf("none, with --store-listen %s", c.storeListen), "64 hex digits, or a file with them; --store-listen on 127.0.0.1 does without")
	}
	return c, nil
}

// farmTarget reads http://USER:PASSWORD@IP:PORT.
func farmTarget(text string) (recovery.Target, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.User == nil || u.Port() == "" {
		return recovery.Target{}, errors.New("not http://USER:PASSWORD@IP:PORT")
	}
	password, _ := u.User.Password()
	return recovery.Target{ARI: "http://" + u.Host, User: u.User.Username(), Password: password}, nil
}

func edgeAdmin(text string) (netip.AddrPort, error) {
	return netip.ParseAddrPort(strings.TrimSuffix(strings.TrimPrefix(text, "http://"), "/"))
}

func (c *recoveryRole) run(e *env) error {
	e.level.Set(c.level())
	keep := store.Config{URL: c.store, Dir: c.storeDir, Listen: c.storeListen, Replicas: c.replicas, Name: "rtcedge recovery", Logger: e.log}
	if err := c.access.apply(&keep); err != nil {
		return usage(err)
	}
	st, err := store.New(keep)
	if err != nil {
		return usage(err)
	}
	history, parts, sources, err := c.historyKnobs.open(e)
	if err != nil {
		return err
	}
	f := &ariFarm{store: st, log: e.log, clients: map[string]*ari.Client{}}
	cfg := recovery.Config{Store: st, History: history, Farm: f, Controller: c.name, Parallel: c.parallel, GiveUp: c.giveUp, TakeOver: c.takeOver, KeepFor: c.keepFor, Keep: c.keep, Logger: e.log}
	if len(c.media) > 0 {
		nodes, err := parseMediaNodes(c.media)
		if err != nil {
			return usage(err)
		}
		client, err := ng.NewClient(ng.ClientConfig{Nodes: nodes})
		if err != nil {
			return usage(err)
		}
		cfg.Media = ngMedia{client}
		parts = append(parts, part{"ng", client.Run})
	}
	for _, text := range c.edges {
		admin, err := edgeAdmin(text)
		if err != nil {
			return usage(err)
		}
		cfg.Edges = append(cfg.Edges, adminEdge(admin))
	}
	r, err := recovery.New(cfg)
	if err != nil {
		return usage(err)
	}
	targets, err := c.targets(f, e)
	if err != nil {
		return usage(err)
	}
	f.sentinel, err = recovery.NewSentinel(recovery.SentinelConfig{Nodes: targets, Rule: recovery.Rule{Hang: c.hang, Lost: c.lost},
		Dead: r.Dead, Back: r.Back, Logger: e.log})
	if err != nil {
		return usage(err)
	}
	c.historyKnobs.farm(f.sentinel)
	status := newStatus("recovery")
	status.listeners = c.historyKnobs.listeners()
	status.counts = func() map[string]int64 { return recoveryCounts(r.Stats()) }
	status.nodes = func() []NodeStatus {
		var out []NodeStatus
		for _, n := range f.sentinel.Nodes() {
			out = append(out, NodeStatus{Farm: strings.Join(n.Roles, ","), Node: cmp.Or(string(n.ID), n.ARI), State: strings.TrimSpace(n.Verdict + " " + n.Reason)})
		}
		return out
	}
	pages := map[string]obs.Page{"/crashes": crashesPage(r.Crashes)}
	parts = append([]part{{"store", st.Run}, {"nodes", f.watch}}, parts...)
	return status.serve(e, c.common, append(sources, recoverySource(r, f.sentinel), storeSource(st)), pages, drainer{},
		append(parts, part{"recovery", r.Run}, part{"sentinel", f.sentinel.Run})...)
}

func (c *recoveryRole) targets(f *ariFarm, e *env) ([]recovery.Target, error) {
	files := map[string]string{}
	for _, p := range c.pidFiles {
		at, file, _ := strings.Cut(p, "=")
		files["http://"+at] = file
	}
	var targets []recovery.Target
	for _, text := range c.farm {
		t, err := farmTarget(text)
		if err != nil {
			return nil, err
		}
		t.PIDFile = files[t.ARI]
		delete(files, t.ARI)
		client, err := ari.NewClient(ari.ClientConfig{URL: text, App: bridge.App, Logger: e.log})
		if err != nil {
			return nil, err
		}
		f.clients[t.ARI] = client
		targets = append(targets, t)
	}
	for at := range files {
		return nil, fmt.Errorf("pid-file: no --farm has the address %s", strings.TrimPrefix(at, "http://"))
	}
	return targets, nil
}

func recoveryCounts(s recovery.Stats) map[string]int64 {
	return map[string]int64{"crashes": int64(s.Crashes), "nodes that stopped": int64(s.Stops), "crashes of other controllers": int64(s.Watched), "crashes taken over": int64(s.TakenOver), "legs recovered": int64(s.Recovered),
		"legs refused": int64(s.Refused), "legs closed": int64(s.Closed), "legs kept": int64(s.Kept), "legs failed": int64(s.Failed)}
}

func recoverySource(r *recovery.Recoverer, sentinel *recovery.Sentinel) obs.Source {
	return func() []obs.Sample {
		s := r.Stats()
		stalls, _ := sentinel.Stalls()
		out := []obs.Sample{
			counter("recovery_own_stalls", "times without a turn for this process: no node was judged by them", uint64(stalls)),
			counter("recovery_crashes", "crashes that this controller recovered", uint64(s.Crashes)),
			counter("recovery_stops", "nodes that ended and left no call: no crash", uint64(s.Stops)),
			counter("recovery_taken_over", "crashes that this controller took over from a silent one", uint64(s.TakenOver)),
			counter("recovery_legs", "legs of dead nodes by result", uint64(s.Recovered), "result", recovery.ResultRecovered),
			counter("recovery_legs", "legs of dead nodes by result", uint64(s.Refused), "result", recovery.ResultRefused),
			counter("recovery_legs", "legs of dead nodes by result", uint64(s.Closed), "result", recovery.ResultClosed),
			counter("recovery_legs", "legs of dead nodes by result", uint64(s.Kept), "result", recovery.ResultKept),
			counter("recovery_legs", "legs of dead nodes by result", uint64(s.Failed), "result", recovery.ResultFailed),
			gauge("recovery_crashes_open", "crashes that this controller recovers now", float64(s.Open)),
			gauge("recovery_legs_pending", "their legs without a result", float64(s.Pending)),
			counter("recovery_legs_heard", "recovered legs by whether media heard the new node in two seconds", uint64(s.Heard), "result", recovery.StepRTP),
			counter("recovery_legs_heard", "recovered legs by whether media heard the new node in two seconds", uint64(s.Silent), "result", recovery.StepNoRTP),
		}
		out = append(out, timingSamples("recovery_seconds", "to the verdict from the first sign; to a leg recovered and to the new node's first packet (rtp) from the verdict; "+
			"silence: to that packet from the first sign", "span", s.Timings)...)
		kept := r.Fenced()
		for _, n := range sentinel.Nodes() {
			alive := 0.0
			if n.Verdict == recovery.Alive.String() {
				alive = 1
			}
			fenced := 0.0
			if slices.Contains(kept, n.ID) {
				fenced = 1
			}
			name := cmp.Or(string(n.ID), n.ARI)
			out = append(out, gauge("recovery_node_alive", "verdict about a farm node", alive, "node", name),
				gauge("recovery_node_fenced", "1 while the edges keep the node out, as this controller knows", fenced, "node", name))
		}
		return out
	}
}
