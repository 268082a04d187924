package sip

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rtcedge/sip/auth"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
)

// Reloadable is the part of Config that Proxy.Reload changes while messages flow. Each field is that of Config with the same
// name, with the same default.
type Reloadable struct {
	Farms     dispatch.Config
	Rules     []Rule
	Domains   []string
	Codecs    []string
	Trunks    []Trunk
	PSTN      []netip.Prefix
	Exempt    []netip.Prefix
	RateLimit auth.RateConfig
	Ban       auth.BanConfig
	Scanners  []string
	Overload  time.Duration
}

// Reloadable is what Reload would be given to change nothing.
func (c *Config) Reloadable() Reloadable {
	return Reloadable{c.Farms, c.Rules, c.Domains, c.Codecs, c.Trunks, c.PSTN, c.Exempt, c.RateLimit, c.Ban, c.Scanners, c.Overload}
}

// Trunk is a provider or exchange that is known by its address, its certificate, or both.
type Trunk struct {
	// Name is for the operator's eyes. Default: none.
	Name string
	// Prefixes are the addresses that its requests come from. Required, unless Certificate is given. A datagram's source can be forged: where the
	// network does not keep such out, use TCP, TLS or Digest.
	Prefixes []netip.Prefix
	// Certificate is the name that its TLS client certificate must prove, a chain to Transport.TLS.ClientCAs behind it: a DNS name or the host of
	// a sip: URI among the subject's alternative names, or the common name where there are none (RFC 5922 section 7.1). Default: none.
	Certificate string
	// Digest wants a digest besides the address. Default false: the address is enough. Without it the trunk is also free of the
	// rate limit.
	Digest bool
	// Domain is the Request-URI's domain, with those below it, that the trunk may call. Default: every one that is served.
	Domain string
}

// policy is what decides about requests: Config's reloadable part, ready for use. It never changes; Reload makes a new one.
type policy struct {
	rules    []Rule
	domains  []string
	codecs   []string
	trunks   []Trunk
	pstn     []netip.Prefix
	exempt   []netip.Prefix
	scanners [][]byte
	suspects suspects // of scanners
	overload time.Duration
	rate     *auth.RateLimiter // nil: no limit
	ban      *auth.BanList

	rateOf auth.RateConfig // what rate and ban were made from
	banOf  auth.BanConfig
}

// newPolicy checks and compiles. What is known of sources stays where its limits do.
func newPolicy(r *Reloadable, old *policy) (*policy, error) {
	pol := &policy{codecs: r.Codecs, overload: r.Overload, rateOf: r.RateLimit, banOf: r.Ban}
	if pol.codecs == nil {
		pol.codecs = []string{"opus", "G722", "PCMU", "PCMA"}
	}
	if pol.overload == 0 {
		pol.overload = 100 * time.Millisecond
	}
	if pol.overload > 0 && pol.overload < 10*time.Millisecond {
		return nil, fmt.Errorf("overload after %v: allowed are 10ms and more, or less than 0 for never", pol.overload)
	}
	rules := r.Rules
	if rules == nil {
		rules = DefaultRules()
	}
	pol.rules = slices.Clone(rules)
	for i := range pol.rules {
		if err := pol.rules[i].validate(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	for _, d := range r.Domains {
		pol.domains = append(pol.domains, strings.ToLower(d))
	}
	var err error
	for i, t := range r.Trunks {
		if len(t.Prefixes) == 0 && t.Certificate == "" {
			return nil, fmt.Errorf("trunk %d %q: neither prefix nor certificate", i+1, t.Name)
		}
		if t.Prefixes, err = plain(t.Prefixes); err != nil {
			return nil, fmt.Errorf("trunk %d %q: %w", i+1, t.Name, err)
		}
		t.Domain, t.Certificate = strings.ToLower(t.Domain), strings.ToLower(t.Certificate)
		pol.trunks = append(pol.trunks, t)
	}
	if pol.pstn, err = plain(r.PSTN); err != nil {
		return nil, fmt.Errorf("pstn: %w", err)
	}
	if pol.exempt, err = plain(r.Exempt); err != nil {
		return nil, fmt.Errorf("exempt: %w", err)
	}
	scanners := r.Scanners
	if scanners == nil {
		scanners = DefaultScanners()
	}
	for _, s := range scanners {
		if s == "" {
			return nil, fmt.Errorf("scanners: an empty name would fit everybody")
		}
		pol.scanners = append(pol.scanners, bytes.ToLower([]byte(s)))
		pol.suspects.add([]byte(s))
	}
	pol.keepSources(old)
	return pol, nil
}

func (pol *policy) keepSources(old *policy) {
	switch {
	case pol.rateOf.PerSecond <= 0:
	case old != nil && old.rateOf == pol.rateOf:
		pol.rate = old.rate
	default:
		pol.rate = auth.NewRateLimiter(pol.rateOf)
	}
	if old != nil && old.banOf == pol.banOf {
		pol.ban = old.ban
	} else {
		pol.ban = auth.NewBanList(pol.banOf)
	}
}

// plain makes prefixes that fit addresses as the transport reports them: IPv4 never in its mapped form.
func plain(list []netip.Prefix) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, p := range list {
		if !p.IsValid() {
			return nil, fmt.Errorf("prefix %v is not valid", p)
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for i := range list {
		if list[i].Contains(a) {
			return true
		}
	}
	return false
}

// trunk finds the trunk that a message's sender is, nil if none.
func (p *Proxy) trunk(c *pass) *Trunk {
	trunks := c.policy.trunks
	for i := range trunks {
		t := &trunks[i]
		if (len(t.Prefixes) == 0 || within(t.Prefixes, c.from.Addr())) && (t.Certificate == "" || p.certified(c, t.Certificate)) {
			return t
		}
	}
	return nil
}

// domain tells if a host is one of the domains, or below one: conference.example.com is served with example.com.
func (pol *policy) domain(host []byte) bool {
	for _, d := range pol.domains {
		if below(host, d) {
			return true
		}
	}
	return false
}

// below tells if a host is a domain or one below it.
func below(host []byte, domain string) bool {
	if message.EqualFold(host, domain) {
		return true
	}
	n := len(host) - len(domain)
	return n > 1 && host[n-1] == '.' && message.EqualFold(host[n:], domain)
}

// policyOf makes a policy that fits the listeners.
func (p *Proxy) policyOf(r *Reloadable, old *policy) (*policy, error) {
	pol, err := newPolicy(r, old)
	if err != nil {
		return nil, err
	}
	for i := range pol.trunks {
		if t := &pol.trunks[i]; t.Certificate != "" && p.cfg.Transport.TLS.ClientCAs == "" {
			return nil, fmt.Errorf("trunk %d %q: certificate %s, but no authorities of client certificates are given", i+1, t.Name, t.Certificate)
		}
	}
	return pol, nil
}

// Reload takes a new policy and new farm nodes. A message that is on its way keeps the policy with which it began; none is lost.
// On an error everything stays as it was.
func (p *Proxy) Reload(r Reloadable) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	pol, err := p.policyOf(&r, p.policy.Load())
	if err != nil {
		return fmt.Errorf("sip: %w", err)
	}
	if err := p.farms.Update(r.Farms, p.now()); err != nil {
		return fmt.Errorf("sip: %w", err)
	}
	p.policy.Store(pol)
	return nil
}
