package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/internal/store"
	"rtcedge/media"
	"rtcedge/media/ng"
	"rtcedge/media/xdp"
	"rtcedge/transcode"
)

// mediaKnobs are the engine's, with rtpengine's own names. `up` has them too.
type mediaKnobs struct {
	portMin, portMax int
	threads          int
	timeout          time.Duration
	silentTimeout    time.Duration
	deleteDelay      time.Duration
	tos              int
	maxSessions      int
	opusComplexity   int
	recordingDir     string
	mediaDir         string
	forwardTo        string
	dtmfLog          netip.AddrPort
	teardownURL      string
	teardownFormat   int
	xdp              string
}

func (k *mediaKnobs) declare(s *config.Set) {
	s.Int(&k.portMin, "port-min", 30000, 1024, 65535, "PORT", "first UDP port of media")
	s.Int(&k.portMax, "port-max", 39999, 1024, 65535, "PORT", "last UDP port of media")
	s.Int(&k.threads, "num-threads", 0, 0, 256, "N", "media workers; 0 is one per core")
	s.Duration(&k.timeout, "timeout", 60*time.Second, time.Second, "a call without a packet for so long ends")
	s.Duration(&k.silentTimeout, "silent-timeout", time.Hour, time.Second, "the same while a party is on hold")
	s.Duration(&k.deleteDelay, "delete-delay", 30*time.Second, 0, "a deleted call keeps its ports for so long")
	s.Int(&k.tos, "tos", 184, 0, 255, "BYTE", "traffic class of outgoing packets; 184 is expedited forwarding")
	s.Int(&k.maxSessions, "max-sessions", 0, 0, 1<<20, "CALLS", "more calls are answered \"load limit\"; 0 is no bound but the ports")
	s.Int(&k.opusComplexity, "opus-complexity", 1, 1, 10, "N", "effort of the Opus encoder; for speech of a telephone codec more gains next to nothing (bench/MEDIA.md)")
	s.String(&k.mediaDir, "media-dir", "", "DIR", "where play media finds its WAV files; none: only blobs are played")
	s.String(&k.forwardTo, "forward-to", "", "tcp|tls://HOST:PORT", "start forwarding sends what parties say here, as 16 bit PCM of 8 kHz behind the metadata; none: it is refused")
	s.Addr(&k.dtmfLog, "dtmf-log-dest", netip.AddrPort{}, "keys that were pressed are sent here by UDP, in rtpengine's JSON; none: nowhere")
	s.String(&k.teardownURL, "b2b-url", "", "URL", "told by XML-RPC of each call that timed out, so that its signalling ends, too; %% stands for the address of the controller (or that of xmlrpc-callback); none: nobody")
	s.Int(&k.teardownFormat, "xmlrpc-format", 0, 0, 2, "N", "what --b2b-url is told: 0 SEMS (di), 1 teardown with the Call-ID, 2 Kamailio (dlg.terminate_dlg)")
	s.String(&k.recordingDir, "recording-dir", "", "DIR", "where calls are recorded that ask for it (start recording, record-call); none: they are refused")
	s.String(&k.xdp, "xdp", "auto", "auto|off|IFACE", "kernel fast path: eBPF delivers the media ports to one socket per worker (Linux 5.9, CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW); auto uses it where it can be had, off is a socket per port")
}

// config turns the knobs into an engine's. Zero means "never" or "at once" on the command line, "default" in the engine.
func (k *mediaKnobs) config(e *env, role string, interfaces []media.Interface) (media.Config, error) {
	if k.xdp != "auto" && k.xdp != "off" {
		return media.Config{}, flagError(role, "xdp", fmt.Errorf("%q: this build has no kernel path", k.xdp), "auto, off")
	}
	if k.portMin > k.portMax || k.portMax-k.portMin < 3 {
		return media.Config{}, flagError(role, "port-min", fmt.Errorf("ports %d to %d: too few for one call", k.portMin, k.portMax),
			"at least 4 ports, --port-max above --port-min")
	}
	var digits func(media.Digit)
	if k.dtmfLog.IsValid() {
		var err error
		if digits, err = digitHook(k.dtmfLog); err != nil {
			return media.Config{}, flagError(role, "dtmf-log-dest", err, "IP:PORT")
		}
	}
	return media.Config{
		Digit: digits, ForwardTo: k.forwardTo, TeardownURL: k.teardownURL, TeardownFormat: media.TeardownFormat(k.teardownFormat), Interfaces: interfaces, PortMin: uint16(k.portMin), PortMax: uint16(k.portMax), NumThreads: k.threads,
		Timeout: k.timeout, SilentTimeout: k.silentTimeout, DeleteDelay: orNegative(k.deleteDelay), TOS: orNegative(k.tos),
		MaxSessions: k.maxSessions, OpusComplexity: k.opusComplexity, RecordingDir: k.recordingDir, MediaDir: k.mediaDir, Logger: e.log, Ended: callEndLog(e.log),
	}, nil
}

