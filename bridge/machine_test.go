package bridge

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/ari"
)

// play runs inputs through a machine, one group of actions per input.
type play struct {
	t *testing.T
	m *machine
}

func newPlay(t *testing.T, c Call) *play {
	t.Helper()
	r := Rules{}
	r.fill()
	c.ID, c.Node = "call", "n1"
	return &play{t, &machine{rules: r, call: &c, now: time.Unix(1000, 0)}}
}

// want runs one input and compares the actions, without what is only told.
func (p *play) want(in any, want ...string) {
	p.t.Helper()
	if f, is := in.(func() error); is {
		if err := f(); err != nil {
			p.t.Errorf("command: %v", err)
		}
	} else {
		p.m.input(in)
	}
	var got []string
	for _, a := range p.m.take() {
		if a.Do != doTell {
			got = append(got, a.String())
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		p.t.Errorf("after %T\ngot\n%s\nwant\n%s", in, g, w)
	}
}

func (p *play) command(c Command) func() error { return func() error { return p.m.command(c) } }

func in(id string) arrived {
	return arrived{leg: Leg{ID: id, Node: "n1", Role: LegIn, State: LegRinging}}
}

func ch(id string) ari.Channel {
	return ari.Channel{ID: id, State: ari.StateUp, ProtocolID: id + "@sip"}
}

func stasis(node string, channel string, args ...string) *ari.StasisStart {
	return &ari.StasisStart{EventHead: ari.EventHead{AsteriskID: node}, Args: args, Channel: ch(channel)}
}

func ended(id string, cause int) *ari.ChannelDestroyed {
	return &ari.ChannelDestroyed{Cause: cause, Channel: ch(id)}
}

func to(uris ...string) resolved {
	r := resolved{number: "1002"}
	for _, u := range uris {
		r.dest.Targets = append(r.dest.Targets, Target{URI: u})
	}
	return r
}

// talking is a call of two.
func talking(t *testing.T) *play {
	p := newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x"), "originate call.2 sip:1002@x 30")
	p.want(&ari.Dial{DialStatus: "RINGING", Peer: ch("call.2")}, "ring a")
	p.want(stasis("n1", "call.2", "out", "call", "call.2"), "answer a", "create bridge b-call", "join a", "join call.2")
	return p
}

// TestB37ThirdPartyJoins: the first two get no command at all, so no re-INVITE, when a third one comes.
func TestB37ThirdPartyJoins(t *testing.T) {
	p := talking(t)
	p.want(p.command(Command{Do: CmdAdd, To: "1003", targets: []Target{{URI: "sip:1003@x"}}}), "originate call.4 sip:1003@x 30")
	p.want(stasis("n1", "call.4", "out", "call", "call.4"), "join call.4")
	p.want(ended("a", 16)) // two are left
	if p.m.ended {
		t.Error("it ended at two participants")
	}
}

// TestB38EndsAtOneParticipant, unless told otherwise; a conference does not.
func TestB38EndsAtOneParticipant(t *testing.T) {
	p := talking(t)
	p.want(ended("call.2", 16), "hangup a 16", "destroy bridge b-call")
	if !p.m.ended {
		t.Error("the call goes on with one participant")
	}
	p = talking(t)
	p.want(p.command(Command{Do: CmdStay, On: true}))
	p.want(ended("call.2", 16))
	if p.m.ended {
		t.Error("a call that shall stay has ended")
	}
	p = newPlay(t, Call{Conference: "7001"})
	p.want(in("a"), "answer a", "create bridge b-call", "join a")
	p.want(ended("a", 16))
	if p.m.ended || p.m.wake() != p.m.now.Add(time.Minute) {
		t.Errorf("an empty conference: ended %v, wakes at %v", p.m.ended, p.m.wake())
	}
	p.m.now = p.m.now.Add(time.Minute)
	p.want(tick{}, "destroy bridge b-call")
}

// TestB39 is how a caller learns that nobody comes, with the right cause; and forking.
func TestB39UnansweredCalls(t *testing.T) {
	p := newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x", "sip:1002@y"), "originate call.2 sip:1002@x 30", "originate call.3 sip:1002@y 30")
	p.want(&ari.Dial{DialStatus: "RINGING", Peer: ch("call.2")}, "ring a")
	p.want(&ari.Dial{DialStatus: "RINGING", Peer: ch("call.3")}) // one ringback is enough
	p.want(ended("call.2", causeNoAnswer))
	p.want(ended("call.3", causeBusy), "hangup a 17") // the better reason wins
	if !p.m.ended {
		t.Error("still there")
	}

	p = newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to(), "hangup a 1")

	p = newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x", "sip:1002@y"), "originate call.2 sip:1002@x 30", "originate call.3 sip:1002@y 30")
	p.want(stasis("n1", "call.3", "out", "call", "call.3"), "hangup call.2 26", "answer a", "create bridge b-call", "join a", "join call.3")

	p = newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x"), "originate call.2 sip:1002@x 30")
	p.want(ended("a", 16), "hangup call.2 16") // CANCEL
	p.want(stasis("n1", "call.2", "out", "call", "call.2"), "hangup call.2 16")

	p = newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x"), "originate call.2 sip:1002@x 30")
	p.want(failed{action{Do: doOriginate, Leg: "call.2"}, errors.New("503")}, "hangup a 38")
}

