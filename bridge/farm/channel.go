package farm

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// channel is one leg under the control of an ARI application: a SIP dialog of its own, or external media.
type channel struct {
	// Constant after it was made.
	node    *node
	id      string
	name    string
	created time.Time
	call    *call // nil: external media
	leg     *leg
	stream  *stream
	exten   string
	spied   *channel // of a snoop: whom it listens to
	spyIn   bool     // to what that channel says
	spyOut  bool     // to what it hears

	// Guarded by node.mu.
	app      string // the application that controls it
	stasis   bool   // it is under control: StasisStart was told, StasisEnd was not
	args     []string
	state    string
	caller   ari.CallerID
	other    ari.CallerID
	vars     map[string]string
	bridge   *bridge
	muteIn   bool
	muteOut  bool
	absorb   bool // its keys stay out of its bridge
	farHeld  bool // the far end holds us
	held     bool // POST hold
	moh      bool
	silent   bool
	ringing  bool
	place    string // where the dialplan has it: echo, music
	plays    []*playback
	keys     *keySender
	record   *recording
	dial     bool // an originated channel whose far end has not answered
	target   string
	cause    int
	gone     bool
	transfer *transfer
	tune     *musicSource

	route atomic.Pointer[mediaRoute]

	digits keyReader // owned by the stream's reader

	jitterMu sync.Mutex // guards jitter: the reader fills it, the clock empties it
	jitter   jitterBuffer

	spies atomic.Int32 // snoops on this channel: only then is kept what it hears

	// Owned by the clock.
	told    mixer.Frame // what the far end heard in this tick, if there are spies
	coded   [mixer.FrameSamples]byte
	frame   mixer.Frame
	talking bool
}

// own tells if the far end hears something else than its bridge.
func (r *mediaRoute) own() bool { return r.source != nil || r.keys != nil }

// mediaRoute is what the reader and the clock need to know of a channel; replaced, never changed.
type mediaRoute struct {
	relay  *stream // what is heard goes there at once
	muteIn bool
	absorb bool       // keys are not relayed
	source source     // what the far end hears in place of its bridge; nil: nothing
	keys   *keySender // the same, but events
	from   *channel   // whose packets are relayed to this channel
	mixed  bool       // the far end hears its bridge's mix
	tap    *recording
}

// receive takes a packet from the far end. It runs on the stream's reader.
func (ch *channel) receive(p rtpPacket, isEvent bool) {
	r := ch.route.Load()
	if isEvent {
		if digit, ms, ok := ch.digits.take(p); ok {
			ch.node.later(func() { ch.node.pressed(ch, digit, ms) })
		}
	} else {
		ch.jitterMu.Lock()
		ch.jitter.push(p.ssrc, p.ts, p.payload)
		ch.jitterMu.Unlock()
	}
	if r.relay != nil && !r.muteIn && (!isEvent || !r.absorb) {
		r.relay.relay(ch.stream, p, isEvent)
	}
}

// hear takes 20 ms out of the jitter buffer, also while packets are relayed: when a third party joins, the mix goes on where
// the relay stopped (B37), and a recording hears every channel alike.
func (ch *channel) hear() {
	if ch.spied != nil {
		return // listen is its turn
	}
	ch.jitterMu.Lock()
	ch.talking = ch.jitter.pop(&ch.coded)
	ch.jitterMu.Unlock()
	r := ch.route.Load()
	if ch.talking {
		g711.DecodeULaw(ch.frame[:], ch.coded[:])
	}
	if r.tap != nil {
		if ch.talking {
			r.tap.write(&ch.frame)
		} else {
			r.tap.write(&mixer.Frame{})
		}
	}
	if r.muteIn {
		ch.talking = false
	}
}

// speak sends 20 ms of what the channel hears in place of its bridge.
func (ch *channel) speak(melody [][mixer.FrameSamples]byte) {
	r := ch.route.Load()
	spied := ch.spies.Load() > 0
	if spied && !r.mixed {
		ch.told = mixer.Frame{}
	}
	switch {
	case r.from != nil && spied && r.from.talking:
		ch.told = r.from.frame
	case r.keys != nil:
		if !r.keys.send(ch.stream) {
			ch.node.later(func() { ch.node.keysSent(ch, r.keys) })
		}
	case r.source != nil:
		var frame mixer.Frame
		if !r.source.next(&frame, melody) {
			ch.node.sourceEnded(r.source)
		}
		if spied {
			ch.told = frame
		}
		var coded [mixer.FrameSamples]byte
		g711.EncodeULaw(coded[:], frame[:])
		ch.stream.play(&coded)
	}
}

