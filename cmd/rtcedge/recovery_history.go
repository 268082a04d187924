package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/recovery"
	"rtcedge/recovery/hep"
	"rtcedge/recovery/homer"
)

// historyKnobs say where recovery learns what was said in the dialogs of a dead node.
type historyKnobs struct {
	capture      []string
	captureFrom  []string
	captureKey   string
	captureMiB   int
	captureAge   time.Duration
	homerURL     string
	homerToken   string
	homerUser    string
	homerPass    string
	homerLag     time.Duration
	captureAPI   netip.AddrPort
	captureToken string

	receiver *hep.Receiver
	api      *homer.API
	collect  *recovery.Collector
}

func (k *historyKnobs) declare(s *config.Set) {
	s.List(&k.capture, "capture", []string{"udp:127.0.0.1:9060", "tcp:127.0.0.1:9060"}, "udp|tcp:IP:PORT", "HEP3 listener: the edges send here what passes (--hep)",
		protoAddrAllowed("udp", "tcp"), checkProtoAddr("udp", "tcp"))
	s.List(&k.captureFrom, "capture-from", nil, "IP[/BITS]", "who may send HEP; none: this machine, or anybody who has the key", "IP or IP/BITS", func(t string) error {
		_, err := parsePrefix(t)
		return err
	})
	s.String(&k.captureKey, "capture-key", "", "TEXT", "auth key that every HEP packet must carry; it travels in clear; none: not asked for")
	s.Int(&k.captureMiB, "capture-memory", 256, 1, 1<<20, "MIB", "messages kept; then what is no call goes, then calls that ended, then the calls longest silent")
	s.Duration(&k.captureAge, "capture-age", 10*time.Minute, time.Second, "how long what is no call, and calls that ended, are kept; others for 24 h since their last message")
	s.Addr(&k.captureAPI, "capture-api", netip.AddrPort{}, "HTTP listener that serves the capture in the form of HOMER's API v3; none: off")
	s.String(&k.captureToken, "capture-api-token", "", "TEXT", "token of --capture-api, in Auth-Token or as Bearer; must be given with it")
	s.String(&k.homerURL, "homer", "", "URL", "HOMER that is asked for what the own capture cannot tell; none: nobody is")
	s.String(&k.homerToken, "homer-token", "", "TEXT", "HOMER's API token (its Auth-Token header)")
	s.String(&k.homerUser, "homer-user", "", "NAME", "HOMER's account, where there is no token")
	s.String(&k.homerPass, "homer-password", "", "TEXT", "its password")
	s.Duration(&k.homerLag, "homer-lag", 4*time.Second, 0, "HOMER shows a message so late: a dialog that only HOMER knows waits for it; 0 trusts it at once")
}

// open makes the receiver, the store and who asks them.
func (k *historyKnobs) open(e *env) (recovery.History, []part, []obs.Source, error) {
	kept := homer.NewStore(homer.StoreConfig{MaxBytes: k.captureMiB << 20, MaxAge: k.captureAge})
	in := hep.ReceiverConfig{AuthKey: k.captureKey, Handle: kept.Add, Log: e.log}
	for _, text := range k.capture {
		proto, addr, err := splitProtoAddr(text, "udp", "tcp")
		if err != nil {
			return nil, nil, nil, flagError("recovery", "capture", fmt.Errorf("%q: %w", text, err), protoAddrAllowed("udp", "tcp"))
		}
		in.Listen = append(in.Listen, hep.ListenAddr{Proto: hep.Proto(proto), Addr: addr})
	}
	for _, text := range k.captureFrom {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, nil, nil, flagError("recovery", "capture-from", err, "IP or IP/BITS")
		}
		in.Allow = append(in.Allow, p)
	}
	cfg := recovery.CollectorConfig{Own: kept, Lag: k.homerLag, Logger: e.log}
	if k.homerLag == 0 {
		cfg.Lag = -1
	}
	if k.homerURL != "" {
		u, err := url.Parse(k.homerURL)
		if err != nil || u.Host == "" || !strings.HasPrefix(u.Scheme, "http") {
			return nil, nil, nil, flagError("recovery", "homer", fmt.Errorf("%q is no URL", k.homerURL), "http://IP:PORT or https://NAME")
		}
		if cfg.Homer, err = homer.NewClient(homer.ClientConfig{URL: k.homerURL, Token: k.homerToken, User: k.homerUser, Password: k.homerPass}); err != nil {
			return nil, nil, nil, usage(err)
		}
	}
	if k.captureAPI.IsValid() && k.captureToken == "" {
		return nil, nil, nil, flagError("recovery", "capture-api-token", errors.New("none, with --capture-api"), "any text")
	}
	var err error
	if k.collect, err = recovery.NewCollector(cfg); err != nil {
		return nil, nil, nil, usage(err)
	}
	if k.receiver, err = hep.NewReceiver(in); err != nil {
		return nil, nil, nil, usage(err)
	}
	parts := []part{{"capture", k.receiver.Run}}
	if k.captureAPI.IsValid() {
		if k.api, err = homer.NewAPI(homer.APIConfig{Addr: k.captureAPI, Token: k.captureToken, Store: kept}); err != nil {
			return nil, nil, nil, usage(err)
		}
		parts = append(parts, part{"capture-api", k.api.Run})
	}
	return k.collect, parts, []obs.Source{captureSource(k.receiver, kept)}, nil
}

// farm tells the history which SIP addresses are the farm's.
func (k *historyKnobs) farm(s *recovery.Sentinel) {
	k.collect.Farm(func() []string {
		var out []string
		for _, n := range s.Nodes() {
			if n.SIP != "" {
				out = append(out, n.SIP)
			}
		}
		return out
	})
}

func (k *historyKnobs) listeners() []string {
	var out []string
	for _, a := range k.receiver.Addrs() {
		out = append(out, "hep "+a.Network()+":"+a.String())
	}
	if k.api != nil {
		out = append(out, "capture api http://"+k.api.Addr().String())
	}
	return out
}

func captureSource(r *hep.Receiver, kept *homer.Store) obs.Source {
	return func() []obs.Sample {
		in, st := r.Stats(), kept.Stats()
		out := []obs.Sample{
			counter("capture_received", "HEP packets taken", in.Received),
			gauge("capture_connections", "TCP connections of senders", float64(in.Conns)),
			gauge("capture_messages", "SIP messages kept", float64(st.Messages)),
			gauge("capture_calls", "Call-IDs kept", float64(st.Calls)),
			gauge("capture_bytes", "memory of what is kept", float64(st.Bytes)),
			counter("capture_no_call_id", "packets that no Call-ID could be found in", st.NoCallID),
			counter("capture_overlong", "messages of Call-IDs with too many of them", st.Overlong),
		}
		for reason, n := range in.Rejected {
			out = append(out, counter("capture_rejected", "HEP packets or connections not taken", n, "reason", hep.Reject(reason).String()))
		}
		for kind, n := range st.Evicted {
			out = append(out, counter("capture_evicted", "Call-IDs that were dropped for their age or for room", n, "kind", homer.EvictedNames()[kind]))
		}
		return out
	}
}
