package main

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rtcedge/bridge/farm"
	"rtcedge/internal/config"
	"rtcedge/internal/obs"
)

type farmRole struct {
	common
	farmKnobs
	controlKnobs
	api     netip.AddrPort
	listen  []string
	roles   []string
	ari     netip.AddrPort
	ariUser string
	ariPass string
	nodeID  string
	recDir  string
	sounds  string
	auth    string
	domain  string
	rtpIP   netip.Addr
	edge    netip.AddrPort
}

// farmKnobs are those that `up` has too.
type farmKnobs struct {
	rtpMin, rtpMax int
	maxCalls       int
	qualify        time.Duration
}

func (k *farmKnobs) declare(s *config.Set) {
	s.Int(&k.rtpMin, "farm-port-min", 20000, 1024, 65535, "PORT", "first UDP port of the farm's own media")
	s.Int(&k.rtpMax, "farm-port-max", 29999, 1024, 65535, "PORT", "last UDP port of the farm's own media")
	s.Int(&k.maxCalls, "max-calls", 1000, 1, 100000, "CALLS", "more calls are refused with 503")
	s.Duration(&k.qualify, "qualify", 12*time.Second, 0, "OPTIONS to each registered contact, which keeps its NAT open; 0 is off")
}

func (k *farmKnobs) config(e *env) farm.Config {
	return farm.Config{PortMin: uint16(k.rtpMin), PortMax: uint16(k.rtpMax), MaxCalls: k.maxCalls, Qualify: orNegative(k.qualify), Logger: e.log}
}

func runFarm(e *env) error {
	if len(e.args) > 0 && slices.Contains(farmVerbs(), e.args[0]) {
		return runFarmNodes(e, e.args[0])
	}
	c, err := parseFarmRole(e)
	if err != nil {
		return err
	}
	return c.run(e)
}

func parseFarmRole(e *env) (*farmRole, error) {
	c := new(farmRole)
	s := config.New("farm", e.getenv)
	s.List(&c.listen, "listen", []string{"udp:127.0.0.1:5070"}, "PROTO:IP:PORT", "SIP listener", protoAddrAllowed("udp", "tcp"), checkProtoAddr("udp", "tcp"))
	roles := []string{string(farm.RoleCall), string(farm.RoleConference), string(farm.RoleRegistrar)}
	s.List(&c.roles, "roles", roles, "ROLE[,...]", "farms to be", "call, conference, registrar, comma separated", func(t string) error {
		_, err := parseRoles([]string{t})
		return err
	})
	s.Addr(&c.ari, "ari", netip.AddrPort{}, "HTTP and event listener of Asterisk's REST interface, for a bridge elsewhere; none: this process controls its calls itself")
	s.String(&c.ariUser, "ari-user", "rtcedge", "NAME", "user of ARI")
	s.String(&c.ariPass, "ari-password", "", "TEXT", "password of ARI; none: a random one, printed at start")
	s.String(&c.nodeID, "node-id", "", "NAME", "name of the node in ARI's events; none: the address of the first listener")
	s.String(&c.recDir, "recording-dir", "", "DIR", "recordings made over ARI; none: a new temporary folder, which stays")
	s.String(&c.sounds, "sounds-dir", "", "DIR", "NAME.wav or NAME.ulaw, 8000 Hz, for sound:NAME over ARI; none: only the built-in ones (beep, enter, leave)")
	s.String(&c.auth, "auth", "", "FILE", "accounts whose digest the registrar checks; none: demo accounts 1001..1009, printed at start")
	s.String(&c.domain, "realm", "rtcedge", "NAME", "digest realm of the registrar")
	s.IP(&c.rtpIP, "rtp-ip", netip.Addr{}, "address of media; none: that of the first listener")
	s.Addr(&c.edge, "edge", netip.AddrPort{}, "next hop to a contact that registered without Path; none: the contact's own address")
	s.Addr(&c.api, "api", netip.AddrPort{}, "HTTP API of the own control, without --ari; none: off")
	c.farmKnobs.declare(s)
	c.controlKnobs.declare(s)
	c.common.declare(s, netip.AddrPort{}, 0, 10*time.Second)
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *farmRole) run(e *env) error {
	e.level.Set(c.level())
	roles, err := parseRoles(c.roles)
	if err != nil {
		return usage(err)
	}
	cfg := c.farmKnobs.config(e)
	cfg.Listen, cfg.Roles, cfg.RTPAddr, cfg.Edge, cfg.Realm = c.listen, roles, c.rtpIP, c.edge, c.domain
	cfg.NodeID, cfg.RecordingDir, cfg.SoundsDir = c.nodeID, c.recDir, c.sounds
	accounts, err := loadAccounts(c.auth, c.domain, e)
	if err != nil {
		return usage(err)
	}
	cfg.Auth = accounts.provider
	if c.ari.IsValid() {
		return c.runNode(e, cfg, accounts)
	}
	accounts.print(e)
	own, err := newOwnFarm("farm", e, cfg, &c.controlKnobs, c.api)
	if err != nil {
		return err
	}
	st := newStatus("farm")
	st.listeners, st.counts = own.listeners(), own.counts
	return st.serve(e, c.common, own.sources(), farmPages(own.farm), own.drainer(), append(accounts.parts, own.parts...)...)
}

// runNode is a farm that a bridge elsewhere controls.
func (c *farmRole) runNode(e *env, cfg farm.Config, accounts users) error {
	cfg.ARI, cfg.ARIUser, cfg.ARIPassword = c.ari, c.ariUser, c.ariPass
	if c.ariPass == "" {
		cfg.ARIPassword = rand.Text()
		fmt.Fprintf(e.out, "ARI: user %s, password %s\n", cfg.ARIUser, cfg.ARIPassword)
	}
	accounts.print(e)
	f, err := farm.New(cfg)
	if err != nil {
		return usage(err)
	}
	st := newStatus("farm")
	st.listeners = farmListeners(f)
	st.counts = func() map[string]int64 { return farmCounts(f.Stats()) }
	return st.serve(e, c.common, []obs.Source{farmSource(f)}, farmPages(f), drainer{calls: func() int { return f.Stats().Calls }},
		append(accounts.parts, part{"farm", f.Run})...)
}

func farmPages(f *farm.Farm) map[string]obs.Page {
	return map[string]obs.Page{"/calls": always(func() any { return farmCalls(f) })}
}

// parseRoles reads comma separated farms; each text may hold several.
func parseRoles(texts []string) ([]farm.Role, error) {
	var roles []farm.Role
	for _, text := range texts {
		for word := range strings.SplitSeq(text, ",") {
			role := farm.Role(word)
			switch role {
			case farm.RoleCall, farm.RoleConference, farm.RoleRegistrar:
				roles = append(roles, role)
			default:
				return nil, fmt.Errorf("unknown role %q", word)
			}
		}
	}
	return roles, nil
}

// farmCalls is /calls of a farm: a leg each, always PCMU.
func farmCalls(f *farm.Farm) []Call {
	out := []Call{}
	for _, c := range f.Calls() {
		leg := Leg{Side: "farm", Codec: "PCMU", LocalPort: int(c.Media.Port()), Remote: c.From, Packets: int64(c.Received)}
		out = append(out, Call{CallID: c.CallID, Created: c.Started, Legs: []Leg{leg}})
	}
	return out
}