// listen is 20 ms of a snoop: both sides of the channel that it is on, as its own voice.
func (ch *channel) listen() {
	if ch.spied == nil {
		return
	}
	var both mixer.Mix
	if ch.spyIn && ch.spied.talking {
		both.Add(&ch.spied.frame)
	}
	if ch.spyOut {
		both.Add(&ch.spied.told)
	}
	both.All(&ch.frame)
	ch.talking = true
	r := ch.route.Load()
	if r.tap != nil {
		r.tap.write(&ch.frame)
	}
	if r.muteIn {
		ch.talking = false
	}
}

// wire works out the channel's own part of its route. The relay is the bridge's business.
func (ch *channel) wire() *mediaRoute {
	r := &mediaRoute{muteIn: ch.muteIn, absorb: ch.absorb && ch.bridge != nil, tap: ch.record}
	switch {
	case ch.keys != nil:
		r.keys = ch.keys
	case len(ch.plays) > 0:
		r.source = ch.plays[0]
	case ch.ringing && ch.state == ari.StateUp:
		r.source = ringback()
	case ch.moh || ch.held || ch.place == placeMusic:
		r.source = ch.music()
	case ch.silent:
		r.source = silence{}
	case ch.place == placeEcho:
		r.relay = ch.stream
	}
	return r
}

// music is the channel's melody, which goes on where it was.
func (ch *channel) music() source {
	if ch.tune == nil {
		ch.tune = new(musicSource)
	}
	return ch.tune
}

// rewire publishes the route of a channel, and of its bridge if it is in one.
func (n *node) rewire(ch *channel) {
	if ch.bridge != nil {
		ch.bridge.rewire()
		return
	}
	ch.route.Store(ch.wire())
}

// shown is the channel in Asterisk's shape.
func (ch *channel) shown() ari.Channel {
	out := ari.Channel{
		ID: ch.id, Name: ch.name, State: ch.state, Caller: ch.caller, Connected: ch.other, Language: "en",
		CreationTime: ari.Time{Time: ch.created},
		Dialplan:     ari.DialplanCEP{Context: "default", Exten: ch.exten, Priority: 1},
	}
	if ch.stasis {
		out.Dialplan.AppName, out.Dialplan.AppData = "Stasis", ch.app
		for _, a := range ch.args {
			out.Dialplan.AppData += "," + a
		}
	}
	switch {
	case ch.stasis:
	case ch.place == placeEcho:
		out.Dialplan.AppName = "Echo"
	case ch.place == placeMusic:
		out.Dialplan.AppName = "MusicOnHold"
	}
	if ch.leg != nil {
		out.ProtocolID = ch.leg.protocolID
	}
	return out
}

// arrive makes a channel of a call that came in and hands it to the application, if that is there. It runs on the call's goroutine.
func (n *node) arrive(c *call) {
	l := c.leg
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := &channel{
		node: n, id: l.id, name: l.name, created: l.created, call: c, leg: l, stream: l.stream, exten: c.number,
		state: ari.StateRing, caller: callerID(l.d.remote), vars: map[string]string{}, cause: causeNormal, farHeld: l.held, place: c.place,
	}
	c.channel = ch
	n.add(ch)
	n.tell("ChannelCreated", ch, nil, nil)
	if c.place == "" {
		ch.app, ch.args = application, []string{"in", c.number}
		n.start(ch)
	}
}

// add enters a channel; it is heard from now on.
func (n *node) add(ch *channel) {
	ch.route.Store(ch.wire())
	n.channels[ch.id] = ch
	ch.stream.setSink(ch.receive)
	n.publishMediaLocked()
}

// start puts a channel under its application's control.
func (n *node) start(ch *channel) {
	n.farm.ari.Enter(ch.app, "channel:"+ch.id)
	ch.stasis = true
	args := slices.Clone(ch.args)
	if args == nil {
		args = []string{}
	}
	n.farm.ari.PublishTo(ch.app, "StasisStart", map[string]any{"args": args, "channel": ch.shown()})
}

