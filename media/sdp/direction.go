package sdp

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Direction is who may send, seen from the writer of the body (RFC 8866, section 6.7).
type Direction uint8

// The directions; the zero value is the default of the RFC.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

var directionNames = [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}

// String is the attribute's name.
func (d Direction) String() string { return directionNames[d&3] }

// Reverse is the same direction seen from the other end: the widest answer to an offer.
func (d Direction) Reverse() Direction {
	switch d {
	case SendOnly:
		return RecvOnly
	case RecvOnly:
		return SendOnly
	}
	return d
}

// Sends tells if the writer of the body sends.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives tells if the writer of the body receives.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// direction finds the first direction attribute of the section.
func (s *section) direction() (Direction, bool) {
	for _, l := range s.lines {
		if d, ok := l.direction(); ok {
			return d, true
		}
	}
	return SendRecv, false
}

func (l line) direction() (Direction, bool) {
	name, _, ok := l.attr()
	if ok {
		for d, n := range directionNames {
			if name == n {
				return Direction(d), true
			}
		}
	}
	return SendRecv, false
}

// Direction is the media's direction, else the session's, else sendrecv.
func (m *Media) Direction() Direction {
	if d, ok := m.section.direction(); ok {
		return d
	}
	d, _ := m.session.section.direction()
	return d
}

// SetDirection replaces the media's direction line in place, or adds one if the session's default says something else.
func (m *Media) SetDirection(d Direction) {
	if m.Direction() == d {
		return
	}
	seen := false
	m.remove(func(l line) bool {
		_, ok := l.direction()
		drop := ok && seen
		seen = seen || ok
		return drop
	})
	for i, l := range m.lines {
		if _, ok := l.direction(); ok {
			m.setText(i, "a="+d.String())
			return
		}
	}
	m.AddAttr(d.String(), "")
}

// PTime is a=ptime, 0 if absent or senseless.
func (m *Media) PTime() time.Duration { return m.milliseconds("ptime") }

// MaxPTime is a=maxptime, 0 if absent or senseless.
func (m *Media) MaxPTime() time.Duration { return m.milliseconds("maxptime") }

// SetPTime replaces or adds a=ptime; 0 removes it.
func (m *Media) SetPTime(d time.Duration) {
	if d <= 0 {
		m.DelAttr("ptime")
		return
	}
	if d != m.PTime() {
		m.SetAttr("ptime", strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64))
	}
}

// milliseconds reads an attribute that RFC 8866, section 6.4 allows to be a fraction.
func (m *Media) milliseconds(name string) time.Duration {
	v, ok := m.Attr(name)
	if !ok {
		return 0
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil || math.IsNaN(f) || f <= 0 || f > 10_000 {
		return 0
	}
	return time.Duration(math.Round(f * float64(time.Millisecond)))
}
