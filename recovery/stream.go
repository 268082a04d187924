package recovery

import (
	"context"
	"encoding/base64"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Chosen by us.
const (
	pongWait     = 50 * time.Millisecond // who has not answered on the stream by then is asked in all other ways as well
	streamWait   = 2 * time.Second       // for the handshake
	streamPause  = 250 * time.Millisecond
	streamPauses = 4 * time.Second // the longest pause: of a node that has no event stream
	streamStale  = 5 * time.Second // without an answer: the node may be a new one at the same address, which does not know the connection
	streamLimit  = 1 << 20         // bytes of an event; they are not read
)

// stream is ARI's event stream of a node, held open for what it tells by breaking: nothing says sooner that a process ended, be it on another machine. While the
// node answers on it, it is asked nothing over connections of their own, each of which costs an Asterisk a thread.
type stream struct {
	conn   atomic.Pointer[websocket.Conn]
	opened atomic.Pointer[time.Time]
	broken chan struct{} // it broke: look now
	heard  atomic.Int64  // when it was answered last, or opened; Unix time in ns
}

func newStream() stream {
	return stream{broken: make(chan struct{}, 1)}
}

// follow keeps the stream open until ctx ends. The application is the prober's own: events of calls belong to somebody else's.
func (p *prober) follow(ctx context.Context, app string) {
	for pause := streamPause; ctx.Err() == nil; {
		conn, err := p.open(ctx, app)
		if err != nil {
			sleep(ctx, pause)
			pause = min(2*pause, streamPauses)
			continue
		}
		pause = streamPause
		p.stream.heard.Store(time.Now().UnixNano())
		now := time.Now()
		p.stream.opened.Store(&now)
		p.stream.conn.Store(conn)
		for err == nil {
			_, _, err = conn.Read(ctx)
		}
		p.stream.conn.Store(nil)
		_ = conn.CloseNow()
		select {
		case p.stream.broken <- struct{}{}:
		default:
		}
	}
}

func (p *prober) open(ctx context.Context, app string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	basic := base64.StdEncoding.EncodeToString([]byte(p.target.User + ":" + p.target.Password))
	conn, _, err := websocket.Dial(ctx, "ws://"+p.host+"/ari/events?app="+app, &websocket.DialOptions{Subprotocols: []string{"ari"},
		HTTPClient: p.client, HTTPHeader: http.Header{"Authorization": {"Basic " + basic}}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(streamLimit)
	return conn, nil
}

// holds tells whether the stream that stands now stood at a moment: then the process is the one of that moment.
func (s *stream) holds(at time.Time) bool {
	opened := s.opened.Load()
	return s.conn.Load() != nil && opened != nil && !at.Before(*opened)
}

// pong tells whether the node answers on its stream within pongWait.
func (p *prober) pong(ctx context.Context) bool {
	conn := p.stream.conn.Load()
	if conn == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pongWait)
	defer cancel()
	if conn.Ping(ctx) == nil {
		p.stream.heard.Store(time.Now().UnixNano())
		return true
	}
	if last := time.Unix(0, p.stream.heard.Load()); time.Since(last) > streamStale {
		_ = conn.CloseNow() // follow opens another one
	}
	return false
}
