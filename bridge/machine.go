package bridge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// What an action does. Leg is its channel unless said otherwise.
const (
	doAnswer       = "answer"
	doRing         = "ring"
	doHangup       = "hangup"        // N is the Q.850 cause
	doResolve      = "resolve"       // find out where Text (a number) leads; the answer is an input
	doOriginate    = "originate"     // Text is the target's URI, Text2 its Route, N seconds
	doCreateBridge = "create bridge" // Text is its id
	doDestroy      = "destroy bridge"
	doJoin         = "join"  // into the call's bridge; On: muted
	doLeave        = "leave" // out of it
	doMute         = "mute"  // Text is the direction
	doMusic        = "music"
	doPlay         = "play" // Text is the playback's id, Media what; Leg "" is the bridge; N ms to skip
	doStopPlay     = "stop playback"
	doRecord       = "record" // Text is the name; Leg "" is the bridge; N seconds at most
	doStopRecord   = "stop recording"
	doSnoop        = "snoop" // a channel that hears Leg and records it as Text
	doDTMF         = "dtmf"
	doContinue     = "continue" // in the dialplan context Text
	doProgress     = "transfer progress"
	doSetVar       = "set"
	doExternal     = "external media" // Text is IP:PORT
	doHandOver     = "hand over"      // Record goes to the call that leg Text is in, in its place
	doReroute      = "reroute"        // Record leaves for number Text, answered
	doTell         = "tell"           // the listeners of the API; Text is the event
)

// action is one thing to be done. The pure part makes them, the call's goroutine runs them in order.
type action struct {
	Do    string
	Leg   string
	Text  string
	Text2 string
	Media []string
	N     int
	On    bool

	Record Leg
}

func (a action) String() string {
	out := []string{a.Do}
	for _, s := range []string{a.Leg, a.Text} {
		if s != "" {
			out = append(out, s)
		}
	}
	if a.N != 0 {
		out = append(out, fmt.Sprint(a.N))
	}
	if a.On {
		out = append(out, "on")
	}
	return strings.Join(out, " ")
}

// Rules are the numbers that a machine decides by. The zero value takes the defaults.
type Rules struct {
	RingTimeout time.Duration // a leg that does not answer ends after it, default 30 s
	MaxDuration time.Duration // of a leg, default 0: no limit
	MaxLegs     int           // of a call or a conference, default 500
	Linger      time.Duration // an empty conference stays so long, default 60 s
	LostGrace   time.Duration // how long a leg of a crashed node waits for its recovery, default 60 s
	PINTimeout  time.Duration // default 20 s
	PINTries    int           // default 3
	EnterSound  string        // default sound:rtcedge/enter
	ExitSound   string        // default sound:rtcedge/leave
	PINSound    string        // default sound:beep
	EchoContext string        // dialplan context in which a channel hears itself, default echo
}

func (r *Rules) fill() {
	d := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	s := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	d(&r.RingTimeout, 30*time.Second)
	d(&r.Linger, time.Minute)
	d(&r.LostGrace, time.Minute)
	d(&r.PINTimeout, 20*time.Second)
	if r.MaxLegs <= 0 {
		r.MaxLegs = 500
	}
	if r.PINTries <= 0 {
		r.PINTries = 3
	}
	s(&r.EnterSound, "sound:rtcedge/enter")
	s(&r.ExitSound, "sound:rtcedge/leave")
	s(&r.PINSound, "sound:beep")
	s(&r.EchoContext, "echo")
}

// machine decides for one call. It does no I/O and reads no clock: event + record -> record + actions.
type machine struct {
	rules Rules
	call  *Call
	now   time.Time
	acts  []action
	ended bool // nothing is left of the call
	seq   int  // for the ids of playbacks and recordings
}

func (m *machine) do(a action) { m.acts = append(m.acts, a) }

func (m *machine) tell(what, leg string) { m.do(action{Do: doTell, Leg: leg, Text: what}) }

// take returns the actions and forgets them.
func (m *machine) take() []action {
	acts := m.acts
	m.acts = nil
	return acts
}

