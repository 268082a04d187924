package bridge

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"rtcedge/bridge/ari"
)

// Command is what the API asks of a call or of one of its legs.
type Command struct {
	Do   string `json:"do"`
	Leg  string `json:"leg,omitempty"`
	By   string `json:"by,omitempty"` // leg that asks; it must be a moderator where that matters. "" is the operator
	On   bool   `json:"on"`
	To   string `json:"to,omitempty"`   // number, SIP URI, or IP:PORT of external media
	Text string `json:"text,omitempty"` // digits, media

	targets []Target // of To, resolved before the command is run
	local   string
}

// What commands do.
const (
	CmdHangup   = "hangup"
	CmdAdd      = "add"
	CmdKick     = "kick"
	CmdMute     = "mute"
	CmdMuteAll  = "mute_all"
	CmdHold     = "hold"
	CmdLock     = "lock"
	CmdStay     = "stay"
	CmdDTMF     = "dtmf"
	CmdPlay     = "play"
	CmdRecord   = "record"
	CmdTransfer = "transfer"
	CmdMove     = "move" // all legs to a number: a conference
	CmdMedia    = "media"
	CmdModerate = "moderator"
)

// Errors of commands.
var (
	ErrNoLeg      = errors.New("no such leg in the call")
	ErrNotAllowed = errors.New("only a moderator may do this")
	ErrState      = errors.New("not in this state of the call")
	ErrUnknown    = errors.New("unknown command")
)

// command runs what the API asks.
func (m *machine) command(c Command) error {
	defer m.moveOn()
	c.By, c.Leg = m.current(c.By), m.current(c.Leg)
	if c.By != "" {
		by := m.call.Leg(c.By)
		own := c.Leg == c.By && (c.Do == CmdMute || c.Do == CmdHold || c.Do == CmdDTMF || c.Do == CmdTransfer)
		if by == nil || !by.Moderator && !own {
			return ErrNotAllowed
		}
	}
	var l *Leg
	if c.Leg != "" {
		if l = m.call.Leg(c.Leg); l == nil {
			return fmt.Errorf("%w: %s", ErrNoLeg, c.Leg)
		}
	}
	switch c.Do {
	case CmdHangup:
		m.end(causeNormal)
		return nil
	case CmdAdd:
		if len(c.targets) == 0 {
			return fmt.Errorf("%w: %q leads nowhere", ErrState, c.To)
		}
		if m.call.MaxLegs > 0 && m.members() >= m.call.MaxLegs {
			return fmt.Errorf("%w: %d participants are the limit", ErrState, m.call.MaxLegs)
		}
		m.ringAll(c.targets, c.To, 0)
		return nil
	case CmdMuteAll:
		m.muteAll(c.On)
		return nil
	case CmdLock:
		m.call.Locked = c.On
		m.tell(pick(c.On, "locked", "unlocked"), "")
		return nil
	case CmdStay:
		m.call.Stay = c.On
		m.settle()
		return nil
	case CmdPlay:
		return m.cmdPlay(l, c.Text)
	case CmdRecord:
		return m.cmdRecord(l, c.On)
	case CmdMedia:
		m.external(c.To)
		return nil
	case CmdMove:
		for _, x := range slices.Clone(m.call.Legs) {
			if x.State == LegUp && x.External == "" {
				m.call.Leg(x.ID).Waiting = waitMove
				m.do(action{Do: doReroute, Leg: x.ID, Text: c.To, Record: x})
			}
		}
		return nil
	}
	if l == nil {
		return fmt.Errorf("%w: %q, or it needs a leg", ErrUnknown, c.Do)
	}
	return m.legCommand(l, c)
}

// current is the id that a leg has now: a recovery gives it another one, and who asks for it by the old one means the same.
func (m *machine) current(id string) string {
	if m.call.Leg(id) == nil {
		for _, l := range m.call.Legs {
			if BaseID(l.ID) == BaseID(id) {
				return l.ID
			}
		}
	}
	return id
}

// external adds a program that hears and is heard (RTP to IP:PORT).
func (m *machine) external(to string) {
	id := fmt.Sprintf("%s.%d", m.call.ID, m.nextLeg())
	m.call.Legs = append(m.call.Legs, Leg{ID: id, Node: m.call.Node, Role: LegOut, State: LegRinging, External: to})
	m.do(action{Do: doExternal, Leg: id, Text: to})
}

// members counts the participants.
func (m *machine) members() int {
	n := 0
	for _, l := range m.call.Legs {
		if l.Carry == "" {
			n++
		}
	}
	return n
}

func (m *machine) legCommand(l *Leg, c Command) error {
	switch c.Do {
	case CmdKick:
		m.do(action{Do: doHangup, Leg: l.ID, N: causeNormal})
		m.remove(l.ID)
	case CmdMute:
		m.mute(l, c.On)
	case CmdHold:
		return m.hold(l, c.On)
	case CmdModerate:
		l.Moderator = c.On
	case CmdDTMF:
		if l.State != LegUp {
			return ErrState
		}
		m.do(action{Do: doDTMF, Leg: l.ID, Text: c.Text})
	case CmdTransfer:
		if m.call.Transfer != nil || l.State != LegUp {
			return fmt.Errorf("%w: a transfer is under way, or the leg is not up", ErrState)
		}
		by := m.peer(l.ID)
		m.call.Transfer = &Transfer{Leg: l.ID, Number: c.To}
		if by != nil {
			m.call.Transfer.By = by.ID
		}
		m.transferTo(resolved{number: c.To, dest: Destination{Targets: c.targets, Local: c.local}})
	default:
		return fmt.Errorf("%w: %q", ErrUnknown, c.Do)
	}
	return nil
}

