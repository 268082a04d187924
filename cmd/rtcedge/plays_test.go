package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/internal/store"
)

// TestB37toB43OnTheEmbeddedFarm runs the plays through `up`: edge, media proxy, bridge and embedded farm in one process.
func TestB37toB43OnTheEmbeddedFarm(t *testing.T) {
	api := takenAddr(t)
	args, state := freeUp(t, "--api", api.String())
	out := start(t, args...)
	s := readState(t, state, out)
	waitReady(t, s.Admin)
	w := bridgetest.World{SIP: netip.MustParseAddrPort(s.SIP), API: api}
	for _, a := range s.Accounts {
		w.Accounts = append(w.Accounts, bridgetest.Account{User: a.User, Password: a.Password})
	}
	w.Explain = func() string { return page(s.Admin, "/calls") }
	bridgetest.Run(t, w)
}

// page is what an admin port shows.
func page(admin, path string) string {
	resp, err := http.Get("http://" + admin + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// TestB41OnTheEmbeddedFarm: a farm and a bridge of their own, with a wire between them that can be cut.
func TestB41OnTheEmbeddedFarm(t *testing.T) {
	ari, api, admin, sip := takenAddr(t), takenAddr(t), takenAddr(t), takenAddr(t)
	accounts := filepath.Join(t.TempDir(), "accounts")
	w := bridgetest.World{SIP: sip, API: api}
	var lines []byte
	for i := range 4 {
		a := bridgetest.Account{User: strconv.Itoa(1001 + i), Password: "secret"}
		w.Accounts = append(w.Accounts, a)
		lines = append(lines, a.User+":rtcedge:password=secret\n"...)
	}
	if err := os.WriteFile(accounts, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "farm", "--listen", "udp:"+sip.String(), "--ari", ari.String(), "--ari-password", "secret", "--auth", accounts,
		"--farm-port-min", "25000", "--farm-port-max", "25999")
	wire, err := bridgetest.NewWire(ari)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wire.Close)
	start(t, "bridge", "--ari", "http://rtcedge:secret@"+wire.Addr().String(), "--api", api.String(), "--admin", admin.String())
	waitReady(t, admin.String())
	waitControlled(t, api)
	w.Cut = wire.Cut
	bridgetest.Run(t, w, "events are lost")
}

// TestB40toB42OnEmbeddedNodes: what needs several nodes, over an edge, two call nodes and two conference nodes.
func TestB40toB42OnEmbeddedNodes(t *testing.T) {
	w := startNodes(t)
	api, admin := takenAddr(t), takenAddr(t)
	w.API = api
	start(t, append([]string{"bridge", "--api", api.String(), "--admin", admin.String()}, w.nodes...)...)
	waitReady(t, admin.String())
	bridgetest.NewControl(t, api, nil).Ready(4)
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"farm", "drain", "conference1", "--api", api.String()}, exitOK, "conference  conference1  drain"},
		{[]string{"farm", "up", "conference1", "--api", api.String()}, exitOK, "conference  conference1  up"},
		{[]string{"farm", "drain", "--api", api.String()}, exitUsage, "allowed: NODE"},
		{[]string{"farm", "drain", "nobody", "--api", api.String()}, exitError, "no farm node nobody"},
	} {
		var out output
		if code := run(t.Context(), tc.args, &out, &out, noEnv); code != tc.code || !strings.Contains(strings.Join(strings.Fields(out.String()), " "), strings.Join(strings.Fields(tc.want), " ")) {
			t.Errorf("%v ended with %d: %s, want %d and %q", tc.args, code, out.String(), tc.code, tc.want)
		}
	}
	bridgetest.Run(t, w.World, "moves", "by the phone", "becomes a conference")
}

