package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/media"
	"rtcedge/sip"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

type upRole struct {
	common
	mediaKnobs
	edgeKnobs
	farmKnobs
	controlKnobs
	policyKnobs
	hepKnobs
	listenIP                                               netip.Addr
	advertise                                              netip.Addr
	listenNG                                               netip.AddrPort
	api                                                    netip.AddrPort
	sipPort, tlsPort, wsPort, wssPort, farmPort, innerPort int
	auth                                                   string
	stateFile                                              string
}

func runUp(e *env) error {
	c, err := parseUp(e)
	if err != nil {
		return err
	}
	return c.run(e)
}

func parseUp(e *env) (*upRole, error) {
	c := new(upRole)
	s := config.New("up", e.getenv)
	s.IP(&c.listenIP, "listen-ip", netip.MustParseAddr("127.0.0.1"), "address of all SIP and media listeners")
	s.IP(&c.advertise, "advertise", netip.Addr{}, "address by which the outside reaches --listen-ip, behind a 1:1 NAT; none: the same")
	s.Int(&c.sipPort, "sip-port", 5060, 0, 65535, "PORT", "SIP over UDP and TCP; 0 takes a free port, here and below")
	s.Int(&c.tlsPort, "tls-port", 5061, 0, 65535, "PORT", "SIP over TLS")
	s.Int(&c.wsPort, "ws-port", 8088, 0, 65535, "PORT", "SIP over WebSocket, path /ws")
	s.Int(&c.wssPort, "wss-port", 8089, 0, 65535, "PORT", "SIP over secure WebSocket, path /ws")
	s.Addr(&c.listenNG, "listen-ng", loopback(2223), "NG control over UDP, for other proxies that want this media node")
	s.Addr(&c.api, "api", loopback(8090), "HTTP API of calls and conferences; its document is /v1/openapi.json")
	s.Int(&c.farmPort, "farm-port", 5070, 0, 65535, "PORT", "the embedded farm's SIP port on 127.0.0.1")
	s.Int(&c.innerPort, "internal-port", 5069, 0, 65535, "PORT", "the edge's SIP port on 127.0.0.1 that the farm sees")
	s.String(&c.auth, "auth", "", "FILE", "accounts; none: demo accounts 1001..1009 with new passwords at each start")
	s.String(&c.stateFile, "state-file", defaultStateFile(), "FILE", "where `make demo` finds this process and the demo accounts; readable by you only")
	c.edgeKnobs.declare(s)
	c.mediaKnobs.declare(s)
	c.farmKnobs.declare(s)
	c.controlKnobs.declare(s)
	c.policyKnobs.declare(s)
	c.hepKnobs.declare(s)
	c.common.declare(s, defaultAdmin(), 0, 5*time.Second)
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	if c.listenIP.IsUnspecified() || c.listenIP.IsMulticast() {
		return nil, flagError("up", "listen-ip", fmt.Errorf("%s stands in SDP and Contact", c.listenIP), "one address of this machine")
	}
	// Both are on 127.0.0.1. A steered range takes every packet to it, also one to a socket that the farm has bound there.
	if c.farmKnobs.rtpMin <= c.mediaKnobs.portMax && c.mediaKnobs.portMin <= c.farmKnobs.rtpMax {
		return nil, flagError("up", "farm-port-min", fmt.Errorf("%d-%d overlaps --port-min to --port-max, %d-%d", c.farmKnobs.rtpMin, c.farmKnobs.rtpMax,
			c.mediaKnobs.portMin, c.mediaKnobs.portMax), "ranges apart")
	}
	return c, nil
}

