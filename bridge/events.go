package bridge

import (
	"context"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// handle takes the node's events in order. It must not wait for a call.
func (n *node) handle(ev ari.Event) {
	n.order.Lock()
	defer n.order.Unlock()
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

// redeliver leads an event that reached a call too late to the one that has its channel now, if there is one.
func (b *Bridge) redeliver(ev ari.Event, from *session) bool {
	id := subject(ev)
	if start, is := ev.(*ari.StasisStart); is {
		id = start.Channel.ID
	}
	b.mu.Lock()
	s := b.channels[id]
	b.mu.Unlock()
	return s != nil && s != from && s.post(ev)
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
	case *ari.PlaybackContinuing:
		call, _, _ := strings.Cut(ev.Playback.ID, ".")
		return call
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
		if call, place, ok := joinNumber(number); ok && !known {
			n.b.group.Go(func() { n.joins(n.b.ctx, call, place, l) })
			return
		}
		if !known {
			n.b.begin(n, number, l)
		}
	case len(args) >= 3 && (args[0] == "out" || args[0] == "resume"):
		n.b.group.Go(func() { n.toCall(n.b.ctx, ev) })
	}
}

// toCall leads a channel to its call, which may be in the store only: another process had it, or it was on another node.
func (n *node) toCall(ctx context.Context, ev *ari.StasisStart) {
	n.b.mu.Lock()
	s := n.b.channels[ev.Channel.ID] // the call that has it now: the arguments name the one that placed it
	n.b.mu.Unlock()
	if s == nil {
		s = n.b.session(ev.Args[1])
	}
	if s == nil {
		s = n.b.adopt(ctx, n, ev.Args[1])
	}
	if s == nil || !s.post(ev) {
		_ = n.client.Hangup(ctx, ev.Channel.ID, causeNormal) // nobody waits for it
	}
}
