package bridge

import (
	"maps"
	"slices"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// maxFlowSteps ends a flow that runs in circles without waiting for anybody.
const maxFlowSteps = 1000

// runFlow does actions until one has to wait: for a playback, for digits, for an answer. The position is in the record at each step, so
// that another process, or a channel that recovery made, goes on there (B43).
func (m *machine) runFlow() {
	f := m.call.Flow
	for f != nil && !m.ended {
		l := m.call.Leg(f.Leg)
		if l == nil {
			return
		}
		if f.Step >= len(f.Actions) || f.Steps >= maxFlowSteps {
			m.end(causeNormal)
			return
		}
		if f.Phase != "" {
			return // it waits
		}
		f.Steps++
		a := f.Actions[f.Step]
		if a.Do != "answer" && a.Do != "hangup" && a.Do != "connect" && a.Do != "set" && a.Do != "branch" {
			m.answer(l) // nobody hears a sound before
		}
		if m.flowAction(f, l, a) {
			f.Step++
			continue
		}
		if m.call.Flow == nil || f.Phase != "" || m.ended {
			return
		}
	}
}

// flowAction begins one action and tells if it is done already. A branch moves the step by itself.
func (m *machine) flowAction(f *FlowState, l *Leg, a FlowAction) bool {
	switch a.Do {
	case "answer":
		m.answer(l)
		return true
	case "play":
		m.flowPlay(f, l, a, 0)
	case "say-tones":
		a.Media = tones(m.expand(a.Text))
		if len(a.Media) == 0 {
			return true
		}
		m.flowPlay(f, l, a, 0)
	case "digits":
		f.Phase, f.Digits, f.Deadline = "digits", "", m.now.Add(seconds(orSeconds(a.Timeout, 10)))
		if len(a.Media) > 0 {
			m.flowPlay(f, l, a, 0)
			f.Phase = "digits"
		}
	case "connect":
		f.Phase = "connect"
		m.do(action{Do: doResolve, Leg: l.ID, Text: m.expand(a.To), N: int(orSeconds(a.Timeout, 0)), On: true})
	case "conference_join":
		m.call.Program, m.call.Flow = "", nil
		record := *l
		record.Waiting, record.Moderator = "", a.Mod
		m.do(action{Do: doReroute, Leg: l.ID, Text: "conference:" + m.expand(a.Name), Record: record})
	case "record":
		m.flowRecord(f, l, a)
		return f.Phase == ""
	case "transfer":
		record := *l
		record.Waiting = ""
		m.call.Program, m.call.Flow = "", nil
		m.do(action{Do: doReroute, Leg: l.ID, Text: m.expand(a.To), Record: record})
	case "set":
		f.set(a.Name, m.expand(a.Value))
		return true
	case "branch":
		label := a.Else
		if f.Vars[a.If] == m.expand(a.Value) {
			label = a.Goto
		}
		if i := slices.IndexFunc(f.Actions, func(x FlowAction) bool { return label != "" && x.Label == label }); i >= 0 {
			f.Step = i
			return false
		}
		return true
	case "hangup":
		cause := a.Cause
		if cause == 0 {
			cause = causeNormal
		}
		m.end(cause)
	}
	return false
}

func orSeconds(v, def float64) float64 {
	if v <= 0 {
		return def
	}
	return v
}

// set changes the variables by making new ones: the record that is on its way to the store keeps the old.
func (f *FlowState) set(name, value string) {
	vars := maps.Clone(f.Vars)
	if vars == nil {
		vars = map[string]string{}
	}
	if name != "" {
		vars[name] = value
	}
	f.Vars = vars
}

// expand puts variables in: ${name}.
func (m *machine) expand(text string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return b.String()
		}
		b.WriteString(m.call.Flow.Vars[name])
		text = after
	}
}

func (m *machine) flowPlay(f *FlowState, l *Leg, a FlowAction, skip time.Duration) {
	m.seq++
	f.Phase, f.Playback = "play", m.call.ID+".f"+m.now.UTC().Format("150405.000")
	f.Started, f.Position = m.now, skip.Milliseconds()
	m.do(action{Do: doPlay, Leg: l.ID, Text: f.Playback, Media: a.Media[max(0, min(f.Sound, len(a.Media)-1)):], N: int(skip.Milliseconds())})
}

// flowNext is the next sound of a play: its position counts from here.
func (m *machine) flowNext(p ari.Playback) {
	f := m.call.Flow
	if f == nil || f.Playback == "" || f.Playback != p.ID || m.flowWaits() {
		return
	}
	f.Sound++
	f.Started, f.Position = m.now, 0
}

func (m *machine) flowRecord(f *FlowState, l *Leg, a FlowAction) {
	if a.Stop {
		if l.Recording != "" {
			m.do(action{Do: doStopRecord, Text: l.Recording})
			l.Recording = ""
		}
		return
	}
	if l.Recording == "" {
		m.recordLeg(l)
		f.set(a.Into, l.Recording)
	}
	if a.Seconds > 0 {
		f.Phase, f.Deadline = "record", m.now.Add(seconds(a.Seconds))
	}
}

// flowDone ends the wait of the action and goes on.
func (m *machine) flowDone() {
	f := m.call.Flow
	f.Phase, f.Playback, f.Deadline, f.Started, f.Position, f.Sound = "", "", time.Time{}, time.Time{}, 0, 0
	f.Step++
	m.runFlow()
}