// run opens everything, farm first, before anything starts: a port in use leaves nothing half started.
func (c *upRole) run(e *env) error {
	e.level.Set(c.level())
	if c.sipPort == 0 {
		port, err := freePort(c.listenIP)
		if err != nil {
			return usage(err)
		}
		c.sipPort = port
	}
	if c.innerPort == 0 {
		port, err := freePort(loopback(0).Addr())
		if err != nil {
			return usage(err)
		}
		c.innerPort = port
	}
	secret := make([]byte, 32)
	rand.Read(secret)

	fcfg := c.farmKnobs.config(e)
	fcfg.Listen = []string{fmt.Sprintf("udp:127.0.0.1:%d", c.farmPort)}
	accounts, err := loadAccounts(c.auth, c.realm, e)
	if err != nil {
		return usage(err)
	}
	fcfg.Known, fcfg.Edge = accounts.provider, loopback(uint16(c.innerPort))
	own, err := newOwnFarm("up", e, fcfg, &c.controlKnobs, c.api)
	if err != nil {
		return err
	}
	defer own.Close()

	inside := media.Interface{Name: "priv", Addr: netip.MustParseAddr("127.0.0.1")}
	outside := media.Interface{Name: "pub", Addr: c.listenIP, Advertised: c.advertise}
	mcfg, err := c.mediaKnobs.config(e, "up", []media.Interface{outside, inside})
	if err != nil {
		return err
	}
	defer c.mediaKnobs.steer(e, &mcfg)()
	engine, err := media.New(mcfg)
	if err != nil {
		return usage(err)
	}
	server, err := newNGServer(c.listenNG, netip.AddrPort{}, netip.AddrPort{}, engine)
	if err != nil {
		return usage(err)
	}
	defer server.Close()

	_, farmAddr, err := splitProtoAddr(own.farm.Addrs()[0], "udp")
	if err != nil {
		return err
	}
	var farms dispatch.Config
	farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: farmAddr}}
	scfg, err := c.edgeKnobs.config(e, secret, c.listeners(), farms, engine)
	if err != nil {
		return err
	}
	if err := c.policyKnobs.apply(&scfg); err != nil {
		return usage(err)
	}
	if scfg.Auth, err = accounts.edgeAuth(secret); err != nil {
		return usage(err)
	}
	parts := accounts.parts
	sources := append([]obs.Source{mediaSource(engine), ngSource(server)}, own.sources()...)
	tap, err := c.hepKnobs.open("up", e)
	if err != nil {
		return err
	}
	if tap != nil {
		scfg.Tap = tap
		parts, sources = append(parts, tap.parts()...), append(sources, tap.source)
	}
	proxy, err := sip.New(scfg)
	if err != nil {
		return usage(err)
	}
	defer proxy.Close()

	st := newStatus("up")
	st.listeners = append(edgeListenerNames(proxy), append(ngListeners(server), own.listeners()...)...)
	st.counts = func() map[string]int64 {
		return mergeCounts(sipCounts(proxy.Stats()), mediaCounts(engine.Stats()), own.counts())
	}
	st.nodes = func() []NodeStatus { return farmNodes(proxy) }
	st.actions = farmActions(proxy)
	st.onAdmin = func(admin netip.AddrPort) error {
		state := upState{PID: os.Getpid(), SIP: proxy.Listeners()[0].Addr().String(), Admin: admin.String(), Opus: hasOpus(), Accounts: accounts.plain}
		c.greet(e, state, st.listeners)
		return state.write(c.stateFile)
	}
	defer func() { upState{PID: os.Getpid()}.remove(c.stateFile) }()
	d := own.drainer()
	d.refuse = proxy.Drain
	parts = append(parts, part{"media", engine.Run}, part{"ng", server.Run}, part{"sip", proxy.Run})
	return st.serve(e, c.common, append(sources, sipSource(proxy)), mediaPages(engine), d, append(parts, own.parts...)...)
}

// freePort finds one that is free for UDP and TCP: phones expect SIP on the same port of both.
func freePort(ip netip.Addr) (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
		if err != nil {
			return 0, fmt.Errorf("free port on %s: %w (allowed: an address of this machine)", ip, err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		u, err := net.ListenPacket("udp", netip.AddrPortFrom(ip, port).String())
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return int(port), nil
		}
	}
	return 0, fmt.Errorf("free port on %s: none is free for both UDP and TCP", ip)
}

func (c *upRole) listeners() []transport.ListenerConfig {
	var advertise string
	if c.advertise.IsValid() {
		advertise = c.advertise.String()
	}
	var out []transport.ListenerConfig
	for _, l := range []struct {
		proto transport.Proto
		port  int
	}{{transport.UDP, c.sipPort}, {transport.TCP, c.sipPort}, {transport.TLS, c.tlsPort}, {transport.WS, c.wsPort}, {transport.WSS, c.wssPort}} {
		out = append(out, transport.ListenerConfig{Proto: l.proto, Addr: netip.AddrPortFrom(c.listenIP, uint16(l.port)), Advertise: advertise})
	}
	return append(out, transport.ListenerConfig{Proto: transport.UDP, Addr: loopback(uint16(c.innerPort)), Internal: true})
}

// greet prints what somebody needs who has just started it.
func (c *upRole) greet(e *env, s upState, listeners []string) {
	fmt.Fprintf(e.out, "rtcedge %s, everything in one process\n\nlisteners\n", versionText())
	for _, l := range listeners {
		fmt.Fprintf(e.out, "  %s\n", l)
	}
	fmt.Fprintf(e.out, "  admin http://%s  (a page for a browser, /metrics /healthz /readyz /status /calls /debug/pprof/)\n  media udp:%s:%d-%d\n",
		s.Admin, c.listenIP, c.portMin, c.portMax)
	if len(s.Accounts) > 0 {
		fmt.Fprintf(e.out, "\naccounts (user password, registrar %s)\n", s.SIP)
		for _, a := range s.Accounts {
			fmt.Fprintf(e.out, "  %s %s\n", a.User, a.Password)
		}
	}
	fmt.Fprint(e.out, "\ndial\n  600        echo\n  601        music\n  7000-7999  conferences\n  1001-1009  each other\n")
	if !s.Opus {
		fmt.Fprint(e.out, "\nOpus is not offered: this build has no libopus (CGO_ENABLED=0)\n")
	}
	fmt.Fprint(e.out, "\ntry from another terminal: make demo\nCtrl-C ends it\n\n")
}
