package farm

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// bridge joins channels: two by relaying packets, three or more, or two with something else in it, by mixing. The far ends
// do not notice the change: SSRC, sequence and time of what they hear go on (stream.go).
type bridge struct {
	// Constant.
	id, name string
	kind     string // mixing, holding
	created  time.Time

	// Guarded by node.mu.
	members    []*channel
	plays      []*playback
	record     *recording
	moh        bool
	tune       musicSource
	technology string

	mixed atomic.Pointer[mixRoute]

	// Owned by the clock.
	mix mixer.Mix
}

// mixRoute is what the clock needs to know of a bridge; replaced, never changed.
type mixRoute struct {
	members []*channel
	source  source
	tap     *recording
}

// technologyHolding is a bridge in which everybody waits, as Asterisk names it.
const technologyHolding = "holding_bridge"

// rewire works out how the bridge joins its members, and publishes it.
func (b *bridge) rewire() {
	mixing := len(b.members) > 2 || len(b.plays) > 0 || b.record != nil || b.moh
	for _, ch := range b.members {
		mixing = mixing || ch.spied != nil || ch.muteIn || ch.muteOut // who is not heard is silence for the other, not a hole
	}
	switch {
	case b.kind == "holding":
		b.technology = technologyHolding
	case mixing:
		b.technology = ari.TechnologySoftmix
	case len(b.members) == 2:
		b.technology = ari.TechnologyNative
	default:
		b.technology = ari.TechnologySimple
	}
	routes := make([]*mediaRoute, len(b.members))
	for i, ch := range b.members {
		r := ch.wire()
		routes[i] = r
		switch {
		case r.own():
		case b.kind == "holding":
			r.source = ch.music()
		case mixing:
			r.mixed = !ch.muteOut
			if ch.muteOut {
				r.source = silence{}
			}
		}
	}
	if !mixing && len(b.members) == 2 && b.kind != "holding" {
		for i, ch := range b.members {
			peer, theirs := b.members[1-i], routes[1-i]
			switch {
			case ch.farHeld: // a party that holds is silent; the other one hears music
				if !theirs.own() && !peer.farHeld {
					theirs.source = peer.music()
				}
			case !theirs.own():
				routes[i].relay, theirs.from = peer.stream, ch
			}
		}
		for i := range routes { // music may have been set after the relay was
			if routes[1-i].own() {
				routes[i].relay, routes[1-i].from = nil, nil
			}
		}
	}
	for i, ch := range b.members {
		ch.route.Store(routes[i])
	}
	m := &mixRoute{}
	if mixing {
		m.members, m.tap = slices.Clone(b.members), b.record
		switch {
		case len(b.plays) > 0:
			m.source = b.plays[0]
		case b.moh:
			m.source = &b.tune
		}
	}
	b.mixed.Store(m)
}

// tick mixes 20 ms: everybody hears the sum of the others (B42).
func (b *bridge) tick(n *node, melody [][mixer.FrameSamples]byte) {
	m := b.mixed.Load()
	if m == nil || len(m.members) == 0 && m.tap == nil && m.source == nil {
		return
	}
	b.mix.Reset()
	for _, ch := range m.members {
		if ch.talking {
			b.mix.Add(&ch.frame)
		}
	}
	if m.source != nil {
		var sound mixer.Frame
		if !m.source.next(&sound, melody) {
			n.sourceEnded(m.source)
		}
		b.mix.Add(&sound)
	}
	// Whoever is silent hears the whole sum, so it is coded once for all of them.
	var sum mixer.Frame
	var all, own [mixer.FrameSamples]byte
	b.mix.All(&sum)
	if m.tap != nil {
		m.tap.write(&sum)
	}
	g711.EncodeULaw(all[:], sum[:])
	for _, ch := range m.members {
		switch {
		case !ch.route.Load().mixed:
		case !ch.talking:
			ch.told = sum
			ch.stream.play(&all)
		default:
			var others mixer.Frame
			b.mix.Without(&ch.frame, &others)
			ch.told = others
			g711.EncodeULaw(own[:], others[:])
			ch.stream.play(&own)
		}
	}
}

// shown is the bridge in Asterisk's shape.
func (b *bridge) shown() ari.Bridge {
	out := ari.Bridge{
		ID: b.id, Technology: b.technology, BridgeType: b.kind, BridgeClass: "stasis", Creator: "Stasis", Name: b.name,
		Channels: []string{}, CreationTime: ari.Time{Time: b.created}, VideoMode: "none",
	}
	for _, ch := range b.members {
		out.Channels = append(out.Channels, ch.id)
	}
	return out
}

// putIn adds a channel to a bridge, taking it out of where it was.
func (n *node) putIn(ch *channel, b *bridge) {
	n.takeOut(ch)
	ch.bridge = b
	b.members = append(b.members, ch)
	b.rewire()
	if ch.stasis {
		n.farm.ari.Share("channel:"+ch.id, "bridge:"+b.id)
	}
	n.tell("ChannelEnteredBridge", ch, b, nil)
}

// takeOut removes a channel from its bridge.
func (n *node) takeOut(ch *channel) {
	b := ch.bridge
	if b == nil {
		return
	}
	ch.bridge = nil
	b.members = slices.DeleteFunc(slices.Clone(b.members), func(o *channel) bool { return o == ch })
	b.rewire()
	ch.route.Store(ch.wire())
	n.tell("ChannelLeftBridge", ch, b, nil)
}

// destroy ends a bridge; its channels stay.
func (n *node) destroy(b *bridge) {
	for _, p := range slices.Clone(b.plays) {
		n.finishPlayback(p, ari.PlaybackDone)
	}
	if b.record != nil {
		n.finishRecording(b.record, ari.RecordingDone)
	}
	for _, ch := range slices.Clone(b.members) {
		n.takeOut(ch)
	}
	n.tell("BridgeDestroyed", nil, b, nil)
	n.farm.ari.Forget("bridge:" + b.id)
	delete(n.bridges, b.id)
	n.publishMediaLocked()
}

func (n *node) sortedBridges() []*bridge {
	out := slices.Collect(maps.Values(n.bridges))
	slices.SortFunc(out, func(a, b *bridge) int { return strings.Compare(a.id, b.id) })
	return out
}

func (n *node) bridgeCount() int {
	if n == nil {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.bridges)
}