// TestB40Transfer: blind, with roll-back, and attended.
func TestB40Transfer(t *testing.T) {
	refer := &ari.ChannelTransfer{ReferredBy: ari.ReferredBy{SourceChannel: ch("a")},
		ReferTo: ari.ReferTo{RequestedDestination: ari.RequiredDestination{Destination: "1003"}}}
	dest := to("sip:1003@x")
	dest.transferBy, dest.transferLeg, dest.number = "a", "call.2", "1003"

	p := talking(t)
	p.want(refer, "transfer progress a channel_progress", "resolve a 1003 30")
	echo := *refer
	echo.State = ari.TransferProgress
	p.want(&echo)
	p.want(dest, "originate call.4 sip:1003@x 30")
	p.want(stasis("n1", "call.4", "out", "call", "call.4"), "join call.4", "transfer progress a channel_answered", "hangup a 16")
	if p.m.ended || p.m.call.Leg("call.2") == nil || p.m.call.Transfer != nil {
		t.Errorf("after the transfer: %+v", p.m.call)
	}

	p = talking(t)
	p.want(refer, "transfer progress a channel_progress", "resolve a 1003 30")
	p.want(dest, "originate call.4 sip:1003@x 30")
	p.want(ended("call.4", causeBusy), "transfer progress a channel_unavailable") // and the two talk on
	if p.m.ended || len(p.m.call.Legs) != 2 {
		t.Errorf("after the roll-back: %+v", p.m.call.Legs)
	}

	other := ch("a2")
	attended := &ari.ChannelTransfer{ReferredBy: refer.ReferredBy, ReferTo: ari.ReferTo{DestinationChannel: &other}}
	p = talking(t)
	p.want(attended, "hand over call.2 a2")
	p.want(failed{action{Do: doHandOver, Record: *p.m.call.Leg("call.2")}, errNoTarget}, "transfer progress a channel_unavailable", "join call.2")
	p.want(attended, "hand over call.2 a2")
	p.m.handedOver("call.2")
	p.want(tick{}, "transfer progress a channel_answered", "hangup a 16", "destroy bridge b-call")
}

// TestB40AnsweredLegWaitsInTheBridge: a leg that another call gave away, answered, for a number: of a user, or the way to another node's
// conference. Nobody answers it a second time, so it must be in the bridge when its target comes.
func TestB40AnsweredLegWaitsInTheBridge(t *testing.T) {
	p := newPlay(t, Call{Number: "1003"})
	given := in("a")
	given.leg.State = LegUp
	p.want(given, "create bridge b-call", "join a", "resolve 1003")
	p.want(to("sip:1003@x"), "originate call.2 sip:1003@x 30")
	p.want(stasis("n1", "call.2", "out", "call", "call.2"), "join call.2")
}

