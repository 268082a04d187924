package bridge

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/internal/store"
)

// adopt takes a call over from its record.
func (b *Bridge) adopt(ctx context.Context, n *node, id string) *session {
	e, err := b.buckets.calls.Get(ctx, id)
	if err != nil {
		return nil
	}
	s, _ := b.adoptRecord(n, e)
	return s
}

func (b *Bridge) adoptRecord(n *node, e store.Entry) (*session, error) {
	var c Call
	if err := json.Unmarshal(e.Value, &c); err != nil {
		return nil, err
	}
	c.Owner = b.cfg.Owner
	return b.open1(n, c, e.Revision)
}

// read is what the node has now.
func (n *node) read(ctx context.Context) (seen, error) {
	s := seen{node: n.id(), channels: map[string]ari.Channel{}, bridges: map[string]ari.Bridge{}}
	channels, err := n.client.Channels(ctx)
	if err != nil {
		return s, err
	}
	for _, c := range channels {
		s.channels[c.ID] = c
	}
	bridges, err := n.client.Bridges(ctx)
	if err != nil {
		return s, err
	}
	for _, b := range bridges {
		s.bridges[b.ID] = b
	}
	return s, nil
}

// connected repairs after a gap of any length, and takes over the calls of a process that died (B41).
func (n *node) connected(ctx context.Context) {
	before := n.record()
	for !n.ask(ctx) {
		if ctx.Err() != nil {
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
	now := n.record()
	state, err := n.read(ctx)
	if err != nil {
		n.b.cfg.Logger.Warn("read node", "node", n.id(), "error", err)
		return
	}
	stored, err := n.b.buckets.nodes.Get(ctx, string(now.ID))
	epoch := before.Epoch
	if err == nil {
		var rec Node
		if json.Unmarshal(stored.Value, &rec) == nil {
			epoch = rec.Epoch
		}
	}
	state.crashed = epoch != "" && epoch != now.Epoch
	n.publish(ctx, NodeUp)
	whole := n.adoptAll(ctx)
	for _, s := range n.b.sessionsOf(now.ID) {
		s.post(state)
	}
	if !whole {
		// The calls that we have go on (F12). Channels that seem to be nobody's may be of a call that stands in the store.
		n.b.group.Go(func() {
			pause(ctx, adoptAgain)
			n.readAgain(ctx)
		})
		return
	}
	n.b.stats.repairs.Add(1)
	// Channels that came while nobody listened: what Stasis was told stands in the dialplan's data.
	for _, ch := range state.channels {
		if ch.Dialplan.AppName != "Stasis" {
			continue
		}
		app, rest, _ := strings.Cut(ch.Dialplan.AppData, ",")
		if app == App {
			n.started(&ari.StasisStart{EventHead: ari.EventHead{Type: "StasisStart", AsteriskID: string(now.ID)}, Args: strings.Split(rest, ","), Channel: ch})
		}
	}
	if n.record().State == NodeDrain {
		n.leaveConferences(true)
	}
	n.b.first.Do(func() { close(n.b.taking) })
	n.b.cfg.Logger.Info("node read", "node", now.ID, "channels", len(state.channels), "crashed", state.crashed)
}

// readAgain is connected apart from the stream. Events wait meanwhile: a channel that ended between the reading and its use would begin a call that nobody ends.
func (n *node) readAgain(ctx context.Context) {
	n.order.Lock()
	defer n.order.Unlock()
	if ctx.Err() == nil && n.controlled() {
		n.connected(ctx)
	}
}

// adoptAgain is when the calls are read again that the store did not tell.
const adoptAgain = 300 * time.Millisecond

// adoptAll takes over the calls of this node that the store knows and this process does not; false if the store does not tell.
func (n *node) adoptAll(ctx context.Context) bool {
	entries, err := n.b.buckets.calls.List(ctx, "")
	if err != nil {
		n.b.cfg.Logger.Warn("read calls", "node", n.id(), "error", err)
		return false
	}
	for _, e := range entries {
		var c Call
		if json.Unmarshal(e.Value, &c) != nil || c.Node != n.id() {
			continue
		}
		if n.b.session(c.ID) == nil {
			if _, err := n.b.adoptRecord(n, e); err != nil {
				n.b.cfg.Logger.Warn("take call over", "call", c.ID, "error", err)
			}
		}
	}
	return true
}
