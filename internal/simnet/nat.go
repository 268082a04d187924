package simnet

import (
	"fmt"
	"net/netip"
	"os"
	"time"
)

// NATConfig describes a NAT.
type NATConfig struct {
	// Public is its address in the net.
	Public netip.Addr
	// Symmetric gives every destination its own public port. Default: one port per private socket.
	Symmetric bool
	// OpenFilter lets in datagrams from anybody once there is a mapping. Default: only from where the host has sent to,
	// address and port.
	OpenFilter bool
	// Timeout is how long a mapping lives after the last datagram that the host sent. Default 30 s; homes have been seen with 14 s.
	Timeout time.Duration
}

// NAT stands between private hosts and the net. Two NATs may have hosts with the same private addresses.
type NAT struct {
	cfg NATConfig
	n   *Net

	// The net's mu guards the rest.
	next  uint16
	hosts map[netip.AddrPort]*Conn
	maps  map[mapKey]*mapping
}

type mapKey struct {
	host netip.AddrPort
	to   netip.AddrPort // zero: for all destinations
}

// mapping is one public port.
type mapping struct {
	nat    *NAT
	key    mapKey
	public netip.AddrPort
	host   *Conn
	used   time.Time
	peers  map[netip.AddrPort]time.Time // where the host has sent to, and when
}

// NAT adds a NAT to the net.
func (n *Net) NAT(cfg NATConfig) *NAT {
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	return &NAT{cfg: cfg, n: n, next: 20000, hosts: map[netip.AddrPort]*Conn{}, maps: map[mapKey]*mapping{}}
}

// Listen opens a socket with a private address.
func (t *NAT) Listen(addr netip.AddrPort) (*Conn, error) {
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	if t.hosts[addr] != nil {
		return nil, fmt.Errorf("listen %v: %w", addr, os.ErrExist)
	}
	c := newConn(t.n, t, addr)
	t.hosts[addr] = c
	return c, nil
}

// outLocked returns the public address of what c sends.
func (t *NAT) outLocked(c *Conn, to netip.AddrPort) netip.AddrPort {
	key := mapKey{host: c.local}
	if t.cfg.Symmetric {
		key.to = to
	}
	now := time.Now()
	m := t.maps[key]
	if m == nil || now.Sub(m.used) > t.cfg.Timeout {
		if m != nil {
			delete(t.n.hosts, m.public)
		}
		m = &mapping{nat: t, key: key, public: t.portLocked(), host: c, peers: map[netip.AddrPort]time.Time{}}
		t.maps[key] = m
		t.n.hosts[m.public] = m
	}
	m.used = now
	m.peers[to] = now
	return m.public
}

// portLocked returns a free public port, never the one of the mapping before.
func (t *NAT) portLocked() netip.AddrPort {
	for {
		t.next++
		a := netip.AddrPortFrom(t.cfg.Public, max(t.next, 1024))
		if t.n.hosts[a] == nil {
			return a
		}
	}
}

func (m *mapping) receiveLocked(p packet) {
	now := time.Now()
	if now.Sub(m.used) > m.nat.cfg.Timeout {
		return
	}
	if at, ok := m.peers[p.from]; !m.nat.cfg.OpenFilter && (!ok || now.Sub(at) > m.nat.cfg.Timeout) {
		return
	}
	p.to = m.host.local
	m.host.receiveLocked(p)
}

// forgetLocked removes a socket and its mappings.
func (t *NAT) forgetLocked(c *Conn) {
	delete(t.hosts, c.local)
	for key, m := range t.maps {
		if m.host == c {
			delete(t.maps, key)
			delete(t.n.hosts, m.public)
		}
	}
}
