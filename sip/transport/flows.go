package transport

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync"
)

// connTable knows every connection by its flow and by its peer, and keeps the limits.
type connTable struct {
	cfg *Config

	mu      sync.RWMutex // guards the rest
	flows   map[Flow]*conn
	peers   map[peerKey]*conn
	sources map[netip.Addr]int
	dialing int
	closed  bool
}

// peerKey names a connection by the listener it belongs to, the peer's address, and the name that a dialled TLS peer has
// proved: a connection that proved another name, or none, must not carry what is meant for this one.
type peerKey struct {
	listener int
	peer     netip.AddrPort
	host     string
}

func (ct *connTable) init(cfg *Config) {
	ct.cfg = cfg
	ct.flows = map[Flow]*conn{}
	ct.peers = map[peerKey]*conn{}
	ct.sources = map[netip.Addr]int{}
}

func (ct *connTable) byFlow(f Flow) *conn {
	ct.mu.RLock()
	defer ct.mu.RUnlock()
	return ct.flows[f]
}

func (ct *connTable) byPeer(key peerKey) *conn {
	ct.mu.RLock()
	defer ct.mu.RUnlock()
	return ct.peers[key]
}

// add enters a connection and gives it its flow. It adds one task to the transport, which remove takes away: Run waits for
// it. Where another dialled connection to the same peer was faster, that one is returned.
func (ct *connTable) add(c *conn) (other *conn, refused CloseReason, ok bool) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	key := c.key()
	switch {
	case ct.closed:
		return nil, CloseShutdown, false
	case c.dialled && ct.peers[key] != nil:
		return ct.peers[key], 0, false
	case len(ct.flows) >= ct.cfg.MaxConns, c.dialled && ct.dialing >= ct.cfg.MaxDials:
		return nil, CloseLimit, false
	case !c.dialled && ct.sources[c.source] >= ct.cfg.MaxConnsPerSource:
		return nil, CloseSource, false
	}
	for c.flow == 0 || ct.flows[c.flow] != nil {
		c.flow = newFlow()
	}
	ct.flows[c.flow] = c
	// The newest connection of a peer is the live one: a phone that reconnects from the same port has lost the old.
	ct.peers[key] = c
	if c.dialled {
		ct.dialing++
	} else {
		ct.sources[c.source]++
	}
	c.l.conns.open.Add(1)
	c.t.tasks.Add(1)
	return nil, 0, true
}

// dialDone takes c out of the number of pending dials.
func (ct *connTable) dialDone() {
	ct.mu.Lock()
	ct.dialing--
	ct.mu.Unlock()
}

// remove forgets a connection, so that no new message finds it.
func (ct *connTable) remove(c *conn) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if ct.flows[c.flow] != c {
		return
	}
	delete(ct.flows, c.flow)
	if key := c.key(); ct.peers[key] == c {
		delete(ct.peers, key)
	}
	if !c.dialled {
		if ct.sources[c.source]--; ct.sources[c.source] == 0 {
			delete(ct.sources, c.source)
		}
	}
	c.l.conns.open.Add(-1)
}

// closeAll refuses new connections and closes the others.
func (ct *connTable) closeAll() {
	ct.mu.Lock()
	ct.closed = true
	ct.mu.Unlock()
	for _, c := range ct.all(nil) {
		c.close(CloseShutdown)
	}
}

// all returns the connections of one listener, or of every one.
func (ct *connTable) all(l *Listener) []*conn {
	ct.mu.RLock()
	defer ct.mu.RUnlock()
	list := make([]*conn, 0, len(ct.flows))
	for _, c := range ct.flows {
		if l == nil || c.l == l {
			list = append(list, c)
		}
	}
	return list
}

// newFlow returns random bits: a flow that could be guessed would let a stranger who can forge a route write to another
// client's connection (RFC 5626 section 5.2).
func newFlow() Flow {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see its documentation
	return Flow(binary.LittleEndian.Uint64(b[:]))
}

// sourceOf is what the per-source limit counts: an IPv4 address, or the /64 that one IPv6 customer owns.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
