package transport

import (
	"net"
	"sync"
	"time"
)

// wsConn is the connection below a WebSocket, as the WebSocket's library sees it. It knows when the library really waits for the peer, so
// that deadlines are set only then; and it collects the frames of a queue, so that they leave in one write.
type wsConn struct {
	net.Conn
	cfg *Config

	// Owned by the reading goroutine.
	until  time.Time // when it is closed if no message comes; zero: IdleTimeout after it was heard
	heard  time.Time // the last message or pong; zero: now
	began  time.Time // of a message: when we first waited for the rest of it
	inside bool      // a message has begun and not ended
	armed  time.Time // the socket's read deadline

	mu    sync.Mutex // guards the rest, and keeps writes apart
	held  *queue     // where writes go, nil: to the peer
	wrote time.Time  // when the socket's write deadline was moved
}

// idle begins the wait for the next message. until bounds it; zero: by the idle time.
func (w *wsConn) idle(until time.Time) { w.until, w.heard, w.inside = until, time.Time{}, false }

// message begins a message: from now on nothing extends the wait for its end.
func (w *wsConn) message() { w.inside, w.began = true, time.Time{} }

// pong extends the wait for the next message.
func (w *wsConn) pong() {
	if !w.inside {
		w.heard = time.Time{}
	}
}

// Read sets the deadline for what is waited for, if that has moved.
func (w *wsConn) Read(b []byte) (int, error) {
	if want, slack := w.deadline(time.Now()); want.Before(w.armed) || want.Sub(w.armed) > slack {
		if err := w.SetReadDeadline(want); err != nil {
			return 0, err
		}
		w.armed = want
	}
	return w.Conn.Read(b)
}

// deadline bounds the next read: for the rest of a message, for two pings that may be missed, or for idleness. The socket's may be earlier
// by slack, as setting it costs more than reading a message.
func (w *wsConn) deadline(now time.Time) (want time.Time, slack time.Duration) {
	if w.inside {
		if w.began.IsZero() {
			w.began = now
		}
		return w.began.Add(w.cfg.MessageTimeout), 0
	}
	if w.heard.IsZero() {
		w.heard = now
		if w.until.IsZero() {
			w.until = now.Add(w.cfg.IdleTimeout)
		}
	}
	alive := 2*w.cfg.PingInterval + w.cfg.PingInterval/2
	if want = w.heard.Add(alive); want.Before(w.until) {
		return want, alive / 64
	}
	return w.until, min(alive, w.cfg.IdleTimeout) / 64
}

// Write sends, or adds to what is held.
func (w *wsConn) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held != nil {
		w.held.b = append(w.held.b, b...)
		return len(b), nil
	}
	// Pings and pongs leave by themselves: with the deadline of the message before them, a connection that was quiet for longer would be closed.
	if now := time.Now(); now.Sub(w.wrote) > w.cfg.WriteTimeout/64 {
		if err := w.SetWriteDeadline(now.Add(w.cfg.WriteTimeout)); err != nil {
			return 0, err
		}
		w.wrote = now
	}
	return w.Conn.Write(b)
}

// hold collects what is written from now on in q.
func (w *wsConn) hold(q *queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = q
}

// flush sends what was collected and ends the collecting.
func (w *wsConn) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.held
	w.held = nil
	if q == nil || len(q.b) == 0 {
		return nil
	}
	_, err := w.Conn.Write(q.b)
	return err
}