// become changes a channel's state and tells of it.
func (n *node) become(ch *channel, state string) {
	if ch.state == state || ch.gone {
		return
	}
	ch.state = state
	n.tell("ChannelStateChange", ch, nil, nil)
}

// up tells that a caller was answered.
func (n *node) up(ch *channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.become(ch, ari.StateUp)
	n.rewire(ch)
}

// linked follows the far end's hold. It runs on the call's goroutine.
func (n *node) linked(ch *channel, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch == nil || ch.gone || ch.farHeld == held {
		return
	}
	ch.farHeld = held
	if held {
		n.tell("ChannelHold", ch, nil, nil)
	} else {
		n.tell("ChannelUnhold", ch, nil, nil)
	}
	n.rewire(ch)
}

// pressed tells of a key of the far end.
func (n *node) pressed(ch *channel, digit string, ms int) {
	if ch.gone {
		return
	}
	n.tell("ChannelDtmfReceived", ch, nil, map[string]any{"digit": digit, "duration_ms": ms})
	if ch.record != nil && ch.record.endsAt(digit) {
		n.finishRecording(ch.record, ari.RecordingDone)
	}
}

func (n *node) keysSent(ch *channel, s *keySender) {
	if ch.keys == s {
		ch.keys = nil
		n.rewire(ch)
	}
}

// leaveStasis ends the application's control over a channel.
func (n *node) leaveStasis(ch *channel) {
	n.takeOut(ch)
	if ch.stasis {
		ch.stasis = false
		n.tell("StasisEnd", ch, nil, nil)
		n.farm.ari.Leave(ch.app, "channel:"+ch.id) // a channel that came in is not told of any more
	}
}

// hangupAsked tells that somebody wants a channel to end. Only ARI's wish has a cause in the event, and it is not Q.850's.
func (n *node) hangupAsked(ch *channel, cause int, soft map[string]any) {
	if ch == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch.gone {
		return
	}
	ch.cause = cause
	n.tell("ChannelHangupRequest", ch, nil, soft)
}

// lose lets a channel go; what becomes of its dialog is the call's business. It runs on the call's goroutine, and may run
// more than once.
func (n *node) lose(ch *channel, cause int) {
	if ch == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loseLocked(ch, cause)
}

func (n *node) loseLocked(ch *channel, cause int) {
	if ch.gone {
		return
	}
	if cause > 0 {
		ch.cause = cause
	}
	if ch.dial {
		ch.dial = false
		n.tellDial(ch, dialStatus(ch.cause))
	}
	for _, other := range n.sorted() {
		if other.spied == ch {
			n.loseLocked(other, causeNormal) // a snoop ends with what it listens to
		}
	}
	if ch.spied != nil {
		ch.spied.spies.Add(-1)
	}
	for _, p := range slices.Clone(ch.plays) {
		n.finishPlayback(p, ari.PlaybackDone)
	}
	if ch.record != nil {
		n.finishRecording(ch.record, ari.RecordingDone)
	}
	n.leaveStasis(ch)
	ch.gone = true
	n.tell("ChannelDestroyed", ch, nil, map[string]any{"cause": ch.cause, "cause_txt": causeText(ch.cause), "tech_cause": 0})
	n.farm.ari.Forget("channel:" + ch.id)
	delete(n.channels, ch.id)
	ch.stream.setSink(nil)
	n.publishMediaLocked()
	if ch.call == nil {
		ch.stream.close() // no call ends it
	}
}

// tellDial publishes the Dial event of an originated channel.
func (n *node) tellDial(ch *channel, status string) {
	n.farm.ari.Publish("Dial", map[string]any{"peer": ch.shown(), "dialstatus": status, "dialstring": ch.target,
		"forward": ""}, "channel:"+ch.id)
}

func dialStatus(cause int) string {
	switch cause {
	case causeBusy:
		return "BUSY"
	case causeNoReply, causeNoAnswer:
		return "NOANSWER"
	case causeNormal, 26:
		return "CANCEL"
	case 34, 38:
		return "CONGESTION"
	}
	return "CHANUNAVAIL"
}

// sorted lists the channels by age.
func (n *node) sorted() []*channel {
	out := slices.Collect(maps.Values(n.channels))
	slices.SortFunc(out, func(a, b *channel) int { return a.created.Compare(b.created) })
	return out
}
