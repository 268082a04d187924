package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"rtcedge/bridge"
	"rtcedge/bridge/ari"
	"rtcedge/bridge/farm"
	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/internal/store"
)

// controlKnobs say what calls do: of the bridge role, and of the roles with a bridge inside.
type controlKnobs struct {
	provider string
	users    []string
	flows    string
	tokens   string
	ring     time.Duration
	longest  time.Duration
	linger   time.Duration
	tones    bool
	relay    bool
	maxLegs  int
}

func (k *controlKnobs) declare(s *config.Set) {
	s.String(&k.provider, "provider", "", "URI", "where numbers go that are no user: a SIP URI with {number}; none: they are refused with 404")
	s.List(&k.users, "user", nil, "USER=URI", "a user with a fixed address, besides those that register", "USER=sip:...", func(t string) error {
		if name, uri, ok := strings.Cut(t, "="); !ok || name == "" || !strings.HasPrefix(uri, "sip") {
			return errors.New("not USER=URI")
		}
		return nil
	})
	s.String(&k.flows, "flows", "", "FILE", "flows by number, YAML or JSON")
	s.String(&k.tokens, "token-file", "", "FILE", "tokens that the API takes, one a line; none: no token is asked for, on loopback only")
	s.Duration(&k.ring, "ring-timeout", 30*time.Second, time.Second, "a leg that does not answer ends after it")
	s.Duration(&k.longest, "max-duration", 0, 0, "a leg ends after it; 0 is off")
	s.Duration(&k.linger, "conference-linger", time.Minute, time.Second, "a conference with nobody in it ends after it, unless it was set by the API")
	s.Bool(&k.tones, "conference-tones", false, "a short tone when somebody enters or leaves a conference that was not set by the API")
	s.Bool(&k.relay, "relay-calls", false, "Asterisk relays the packets of a call of two beside its core, for less of its processor: keys reach the other end, and no event tells of them")
	s.Int(&k.maxLegs, "max-legs", 500, 2, 5000, "LEGS", "of one call or conference")
}

// config is what the knobs say. Nodes, store and owner are the caller's.
func (k *controlKnobs) config(role string, e *env, nodes []string, clients ...*ari.Client) (bridge.Config, error) {
	cfg := bridge.Config{Nodes: nodes, Clients: clients, Logger: e.log, Numbers: bridge.Numbers{Provider: k.provider},
		Rules: bridge.Rules{RingTimeout: k.ring, MaxDuration: k.longest, MaxLegs: k.maxLegs, Linger: k.linger, Tones: k.tones, Relay: k.relay}}
	registrars, err := bridge.NewRegistrars(nodes)
	if err != nil {
		return cfg, usage(err)
	}
	registrars.Add(clients...)
	cfg.Directory = directory{fixedUsers(k.users), registrars}
	if k.flows == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(k.flows)
	if err != nil {
		return cfg, flagError(role, "flows", err, "a file of flows")
	}
	cfg.Flows, err = bridge.ParseFlows(k.flows, text)
	return cfg, usage(err)
}

// ownFarm is an embedded farm with a bridge of its own, in one process: the bridge role's code over ARI on loopback, as it is over Asterisk.
type ownFarm struct {
	farm   *farm.Farm
	bridge *bridge.Bridge
	api    *bridge.API // nil: off
	parts  []part      // in the order in which they start
}

// newOwnFarm opens everything and starts nothing. api is the zero value where there is none.
func newOwnFarm(role string, e *env, fcfg farm.Config, k *controlKnobs, api netip.AddrPort) (*ownFarm, error) {
	fcfg.ARI, fcfg.ARIUser, fcfg.ARIPassword = loopback(0), "rtcedge", rand.Text()
	if fcfg.NodeID == "" {
		fcfg.NodeID = "farm"
	}
	f, err := farm.New(fcfg)
	if err != nil {
		return nil, usage(err)
	}
	o := &ownFarm{farm: f}
	if err := o.control(role, e, fcfg, k, api); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *ownFarm) control(role string, e *env, fcfg farm.Config, k *controlKnobs, api netip.AddrPort) error {
	cfg, err := k.config(role, e, []string{fmt.Sprintf("http://%s:%s@%s", fcfg.ARIUser, fcfg.ARIPassword, o.farm.ARIAddr())})
	if err != nil {
		return err
	}
	st, err := store.New(store.Config{Name: "rtcedge-" + role, Logger: e.log})
	if err != nil {
		return usage(err)
	}
	cfg.Store, cfg.Owner, cfg.MaxCalls = st, role, fcfg.MaxCalls
	if o.bridge, err = bridge.New(cfg); err != nil {
		return usage(err)
	}
	o.parts = []part{{"farm", o.farm.Run}, {"store", st.Run}, {"bridge", o.bridge.Run}}
	if !api.IsValid() {
		return nil
	}
	tokens, err := readTokens(k.tokens)
	if err != nil {
		return flagError(role, "token-file", err, "a file with a token a line")
	}
	if o.api, err = bridge.NewAPI(o.bridge, bridge.APIConfig{Listen: api, Tokens: tokens}); err != nil {
		return usage(err)
	}
	o.parts = append(o.parts, part{"api", o.api.Run})
	return nil
}

// Close releases what was never run.
func (o *ownFarm) Close() error {
	var err error
	if o.api != nil {
		err = o.api.Close()
	}
	return errors.Join(err, o.farm.Close())
}

func (o *ownFarm) sources() []obs.Source {
	return []obs.Source{farmSource(o.farm), bridgeSource(o.bridge)}
}

func (o *ownFarm) listeners() []string {
	out := farmListeners(o.farm)
	if o.api != nil {
		out = append(out, "api http://"+o.api.Addr().String())
	}
	return out
}

func (o *ownFarm) counts() map[string]int64 {
	return mergeCounts(farmCounts(o.farm.Stats()), map[string]int64{"bridge calls": o.bridge.Stats().Calls})
}

// drainer lets the calls end before the farm does. Phones may call as soon as the bridge has the farm.
func (o *ownFarm) drainer() drainer {
	return drainer{started: o.bridge.Ready(), refuse: o.bridge.Drain, calls: func() int { return o.farm.Stats().Calls }}
}