func (m *machine) flowPlayed(p ari.Playback) {
	f := m.call.Flow
	if f == nil || f.Playback == "" || f.Playback != p.ID || m.flowWaits() {
		return
	}
	f.Playback = ""
	if f.Phase == "play" {
		m.flowDone()
	}
}

func (m *machine) flowDigit(digit string) {
	f := m.call.Flow
	if f == nil || f.Phase != "digits" || m.flowWaits() {
		return
	}
	a := f.Actions[f.Step]
	if f.Playback != "" { // who types has heard enough
		m.do(action{Do: doStopPlay, Text: f.Playback})
		f.Playback = ""
	}
	if digit == a.End && a.End != "" {
		m.flowDigitsDone(f, a)
		return
	}
	f.Digits += digit
	if a.Max > 0 && len(f.Digits) >= a.Max {
		m.flowDigitsDone(f, a)
	}
}

func (m *machine) flowDigitsDone(f *FlowState, a FlowAction) {
	into := a.Into
	if into == "" {
		into = "digits"
	}
	f.set(into, f.Digits)
	f.Digits = ""
	m.flowDone()
}

func (m *machine) flowRecorded(ari.LiveRecording) {
	if f := m.call.Flow; f != nil && f.Phase == "record" && !m.flowWaits() {
		m.flowDone()
	}
}

func (m *machine) flowTimer() {
	f := m.call.Flow
	if f == nil || f.Deadline.IsZero() || m.now.Before(f.Deadline) || m.flowWaits() {
		return
	}
	a := f.Actions[f.Step]
	switch f.Phase {
	case "digits":
		m.flowDigitsDone(f, a)
	case "record":
		if l := m.call.Leg(f.Leg); l != nil && l.Recording != "" {
			m.do(action{Do: doStopRecord, Text: l.Recording})
			l.Recording = ""
		}
		m.flowDone()
	}
}

// tones are the sounds of digits, the pairs of ITU-T Q.23: every farm has them.
func tones(digits string) []string {
	var out []string
	for _, d := range digits {
		switch {
		case d >= '0' && d <= '9':
			out = append(out, "sound:rtcedge/tone-"+string(d))
		case d == '*':
			out = append(out, "sound:rtcedge/tone-star")
		case d == '#':
			out = append(out, "sound:rtcedge/tone-hash")
		}
	}
	return out
}

// flowConnect lets the target of connect ring.
func (m *machine) flowConnect(in resolved) {
	f := m.call.Flow
	if f == nil || f.Phase != "connect" {
		return
	}
	if in.err != nil || len(in.dest.Targets) == 0 {
		m.flowConnected(f, "unknown")
		return
	}
	m.ringAll(in.dest.Targets, in.number, in.timeout)
}

func (m *machine) flowConnected(f *FlowState, result string) {
	into := f.Actions[f.Step].Into
	if into == "" {
		into = "connect"
	}
	f.set(into, result)
	m.flowDone()
}

// flowAnswered is the answer to connect: caller and target talk, the flow is over.
func (m *machine) flowAnswered(id string) bool {
	f := m.call.Flow
	if f == nil || f.Phase != "connect" {
		return false
	}
	caller := m.call.Leg(f.Leg)
	if caller == nil {
		return false
	}
	m.call.Flow, m.call.Program = nil, ""
	m.answer(caller)
	m.enter(caller)
	m.enter(m.call.Leg(id))
	return true
}

// flowLegGone is a target of connect that failed: the flow goes on with the result.
func (m *machine) flowLegGone(id string, cause int) bool {
	f := m.call.Flow
	if f == nil || f.Phase != "connect" || id == f.Leg {
		return false
	}
	m.call.Cause = worse(m.call.Cause, cause)
	m.drop(id)
	if slices.ContainsFunc(m.call.Legs, func(l Leg) bool { return l.ID != f.Leg && l.State == LegRinging }) {
		return true
	}
	result := "failed"
	switch m.call.Cause {
	case causeBusy, 21:
		result = "busy"
	case causeNoAnswer, 18:
		result = "no_answer"
	case causeUnallocated:
		result = "unknown"
	}
	m.call.Cause = 0
	m.flowConnected(f, result)
	return true
}

// flowWaits tells that the flow's leg waits for its recovery: what its dead node has still to say, and time, move nothing before its 200.
func (m *machine) flowWaits() bool {
	l := m.call.Leg(m.call.Flow.Leg)
	return l != nil && l.State == LegLost
}

// flowResume goes on after a crash, where it was: a playback at its position, digits with those that were typed.
func (m *machine) flowResume() {
	f := m.call.Flow
	if f == nil || f.Step >= len(f.Actions) {
		return
	}
	l := m.call.Leg(f.Leg)
	a := f.Actions[f.Step]
	switch f.Phase {
	case "play":
		if a.Do == "say-tones" {
			a.Media = tones(m.expand(a.Text))
		}
		m.flowPlay(f, l, a, m.now.Sub(f.Started)+time.Duration(f.Position)*time.Millisecond)
	case "digits":
		f.Playback = ""
		f.Deadline = m.now.Add(seconds(orSeconds(a.Timeout, 10)))
	case "record":
		m.flowTimer()
	case "connect":
		// Targets that rang are gone with the node: they are called again.
		for _, x := range slices.Clone(m.call.Legs) {
			if x.ID != f.Leg {
				m.drop(x.ID)
			}
		}
		m.do(action{Do: doResolve, Leg: l.ID, Text: m.expand(a.To), N: int(orSeconds(a.Timeout, 0)), On: true})
	default:
		m.runFlow()
	}
}
