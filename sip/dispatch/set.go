package dispatch

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Prober sends one OPTIONS to a node. The caller reports the answer with Answered.
type Prober interface {
	Probe(n *Node)
}

// Set is all farms with their nodes.
type Set struct {
	table  atomic.Pointer[table]
	recent recent

	mu      sync.Mutex // guards the rest, and Node.probe
	cfg     Config
	nodes   []*Node // by Node.index; nil where a node was taken out
	ticked  time.Time
	members [NumFarms][]member
}

// New makes a Set in which every node is up until its probes say otherwise.
func New(cfg Config, now time.Time) (*Set, error) {
	s := &Set{}
	if err := s.Update(cfg, now); err != nil {
		return nil, err
	}
	return s, nil
}

// Update takes a new list of nodes. A node whose address stays keeps its state.
func (s *Set) Update(cfg Config, now time.Time) error {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg = cfg
	old := map[netip.AddrPort]*Node{}
	for _, n := range s.nodes {
		if n != nil {
			old[n.addr] = n
		}
	}
	kept := map[netip.AddrPort]*Node{}
	var members [NumFarms][]member
	for f, nodes := range cfg.Farms {
		for _, nc := range nodes {
			n := kept[nc.Addr]
			if n == nil {
				if n = old[nc.Addr]; n == nil || n.proto != nc.Proto {
					n = &Node{addr: nc.Addr, proto: nc.Proto, seed: seedOf(nc.Addr)}
					n.live.Store(true)
					n.probe.since = now
				}
				kept[nc.Addr] = n
			}
			n.tcp.Store(nc.TCP)
			if nc.Drain {
				n.drained.Store(true)
			}
			members[f] = append(members[f], member{n, nc.Weight})
		}
	}
	for i, n := range s.nodes {
		if n != nil && kept[n.addr] != n {
			s.nodes[i] = nil
		}
	}
	for f := range members {
		for _, m := range members[f] {
			s.numberLocked(m.node)
		}
	}
	s.members = members
	s.publishLocked(now)
	return nil
}

// numberLocked gives a new node the first free number.
func (s *Set) numberLocked(n *Node) {
	if int(n.index) < len(s.nodes) && s.nodes[n.index] == n {
		return
	}
	for i, x := range s.nodes {
		if x == nil {
			n.index = uint16(i)
			s.nodes[i] = n
			return
		}
	}
	n.index = uint16(len(s.nodes))
	s.nodes = append(s.nodes, n)
}

// publishLocked makes the table that Pick reads, and an epoch of the former one if the eligible nodes changed.
func (s *Set) publishLocked(now time.Time) {
	t := &table{byAddr: make(map[netip.AddrPort]*Node, len(s.nodes)), nodes: append([]*Node(nil), s.nodes...)}
	for _, n := range s.nodes {
		if n != nil {
			t.byAddr[n.addr] = n
		}
	}
	t.fences = fencesOf(s.nodes)
	for f := range s.members {
		t.given[f] = len(s.members[f]) > 0
		for _, m := range s.members[f] {
			if m.node.eligible() {
				t.farms[f] = append(t.farms[f], m)
			}
		}
	}
	if before := s.table.Load(); before != nil {
		t.former = before.epoch(now)
		if !sameMembers(&before.farms, &t.farms) {
			t.former = appendEpoch(t.former, &epoch{farms: before.farms, until: now.Add(s.cfg.EpochFor).UnixNano()})
		}
	}
	s.table.Store(t)
}

// appendEpoch copies the list, since readers hold the old one; it keeps at most four epochs, the oldest of them.
func appendEpoch(list, e *epoch) *epoch {
	var chain []*epoch
	for x := list; x != nil; x = x.next {
		chain = append(chain, &epoch{farms: x.farms, until: x.until})
	}
	if len(chain) < 4 {
		chain = append(chain, e)
	}
	for i := range chain[:len(chain)-1] {
		chain[i].next = chain[i+1]
	}
	return chain[0]
}

func sameMembers(a, b *[NumFarms][]member) bool {
	for f := range a {
		if len(a[f]) != len(b[f]) {
			return false
		}
		for i := range a[f] {
			if a[f][i] != b[f][i] {
				return false
			}
		}
	}
	return true
}

// SetDrain keeps new dialogs away from a node, or lets them come again. It reports whether the node exists.
func (s *Set) SetDrain(a netip.AddrPort, on bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.table.Load().byAddr[a]
	if n == nil {
		return false
	}
	n.drained.Store(on)
	s.publishLocked(now)
	return true
}

// Drain keeps new dialogs away from the nodes that a name means: IP:PORT, PROTO:IP:PORT, or a farm for all of its nodes. It returns how
// many there are.
func (s *Set) Drain(name string, now time.Time) int {
	return s.named(name, now, func(n *Node, _ bool) bool {
		n.drained.Store(true)
		return true
	})
}

// Up lets new dialogs go to them again. A fence falls only by the node's own name: whoever brings a farm back may not know of it.
func (s *Set) Up(name string, now time.Time) int {
	return s.named(name, now, func(n *Node, whole bool) bool {
		n.drained.Store(false)
		if !whole {
			s.unfenceLocked(n, now)
		}
		return true
	})
}

// named does something with each node that a name means; whole: the name is that of a farm. It counts those for which it says true.
func (s *Set) named(name string, now time.Time, do func(n *Node, whole bool) bool) (done int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[*Node]bool{}
	for f := range s.members {
		for _, m := range s.members[f] {
			n, whole := m.node, name == Farm(f).String()
			if seen[n] || !whole && name != n.addr.String() && name != n.proto+":"+n.addr.String() {
				continue
			}
			seen[n] = true
			if do(n, whole) {
				done++
			}
		}
	}
	if done > 0 {
		s.publishLocked(now)
	}
	return done
}

// Info is what an operator sees of a node.
type Info struct {
	Farms []Farm
	Addr  netip.AddrPort
	Proto string
	State State
	Since time.Time // of the last change between up and down
	Sent  uint64    // requests sent to it outside of dialogs
	Heard uint64    // messages from it
}

// Nodes lists all nodes, in the order of the configuration.
func (s *Set) Nodes() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Info
	at := map[*Node]int{}
	for f := range s.members {
		for _, m := range s.members[f] {
			n := m.node
			i, ok := at[n]
			if !ok {
				i = len(out)
				at[n] = i
				out = append(out, Info{Addr: n.addr, Proto: n.proto, State: n.State(), Since: n.probe.since, Sent: n.sent.Load(), Heard: n.heard.Load()})
			}
			out[i].Farms = append(out[i].Farms, Farm(f))
		}
	}
	return out
}
