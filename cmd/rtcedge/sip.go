package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/media/ng"
	"rtcedge/sip"
	"rtcedge/sip/accounts"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

var sipProtos = []string{"udp", "tcp", "tls", "ws", "wss"}

type sipRole struct {
	common
	edgeKnobs
	policyKnobs
	hepKnobs
	node      string
	listen    []string
	internal  []string
	advertise string
	farms     []string
	media     []string
	auth      string
	authSQL   string
	secret    string
}

// edgeKnobs are those that `up` has too.
type edgeKnobs struct {
	workers      int
	domains      []string
	realm        string
	codecs       []string
	tlsCerts     []string
	tlsKeys      []string
	tlsClientCA  string
	tlsRoots     string
	mediaTimeout time.Duration
}

func (k *edgeKnobs) declare(s *config.Set) {
	s.Int(&k.workers, "workers", 0, 0, 256, "N", "UDP workers; 0 is one per core")
	s.List(&k.domains, "domain", nil, "NAME", "SIP domain served here; none given: every domain is served",
		"a host name or IP address", func(t string) error {
			if t == "" || strings.ContainsAny(t, " /:;@") && !strings.HasPrefix(t, "[") {
				return errors.New("not a domain")
			}
			return nil
		})
	s.String(&k.realm, "realm", "rtcedge", "NAME", "digest realm; the accounts of --auth are those of this realm")
	s.List(&k.codecs, "codec", []string{"opus", "G722", "PCMU", "PCMA"}, "NAME", "codecs offered to phones when the farm calls, best first",
		"opus, G722, PCMU, PCMA", func(t string) error {
			if !slices.Contains([]string{"opus", "G722", "PCMU", "PCMA"}, t) {
				return errors.New("unknown codec")
			}
			return nil
		})
	file := func(t string) error {
		if t == "" {
			return errors.New("empty")
		}
		return nil
	}
	s.List(&k.tlsCerts, "tls-cert", nil, "FILE", "certificate chain (PEM) of the tls and wss listeners; several: the client's SNI chooses, the first is for the others; read again when it changes; none: a self-signed one", "a file", file)
	s.List(&k.tlsKeys, "tls-key", nil, "FILE", "its key (PEM); as many as certificates, in their order", "a file", file)
	s.String(&k.tlsClientCA, "tls-client-ca", "", "FILE", "authorities (PEM) of client certificates, for --trunk cert=NAME; none: clients are asked for none")
	s.String(&k.tlsRoots, "tls-roots", "", "FILE", "authorities (PEM) of the servers that we connect to by tls; none: those of the system")
	s.Duration(&k.mediaTimeout, "media-timeout", 2*time.Second, 50*time.Millisecond, "an offer or answer that media does not answer in this time fails the call with 503")
}

func runSIP(e *env) error {
	c, err := parseSIP(e)
	if err != nil {
		return err
	}
	return c.run(e)
}

func parseSIP(e *env) (*sipRole, error) {
	c := new(sipRole)
	s := config.New("sip", e.getenv)
	s.List(&c.listen, "listen", []string{"udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"}, "PROTO:IP:PORT", "listener: udp, tcp, tls, ws or wss",
		protoAddrAllowed(sipProtos...), checkProtoAddr(sipProtos...))
	s.List(&c.internal, "internal", nil, "PROTO:IP:PORT", "listener that only farms see; none: the first --listen serves both sides",
		protoAddrAllowed("udp", "tcp"), checkProtoAddr("udp", "tcp"))
	s.String(&c.advertise, "advertise", "", "HOST[:PORT]", "address of the listeners as the outside sees it, behind a 1:1 NAT or load balancer")
	s.List(&c.farms, "farm", nil, "NAME=udp:IP:PORT[,...]", "nodes of the farm call, conference or registrar; one not given falls back to call; udp+tcp: large requests by TCP",
		"call|conference|registrar=udp|udp+tcp|tcp|tls:IP:PORT[,...]", func(t string) error {
			_, _, err := parseFarm(t)
			return err
		})
	s.List(&c.media, "media", []string{"ng:127.0.0.1:2223"}, "ng:IP:PORT[,...]|none", "media nodes, one chosen per Call-ID; none is a pure proxy",
		"ng:IP:PORT[,...], none", func(t string) error {
			_, err := parseMediaNodes([]string{t})
			return err
		})
	s.String(&c.auth, "auth", "", "FILE|URL", "accounts whose digest is checked here, HA1 of a file, of http(s)://HOST/PATH?user=&realm= or of postgres://; none: the edge does not challenge")
	s.String(&c.authSQL, "auth-sql", accounts.DefaultSQL, "SQL", "what PostgreSQL is asked; $1 is the user, $2 the realm; columns: HA1, and HA1 of SHA-256 if it is there")
	s.String(&c.secret, "secret", "", "HEX|FILE", "32 bytes as 64 hex digits, or a file with them, the same on all edge nodes; none: a random one")
	c.edgeKnobs.declare(s)
	s.String(&c.node, "node", "", "udp:IP:PORT", "internal listener by which other edge nodes reach the connections held here; none: they cannot")
	c.policyKnobs.declare(s)
	c.hepKnobs.declare(s)
	c.common.declare(s, netip.AddrPort{}, 2*time.Second, 30*time.Second)
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	if len(c.farms) == 0 {
		return nil, usage(errors.New("sip: --farm: none given (allowed: at least call=udp:IP:PORT)"))
	}
	return c, nil
}

