package transport

import (
	"net"
	"testing"
	"time"
)

// sink counts writes and notes deadlines.
type sink struct {
	net.Conn
	writes    int
	text      string
	deadlines []time.Time
}

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Write(b []byte) (int, error) {
	s.writes++
	s.text += string(b)
	return len(b), nil
}

func (s *sink) Read([]byte) (int, error) { return 1, nil }

func (s *sink) SetReadDeadline(t time.Time) error {
	s.deadlines = append(s.deadlines, t)
	return nil
}

// TestB06FramesOfAQueue: what is written while it is held leaves in one write and in its order; before and after it leaves at once.
func TestB06FramesOfAQueue(t *testing.T) {
	s := &sink{}
	w := &wsConn{Conn: s, cfg: &Config{}}
	write := func(text string) {
		if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("a")
	w.hold(new(queue))
	write("b")
	write("c")
	if s.text != "a" {
		t.Errorf("held, and yet sent: %q", s.text)
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	write("d")
	if err := w.flush(); err != nil || s.text != "abcd" || s.writes != 3 {
		t.Errorf("%q in %d writes, %v", s.text, s.writes, err)
	}
}

// TestF32WebSocketDeadlines: a pong extends the wait for a message, to two missed pings and never beyond the idle time; nothing extends the
// wait for the rest of one; and a busy connection does not set its deadline for each message.
func TestF32WebSocketDeadlines(t *testing.T) {
	cfg := &Config{MessageTimeout: 8 * time.Second, IdleTimeout: 100 * time.Second, PingInterval: 30 * time.Second}
	w := &wsConn{cfg: cfg}
	start := time.Unix(1_000_000, 0)
	check := func(what string, after, want time.Duration) {
		t.Helper()
		if got, _ := w.deadline(start.Add(after)); got != start.Add(want) {
			t.Errorf("%s: %v, want %v", what, got.Sub(start), want)
		}
	}
	w.idle(start.Add(8 * time.Second))
	check("first message", 0, 8*time.Second)
	w.message()
	check("rest of it", time.Second, 9*time.Second)
	w.pong()
	check("a pong within it", 5*time.Second, 9*time.Second)
	w.idle(time.Time{})
	check("the next", 10*time.Second, 85*time.Second)
	check("no pong", 20*time.Second, 85*time.Second)
	w.pong()
	check("a pong", 30*time.Second, 105*time.Second)
	w.pong()
	check("never beyond the idle time", 60*time.Second, 110*time.Second)

	s := &sink{}
	w = &wsConn{Conn: s, cfg: cfg}
	for range 100 {
		w.idle(time.Time{})
		if _, err := w.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.deadlines) != 1 {
		t.Errorf("%d deadlines for 100 messages", len(s.deadlines))
	}
}
