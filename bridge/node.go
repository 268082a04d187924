package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/internal/store"
)

// node is one farm node. Only the process that holds its lease has its event stream and controls its calls.
type node struct {
	b      *Bridge
	client *ari.Client

	order sync.Mutex // held while an event is handled or the node is read: what was read must not be older than what was told

	mu   sync.Mutex // guards the rest
	info Node
	ours bool
}

func (n *node) id() NodeID { return n.record().ID }

func (n *node) record() Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.info
}

func (n *node) controlled() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ours && (n.info.State == NodeUp || n.info.State == NodeDrain)
}

// run waits for the node's name, then for its lease, then handles its events; again and again until ctx ends.
func (n *node) run(ctx context.Context) {
	wait := n.b.cfg.LeaseTTL / 4
	for ctx.Err() == nil {
		if n.id() == "" && !n.ask(ctx) {
			pause(ctx, wait)
			continue
		}
		lease, err := n.b.cfg.Store.Lease(ctx, "node."+string(n.id()), n.b.cfg.Owner, n.b.cfg.LeaseTTL)
		if err != nil {
			pause(ctx, wait)
			continue
		}
		n.hold(ctx, lease)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// hold controls the node as long as the lease is ours. A lease that is lost because the store is away is no reason to leave: nobody else
// can get it then either (F12).
func (n *node) hold(ctx context.Context, lease *store.Lease) {
	n.b.cfg.Logger.Info("node taken", "node", n.id())
	n.setOurs(true)
	stream, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.client.Stream(stream, n.handle)
	}()
	defer func() {
		stop()
		<-ended
		n.setOurs(false)
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = lease.Release(release)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended: // somebody else has the application
			n.leaveCalls()
			return
		case <-lease.Lost():
		}
		for {
			next, err := n.b.cfg.Store.Lease(ctx, "node."+string(n.id()), n.b.cfg.Owner, n.b.cfg.LeaseTTL)
			if err == nil {
				lease = next
				break
			}
			if errors.Is(err, store.ErrHeld) {
				n.b.cfg.Logger.Warn("node lost to another process", "node", n.id())
				n.leaveCalls()
				return
			}
			if ctx.Err() != nil {
				return
			}
			pause(ctx, n.b.cfg.LeaseTTL/4)
		}
	}
}

func (n *node) setOurs(ours bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ours = ours
}

func (n *node) leaveCalls() {
	for _, s := range n.b.sessionsOf(n.id()) {
		s.post(leave{})
	}
}

func (b *Bridge) sessionsOf(id NodeID) []*session {
	b.mu.Lock()
	all := make([]*session, 0, len(b.calls))
	for _, s := range b.calls {
		all = append(all, s)
	}
	b.mu.Unlock()
	return slices.DeleteFunc(all, func(s *session) bool { return s.record().Node != id })
}

// ask learns the node's name, roles and epoch.
func (n *node) ask(ctx context.Context) bool {
	info, err := n.client.Info(ctx)
	if err != nil {
		return false
	}
	rec := Node{ID: NodeID(info.System.EntityID), Epoch: info.Status.StartupTime.UTC().Format(time.RFC3339Nano), State: NodeUp,
		ARI: n.client.Address(), Owner: n.b.cfg.Owner}
	// Asterisk's entity id has the form of a MAC address, so our configurations name the node in a variable.
	if name, _ := n.client.Global(ctx, "RTCEDGE_NODE"); name != "" {
		rec.ID = NodeID(name)
	}
	if rec.ID == "" {
		rec.ID = NodeID(strings.TrimPrefix(n.client.Address(), "http://"))
	}
	roles, _ := n.client.Global(ctx, "RTCEDGE_ROLES") // an unset one is an error, and means the default
	rec.Roles = strings.FieldsFunc(roles, func(r rune) bool { return r == ',' || r == ' ' })
	if len(rec.Roles) == 0 {
		rec.Roles = []string{RoleCall, RoleConference}
	}
	rec.SIP, _ = n.client.Global(ctx, "RTCEDGE_SIP")
	rec.Edge, _ = n.client.Global(ctx, "RTCEDGE_EDGE")
	n.mu.Lock()
	if n.info.ID == rec.ID && n.info.State == NodeDrain {
		rec.State = NodeDrain
	}
	rec.Fenced = n.info.ID == rec.ID && n.info.Epoch == rec.Epoch && n.info.Fenced
	n.info = rec
	n.mu.Unlock()
	return true
}

// publish tells the others of the node. Somebody else's drain or fence stays.
func (n *node) publish(ctx context.Context, state string) {
	n.mu.Lock()
	if state == NodeUp && n.info.State == NodeDrain {
		state = NodeDrain
	}
	n.info.State = state
	rec := n.info
	n.mu.Unlock()
	err := n.b.buckets.nodes.Modify(ctx, string(rec.ID), func(old []byte) ([]byte, error) {
		var before Node
		same := json.Unmarshal(old, &before) == nil && before.Epoch == rec.Epoch
		if rec.Fenced = same && before.Fenced; same && before.State == NodeDrain {
			rec.State = NodeDrain
		}
		return json.Marshal(rec)
	})
	if err != nil {
		n.b.cfg.Logger.Debug("publish node", "node", rec.ID, "error", err)
		return
	}
	n.mu.Lock()
	n.info.State = rec.State
	n.mu.Unlock()
}

// fenced notes what recovery wrote about this process of the node.
func (n *node) fenced(rec *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.info.Epoch == rec.Epoch {
		n.info.Fenced = rec.Fenced
	}
}

// node finds a node by its name.
func (b *Bridge) node(id NodeID, def *node) *node {
	for _, n := range b.nodes {
		if n.id() == id {
			return n
		}
	}
	return def
}

// drain takes the node out for new conferences and calls that we place, and moves its conferences away; or takes it back in. The edge has its
// own drain for what comes in. If another process has the node, it reads the drain in the store.
func (n *node) drain(ctx context.Context, on bool) {
	n.drained(on, !on)
	if n.controlled() {
		n.leaveConferences(on)
	}
	rec := n.record()
	err := n.b.buckets.nodes.Modify(ctx, string(rec.ID), func(old []byte) ([]byte, error) {
		now := rec
		if json.Unmarshal(old, &now) == nil && now.State == NodeDown && !on {
			return old, nil
		}
		now.State = pick(on, NodeDrain, NodeUp)
		return json.Marshal(now)
	})
	if err != nil {
		n.b.cfg.Logger.Debug("publish node", "node", rec.ID, "error", err)
	}
}

// drained notes a drain or its end, and tells if that is news.
func (n *node) drained(on, off bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case on && n.info.State != NodeDrain:
		n.info.State = NodeDrain
	case off && n.info.State == NodeDrain:
		n.info.State = NodeUp
	default:
		return false
	}
	return true
}