// TestB40Moderation: PIN, mute all, lock, kick, hold, recording, end for all.
func TestB40Moderation(t *testing.T) {
	p := newPlay(t, Call{Conference: "7001", PIN: "12", ModeratorPIN: "34", Tones: true})
	press := func(leg, digits string, want ...string) {
		t.Helper()
		for i, d := range digits {
			var w []string
			if i == len(digits)-1 {
				w = want
			}
			p.want(&ari.ChannelDtmfReceived{Digit: string(d), Channel: ch(leg)}, w...)
		}
	}
	p.want(in("m"), "answer m", "play m call.p1")
	press("m", "34#", "create bridge b-call", "join m", "play call.p2")
	p.want(in("a"), "answer a", "play a call.p3")
	press("a", "99#", "play a call.p4")
	press("a", "12#", "join a", "play call.p5")
	press("a", "*2") // not a moderator
	press("m", "*2", "mute a in on")
	press("m", "*2", "mute a in")
	press("a", "5**6", "mute a in on")
	p.want(p.command(Command{Do: CmdLock, On: true}))
	p.want(in("late"), "hangup late 42")
	p.want(p.command(Command{Do: CmdHold, Leg: "a", On: true}), "leave a", "music a on")
	p.want(p.command(Command{Do: CmdHold, Leg: "a"}), "music a", "join a", "mute a in on")
	p.want(p.command(Command{Do: CmdRecord, On: true}), "record call-bridge-1")
	p.want(p.command(Command{Do: CmdRecord, Leg: "a", On: true}), "snoop a call-leg-2")
	if err := p.m.command(Command{Do: CmdKick, Leg: "m", By: "a"}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("kick by one who may not: %v", err)
	}
	p.want(p.command(Command{Do: CmdKick, Leg: "a", By: "m"}), "hangup a 16", "stop recording call-leg-2", "play call.p6")
	press("m", "*9", "hangup m 16", "stop recording call-bridge-1", "destroy bridge b-call")
}

// TestB41Repair reads what the node has: a leg that ended, one that answered and a join that was lost are made good.
func TestB41Repair(t *testing.T) {
	p := talking(t)
	both := map[string]ari.Channel{"a": ch("a"), "call.2": ch("call.2")}
	p.want(seen{node: "n1", channels: both, bridges: map[string]ari.Bridge{"b-call": {Channels: []string{"a", "call.2"}}}})
	p.want(seen{node: "n1", channels: both, bridges: map[string]ari.Bridge{"b-call": {Channels: []string{"a"}}}}, "join call.2")
	p.want(seen{node: "n1", channels: both}, "create bridge b-call", "join a", "join call.2")
	p.want(seen{node: "n1", channels: map[string]ari.Channel{"a": ch("a")}}, "hangup a 16", "destroy bridge b-call")

	p = newPlay(t, Call{Number: "1002"})
	p.want(in("a"), "resolve 1002")
	p.want(to("sip:1002@x"), "originate call.2 sip:1002@x 30")
	p.want(seen{node: "n1", channels: both}, "answer a", "create bridge b-call", "join a", "join call.2")
}

// TestF3ResumeAgain: the node that took the legs died as well, whether or not its channels were told of before the third node's. The higher number has the
// leg, and a channel that is told of late is not hung up: its BYE would end the dialog that lives on.
func TestF3ResumeAgain(t *testing.T) {
	for _, order := range [][]string{{"r1 n2", "r2 n3"}, {"r2 n3", "r1 n2"}, {"r2 n3", "r2 n3", "r1 n2"}} {
		p := newPlay(t, Call{ID: "call", Node: "n1", Bridge: "b-call", Legs: []Leg{
			{ID: "call.1", Node: "n1", Role: LegIn, State: LegLost, SIPCallID: "x"}, {ID: "call.2", Node: "n1", Role: LegOut, State: LegLost, SIPCallID: "y"}}})
		for _, o := range order {
			number, node, _ := strings.Cut(o, " ")
			p.m.input(stasis(node, "call.1"+number, "resume", "call", "call.1"))
			for _, a := range p.m.take() {
				if a.Do == doHangup {
					t.Errorf("%v: %s", order, a)
				}
			}
		}
		if l := p.m.call.Legs[0]; l.ID != "call.1r2" || l.Node != "n3" || l.State != LegUp || p.m.call.Node != "n3" {
			t.Errorf("%v: leg %+v, call on %s", order, l, p.m.call.Node)
		}
	}
}

