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
		if json.Unmarshal(old, &before) == nil && before.Epoch == rec.Epoch && (before.State == NodeDrain || before.State == NodeFenced) && state != NodeDrain {
			rec.State = before.State
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

// handle takes the node's events in order. It must not wait for a call.
func (n *node) handle(ev ari.Event) {
	n.b.stats.events.Add(1)
	ev.Head().AsteriskID = string(n.id()) // our name of the node, see ask
	switch ev := ev.(type) {
	case *ari.Connected:
		n.connected(n.b.ctx)
	case *ari.Disconnected:
		n.b.stats.gaps.Add(1)
		n.b.cfg.Logger.Warn("event stream lost", "node", n.id(), "error", ev.Err)
		n.b.group.Go(func() { n.publish(n.b.ctx, NodeDown) })
	case *ari.StasisStart:
		n.started(ev)
	default:
		n.b.deliver(ev)
	}
}

// deliver leads an event to its call.
func (b *Bridge) deliver(ev ari.Event) {
	id := subject(ev)
	if id == "" {
		return
	}
	b.mu.Lock()
	s := b.channels[id]
	if s == nil {
		s = b.calls[id]
	}
	b.mu.Unlock()
	if s == nil {
		b.stats.unknown.Add(1)
		return
	}
	s.post(ev)
}

// subject is the channel, or the call, that an event is about. Playbacks and recordings have names that begin with the call's id.
func subject(ev ari.Event) string {
	switch ev := ev.(type) {
	case *ari.StasisEnd:
		return ev.Channel.ID
	case *ari.ChannelStateChange:
		return ev.Channel.ID
	case *ari.ChannelDestroyed:
		return ev.Channel.ID
	case *ari.ChannelDtmfReceived:
		return ev.Channel.ID
	case *ari.ChannelHold:
		return ev.Channel.ID
	case *ari.ChannelUnhold:
		return ev.Channel.ID
	case *ari.ChannelTransfer:
		return ev.ReferredBy.SourceChannel.ID
	case *ari.Dial:
		return ev.Peer.ID
	case *ari.PlaybackFinished:
		call, _, _ := strings.Cut(ev.Playback.ID, ".")
		return call
	case *ari.RecordingFinished:
		return callOfRecording(ev.Recording.Name)
	case *ari.RecordingFailed:
		return callOfRecording(ev.Recording.Name)
	}
	return ""
}

func callOfRecording(name string) string {
	call, _, _ := strings.Cut(name, "-")
	return call
}

// started is a channel that the node gives to us.
func (n *node) started(ev *ari.StasisStart) {
	args := ev.Args
	switch {
	case len(args) >= 1 && args[0] == "in":
		number := ev.Channel.Dialplan.Exten
		if len(args) > 1 {
			number = args[1]
		}
		l := Leg{ID: ev.Channel.ID, Node: n.id(), SIPCallID: ev.Channel.ProtocolID, Role: LegIn, State: LegRinging,
			Number: ev.Channel.Caller.Number, Name: ev.Channel.Caller.Name}
		if ev.Channel.State == ari.StateUp {
			l.State, l.Answered = LegUp, time.Now()
		}
		n.b.mu.Lock()
		known := n.b.channels[l.ID] != nil
		n.b.mu.Unlock()
		if !known {
			n.b.begin(n, number, l)
		}
	case len(args) >= 3 && (args[0] == "out" || args[0] == "resume"):
		n.b.group.Go(func() { n.toCall(n.b.ctx, ev) })
	}
}

// toCall leads a channel to its call, which may be in the store only: another process had it, or it was on another node.
func (n *node) toCall(ctx context.Context, ev *ari.StasisStart) {
	s := n.b.session(ev.Args[1])
	if s == nil {
		s = n.b.adopt(ctx, n, ev.Args[1])
	}
	if s == nil || !s.post(ev) {
		_ = n.client.Hangup(ctx, ev.Channel.ID, causeNormal) // nobody waits for it
	}
}

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

// node finds a node by its name.
func (b *Bridge) node(id NodeID, def *node) *node {
	for _, n := range b.nodes {
		if n.id() == id {
			return n
		}
	}
	return def
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
	n.adoptAll(ctx)
	for _, s := range n.b.sessionsOf(now.ID) {
		s.post(state)
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
	n.b.cfg.Logger.Info("node read", "node", now.ID, "channels", len(state.channels), "crashed", state.crashed)
}

// adoptAll takes over the calls of this node that the store knows and this process does not.
func (n *node) adoptAll(ctx context.Context) {
	entries, err := n.b.buckets.calls.List(ctx, "")
	if err != nil {
		n.b.cfg.Logger.Warn("read calls", "node", n.id(), "error", err)
		return
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
}

// drain takes the node out for new conferences and calls that we place, or back in. The edge has its own drain for what comes in.
func (n *node) drain(ctx context.Context, on bool) {
	n.mu.Lock()
	n.info.State = NodeUp
	if on {
		n.info.State = NodeDrain
	}
	rec := n.info
	n.mu.Unlock()
	text, _ := json.Marshal(rec) // a record always marshals
	if _, err := n.b.buckets.nodes.Put(ctx, string(rec.ID), text); err != nil {
		n.b.cfg.Logger.Debug("publish node", "node", rec.ID, "error", err)
	}
}