// Inputs that are not events of ARI.
type (
	// resolved answers doResolve.
	resolved struct {
		number string
		purpose
		dest Destination
		err  error
	}
	// purpose is what a number was asked for.
	purpose struct {
		transferBy  string // leg whose REFER it is
		transferLeg string // leg to be transferred
		flow        bool
		timeout     time.Duration
	}
	// failed is an action that could not be done.
	failed struct {
		action
		err error
	}
	// arrived is a leg that comes in: from the edge, from another call, or by recovery.
	arrived struct {
		leg     Leg
		replace string // leg that it takes the place of
	}
	// seen is what the node has, after a gap (B41).
	seen struct {
		node     NodeID
		crashed  bool // its epoch is another one
		channels map[string]ari.Channel
		bridges  map[string]ari.Bridge
	}
	// foreign is the record as somebody else wrote it.
	foreign struct{ call Call }
	// tick is the time that wake asked for.
	tick struct{}
)

// input runs one event. Functions below occur in the order of a call's life.
func (m *machine) input(in any) {
	switch in := in.(type) {
	case arrived:
		m.arrive(in)
	case resolved:
		m.resolve(in)
	case *ari.StasisStart:
		m.start(in)
	case *ari.Dial:
		m.dial(in)
	case *ari.ChannelStateChange:
		m.state(in.Channel)
	case *ari.ChannelDtmfReceived:
		m.digit(in.Channel.ID, in.Digit)
	case *ari.ChannelHold:
		m.held(in.Channel.ID, true)
	case *ari.ChannelUnhold:
		m.held(in.Channel.ID, false)
	case *ari.ChannelTransfer:
		m.refer(in)
	case *ari.PlaybackFinished:
		m.flowPlayed(in.Playback)
	case *ari.RecordingFinished:
		m.recorded(in.Recording)
	case *ari.RecordingFailed:
		m.recorded(in.Recording)
	case *ari.StasisEnd:
		if l := m.call.Leg(in.Channel.ID); l != nil && l.Waiting != waitProgram {
			m.gone(in.Channel.ID, 0)
		}
	case *ari.ChannelDestroyed:
		m.gone(in.Channel.ID, in.Cause)
	case failed:
		m.fail(in)
	case seen:
		m.repair(in)
	case foreign:
		m.merge(in.call)
	case tick:
		m.timers()
	}
}

// Why a leg is not in the bridge.
const (
	waitPIN     = "pin"
	waitProgram = "program"
	waitHold    = "hold"
	waitFlow    = "flow"
)

// arrive takes a leg into the call: from the edge, unanswered, or from another call, answered.
func (m *machine) arrive(in arrived) {
	l := in.leg
	if m.call.Leg(l.ID) != nil {
		return // the event came twice: by the stream and by a reading after a gap
	}
	limit := m.rules.MaxLegs
	if m.call.MaxLegs > 0 {
		limit = min(limit, m.call.MaxLegs)
	}
	if in.replace == "" && len(m.call.Legs) > 0 && (m.call.Locked && !l.Moderator || len(m.call.Legs) >= limit) {
		m.do(action{Do: doHangup, Leg: l.ID, N: causeFull})
		m.tell("refused", l.ID)
		return
	}
	if m.rules.MaxDuration > 0 && l.Limit.IsZero() {
		l.Limit = m.now.Add(m.rules.MaxDuration)
	}
	m.call.Legs = append(m.call.Legs, l)
	leg := m.call.Leg(l.ID)
	m.tell("leg", l.ID)
	if in.replace != "" {
		m.enter(leg)
		if old := m.call.Leg(in.replace); old != nil {
			m.do(action{Do: doHangup, Leg: old.ID, N: causeNormal})
			m.remove(old.ID)
		}
		return
	}
	switch {
	case m.call.Conference != "":
		m.answer(leg)
		if m.call.PIN != "" && !leg.Moderator {
			leg.Waiting = waitPIN
			m.playTo(leg.ID, m.rules.PINSound)
			return
		}
		m.enter(leg)
	case m.call.Program == ProgramEcho:
		m.answer(leg)
		m.program(leg)
	case m.call.Program == ProgramMusic:
		m.answer(leg)
		m.program(leg)
	case m.call.Program == ProgramFlow:
		leg.Waiting = waitFlow
		m.call.Flow.Leg = leg.ID
		m.runFlow()
	case len(m.call.Legs) == 1:
		m.do(action{Do: doResolve, Text: m.call.Number})
	default:
		m.answer(leg)
		m.enter(leg)
	}
}

// Q.850 causes that we give.
const (
	causeUnallocated = 1
	causeNormal      = 16
	causeBusy        = 17
	causeNoAnswer    = 19
	causeElsewhere   = 26
	causeFailure     = 38
	causeFull        = 42 // switching equipment congestion: 503 at the edge
	causeInterwork   = 127
)