func (m *machine) mute(l *Leg, on bool) {
	if l.Muted == on {
		return
	}
	l.Muted = on
	if l.State == LegUp {
		m.do(action{Do: doMute, Leg: l.ID, Text: "in", On: on})
	}
	m.tell(pick(on, "muted", "unmuted"), l.ID)
}

func (m *machine) muteAll(on bool) {
	m.call.MutedAll = on
	for i := range m.call.Legs {
		if l := &m.call.Legs[i]; !l.Moderator && l.Carry == "" {
			m.mute(l, on)
		}
	}
}

// hold takes a leg out of the bridge and gives it music, or brings it back.
func (m *machine) hold(l *Leg, on bool) error {
	switch {
	case l.State != LegUp || on && l.Waiting != "" || !on && l.Waiting != waitHold:
		return fmt.Errorf("%w: the leg is not in the bridge, or not held", ErrState)
	case on:
		l.Waiting, l.Held = waitHold, true
		m.do(action{Do: doLeave, Leg: l.ID})
		m.do(action{Do: doMusic, Leg: l.ID, On: true})
		m.tell("held", l.ID)
	default:
		l.Waiting, l.Held = "", false
		m.do(action{Do: doMusic, Leg: l.ID, On: false})
		m.do(action{Do: doJoin, Leg: l.ID})
		if l.Muted {
			m.do(action{Do: doMute, Leg: l.ID, Text: "in", On: true})
		}
		m.tell("resumed", l.ID)
	}
	return nil
}

func (m *machine) cmdPlay(l *Leg, media string) error {
	switch {
	case media == "":
		return fmt.Errorf("%w: no media (allowed: sound:NAME, recording:NAME)", ErrState)
	case l != nil:
		m.playTo(l.ID, media)
	case m.call.Bridge == "":
		return fmt.Errorf("%w: there is no bridge to play to", ErrState)
	default:
		m.sound(media)
	}
	return nil
}

func (m *machine) cmdRecord(l *Leg, on bool) error {
	switch {
	case l != nil && on && l.Recording == "" && l.State == LegUp:
		m.recordLeg(l)
	case l != nil && !on && l.Recording != "":
		m.do(action{Do: doStopRecord, Text: l.Recording})
		l.Recording = ""
	case l == nil && on && m.call.Recording == "" && m.call.Bridge != "":
		m.recordBridge()
	case l == nil && !on && m.call.Recording != "":
		m.do(action{Do: doStopRecord, Text: m.call.Recording})
		m.call.Recording = ""
	default:
		return fmt.Errorf("%w: it is recorded already, or there is nothing to record or to stop", ErrState)
	}
	return nil
}

// recordBridge and recordLeg begin a recording under a new name. After a crash the former file is lost or on the node that is gone: a
// new part begins.
func (m *machine) recordBridge() {
	m.call.Recording = m.recordingName("bridge")
	m.do(action{Do: doRecord, Text: m.call.Recording})
}

func (m *machine) recordLeg(l *Leg) {
	l.Recording = m.recordingName("leg")
	m.do(action{Do: doSnoop, Leg: l.ID, Text: l.Recording})
}

func (m *machine) recordingName(what string) string {
	name := fmt.Sprintf("%s-%s-%d", m.call.ID, what, len(m.call.Recordings)+1)
	m.call.Recordings = append(m.call.Recordings, name)
	m.tell("recording", name)
	return name
}

// recorded is the end of a recording that nobody stopped: the limit, or a failure.
func (m *machine) recorded(r ari.LiveRecording) {
	if m.call.Recording == r.Name {
		m.call.Recording = ""
	}
	for i := range m.call.Legs {
		if m.call.Legs[i].Recording == r.Name {
			m.call.Legs[i].Recording = ""
		}
	}
	m.tell("recorded", r.Name)
	m.flowRecorded(r)
}

// digit is a key: of a PIN, of a flow, or a moderator's.
func (m *machine) digit(id, digit string) {
	l := m.call.Leg(id)
	if l == nil {
		return
	}
	m.do(action{Do: doTell, Leg: id, Text: "dtmf", Text2: digit})
	switch {
	case l.Waiting == waitPIN:
		m.pinDigit(l, digit)
	case l.Waiting == waitFlow:
		m.flowDigit(digit)
	case m.call.Conference != "":
		m.menu(l, digit)
	}
}

func (m *machine) pinDigit(l *Leg, digit string) {
	if digit != "#" {
		if len(l.Digits) < 32 {
			l.Digits += digit
		}
		return
	}
	typed := l.Digits
	l.Digits = ""
	switch typed {
	case m.call.ModeratorPIN:
		l.Moderator = true
		m.enter(l)
	case m.call.PIN:
		m.enter(l)
	default:
		if l.Tries++; l.Tries >= m.rules.PINTries {
			m.do(action{Do: doHangup, Leg: l.ID, N: 21})
			m.remove(l.ID)
			return
		}
		l.Answered = m.now // a new time limit for the next try
		m.playTo(l.ID, m.rules.PINSound)
	}
}

// menu is what a participant does with keys: *6 mutes itself; a moderator's *1 locks, *2 mutes all, *9 ends the conference for all.
func (m *machine) menu(l *Leg, digit string) {
	if digit == "*" || l.Digits != "*" { // a second star begins anew
		l.Digits = pick(digit == "*", "*", "")
		return
	}
	l.Digits = ""
	switch {
	case digit == "6":
		m.mute(l, !l.Muted)
	case !l.Moderator:
	case digit == "1":
		m.call.Locked = !m.call.Locked
		m.tell(pick(m.call.Locked, "locked", "unlocked"), "")
	case digit == "2":
		m.muteAll(!m.call.MutedAll)
	case digit == "9":
		m.end(causeNormal)
	}
}

// seconds turns a flow's number into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