// TestB51ResumeMeets: the node crashed; both legs come back on another one, in any order and twice, with what they had.
func TestB51ResumeMeets(t *testing.T) {
	p := talking(t)
	p.want(p.command(Command{Do: CmdMute, Leg: "a", On: true}), "mute a in on")
	p.want(p.command(Command{Do: CmdRecord, On: true}), "record call-bridge-1")
	p.want(seen{node: "n1", crashed: true})
	if p.m.ended || p.m.call.Leg("a").State != LegLost {
		t.Fatalf("after the crash: %+v", p.m.call)
	}
	p.want(stasis("n2", "call.2r1", "resume", "call", "call.2"), "create bridge b-call", "join call.2r1", "record call-bridge-2")
	p.want(stasis("n2", "call.2r1", "resume", "call", "call.2"))
	p.want(stasis("n2", "call.1r1", "resume", "call", "a"), "join call.1r1", "mute call.1r1 in on")
	if l := p.m.call.Leg("call.1r1"); l == nil || l.Generation != 1 || l.Node != "n2" || p.m.call.Node != "n2" {
		t.Errorf("%+v", p.m.call)
	}
	p.want(stasis("n2", "zzz", "resume", "call", "unknown"), "hangup zzz 16")

	p = talking(t) // the node itself is the next one: its bridge went with the process (F4)
	p.want(seen{node: "n1", crashed: true})
	p.want(stasis("n1", "call.2r1", "resume", "call", "call.2"), "create bridge b-call", "join call.2r1")
	p.want(stasis("n1", "call.1r1", "resume", "call", "a"), "join call.1r1")

	p = talking(t) // recovery gives one leg up: that is its hang-up (B38)
	p.want(seen{node: "n1", crashed: true})
	theirs := clone(*p.m.call)
	theirs.Legs[1].State = LegGone
	p.want(foreign{theirs}, "hangup a 16")

	p = newPlay(t, Call{Program: ProgramEcho, Number: "600"})
	p.want(in("a"), "answer a", "continue a echo")
	p.want(&ari.StasisEnd{Channel: ch("a")}) // it is in the dialplan now
	p.want(seen{node: "n1", crashed: true})
	p.want(stasis("n2", "x.r1", "resume", "call", "a"), "continue x.r1 echo")
	p.want(ended("x.r1", 16))
	if !p.m.ended {
		t.Error("the echo call is still there")
	}
}

// TestB43Flow runs a flow, loses the node in the middle of a playback, and goes on there.
func TestB43Flow(t *testing.T) {
	flows, err := ParseFlows("f.yaml", []byte(`
- number: "800"
  actions:
    - {do: play, media: ["sound:rtcedge/enter"]}
    - {do: digits, max: 1, timeout: 5, into: choice}
    - {do: branch, if: choice, value: "1", goto: sales, else: bye}
    - {do: connect, label: sales, to: "100${choice}", timeout: 20, into: result}
    - {do: say-tones, label: bye, text: "${choice}"}
    - {do: hangup, cause: 17}
`))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlay(t, Call{Program: ProgramFlow, Flow: &FlowState{Name: "800", Actions: flows[0].Actions}})
	p.want(in("a"), "answer a", "play a call.f001640.000")
	p.m.now = p.m.now.Add(1500 * time.Millisecond)
	p.want(seen{node: "n1", crashed: true})
	p.m.now = p.m.now.Add(time.Second)
	p.want(stasis("n2", "ar1", "resume", "call", "a"), "play ar1 call.f001642.500 2500")
	p.want(&ari.PlaybackFinished{Playback: ari.Playback{ID: "call.f001642.500"}})
	if p.m.call.Flow.Step != 1 || p.m.wake() != p.m.now.Add(5*time.Second) {
		t.Fatalf("%+v", p.m.call.Flow)
	}
	p.want(&ari.ChannelDtmfReceived{Digit: "1", Channel: ch("ar1")}, "resolve ar1 1001 20 on")
	dest := to("sip:1001@x")
	dest.flow, dest.timeout = true, 20*time.Second
	p.want(dest, "originate call.2 sip:1001@x 20")
	p.want(ended("call.2", causeBusy), "play ar1 call.f001642.500")
	if p.m.call.Flow.Vars["result"] != "busy" {
		t.Errorf("%+v", p.m.call.Flow.Vars)
	}
	p.want(&ari.PlaybackFinished{Playback: ari.Playback{ID: "call.f001642.500"}}, "hangup ar1 17")
}