func (c *sipRole) run(e *env) error {
	e.level.Set(c.level())
	spareProcessor(c.workers)
	nodes, err := parseMediaNodes(c.media)
	if err != nil {
		return usage(err)
	}
	secret, err := parseSecret(c.secret)
	if err != nil {
		return usage(err)
	}
	var parts []part
	var sources []obs.Source
	var node sip.Media // stays nil without media: a nil *ng.Client in it would not be
	if len(nodes) > 0 {
		client, err := ng.NewClient(ng.ClientConfig{Nodes: nodes, Timeout: c.mediaTimeout})
		if err != nil {
			return usage(err)
		}
		node = client
		parts = append(parts, part{"ng", client.Run})
		sources = append(sources, ngClientSource(client))
	}
	cfg, err := c.proxyConfig(e, secret, node)
	if err != nil {
		return err
	}
	if c.auth != "" {
		users, err := edgeAccounts(c.auth, c.realm, c.authSQL, e)
		if err != nil {
			return usage(err)
		}
		if cfg.Auth, err = users.edgeAuth(secret); err != nil {
			return usage(err)
		}
		parts, sources = append(parts, users.parts...), append(sources, users.sources...)
	}
	tap, err := c.hepKnobs.open("sip", e)
	if err != nil {
		return err
	}
	if tap != nil {
		cfg.Tap = tap
		parts, sources = append(parts, tap.parts()...), append(sources, tap.source)
	}
	proxy, err := sip.New(cfg)
	if err != nil {
		return usage(err)
	}
	st := newStatus("sip")
	st.listeners = edgeListenerNames(proxy)
	st.counts = func() map[string]int64 { return sipCounts(proxy.Stats()) }
	st.nodes = func() []NodeStatus { return farmNodes(proxy) }
	st.actions = farmActions(proxy)
	st.actions["/reload"] = func(url.Values) error { return reloadSIP(e, secret, proxy) }
	parts = append(parts, part{"reload", st.onHangup(e.log)}, part{"sip", proxy.Run})
	return st.serve(e, c.common, append(sources, sipSource(proxy)), nil, drainer{refuse: proxy.Drain}, parts...)
}

// proxyConfig is all of the proxy's configuration but what has a life of its own: accounts and capture.
func (c *sipRole) proxyConfig(e *env, secret []byte, node sip.Media) (sip.Config, error) {
	farms, err := parseFarms(c.farms)
	if err != nil {
		return sip.Config{}, usage(err)
	}
	listeners, err := edgeListeners(c.listen, c.internal, c.advertise)
	if err != nil {
		return sip.Config{}, usage(err)
	}
	cfg, err := c.edgeKnobs.config(e, secret, listeners, farms, node)
	if err != nil {
		return cfg, err
	}
	if c.node != "" {
		if _, cfg.NodeAddr, err = splitProtoAddr(c.node, "udp"); err != nil {
			return cfg, flagError("sip", "node", fmt.Errorf("%q: %w", c.node, err), protoAddrAllowed("udp"))
		}
	}
	return cfg, usage(c.policyKnobs.apply(&cfg))
}

// reloadSIP reads flags, environment and file again and swaps what can change while messages flow. A bad file changes nothing.
func reloadSIP(e *env, secret []byte, proxy *sip.Proxy) error {
	c, err := parseSIP(e)
	if err != nil {
		return err
	}
	cfg, err := c.proxyConfig(e, secret, nil)
	if err != nil {
		return err
	}
	if err := proxy.Reload(cfg.Reloadable()); err != nil {
		return err
	}
	return proxy.Transport().ReloadCertificates()
}

