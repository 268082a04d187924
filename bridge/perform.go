package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// perform does one action on the call's node. What it returns is the next input.
func (s *session) perform(ctx context.Context, a action) (any, error) {
	c, call := s.node.client, s.m.call
	target := "bridge:" + call.Bridge
	if a.Leg != "" {
		target = "channel:" + a.Leg
	}
	switch a.Do {
	case doTell:
		s.b.hub.tell(Notice{Event: a.Text, Call: call.ID, Conference: call.Conference, Leg: a.Leg, Value: a.Text2, Node: call.Node, Time: s.m.now})
		return nil, nil
	case doAnswer:
		return nil, c.Answer(ctx, a.Leg)
	case doRing:
		return nil, c.Ring(ctx, a.Leg)
	case doHangup:
		if err := c.Hangup(ctx, a.Leg, a.N); err != nil && !errors.Is(err, ari.ErrNotFound) {
			return nil, err
		}
		return nil, nil
	case doResolve:
		return s.lookUp(ctx, a), nil
	case doOriginate:
		return nil, s.originate(ctx, a)
	case doCreateBridge:
		_, err := c.CreateBridge(ctx, a.Text, call.ID, call.Conference != "" || !s.b.cfg.Rules.Relay)
		if errors.Is(err, ari.ErrConflict) {
			err = nil // it is there: a process that died has made it
		}
		return nil, err
	case doDestroy:
		return nil, gone(c.DestroyBridge(ctx, a.Text))
	case doJoin:
		// In a conference keys are commands. Asterisk hands them to everybody else, too: over a call between two nodes they come back out of order, as
		// somebody else's.
		return nil, c.AddChannel(ctx, call.Bridge, ari.Join{Channel: a.Leg, Absorb: call.Conference != ""})
	case doLeave:
		return nil, c.RemoveChannel(ctx, call.Bridge, a.Leg)
	case doMute:
		return nil, c.Mute(ctx, a.Leg, a.Text, a.On)
	case doMusic:
		return nil, c.Music(ctx, a.Leg, a.On)
	case doPlay:
		media, err := s.playable(ctx, a.Media)
		if err != nil {
			return nil, err
		}
		return nil, c.Play(ctx, target, a.Text, media, time.Duration(a.N)*time.Millisecond)
	case doStopPlay:
		return nil, gone(c.StopPlayback(ctx, a.Text))
	case doRecord:
		return nil, c.Record(ctx, target, a.Text, time.Duration(a.N)*time.Second, false)
	case doStopRecord:
		err := gone(c.StopRecording(ctx, a.Text))
		if strings.Contains(a.Text, "-leg-") { // the channel that listened for it
			err = errors.Join(err, gone(c.Hangup(ctx, SnoopOf(a.Text), causeNormal)))
		}
		return nil, err
	case doSnoop:
		return nil, s.snoop(ctx, a)
	case doDTMF:
		return nil, c.DTMF(ctx, a.Leg, a.Text)
	case doContinue:
		if err := c.Subscribe(ctx, "channel:"+a.Leg); err != nil { // its end is to be told, although it leaves the application
			return nil, err
		}
		return nil, c.Continue(ctx, a.Leg, a.Text, "s"+a.Text)
	case doProgress:
		err := gone(c.TransferProgress(ctx, a.Leg, a.Text))
		if a.Text == ari.TransferAnswered {
			pause(ctx, transferTold)
		}
		return nil, err
	case doExternal:
		_, err := c.ExternalMedia(ctx, a.Leg, a.Text, "ulaw", fmt.Sprintf("out,%s,%s", call.ID, a.Leg))
		return nil, err
	case doSeek:
		return s.seek(ctx, a), nil
	case doOpenThere:
		return nil, s.openThere(ctx)
	case doCloseThere:
		return nil, s.closeThere(ctx, a.Text)
	case doRelay:
		return nil, s.relay(ctx, a)
	case doMoved:
		return committed{}, s.moved(ctx, a.Call)
	case doHandOver:
		return s.handOver(a)
	case doReroute:
		return s.reroute(a)
	}
	return nil, fmt.Errorf("unknown action %q", a.Do)
}

// transferTold is how long a phone's channel outlives the word that its transfer is done: Asterisk hands that to the channel's own thread, and a
// hang-up right behind it overtakes the NOTIFY (RFC 3515 section 2.4.4). Chosen by us; what follows is the end of that channel.
const transferTold = 200 * time.Millisecond

// gone takes it as done if the thing is not there any more.
func gone(err error) error {
	if errors.Is(err, ari.ErrNotFound) {
		return nil
	}
	return err
}

