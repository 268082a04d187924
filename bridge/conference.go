package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"rtcedge/internal/store"
)

// rendezvous is a node's weight for a name (highest random weight): all processes agree on the node without talking, and only the
// conferences of a node that leaves move.
func rendezvous(name string, node NodeID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(node))
	x := h.Sum64() // FNV alone spreads names with one differing digit badly: the finalizer of MurmurHash3
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// choose picks the node of a role for a name.
func choose(name, role string, nodes []Node) (NodeID, bool) {
	var ids []NodeID
	for _, n := range nodes {
		if n.takes() && slices.Contains(n.Roles, role) {
			ids = append(ids, n.ID)
		}
	}
	return Choose(name, ids)
}

// Choose picks a node by rendezvous hashing: all that have one name meet, names spread evenly, and one node more or less moves few of them.
func Choose(name string, nodes []NodeID) (best NodeID, ok bool) {
	var most uint64
	for _, n := range nodes {
		if w := rendezvous(name, n); !ok || w > most {
			best, most, ok = n, w, true
		}
	}
	return best, ok
}

// pick is the node of ours that a new call or conference goes to.
func (b *Bridge) pick(name, role string) *node {
	var all []Node
	for _, n := range b.nodes {
		if n.controlled() {
			all = append(all, n.record())
		}
	}
	id, ok := choose(name, role, all)
	if !ok {
		return nil
	}
	return b.node(id, nil)
}

// enterConference leads a leg into a conference. One conference lives on one node: who arrives on another is bridged to it by a leg
// through the edge.
func (b *Bridge) enterConference(n *node, name string, l Leg) {
	if s := b.conference(name); s != nil {
		if at := s.record().Node; at != n.id() {
			b.trunk(n, b.node(at, n), name, l)
			return
		}
		if s.post(arrived{leg: l}) || !s.ending() {
			return
		}
	}
	home := n
	if at := b.heldAt(name); at != nil { // another process' node
		home = at
	} else if id, ok := choose(name, RoleConference, b.conferenceNodes()); ok {
		home = b.node(id, n)
	}
	if home != n {
		b.trunk(n, home, name, l)
		return
	}
	s, err := b.openConference(n, name)
	if err != nil {
		b.refuse(n, l, err)
		return
	}
	s.post(arrived{leg: l})
}

// conferenceNodes are the nodes that a conference may be held on, of all processes.
func (b *Bridge) conferenceNodes() []Node {
	var all []Node
	for _, n := range b.nodes {
		rec := n.record()
		if rec.ID == "" {
			continue
		}
		if !n.controlled() {
			b.mu.Lock()
			rec.State, rec.Fenced = b.known[rec.ID].State, b.known[rec.ID].Fenced // none: nobody has taken it yet
			b.mu.Unlock()
		}
		all = append(all, rec)
	}
	return all
}

// heldAt is the node of another process on which a conference is held; nil if there is none.
func (b *Bridge) heldAt(name string) *node {
	b.mu.Lock()
	var at NodeID
	for id, c := range b.held {
		if c.Conference == name && b.calls[id] == nil && c.Owner != b.cfg.Owner {
			at = c.Node
		}
	}
	b.mu.Unlock()
	if at == "" {
		return nil // and not a node that has not said its name yet
	}
	return b.node(at, nil)
}

// trunk connects a leg to a conference on another node by a call between the nodes.
func (b *Bridge) trunk(from, to *node, name string, l Leg) {
	sip := to.record().SIP
	if len(sip) < 5 {
		b.refuse(from, l, fmt.Errorf("%w: %s has no SIP address", ErrNoNode, to.id()))
		return
	}
	c := Call{ID: newID(), Node: from.id(), Number: fmt.Sprintf("sip:%s@%s", name, sip[len("udp:"):]), Trunk: name, Created: time.Now(), Owner: b.cfg.Owner}
	s, err := b.open1(from, c, 0)
	if err != nil {
		b.refuse(from, l, err)
		return
	}
	s.post(arrived{leg: l})
}

func (b *Bridge) conference(name string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.meeting[name]; s != nil && !s.ending() {
		return s
	}
	for _, s := range b.calls { // where two have met, as after a process died while one moved
		if c := s.record(); c.Conference == name && c.From == "" && !s.ending() && (c.Moving == nil || !c.Moving.Done) {
			return s
		}
	}
	return nil
}

func (b *Bridge) openConference(n *node, name string) (*session, error) {
	c := Call{ID: newID(), Node: n.id(), Conference: name, Number: name, Created: time.Now(), Owner: b.cfg.Owner, Legs: []Leg{}, Tones: b.cfg.Rules.Tones}
	if set, err := b.settings(b.ctx, name); err == nil {
		c.PIN, c.ModeratorPIN, c.Tones, c.MaxLegs, c.Locked, c.Stay = set.PIN, set.ModeratorPIN, set.Tones, set.MaxLegs, set.Locked, true
	}
	return b.open1(n, c, 0)
}

const settingsTimeout = 300 * time.Millisecond // an incoming leg waits for it; without the store a conference has no PIN and is open

func (b *Bridge) settings(ctx context.Context, name string) (Conference, error) {
	ctx, cancel := context.WithTimeout(ctx, settingsTimeout)
	defer cancel()
	var c Conference
	e, err := b.buckets.conferences.Get(ctx, name)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(e.Value, &c)
}

// SetConference fixes what a conference is like; one that runs takes it at once.
func (b *Bridge) SetConference(ctx context.Context, c Conference) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := b.buckets.conferences.Put(ctx, c.Name, text); err != nil {
		return err
	}
	if s := b.conference(c.Name); s != nil {
		s.post(conference{c})
	}
	return nil
}

// EndConference hangs all up and forgets what was fixed.
func (b *Bridge) EndConference(ctx context.Context, name string) error {
	err := b.buckets.conferences.Delete(ctx, name, 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if s := b.conference(name); s != nil {
		return b.Command(ctx, s.record().ID, Command{Do: CmdHangup})
	}
	return nil
}
