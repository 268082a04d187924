package bridge

import (
	"fmt"
	"testing"
	"time"

	"rtcedge/bridge/ari"
)

// TestF3NodeDiesOverACommand: a node that dies while a call is being brought to it does not answer the commands for it. That is no end of the call, which
// a third node gets; a node that refuses them is.
func TestF3NodeDiesOverACommand(t *testing.T) {
	died := fmt.Errorf("ari: POST bridges: %w: connection refused", ari.ErrNoAnswer)
	for _, lost := range []action{{Do: doCreateBridge, Text: "b-call"}, {Do: doJoin, Leg: "call.1r1"}, {Do: doAnswer, Leg: "call.1r1"}} {
		p := newPlay(t, Call{ID: "call", Node: "n1", Bridge: "b-call", Legs: []Leg{
			{ID: "call.1", Node: "n1", Role: LegIn, State: LegLost, SIPCallID: "x"}, {ID: "call.2", Node: "n1", Role: LegOut, State: LegLost, SIPCallID: "y"}}})
		p.want(stasis("n2", "call.1r1", "resume", "call", "call.1"), "create bridge b-call", "join call.1r1")
		p.want(failed{lost, died})
		if p.m.ended || len(p.m.call.Legs) != 2 {
			t.Fatalf("%s without an answer: %+v", lost, p.m.call)
		}
		p.want(stasis("n3", "call.1r2", "resume", "call", "call.1"), "create bridge b-call", "join call.1r2")
		p.want(stasis("n3", "call.2r1", "resume", "call", "call.2"), "join call.2r1")

		p = talking(t)
		lost.Leg = "a"
		p.m.input(failed{lost, &ari.Error{Status: 500}})
		if !p.m.ended {
			t.Errorf("%s was refused: the call goes on without it", lost)
		}
	}
	p := newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x"), "originate call.2 sip:1002@x 30")
	p.want(failed{action{Do: doOriginate, Leg: "call.2"}, died}) // the caller is told by recovery (F6), or the node goes on, and never placed it:
	p.want(seen{node: "n1", channels: map[string]ari.Channel{"a": ch("a")}}, "hangup a 19")
}

// TestB52AppliedAgain: what a leg had when its node died it has on the next one: mute, hold, the moderator's rights, its recording, its time limit, and a
// PIN of which half was typed. In a conference everybody is in one bridge again, without tones.
func TestB52AppliedAgain(t *testing.T) {
	limit := time.Unix(1000, 0).Add(time.Hour)
	p := newPlay(t, Call{Bridge: "b-call", Conference: "7000", PIN: "1234", ModeratorPIN: "99", Tones: true, MutedAll: true, Locked: true, Recording: "call-bridge-1",
		Recordings: []string{"call-bridge-1", "call-leg-2"}, Legs: []Leg{
			{ID: "mod", Node: "n1", Role: LegIn, State: LegUp, Moderator: true, Limit: limit},
			{ID: "muted", Node: "n1", Role: LegIn, State: LegUp, Muted: true},
			{ID: "held", Node: "n1", Role: LegIn, State: LegUp, Held: true, Muted: true, Waiting: waitHold},
			{ID: "taped", Node: "n1", Role: LegIn, State: LegUp, Muted: true, Recording: "call-leg-2"},
			{ID: "typing", Node: "n1", Role: LegIn, State: LegUp, Waiting: waitPIN, Digits: "12", Answered: time.Unix(1000, 0)},
		}})
	p.want(seen{node: "n1", crashed: true})
	p.want(stasis("n2", "mutedr1", "resume", "call", "muted"), "create bridge b-call", "join mutedr1", "mute mutedr1 in on", "record call-bridge-3")
	p.want(stasis("n2", "modr1", "resume", "call", "mod"), "join modr1")
	p.want(stasis("n2", "heldr1", "resume", "call", "held"), "music heldr1 on")
	p.want(stasis("n2", "tapedr1", "resume", "call", "taped"), "join tapedr1", "mute tapedr1 in on", "snoop tapedr1 call-leg-4")
	p.want(stasis("n2", "typingr1", "resume", "call", "typing"), "play typingr1 call.p1")

	c := p.m.call
	if l := c.Leg("modr1"); l == nil || !l.Moderator || l.Muted || !l.Limit.Equal(limit) {
		t.Errorf("moderator: %+v", l)
	}
	if l := c.Leg("heldr1"); l == nil || !l.Held || !l.Muted || l.Waiting != waitHold {
		t.Errorf("held: %+v", l)
	}
	if !c.Locked || !c.MutedAll || c.PIN != "1234" {
		t.Errorf("conference: %+v", c)
	}
	p.want(p.command(Command{Do: CmdHold, Leg: "held"}), "music heldr1", "join heldr1", "mute heldr1 in on")
	for _, digit := range []string{"3", "4"} {
		p.m.digit("typingr1", digit)
		p.m.take()
	}
	p.m.digit("typingr1", "#")
	if l := c.Leg("typingr1"); l.Waiting != "" || !l.Muted {
		t.Errorf("a PIN that was typed over the crash: %+v", l)
	}
	p.m.take()
	if p.m.command(Command{Do: CmdLock, By: "mutedr1", On: false}) == nil || p.m.command(Command{Do: CmdLock, By: "modr1", On: false}) != nil {
		t.Error("who may unlock the conference has changed")
	}
	p.m.take()
	p.m.now = limit
	p.want(tick{}, "hangup modr1 16", "play call.p3") // the tone of who leaves
}