func (s *session) lookUp(ctx context.Context, a action) any {
	in := resolved{number: a.Text}
	in.dest, in.err = s.b.resolve(ctx, a.Text)
	in.timeout = time.Duration(a.N) * time.Second
	switch {
	case a.Forward:
		in.forwardLeg = a.Leg
	case a.On:
		in.flow = true
	case a.Text2 != "":
		in.transferBy, in.transferLeg = a.Leg, a.Text2
	case in.dest.Local != "":
		// A call that the API placed leads to a conference or a program: the leg goes there.
		if l := s.m.call.Leg(a.Leg); l != nil {
			record := *l
			next, err := s.reroute(action{Do: doReroute, Leg: l.ID, Text: a.Text, Record: record})
			if err == nil {
				return next
			}
		}
	}
	return in
}

// originate places a leg towards the edge: it has the media and the ways to phones. The Path of a registration travels as Route behind
// the edge's own (RFC 3327 5.3); PJSIP puts the outbound proxy first and added header fields after it.
func (s *session) originate(ctx context.Context, a action) error {
	call := s.m.call
	o := ari.Originate{Endpoint: "PJSIP/edge/" + dialable(a.Text), AppArgs: fmt.Sprintf("out,%s,%s", call.ID, a.Leg), ChannelID: a.Leg, Timeout: a.N,
		Variables: map[string]string{}}
	// A 302 is ours to follow (forwarded): Asterisk's own way leads into a context that ends it.
	o.Variables["FORWARD_CONTEXT"] = "forwarded"
	if a.Text2 != "" {
		o.Variables["PJSIP_HEADER(add,Route)"] = a.Text2
	}
	first := a.Record
	if l := call.Leg(a.Leg); l != nil && l.Transfer && call.Transfer != nil { // who is transferred calls
		if who := call.Leg(call.Transfer.Leg); who != nil {
			first = *who
		}
	}
	if first.ID == "" && len(call.Legs) > 0 {
		first = call.Legs[0]
	}
	if first.Number != "" && first.ID != a.Leg {
		o.CallerID = fmt.Sprintf("%q <%s>", first.Name, first.Number)
	}
	ch, err := s.node.client.Originate(ctx, o)
	if err == nil {
		if l := call.Leg(a.Leg); l != nil && l.SIPCallID == "" {
			l.SIPCallID = ch.ProtocolID
		}
	}
	return err
}

// dialable is a URI that Asterisk can make a channel for. A browser's contact asks for ws, which Asterisk has no client for: no channel
// would come of it. The Path of its registration leads to its connection at the edge, whatever the parameter says.
func dialable(uri string) string {
	user, host := SplitUser(uri)
	parts := strings.Split(host, ";")
	parts = slices.DeleteFunc(parts, func(p string) bool {
		return strings.EqualFold(p, "transport=ws") || strings.EqualFold(p, "transport=wss")
	})
	return user + strings.Join(parts, ";")
}

// SplitUser splits a URI behind its last @: what stands before may have semicolons (RFC 3261 section 25.1).
func SplitUser(uri string) (user, host string) {
	at := strings.LastIndexByte(uri, '@') + 1
	return uri[:at], uri[at:]
}

// SnoopOf is the channel that listens for the recording of a leg.
func SnoopOf(recording string) string { return recording + "-snoop" }

// snoop records one leg: a channel that is in a bridge cannot be recorded itself.
func (s *session) snoop(ctx context.Context, a action) error {
	id := SnoopOf(a.Text)
	if err := s.node.client.Snoop(ctx, a.Leg, id, "snoop,"+s.m.call.ID+","+a.Leg); err != nil {
		return err
	}
	return s.node.client.Record(ctx, "channel:"+id, a.Text, 0, false)
}

var errNoTarget = errors.New("the other call is not there")

// handOver gives a leg to the call that another channel is in. Each call stays with its own goroutine: the leg travels as an input.
func (s *session) handOver(a action) (any, error) {
	s.b.mu.Lock()
	other := s.b.channels[a.Text]
	s.b.mu.Unlock()
	if other == nil || other == s || other.record().Node != s.m.call.Node {
		return nil, errNoTarget
	}
	if !other.post(arrived{leg: moved(a.Record), replace: a.Text}) {
		return nil, ErrBusy
	}
	s.b.own(a.Record.ID, other)
	return handed{a.Record.ID}, nil
}

func moved(l Leg) Leg {
	l.Fork, l.Transfer, l.Waiting, l.Recording = "", false, "", ""
	return l
}

// reroute lets an answered leg go to a number as if it had dialled it.
func (s *session) reroute(a action) (any, error) {
	l := moved(a.Record)
	l.Held = false
	s.b.release(l.ID)
	s.b.begin(s.node, a.Text, l)
	return handed{l.ID}, nil
}

// own leads the events of a channel to a call, release to none until somebody takes it.
func (b *Bridge) own(channel string, s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.channels[channel] = s
}

func (b *Bridge) release(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.channels, channel)
}