// config is the proxy's for both roles that have one.
func (k *edgeKnobs) config(e *env, secret []byte, listeners []transport.ListenerConfig, farms dispatch.Config, media sip.Media) (sip.Config, error) {
	tc := transport.Config{Listeners: listeners, Workers: k.workers, Log: e.log}
	tc.TLS.ClientCAs, tc.TLS.RootCAs = k.tlsClientCA, k.tlsRoots
	if slices.ContainsFunc(listeners, func(l transport.ListenerConfig) bool { return l.Proto.Secure() }) {
		switch {
		case len(k.tlsCerts) != len(k.tlsKeys):
			return sip.Config{}, usage(fmt.Errorf("--tls-cert and --tls-key: %d certificates and %d keys (allowed: both, in pairs, or none)", len(k.tlsCerts), len(k.tlsKeys)))
		case len(k.tlsCerts) > 0:
			for i := range k.tlsCerts {
				tc.TLS.Files = append(tc.TLS.Files, transport.CertificateFile{Cert: k.tlsCerts[i], Key: k.tlsKeys[i]})
			}
		default:
			cert, err := selfSigned(listeners, time.Now())
			if err != nil {
				return sip.Config{}, err
			}
			tc.TLS.Certificates = append(tc.TLS.Certificates, cert)
		}
	}
	return sip.Config{Secret: secret, Transport: tc, Farms: farms, Domains: k.domains, Realm: k.realm, Media: media, MediaTimeout: k.mediaTimeout,
		Codecs: k.codecs, Log: e.log}, nil
}

func edgeListeners(listen, internal []string, advertise string) ([]transport.ListenerConfig, error) {
	var out []transport.ListenerConfig
	for i, text := range slices.Concat(listen, internal) {
		name, addr, err := splitProtoAddr(text, sipProtos...)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", text, err)
		}
		proto, err := transport.ParseProto(name)
		if err != nil {
			return nil, err
		}
		l := transport.ListenerConfig{Proto: proto, Addr: addr, Internal: i >= len(listen)}
		if !l.Internal {
			l.Advertise = advertise
		}
		out = append(out, l)
	}
	return out, nil
}

// parseFarm reads NAME=PROTO:IP:PORT[,...].
func parseFarm(text string) (dispatch.Farm, []dispatch.NodeConfig, error) {
	name, list, ok := strings.Cut(text, "=")
	if !ok {
		return 0, nil, errors.New("no NAME= in front of the nodes")
	}
	farm, err := dispatch.ParseFarm(name)
	if err != nil {
		return 0, nil, fmt.Errorf("unknown farm %q", name)
	}
	var nodes []dispatch.NodeConfig
	for node := range strings.SplitSeq(list, ",") {
		proto, addr, err := splitProtoAddr(node, "udp", "udp+tcp", "tcp", "tls")
		if err != nil {
			return 0, nil, fmt.Errorf("node %q: %w", node, err)
		}
		proto, both := strings.CutSuffix(proto, "+tcp")
		nodes = append(nodes, dispatch.NodeConfig{Addr: addr, Proto: proto, TCP: both})
	}
	return farm, nodes, nil
}

func parseFarms(texts []string) (dispatch.Config, error) {
	var cfg dispatch.Config
	for _, t := range texts {
		farm, nodes, err := parseFarm(t)
		if err != nil {
			return cfg, err
		}
		cfg.Farms[farm] = append(cfg.Farms[farm], nodes...)
	}
	return cfg, nil
}

// parseMediaNodes reads ng:IP:PORT[,...] or none.
func parseMediaNodes(texts []string) ([]netip.AddrPort, error) {
	var nodes []netip.AddrPort
	for _, text := range texts {
		if text == "none" {
			if len(texts) > 1 {
				return nil, errors.New("none stands beside nodes")
			}
			return nil, nil
		}
		for node := range strings.SplitSeq(text, ",") {
			addr, err := netip.ParseAddrPort(strings.TrimPrefix(node, "ng:"))
			if err != nil {
				return nil, fmt.Errorf("node %q: not ng:IP:PORT", node)
			}
			nodes = append(nodes, addr)
		}
	}
	return nodes, nil
}

// parseSecret reads 64 hex digits, or the file that holds them.
func parseSecret(text string) ([]byte, error) {
	if text == "" {
		secret := make([]byte, 32)
		rand.Read(secret)
		return secret, nil
	}
	if len(text) != 64 {
		data, err := os.ReadFile(text)
		if err != nil {
			return nil, fmt.Errorf("--secret: %w (allowed: 64 hex digits, or a file with them)", err)
		}
		text = strings.TrimSpace(string(data))
	}
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != 32 {
		return nil, errors.New("--secret: not 64 hex digits (allowed: 64 hex digits, or a file with them)")
	}
	return secret, nil
}

func edgeListenerNames(p *sip.Proxy) []string {
	var names []string
	for _, l := range p.Listeners() {
		name := listenerName(l)
		if l.Internal() {
			name += " (farms)"
		}
		names = append(names, name)
	}
	return names
}
