package xdp

import (
	"fmt"
	"net/netip"
)

// Config says which ports a Steer is for.
type Config struct {
	Addrs            []netip.Addr // local addresses; those of IPv6 are left out
	PortMin, PortMax uint16
	Lanes            int // sockets that may join, one per loop; 1 is the least
}

// Chosen by us.
const maxAddrs = 64 // each costs a comparison per packet

// validate checks the configuration and drops what is not steered.
func (c *Config) validate() error {
	var v4 []netip.Addr
	seen := make(map[netip.Addr]bool)
	for _, a := range c.Addrs {
		if a = a.Unmap(); a.Is4() && !seen[a] {
			seen[a] = true
			v4 = append(v4, a)
		}
	}
	switch {
	case len(v4) == 0:
		return fmt.Errorf("steer: no IPv4 address among %v", c.Addrs)
	case len(v4) > maxAddrs:
		return fmt.Errorf("steer: %d addresses, at most %d", len(v4), maxAddrs)
	case c.PortMin == 0 || c.PortMax < c.PortMin:
		return fmt.Errorf("steer: ports %d to %d: want a range from 1", c.PortMin, c.PortMax)
	case c.Lanes < 1:
		return fmt.Errorf("steer: %d lanes: want at least one", c.Lanes)
	}
	c.Addrs = v4
	return nil
}

// span is how many ports lie in the range.
func (c *Config) span() int { return int(c.PortMax) - int(c.PortMin) + 1 }

// place finds a port in the table of lanes.
func (c *Config) place(a netip.AddrPort) (int, bool) {
	if a.Port() < c.PortMin || a.Port() > c.PortMax {
		return 0, false
	}
	ip := a.Addr().Unmap()
	for i, own := range c.Addrs {
		if own == ip {
			return i*c.span() + int(a.Port()-c.PortMin), true
		}
	}
	return 0, false
}