// program lets a leg hear itself or music. Echo runs in the dialplan, so the channel leaves the application; its end is still told,
// because doContinue subscribes to it. The record says so, and a recovered channel is sent there again.
func (m *machine) program(l *Leg) {
	l.Waiting = waitProgram
	if m.call.Program == ProgramEcho {
		m.do(action{Do: doContinue, Leg: l.ID, Text: m.rules.EchoContext})
		return
	}
	m.do(action{Do: doMusic, Leg: l.ID, On: true})
}

func (m *machine) answer(l *Leg) {
	if l.State == LegUp {
		return
	}
	m.do(action{Do: doAnswer, Leg: l.ID})
	l.State, l.Answered = LegUp, m.now
}

// enter puts an answered leg into the call's bridge, with all that its record says.
func (m *machine) enter(l *Leg) {
	if m.call.Bridge == "" {
		m.call.Bridge = "b-" + m.call.ID
		m.do(action{Do: doCreateBridge, Text: m.call.Bridge})
	}
	l.Waiting, l.Digits = "", ""
	if m.call.MutedAll && !l.Moderator {
		l.Muted = true
	}
	m.do(action{Do: doJoin, Leg: l.ID})
	if l.Muted {
		m.do(action{Do: doMute, Leg: l.ID, Text: "in", On: true})
	}
	if m.call.Tones {
		m.sound(m.rules.EnterSound)
	}
	m.tell("joined", l.ID)
}

func (m *machine) sound(media string) {
	m.seq++
	m.do(action{Do: doPlay, Text: fmt.Sprintf("%s.p%d", m.call.ID, m.seq), Media: []string{media}})
}

func (m *machine) playTo(leg, media string) {
	m.seq++
	m.do(action{Do: doPlay, Leg: leg, Text: fmt.Sprintf("%s.p%d", m.call.ID, m.seq), Media: []string{media}})
}

// resolve goes on with a number whose destination is known now.
func (m *machine) resolve(in resolved) {
	if in.flow {
		m.flowConnect(in)
		return
	}
	if in.transferLeg != "" {
		m.transferTo(in)
		return
	}
	if in.err != nil || len(in.dest.Targets) == 0 {
		cause := in.dest.Cause
		if cause == 0 {
			cause = causeUnallocated
		}
		m.refuse(cause)
		return
	}
	m.call.Stay = m.call.Stay || in.dest.Stay
	m.ringAll(in.dest.Targets, in.number, m.rules.RingTimeout)
}

// ringAll lets all targets of a number ring: the first that answers stays.
func (m *machine) ringAll(targets []Target, number string, timeout time.Duration) []string {
	if timeout <= 0 {
		timeout = m.rules.RingTimeout
	}
	var ids []string
	fork := fmt.Sprintf("f%d", m.nextLeg())
	for _, t := range targets {
		id := fmt.Sprintf("%s.%d", m.call.ID, m.nextLeg())
		m.call.Legs = append(m.call.Legs, Leg{ID: id, Node: m.call.Node, Role: LegOut, State: LegRinging, Number: number,
			URI: t.URI, Route: t.Route, Fork: fork})
		m.do(action{Do: doOriginate, Leg: id, Text: t.URI, Text2: t.Route, N: int(timeout / time.Second)})
		ids = append(ids, id)
	}
	return ids
}

// nextLeg is a number that no leg of this call had, also after a crash: it grows with the record.
func (m *machine) nextLeg() int {
	m.call.LastLeg++
	return m.call.LastLeg
}

// refuse ends an incoming leg that nobody answers.
func (m *machine) refuse(cause int) {
	for _, l := range m.call.Legs {
		m.do(action{Do: doHangup, Leg: l.ID, N: cause})
	}
	m.call.Legs = nil
	m.over()
}

// start is StasisStart of a leg that we placed, or that recovery made.
func (m *machine) start(ev *ari.StasisStart) {
	if len(ev.Args) < 3 {
		return
	}
	switch ev.Args[0] {
	case "out":
		if l := m.call.Leg(ev.Args[2]); l != nil {
			l.SIPCallID = ev.Channel.ProtocolID
			m.answered(l)
			return
		}
		m.do(action{Do: doHangup, Leg: ev.Channel.ID, N: causeNormal}) // it was ended while it rang
	case "resume":
		m.resume(ev)
	}
}