// TestB41TwoBridgesOnEmbeddedNodes: two processes share the nodes, the second one has one conference node, the first one the others. A conference
// moves from one to the other; then the first one ends.
func TestB41TwoBridgesOnEmbeddedNodes(t *testing.T) {
	w := startNodes(t)
	two := newTwoBridges(t, w)
	first, second := two.apis[0], two.apis[1]
	w.API = first
	// The first process' leases, before it starts: the second one gets what is left.
	for _, node := range []string{"call1", "call2", "conference1"} {
		if _, err := two.store.Lease(t.Context(), "node."+node, first.String(), 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	two.start(1)
	waitControlled(t, second)
	two.start(0)
	bridgetest.NewControl(t, first, nil).Ready(4)
	w.StopBridge = func() netip.AddrPort {
		two.stop[0]()
		return second
	}
	bridgetest.Run(t, w.World, "moves", "by the phone", "process ends")
}

// twoBridges are two processes of the bridge on one store.
type twoBridges struct {
	t     *testing.T
	nodes *nodes
	store *store.Store
	url   string
	apis  [2]netip.AddrPort
	admin [2]netip.AddrPort
	stop  [2]func()
}

func newTwoBridges(t *testing.T, w *nodes) *twoBridges {
	t.Helper()
	listen := takenAddr(t)
	st, err := store.New(store.Config{Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = st.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return &twoBridges{t: t, nodes: w, store: st, url: "nats://" + listen.String(), apis: [2]netip.AddrPort{takenAddr(t), takenAddr(t)},
		admin: [2]netip.AddrPort{takenAddr(t), takenAddr(t)}}
}

func (b *twoBridges) start(i int) {
	b.t.Helper()
	b.stop[i] = startUntil(b.t, append([]string{"bridge", "--api", b.apis[i].String(), "--admin", b.admin[i].String(), "--store", b.url}, b.nodes.nodes...)...)
	waitReady(b.t, b.admin[i].String())
}

// nodes is a world whose farms are nodes of their own.
type nodes struct {
	bridgetest.World
	nodes []string // flags of a bridge
}

// startNodes runs embedded farms as nodes of their own: two for calls, one of which registers, two for conferences, with an edge before them.
func startNodes(t *testing.T) *nodes {
	t.Helper()
	edge, internal := takenAddr(t), takenOn(t, "127.0.7.1")
	w := &nodes{World: bridgetest.World{SIP: edge, CallNodes: 2, Conferences: []string{"conference1", "conference2"}}}
	var lines []byte
	for i := range 4 {
		a := bridgetest.Account{User: strconv.Itoa(1001 + i), Password: "secret"}
		w.Accounts = append(w.Accounts, a)
		lines = append(lines, a.User+":rtcedge:password=secret\n"...)
	}
	accounts := writeFile(t, "accounts", string(lines))
	var farms []string
	for i, n := range []struct{ id, roles string }{{"call1", "call,registrar"}, {"call2", "call"}, {"conference1", "conference"}, {"conference2", "conference"}} {
		host := "127.0.7." + strconv.Itoa(11+i) // of its own: nobody else has, or steers, ports there
		sip, ari := takenOn(t, host), takenOn(t, host)
		start(t, "farm", "--listen", "udp:"+sip.String(), "--roles", n.roles, "--node-id", n.id, "--ari", ari.String(), "--ari-password", "secret", "--auth", accounts,
			"--edge", internal.String())
		w.nodes = append(w.nodes, "--ari", "http://rtcedge:secret@"+ari.String())
		for role := range strings.SplitSeq(n.roles, ",") {
			farms = append(farms, "--farm", role+"=udp:"+sip.String())
		}
	}
	start(t, append([]string{"sip", "--listen", "udp:" + edge.String(), "--internal", "udp:" + internal.String(), "--media", "none", "--drain-notice", "0"}, farms...)...)
	return w
}

// waitControlled waits until the bridge has a node.
func waitControlled(t *testing.T, api netip.AddrPort) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + api.String() + "/v1/farms")
		if err != nil {
			continue
		}
		var nodes []struct{ State string }
		err = json.NewDecoder(resp.Body).Decode(&nodes)
		resp.Body.Close()
		if err == nil && len(nodes) > 0 && nodes[0].State == "up" {
			return
		}
	}
	t.Fatal("the bridge has no node after 10 s")
}

// takenAddr is a free port on loopback, for UDP and TCP.
func takenAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	return takenOn(t, "127.0.0.1")
}

func takenOn(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}
