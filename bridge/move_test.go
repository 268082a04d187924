package bridge

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/ari"
)

// meeting is a conference of two, one of them muted and recorded, whose node drains.
func meeting(t *testing.T) *play {
	p := newPlay(t, Call{Conference: "7001", Tones: true})
	p.want(in("a"), "answer a", "create bridge b-call", "join a", "play call.p1")
	p.want(in("b"), "answer b", "join b", "play call.p2")
	p.want(p.command(Command{Do: CmdMute, Leg: "b", On: true}), "mute b in on")
	p.want(p.command(Command{Do: CmdRecord, Leg: "a", On: true}), "snoop a call-leg-1")
	p.want(p.command(Command{Do: CmdRecord, On: true}), "record call-bridge-2")
	p.want(relocate{Node{ID: "n2", SIP: "udp:192.0.2.2:5080"}, "new"}) // nobody asked it to leave
	p.want(depart{true})
	p.want(relocate{Node{ID: "n2", SIP: "udp:192.0.2.2:5080"}, "new"}, "open there new",
		"originate call.1 sip:join.new.a@192.0.2.2:5080 8", "originate call.2 sip:join.new.b@192.0.2.2:5080 8")
	return p
}

// TestB42ConferenceMoves: nothing changes in the old bridge until all legs to the new node are up, then everything at once.
func TestB42ConferenceMoves(t *testing.T) {
	p := meeting(t)
	p.want(stasis("n1", "call.1", "out", "call", "call.1"))
	p.want(in("c"), "answer c", "join c", "play call.p3", "originate call.3 sip:join.new.c@192.0.2.2:5080 8") // who comes now comes along
	p.want(p.command(Command{Do: CmdMuteAll}), "mute b in")
	p.want(p.command(Command{Do: CmdMute, Leg: "b", On: true}), "mute b in on")
	p.want(stasis("n1", "call.3", "out", "call", "call.3"))
	p.m.input(stasis("n1", "call.2", "out", "call", "call.2"))
	var got []string
	var last *Call
	for _, a := range p.m.take() {
		if a.Do == doRelay {
			a.Text = a.Second.ID
		}
		if a.Do == doMoved {
			last = a.Call
		}
		if a.Do != doTell {
			got = append(got, a.String())
		}
	}
	want := "stop recording call-bridge-2; relay a call.1; mute b in; relay b call.2; relay c call.3; stop recording call-leg-1; moved"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if c := p.m.call; p.m.ended || !c.Moving.Done || len(c.Legs) != 6 {
		t.Errorf("before all members are relayed: ended %v, %+v", p.m.ended, c)
	}

	// The process that did it dies here. The next one finds the leg of a member gone, and another member, and does the rest again.
	q := newPlay(t, *p.m.call)
	q.m.call.Legs = slices.Clone(q.m.call.Legs)
	q.want(ended("call.1", causeNormal)) // told before the node was read
	q.want(tick{})
	q.want(seen{node: "n1", channels: map[string]ari.Channel{"a": {}, "b": {}, "call.2": {}, "call.3": {}}}, "hangup call.3 16", "stop recording call-bridge-2",
		"reroute a conference:7001", "mute b in", "relay b on", "stop recording call-leg-1", "moved")
	q.want(committed{}, "destroy bridge b-call")

	p.want(committed{}, "destroy bridge b-call")
	if !p.m.ended {
		t.Error("the old conference has not ended")
	}

	// The other side of it: members come silently, with what their records say, and the rest when all have come.
	n := newPlay(t, Call{Conference: "7001", From: "call"})
	there := func(id string) arrived {
		l := moved(*last.Leg(id))
		l.Place, l.ID, l.State, l.Role = id, "x"+id, LegRinging, LegIn
		return arrived{leg: l, moved: true}
	}
	n.want(there("a"), "answer xa", "create bridge b-call", "join xa")
	n.want(there("b"), "answer xb", "join xb", "mute xb in on")
	n.want(settled{*last}, "snoop xa call-leg-3", "record call-bridge-4")
	if c := n.m.call; c.From != "" || !c.Tones || !c.Leg("xb").Muted {
		t.Errorf("after the move: %+v", c)
	}
	n.want(settled{*last}) // told twice
	n.want(in("d"), "answer d", "join d", "play call.p1")
}

// TestB42ConferenceStays: a leg to the new node that does not come up, or ends, gives the move up: no command to a member. It is tried again.
func TestB42ConferenceStays(t *testing.T) {
	for name, happens := range map[string]any{
		"a leg ends":           ended("call.1", causeFailure),
		"the new node refuses": failed{action{Do: doOpenThere}, ErrNoNode},
		"time":                 tick{},
	} {
		p := meeting(t)
		p.want(stasis("n1", "call.2", "out", "call", "call.2"))
		back := []string{"hangup call.1 16", "hangup call.2 16", "close there new"}
		if name == "time" {
			p.m.now = p.m.call.Moving.Until
		}
		p.want(happens, back...)
		if len(p.m.call.Legs) != 2 || p.m.ended || p.m.movable() {
			t.Errorf("%s: %+v, ended %v, to be moved at once %v", name, p.m.call, p.m.ended, p.m.movable())
		}
		if p.m.now = p.m.now.Add(moveRetry); !p.m.movable() || p.m.wake().After(p.m.now) {
			t.Errorf("%s: not tried again after %v", name, moveRetry)
		}
	}
	p := meeting(t)
	p.want(ended("a", causeNormal), "stop recording call-leg-1", "hangup call.1 16", "play call.p3")
	p.want(ended("b", causeNormal), "hangup call.2 16", "close there new")
	p.m.now = p.m.now.Add(moveRetry)
	p.want(relocate{Node{ID: "n2", SIP: "udp:192.0.2.2:5080"}, "new"}, "stop recording call-bridge-2", "destroy bridge b-call") // empty: the next one finds it
	if p := newPlay(t, Call{Conference: "7001", From: "gone", Created: time.Unix(1000, 0)}); p.m.wake() != time.Unix(1000, 0).Add(moveLone) {
		t.Error("a conference whose move died with its process waits for ever")
	}
}

// TestB42MoveRepaired: a move whose process died before all legs to the new node were placed is taken back, whichever of them are up by now.
func TestB42MoveRepaired(t *testing.T) {
	p := meeting(t)
	p.want(seen{node: "n1", channels: map[string]ari.Channel{"a": {}, "b": {}, "call.2": {State: ari.StateUp}}, bridges: map[string]ari.Bridge{"b-call": {Channels: []string{"a", "b"}}}},
		"hangup call.1 16", "hangup call.2 16", "close there new")
	if len(p.m.call.Legs) != 2 || p.m.ended {
		t.Errorf("%+v, ended %v", p.m.call, p.m.ended)
	}
}