// state finds an answered channel whose StasisStart was lost.
func (m *machine) state(ch ari.Channel) {
	l := m.call.Leg(ch.ID)
	if l == nil {
		return
	}
	if l.SIPCallID == "" {
		l.SIPCallID = ch.ProtocolID
	}
	if ch.State == ari.StateRinging && l.Role == LegOut {
		m.ringing(l)
	}
}

func (m *machine) dial(ev *ari.Dial) {
	l := m.call.Leg(ev.Peer.ID)
	if l == nil {
		return
	}
	if l.SIPCallID == "" {
		l.SIPCallID = ev.Peer.ProtocolID
	}
	if ev.DialStatus == "RINGING" {
		m.ringing(l)
	}
}

// ringing gives the first leg ringback (B39).
func (m *machine) ringing(out *Leg) {
	for i := range m.call.Legs {
		if l := &m.call.Legs[i]; l.Role == LegIn && l.State == LegRinging && !m.call.Rung {
			m.call.Rung = true
			m.do(action{Do: doRing, Leg: l.ID})
		}
	}
	m.tell("ringing", out.ID)
}

// answered is a leg that we placed and that is up: it answers the peers (B39), and its forks end.
func (m *machine) answered(l *Leg) {
	if l.State == LegUp {
		return
	}
	l.State, l.Answered = LegUp, m.now
	id, fork := l.ID, l.Fork
	for _, other := range slices.Clone(m.call.Legs) {
		if other.ID != id && fork != "" && other.Fork == fork {
			m.do(action{Do: doHangup, Leg: other.ID, N: causeElsewhere})
			m.drop(other.ID)
		}
	}
	m.tell("answered", id)
	if m.flowAnswered(id) {
		return
	}
	for i := range m.call.Legs {
		peer := &m.call.Legs[i]
		if peer.Role == LegIn && peer.State == LegRinging {
			m.answer(peer)
			m.enter(peer)
		}
	}
	l = m.call.Leg(id)
	m.enter(l)
	m.transferAnswered(id)
	m.connectNext(l)
}

// connectNext is a call that was placed by the API: the first leg is up, now the number that it wants.
func (m *machine) connectNext(l *Leg) {
	if m.call.Next == "" {
		return
	}
	number := m.call.Next
	m.call.Next = ""
	m.do(action{Do: doResolve, Text: number, Leg: l.ID})
}

// held notes the phone's own hold. In a bridge of two Asterisk gives the other one music by itself.
func (m *machine) held(id string, on bool) {
	if l := m.call.Leg(id); l != nil && l.Held != on {
		l.Held = on
		m.tell(pick(on, "held", "resumed"), id)
	}
}

// gone is a leg that ended by itself.
func (m *machine) gone(id string, cause int) {
	l := m.call.Leg(id)
	if l == nil {
		return
	}
	if m.flowLegGone(id, cause) {
		return
	}
	if m.transferGone(id, cause) {
		return
	}
	wasUp, role := l.State != LegRinging, l.Role
	m.call.Cause = worse(m.call.Cause, cause)
	m.remove(id)
	if !wasUp && role == LegOut {
		m.unanswered()
	}
}

// worse prefers what tells the caller more: busy before no answer before failures.
func worse(a, b int) int {
	rank := func(c int) int { return slices.Index([]int{causeBusy, 21, causeNoAnswer, causeUnallocated}, c) }
	if a == 0 || rank(a) < 0 && b != 0 || rank(b) >= 0 && rank(b) < rank(a) {
		return b
	}
	return a
}

// unanswered ends a call all of whose targets have failed, with the cause that they gave.
func (m *machine) unanswered() {
	if slices.ContainsFunc(m.call.Legs, func(l Leg) bool { return l.Role == LegOut && l.State == LegRinging }) {
		return
	}
	for _, l := range slices.Clone(m.call.Legs) {
		if l.Role == LegIn && l.State == LegRinging {
			cause := m.call.Cause
			if cause == 0 {
				cause = causeNoAnswer
			}
			m.do(action{Do: doHangup, Leg: l.ID, N: cause})
			m.drop(l.ID)
		}
	}
	m.settle()
}

// drop forgets a leg.
func (m *machine) drop(id string) {
	if l := m.call.Leg(id); l != nil && l.Recording != "" {
		m.do(action{Do: doStopRecord, Text: l.Recording})
	}
	m.call.Legs = slices.DeleteFunc(m.call.Legs, func(l Leg) bool { return l.ID == id })
	m.tell("left", id)
}

