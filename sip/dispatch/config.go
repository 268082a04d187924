package dispatch

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Farm is one of the three kinds of node.
type Farm uint8

// The farms.
const (
	Call Farm = iota
	Conference
	Registrar
	NumFarms
)

var farmNames = [NumFarms]string{"call", "conference", "registrar"}

// String is the farm's name as the configuration has it.
func (f Farm) String() string {
	if f < NumFarms {
		return farmNames[f]
	}
	return "unknown"
}

// ParseFarm is the inverse of String.
func ParseFarm(name string) (Farm, error) {
	for f, n := range farmNames {
		if n == name {
			return Farm(f), nil
		}
	}
	return 0, fmt.Errorf("unknown farm %q: allowed are call, conference and registrar", name)
}

// MarshalText is the name, for configuration files.
func (f Farm) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads a name.
func (f *Farm) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFarm(string(text))
	return err
}

// NodeConfig is one farm node.
type NodeConfig struct {
	// Addr is where the node listens, and where its requests come from.
	Addr netip.AddrPort
	// Proto is the transport to it: udp, tcp or tls. Default udp.
	Proto string
	// TCP says that the node, whose Proto is udp, listens on the same port for TCP too: requests larger than 1,300 bytes go there
	// (RFC 3261 section 18.1.1). Default false.
	TCP bool
	// Weight is its share of new dialogs. Default 1. A node with 0.5 gets half of what one with 1 gets.
	Weight float64
	// Drain keeps new dialogs away from it from the start. Default false.
	Drain bool
}

// Config is what a Set is made from.
type Config struct {
	// Farms holds the nodes of each farm. A farm without nodes is served by the call farm.
	Farms [NumFarms][]NodeConfig
	// ProbeInterval is the time between two OPTIONS to a node. Default 500 ms.
	ProbeInterval time.Duration
	// ProbeTimeout is how long the answer to a probe may take; the probe is repeated once at half of it, so that one lost
	// datagram takes no node out. Default 300 ms: with the interval a dead node is noticed within 0.8 s. The last node of a farm
	// gets twice that.
	ProbeTimeout time.Duration
	// SilentAfter is the time after which a node that owes an answer to something is probed out of turn. Default 250 ms.
	SilentAfter time.Duration
	// SickAfter is how long the first answer to an INVITE may take; a node that takes longer twice in a row gets no new dialog for SickFor, unless it
	// is the last of its farm. Defaults 500 ms, which is T1, and 5 s.
	SickAfter time.Duration
	SickFor   time.Duration
	// Rise is the number of answered probes in a row that bring a node back. Default 2.
	Rise int
	// NoProbes leaves every node up for ever, for farms that answer no OPTIONS. Default false.
	NoProbes bool
	// EpochFor is how long CANCEL and ACK follow a former membership. Default 32 s: 64*T1.
	EpochFor time.Duration
}

func (c *Config) validate() error {
	fill := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	fill(&c.ProbeInterval, 500*time.Millisecond)
	fill(&c.ProbeTimeout, 300*time.Millisecond)
	fill(&c.SilentAfter, 250*time.Millisecond)
	fill(&c.EpochFor, 32*time.Second)
	fill(&c.SickAfter, 500*time.Millisecond)
	fill(&c.SickFor, 5*time.Second)
	if c.Rise == 0 {
		c.Rise = 2
	}
	if c.ProbeInterval < 0 || c.ProbeTimeout < 0 || c.SilentAfter < 0 || c.SickAfter < 0 || c.SickFor < 0 || c.EpochFor < 0 || c.Rise < 0 {
		return errors.New("a time or count is negative")
	}
	total := 0
	for f := range c.Farms {
		// The caller keeps its slice: defaults are filled into a copy.
		nodes := append([]NodeConfig(nil), c.Farms[f]...)
		c.Farms[f] = nodes
		seen := map[netip.AddrPort]bool{}
		for i := range nodes {
			n := &nodes[i]
			if !n.Addr.IsValid() || n.Addr.Port() == 0 {
				return fmt.Errorf("farm %s: node %d has no address", Farm(f), i+1)
			}
			n.Addr = netip.AddrPortFrom(n.Addr.Addr().Unmap(), n.Addr.Port())
			if n.Proto == "" {
				n.Proto = "udp"
			}
			if n.Proto != "udp" && n.Proto != "tcp" && n.Proto != "tls" {
				return fmt.Errorf("farm %s: node %s: transport %q: allowed are udp, tcp and tls", Farm(f), n.Addr, n.Proto)
			}
			if n.TCP && n.Proto != "udp" {
				return fmt.Errorf("farm %s: node %s: tcp besides %s: allowed besides udp only", Farm(f), n.Addr, n.Proto)
			}
			if n.Weight == 0 {
				n.Weight = 1
			}
			if !(n.Weight > 0 && n.Weight <= 1e6) {
				return fmt.Errorf("farm %s: node %s: weight %v is out of 0..1000000", Farm(f), n.Addr, n.Weight)
			}
			if seen[n.Addr] {
				return fmt.Errorf("farm %s: node %s is given twice", Farm(f), n.Addr)
			}
			seen[n.Addr] = true
			total++
		}
	}
	if total > maxNodes {
		return fmt.Errorf("%d nodes: at most %d", total, maxNodes)
	}
	return nil
}

// Chosen by us: a node's number must fit into 16 bits of the cache of recent picks.
const maxNodes = 1 << 12