// TestB52FlowSounds loses the node in the second of three sounds: that one goes on where it was, the first is not heard again. So do the tones of a number.
func TestB52FlowSounds(t *testing.T) {
	for _, a := range []FlowAction{{Do: "play", Media: []string{"sound:rtcedge/tone-1", "sound:rtcedge/tone-2", "sound:rtcedge/tone-3"}}, {Do: "say-tones", Text: "123"}} {
		p := newPlay(t, Call{Program: ProgramFlow, Flow: &FlowState{Name: "800", Actions: []FlowAction{a, a}}})
		p.want(in("a"), "answer a", "play a call.f001640.000")
		p.m.now = p.m.now.Add(4 * time.Second)
		p.want(&ari.PlaybackContinuing{Playback: ari.Playback{ID: "call.f001640.000"}})
		p.want(&ari.PlaybackContinuing{Playback: ari.Playback{ID: "call.f1"}}) // another one's
		p.m.now = p.m.now.Add(time.Second)
		p.want(seen{node: "n1", crashed: true})
		p.m.now = p.m.now.Add(500 * time.Millisecond)
		actions := func() []action {
			return slices.DeleteFunc(p.m.take(), func(a action) bool { return a.Do == doTell })
		}
		p.m.input(stasis("n2", "ar1", "resume", "call", "a"))
		todo := actions()
		if len(todo) != 1 || todo[0].Do != doPlay || todo[0].N != 1500 || !slices.Equal(todo[0].Media, []string{"sound:rtcedge/tone-2", "sound:rtcedge/tone-3"}) {
			t.Fatalf("%s: after the crash %+v", a.Do, todo)
		}
		// A second crash counts from there: the same sound again, until the next one begins.
		p.m.now = p.m.now.Add(200 * time.Millisecond)
		p.want(&ari.PlaybackContinuing{Playback: ari.Playback{ID: todo[0].Text}})
		p.want(seen{node: "n2", crashed: true})
		p.m.input(stasis("n1", "ar2", "resume", "call", "ar1"))
		if todo = actions(); len(todo) != 1 || todo[0].N != 0 || !slices.Equal(todo[0].Media, []string{"sound:rtcedge/tone-3"}) {
			t.Fatalf("%s: after the second crash %+v", a.Do, todo)
		}
		p.m.input(&ari.PlaybackFinished{Playback: ari.Playback{ID: todo[0].Text}})
		if todo = actions(); len(todo) != 1 || len(todo[0].Media) != 3 || todo[0].N != 0 { // the next action begins at its first sound
			t.Fatalf("%s: the next action is %+v", a.Do, todo)
		}
	}
}

