package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"rtcedge/internal/config"
	"rtcedge/sip"
)

// policyKnobs decide whose requests go where and whose do not go at all. They are read again by a reload.
type policyKnobs struct {
	rules       []string
	trunks      []string
	pstn        []string
	exempt      []string
	scanners    []string
	rateLimit   int
	rateBurst   int
	banFailures int
	banHalfLife time.Duration
	banTime     time.Duration
	overload    time.Duration
}

func (k *policyKnobs) declare(s *config.Set) {
	s.List(&k.rules, "rule", nil, "farm=NAME[,method=M][,domain=D][,user=U]", "where new dialogs go; the first that fits counts; domain and user: exact, prefix*, *suffix, 7000-7999, ~regexp; "+
		"none: REGISTER to registrar, 7000-7999 and conference.* to conference, SUBSCRIBE, NOTIFY, PUBLISH and MESSAGE to registrar, the rest to call", "farm=call|conference|registrar and method, domain, user, comma separated",
		func(t string) error { _, err := parseRule(t); return err })
	s.List(&k.trunks, "trunk", nil, "[CIDR][,cert=NAME][,digest][,domain=D][,name=N]", "source of a provider, by address, by client certificate (--tls-client-ca) or both: not challenged, unless digest; may call D only",
		"CIDR like 192.0.2.0/24 or cert=NAME, then digest, domain=D, name=N",
		func(t string) error { _, err := parseTrunk(t); return err })
	cidr := func(t string) error { _, err := parsePrefix(t); return err }
	s.List(&k.pstn, "pstn", nil, "CIDR", "sources that may call the domain pstn.*; none: nobody outside may", "CIDR or IP address", cidr)
	s.List(&k.exempt, "exempt", nil, "CIDR", "sources without rate limit and ban, like a load balancer that hides the phones", "CIDR or IP address", cidr)
	s.List(&k.scanners, "scanner", sip.DefaultScanners(), "WORD", "requests whose User-Agent starts so are dropped in silence", "a word", func(t string) error {
		if t == "" {
			return errors.New("empty")
		}
		return nil
	})
	s.Int(&k.rateLimit, "rate-limit", 0, 0, 1<<20, "MSGS/S", "requests that one source may send a second; 0 is no limit")
	s.Int(&k.rateBurst, "rate-burst", 0, 0, 1<<20, "MSGS", "requests that it may send at once; 0 is those of 5 s")
	s.Int(&k.banFailures, "ban-failures", 15, 1, 1000, "N", "wrong passwords after which a source is banned")
	s.Duration(&k.banHalfLife, "ban-half-life", 10*time.Minute, time.Second, "half of the failures are forgotten in this time")
	s.Duration(&k.banTime, "ban-time", 15*time.Minute, time.Second, "a banned source stays so for so long after its last failure")
	s.Duration(&k.overload, "overload", 100*time.Millisecond, 10*time.Millisecond, "new calls get 503 when messages wait longer than this")
}

// apply fills in the proxy's configuration. The texts were checked when they were read.
func (k *policyKnobs) apply(cfg *sip.Config) error {
	for _, t := range k.rules {
		r, err := parseRule(t)
		if err != nil {
			return err
		}
		cfg.Rules = append(cfg.Rules, r)
	}
	for _, t := range k.trunks {
		trunk, err := parseTrunk(t)
		if err != nil {
			return err
		}
		cfg.Trunks = append(cfg.Trunks, trunk)
	}
	for _, l := range []struct {
		texts []string
		into  *[]netip.Prefix
	}{{k.pstn, &cfg.PSTN}, {k.exempt, &cfg.Exempt}} {
		for _, t := range l.texts {
			p, err := parsePrefix(t)
			if err != nil {
				return err
			}
			*l.into = append(*l.into, p)
		}
	}
	cfg.Scanners = k.scanners
	cfg.RateLimit.PerSecond, cfg.RateLimit.Burst = float64(k.rateLimit), k.rateBurst
	cfg.Ban.Failures, cfg.Ban.HalfLife, cfg.Ban.Ban = k.banFailures, k.banHalfLife, k.banTime
	cfg.Overload = k.overload
	return nil
}

func parseRule(text string) (sip.Rule, error) {
	var r sip.Rule
	farm := false
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		switch {
		case !ok || value == "":
			return r, fmt.Errorf("%q is not KEY=VALUE", part)
		case key == "farm":
			if err := r.Farm.UnmarshalText([]byte(value)); err != nil {
				return r, err
			}
			farm = true
		case key == "method":
			r.Method = value
		case key == "domain":
			r.Domain = value
		case key == "user":
			r.User = value
		default:
			return r, fmt.Errorf("unknown word %q", key)
		}
	}
	if !farm {
		return r, errors.New("no farm=NAME")
	}
	return r, nil
}

func parseTrunk(text string) (sip.Trunk, error) {
	var t sip.Trunk
	for i, part := range strings.Split(text, ",") {
		switch key, value, pair := strings.Cut(part, "="); {
		case i == 0 && !pair:
			p, err := parsePrefix(part)
			if err != nil {
				return t, err
			}
			t.Prefixes = []netip.Prefix{p}
		case part == "digest":
			t.Digest = true
		case key == "cert" && value != "":
			t.Certificate = value
		case key == "domain" && value != "":
			t.Domain = value
		case key == "name" && value != "":
			t.Name = value
		default:
			return t, fmt.Errorf("unknown word %q", part)
		}
	}
	if t.Prefixes == nil && t.Certificate == "" {
		return t, errors.New("neither CIDR nor cert=NAME")
	}
	return t, nil
}

// parsePrefix reads a CIDR, or one address.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is no CIDR and no IP address", text)
	}
	return p.Masked(), nil
}