// remove forgets a leg and ends the call if that was its sense.
func (m *machine) remove(id string) {
	was := m.call.Leg(id)
	inside := was != nil && was.Waiting == "" && was.State == LegUp
	m.drop(id)
	if inside && m.call.Tones && m.call.Bridge != "" && m.call.Up() > 0 {
		m.sound(m.rules.ExitSound)
	}
	m.settle()
}

// settle ends a call at one participant (B38); a conference and a call that shall stay go on.
func (m *machine) settle() {
	if m.ended {
		return
	}
	if m.call.Conference != "" || m.call.Stay {
		if len(m.call.Legs) == 0 {
			if m.call.Conference == "" {
				m.over()
			} else if m.call.Empty.IsZero() {
				m.call.Empty = m.now
			}
		}
		return
	}
	people := 0
	waitingIn := false
	for _, l := range m.call.Legs {
		if l.External == "" {
			people++
		}
		waitingIn = waitingIn || l.Role == LegIn && l.State == LegRinging
	}
	switch {
	case m.call.Program != "" && people > 0:
		return
	case people >= 2:
		// Two that ring for a caller who is gone are no call.
		if m.call.Up() > 0 || waitingIn {
			return
		}
	case people == 1 && waitingIn:
		return // the caller hears a tone until its number is resolved
	case people == 1 && m.call.Next != "":
		return
	}
	m.end(causeNormal)
}

// end hangs all up.
func (m *machine) end(cause int) {
	for _, l := range m.call.Legs {
		m.do(action{Do: doHangup, Leg: l.ID, N: cause})
	}
	m.call.Legs = nil
	m.over()
}

func (m *machine) over() {
	if m.ended {
		return
	}
	if m.call.Recording != "" {
		m.do(action{Do: doStopRecord, Text: m.call.Recording})
	}
	if m.call.Bridge != "" {
		m.do(action{Do: doDestroy, Text: m.call.Bridge})
	}
	m.ended = true
	m.tell("ended", "")
}

// fail is an action that the node refused or did not answer.
func (m *machine) fail(in failed) {
	switch in.Do {
	case doOriginate:
		m.gone(in.Leg, causeFailure)
	case doJoin, doAnswer:
		// A channel that ended meanwhile: its end is on the way, or was told while the stream was down.
		m.gone(in.Leg, 0)
	case doHandOver, doReroute:
		m.returned(in.Record)
	case doCreateBridge:
		m.end(causeFailure)
	case doRecord, doSnoop:
		m.recorded(ari.LiveRecording{Name: in.Text})
	case doPlay:
		m.flowPlayed(ari.Playback{ID: in.Text, State: ari.PlaybackFailed})
	case doProgress, doMute, doMusic, doRing:
		m.tell("failed: "+in.action.String(), in.Leg)
	}
}

// timers does what is due.
func (m *machine) timers() {
	for _, l := range slices.Clone(m.call.Legs) {
		switch {
		case l.State == LegLost && !m.call.LostAt.IsZero() && !m.now.Before(m.call.LostAt.Add(m.rules.LostGrace)):
			m.gone(l.ID, causeFailure)
		case !l.Limit.IsZero() && !m.now.Before(l.Limit):
			m.do(action{Do: doHangup, Leg: l.ID, N: causeNormal})
			m.remove(l.ID)
		case l.Waiting == waitPIN && !m.now.Before(l.Answered.Add(m.rules.PINTimeout)):
			m.do(action{Do: doHangup, Leg: l.ID, N: causeNormal})
			m.remove(l.ID)
		}
	}
	if m.call.Conference != "" && len(m.call.Legs) == 0 && !m.call.Stay && !m.call.Empty.IsZero() && !m.now.Before(m.call.Empty.Add(m.rules.Linger)) {
		m.over()
	}
	m.flowTimer()
}

// wake is when timers must run next; the zero time is never.
func (m *machine) wake() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, l := range m.call.Legs {
		at(l.Limit)
		if l.Waiting == waitPIN {
			at(l.Answered.Add(m.rules.PINTimeout))
		}
		if l.State == LegLost && !m.call.LostAt.IsZero() {
			at(m.call.LostAt.Add(m.rules.LostGrace))
		}
	}
	if m.call.Conference != "" && len(m.call.Legs) == 0 && !m.call.Stay && !m.call.Empty.IsZero() {
		at(m.call.Empty.Add(m.rules.Linger))
	}
	if m.call.Flow != nil {
		at(m.call.Flow.Deadline)
	}
	return next
}

func pick(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}