func TestB43FlowErrors(t *testing.T) {
	for _, x := range []struct{ text, want string }{
		{"number: 1", "f:1"},
		{"- number: '1'\n  actions: [{do: fly}]", `f:2: action 1: do: unknown action "fly" (allowed: answer, branch`},
		{"- number: '1'\n  actions:\n    - {do: answer}\n    - {do: play}", "f:4: action 2: play: media is missing"},
		{"- number: '1'\n  actions: [{do: branch, if: x, goto: y}]", `no action has the label "y"`},
		{"- number: '1'\n  actions: [{do: answer, colour: red}]", `f:2: unknown key "colour" (allowed: do,`},
		{"- number: '1'\n  actions: []", "0 actions (allowed: 1 to 200)"},
	} {
		_, err := ParseFlows("f", []byte(x.text))
		if x.want == "f:1" {
			if err == nil {
				t.Errorf("%q was taken", x.text)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q\ngot  %v\nwant %s", x.text, err, x.want)
		}
	}
	// A flow that runs in circles ends.
	loop := []FlowAction{{Do: "set", Name: "x", Label: "l"}, {Do: "branch", If: "x", Goto: "l"}}
	p := newPlay(t, Call{Program: ProgramFlow, Flow: &FlowState{Actions: loop}})
	p.want(in("a"), "hangup a 16")
}

// TestB39Forward: a phone's 302 is followed by the plan of numbers, its place among the phones that ring stays, and circles end.
func TestB39Forward(t *testing.T) {
	moved := func(id, to string) *ari.Dial { return &ari.Dial{DialStatus: "CANCEL", Forward: to, Peer: ch(id)} }
	known := func(leg, uri string) resolved { r := to(uri); r.forwardLeg = leg; return r }
	p := newPlay(t, Call{Number: "1001"})
	p.want(in("a"), "resolve 1001")
	p.want(to("sip:1@x", "sip:2@x"), "originate call.2 sip:1@x 30", "originate call.3 sip:2@x 30")
	p.want(moved("call.2", "sip:1003@192.0.2.1"), "resolve call.4 1003")
	p.want(ended("call.2", 23)) // the channel that sent it on
	p.want(known("call.4", "sip:3@x"), "originate call.6 sip:3@x 30")
	p.want(stasis("n1", "call.6", "out", "call", "call.6"), "hangup call.3 26", "answer a", "create bridge b-call", "join a", "join call.6")

	p = newPlay(t, Call{Number: "1001"})
	p.want(in("a"), "resolve 1001")
	p.want(to("sip:1@x"), "originate call.2 sip:1@x 30")
	p.want(moved("call.2", "00900"), "resolve call.3 00900")
	p.want(resolved{purpose: purpose{forwardLeg: "call.3"}, dest: Destination{Cause: causeUnallocated}}, "hangup a 1")
	if !p.m.ended {
		t.Error("a caller is left with a forward that leads nowhere")
	}

	p = newPlay(t, Call{Number: "1001", Forwards: maxForwards})
	p.want(in("a"), "resolve 1001")
	p.want(to("sip:1@x"), "originate call.2 sip:1@x 30")
	p.want(moved("call.2", "1001"), "hangup a 17")

	p = newPlay(t, Call{Number: "1001"})
	p.want(in("a"), "resolve 1001")
	p.want(to("sip:1@x"), "originate call.2 sip:1@x 30")
	p.want(moved("call.2", "800"), "resolve call.3 800")
	p.want(resolved{number: "800", purpose: purpose{forwardLeg: "call.3"}, dest: Destination{Local: ProgramFlow}}, "reroute a 800")
}

// TestB40MoveTogether: both of a call move to a conference. The first that is taken must not end the call for the second, and one that is
// not taken comes back.
func TestB40MoveTogether(t *testing.T) {
	p := talking(t)
	p.want(p.command(Command{Do: CmdMove, To: "7001"}), "reroute a 7001", "reroute call.2 7001")
	p.m.handedOver("a")
	p.want(tick{})
	p.m.handedOver("call.2")
	p.want(tick{}, "destroy bridge b-call")

	p = talking(t)
	p.want(p.command(Command{Do: CmdMove, To: "7001"}), "reroute a 7001", "reroute call.2 7001")
	for _, id := range []string{"a", "call.2"} {
		p.want(failed{action{Do: doReroute, Record: *p.m.call.Leg(id)}, errNoTarget}, "join "+id)
	}
}
