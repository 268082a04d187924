package bridge

import (
	"slices"
	"time"
)

// timers does what is due.
func (m *machine) timers() {
	for _, l := range slices.Clone(m.call.Legs) {
		switch {
		case l.State == LegLost && !m.call.LostAt.IsZero() && !m.now.Before(m.call.LostAt.Add(m.rules.LostGrace)):
			m.gone(l.ID, causeFailure)
		case l.State == LegLost: // who could hang it up is dead: what is due is done when it is back
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
	if m.left() && !m.now.Before(m.call.Created.Add(leftTime)) {
		m.over()
	}
	m.flowTimer()
	m.moveTimers()
}

// leftTime is how long a call may have no leg: at its beginning only.
const leftTime = 5 * time.Second

// left is a record that stayed when the process that ended its call died before it was gone.
func (m *machine) left() bool { return !m.ended && m.call.Conference == "" && len(m.call.Legs) == 0 }

// wake is when timers must run next; the zero time is never.
func (m *machine) wake() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, l := range m.call.Legs {
		if l.State == LegLost {
			if !m.call.LostAt.IsZero() {
				at(m.call.LostAt.Add(m.rules.LostGrace))
			}
			continue
		}
		at(l.Limit)
		if l.Waiting == waitPIN {
			at(l.Answered.Add(m.rules.PINTimeout))
		}
	}
	if m.call.Conference != "" && len(m.call.Legs) == 0 && !m.call.Stay && !m.call.Empty.IsZero() {
		at(m.call.Empty.Add(m.rules.Linger))
	}
	if m.left() {
		at(m.call.Created.Add(leftTime))
	}
	at(m.moveWake())
	if m.call.Flow != nil && !m.flowWaits() {
		at(m.call.Flow.Deadline)
	}
	return next
}