// TestB52OnlyAfterThe200: between the crash and the answer to the recovery's INVITE, which is when the node tells of the channel, a flow stands still: neither
// time, nor what the dead node's playback has still to say, nor a key on its old channel moves it, and no command goes to any node.
func TestB52OnlyAfterThe200(t *testing.T) {
	for _, step := range []FlowAction{{Do: "play", Media: []string{"sound:rtcedge/tone-1"}}, {Do: "digits", Max: 4, Timeout: 2, Into: "code"}} {
		p := newPlay(t, Call{Program: ProgramFlow, Flow: &FlowState{Name: "800", Actions: []FlowAction{step, {Do: "hangup"}}}})
		p.m.input(in("a"))
		playing := ""
		for _, a := range p.m.take() {
			if a.Do == doPlay {
				playing = a.Text
			}
		}
		p.want(seen{node: "n1", crashed: true})
		for range 8 { // the 200 takes its time
			p.m.now = p.m.now.Add(400 * time.Millisecond)
			p.want(tick{})
			if next := p.m.wake(); !next.After(p.m.now) {
				t.Fatalf("%s: it would be woken again at once", step.Do)
			}
		}
		if playing != "" {
			p.want(&ari.PlaybackFinished{Playback: ari.Playback{ID: playing}})
		}
		p.want(&ari.ChannelDtmfReceived{Digit: "1", Channel: ch("a")})
		if f := p.m.call.Flow; f == nil || f.Step != 0 || p.m.ended || len(p.m.call.Legs) != 1 {
			t.Fatalf("%s: before the 200 the flow is at %+v of %+v", step.Do, f, p.m.call)
		}
		p.m.input(stasis("n2", "ar1", "resume", "call", "a"))
		if l := p.m.call.Leg("ar1"); l == nil || p.m.call.Flow == nil || p.m.call.Flow.Leg != "ar1" {
			t.Errorf("%s: behind the 200 %+v", step.Do, p.m.call)
		}
	}
}

// TestB51StaleParticipants: who is not brought back is out of the conference before the others meet there again: one that recovery gave up, and one of whom nothing
// is heard until the grace is over. A channel that comes for one of them all the same is hung up.
func TestB51StaleParticipants(t *testing.T) {
	p := newPlay(t, Call{Bridge: "b-call", Conference: "7000", Legs: []Leg{
		{ID: "a", Node: "n1", Role: LegIn, State: LegUp}, {ID: "b", Node: "n1", Role: LegIn, State: LegUp}, {ID: "c", Node: "n1", Role: LegIn, State: LegUp}}})
	p.want(seen{node: "n1", crashed: true})
	theirs := clone(*p.m.call)
	theirs.Legs[1].State = LegGone
	p.want(foreign{theirs})
	if len(p.m.call.Legs) != 2 || p.m.call.Leg("b") != nil {
		t.Fatalf("who was given up is a participant: %+v", p.m.call.Legs)
	}
	p.want(stasis("n2", "ar1", "resume", "call", "a"), "create bridge b-call", "join ar1")
	p.want(stasis("n2", "br1", "resume", "call", "b"), "hangup br1 16")
	p.m.now = p.m.now.Add(p.m.rules.LostGrace + time.Second)
	p.want(tick{})
	if len(p.m.call.Legs) != 1 || p.m.call.Leg("ar1") == nil {
		t.Errorf("behind the grace: %+v", p.m.call.Legs)
	}
	p.want(stasis("n2", "cr1", "resume", "call", "c"), "hangup cr1 16")
}