// steer gives the engine the kernel's help where it can be had. The engine needs none; stop is to be called after it has run.
func (k *mediaKnobs) steer(e *env, cfg *media.Config) (stop func()) {
	if k.xdp == "off" {
		return func() {}
	}
	c := xdp.Config{PortMin: cfg.PortMin, PortMax: cfg.PortMax, Lanes: max(k.threads, runtime.GOMAXPROCS(0))}
	for _, i := range cfg.Interfaces {
		c.Addrs = append(c.Addrs, i.Addr)
	}
	s, err := xdp.New(c)
	if err != nil {
		e.log.Info("media without the kernel fast path: a socket per port", "reason", err)
		return func() {}
	}
	cfg.Steering = s
	return func() {
		if err := s.Close(); err != nil {
			e.log.Warn("detach the kernel fast path", "reason", err)
		}
	}
}

func orNegative[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

func runMedia(e *env) error {
	c, err := parseMedia(e)
	if err != nil {
		return err
	}
	return c.run(e)
}

type mediaRole struct {
	common
	mediaKnobs
	listenNG, listenTCP, listenHTTP netip.AddrPort
	interfaces                      []string
	store, certificate              string
	access                          storeAccess
	replicas                        int
}

func parseMedia(e *env) (*mediaRole, error) {
	c := new(mediaRole)
	s := config.New("media", e.getenv)
	s.Addr(&c.listenNG, "listen-ng", loopback(2223), "NG control over UDP")
	s.Addr(&c.listenTCP, "listen-tcp-ng", netip.AddrPort{}, "NG control over TCP")
	s.Addr(&c.listenHTTP, "listen-http", netip.AddrPort{}, "NG control over HTTP (/ng, /ng-plain) and WebSocket")
	s.List(&c.interfaces, "interface", []string{"default/127.0.0.1"}, "NAME/IP!ADVERTISED", "local address of media; the first is the default, pub and priv are those that the sip role names",
		"NAME/IP or NAME/IP!ADVERTISED with IP addresses", func(t string) error {
			_, err := media.ParseInterface(t)
			return err
		})
	s.String(&c.store, "store", "", "URL", "keep session records at nats://[USER:PASSWORD@]HOST:PORT[,...], and go on with the calls that are there for the first --interface; tls:// for TLS; none: calls end with the process")
	s.Int(&c.replicas, "store-replicas", 0, 0, 5, "COPIES", storeCopies)
	c.access.declare(s)
	s.String(&c.certificate, "dtls-certificate", "", "FILE", "certificate and key (PEM) for DTLS-SRTP, the same on nodes that take over each other's calls; none: a new one at each start")
	c.mediaKnobs.declare(s)
	c.common.declare(s, netip.AddrPort{}, 0, 30*time.Second)
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *mediaRole) run(e *env) error {
	e.level.Set(c.level())
	spareProcessor(c.threads)
	defer runtime.KeepAlive(heapFloor())
	var interfaces []media.Interface
	for _, text := range c.interfaces {
		i, err := media.ParseInterface(text)
		if err != nil {
			return usage(err)
		}
		interfaces = append(interfaces, i)
	}
	cfg, err := c.config(e, "media", interfaces)
	if err != nil {
		return err
	}
	if c.certificate != "" {
		cert, err := tls.LoadX509KeyPair(c.certificate, c.certificate)
		if err != nil {
			return flagError("media", "dtls-certificate", err, "a PEM file with a certificate and its private key")
		}
		cfg.Certificate = &cert
	}
	var records *mediaRecords
	if c.store != "" {
		keep := store.Config{URL: c.store, Replicas: c.replicas, Name: "rtcedge media", Logger: e.log}
		if err := c.access.apply(&keep); err != nil {
			return usage(err)
		}
		s, err := store.New(keep)
		if err != nil {
			return flagError("media", "store", err, "nats://HOST:PORT")
		}
		records = newMediaRecords(s, interfaces[0].Addr, e.log)
		cfg.OnRecord = records.put
	}
	defer c.steer(e, &cfg)()
	engine, err := media.New(cfg)
	if err != nil {
		return usage(err)
	}
	server, err := newNGServer(c.listenNG, c.listenTCP, c.listenHTTP, engine)
	if err != nil {
		return usage(err)
	}
	st := newStatus("media")
	st.listeners = ngListeners(server)
	st.counts = func() map[string]int64 { return mediaCounts(engine.Stats()) }
	parts := []part{{"media", engine.Run}, {"ng", server.Run}}
	sources := []obs.Source{mediaSource(engine), ngSource(server)}
	if records != nil {
		sources = append(sources, storeSource(records.store))
		parts = append(parts, part{"store", records.store.Run}, part{"records", func(ctx context.Context) error { return records.restore(ctx, engine) }})
	}
	return st.serve(e, c.common, sources, mediaPages(engine),
		drainer{calls: func() int { return engine.Stats().Calls }}, parts...)
}

func newNGServer(udp, tcp, http netip.AddrPort, h ng.Handler) (*ng.Server, error) {
	var cfg ng.ServerConfig
	for _, l := range []struct {
		addr netip.AddrPort
		into *[]netip.AddrPort
	}{{udp, &cfg.UDP}, {tcp, &cfg.TCP}, {http, &cfg.HTTP}} {
		if l.addr.IsValid() {
			*l.into = append(*l.into, l.addr)
		}
	}
	if len(cfg.UDP)+len(cfg.TCP)+len(cfg.HTTP) == 0 {
		return nil, errors.New("no NG listener (allowed: at least one of --listen-ng, --listen-tcp-ng, --listen-http)")
	}
	return ng.NewServer(cfg, h)
}

func hasOpus() bool { return transcode.CanEncode(transcode.Opus) }
