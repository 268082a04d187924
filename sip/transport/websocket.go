package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// pingSlices spreads the pings of all connections over PingInterval.
const pingSlices = 16

// serveWebSocket upgrades an accepted connection (RFC 7118) and reads its messages. The HTTP request is read here and not by an
// http.Server, so that one goroutine, one deadline and one table entry cover a connection from accept to close.
func (c *conn) serveWebSocket(deadline time.Time) CloseReason {
	if err := c.nc.SetDeadline(deadline); err != nil {
		return ClosePeer
	}
	wc := &wsConn{Conn: c.nc, cfg: &c.t.cfg}
	ws, err := c.upgrade(wc)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return CloseSlow
		}
		return CloseUpgrade
	}
	defer ws.CloseNow()
	if err := c.nc.SetDeadline(time.Time{}); err != nil {
		return ClosePeer
	}
	ws.SetReadLimit(int64(c.t.cfg.MaxMessage))
	c.mu.Lock()
	c.ws, c.wc = ws, wc
	c.mu.Unlock()
	if !c.open() {
		return CloseShutdown
	}
	return c.readFrames(ws, wc, deadline)
}

func (c *conn) upgrade(wc *wsConn) (*websocket.Conn, error) {
	br := bufio.NewReaderSize(io.LimitReader(c.nc, maxUpgrade), smallBuffer)
	w := &upgradeWriter{nc: wc, br: br, header: http.Header{}}
	req, err := http.ReadRequest(br)
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) {
			http.Error(w, "not an HTTP request", http.StatusBadRequest)
		}
		return nil, err
	}
	if req.URL.Path != c.t.cfg.WSPath {
		http.Error(w, "no such path", http.StatusNotFound)
		return nil, errors.New("wrong path")
	}
	ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{
		Subprotocols:       []string{"sip"},
		InsecureSkipVerify: len(c.t.cfg.WSOrigins) == 0,
		OriginPatterns:     c.t.cfg.WSOrigins,
		OnPongReceived:     func(context.Context, []byte) { wc.pong() },
	})
	if err != nil {
		return nil, err
	}
	// RFC 7118 section 4: a client that does not name the subprotocol does not speak SIP.
	if ws.Subprotocol() != "sip" {
		_ = ws.CloseNow()
		return nil, errors.New("no subprotocol")
	}
	return ws, nil
}

// readFrames takes messages until the connection ends. The reader's limits are deadlines of the socket, not contexts: those
// would cost a timer goroutine per message.
func (c *conn) readFrames(ws *websocket.Conn, wc *wsConn, first time.Time) CloseReason {
	small := make([]byte, smallBuffer)
	spoke := false
	wc.idle(first)
	for {
		_, r, err := ws.Reader(context.Background())
		if err == nil {
			wc.message()
			err = c.readFrame(r, small, &spoke)
		}
		if err != nil {
			return wc.reason(err, spoke)
		}
		if spoke {
			first = time.Time{}
		}
		wc.idle(first)
	}
}

func (c *conn) readFrame(r io.Reader, small []byte, spoke *bool) error {
	n, err := readFull(r, small)
	b := small[:n]
	if err == nil { // more to come
		large := c.t.large.get(c.t.cfg.MaxMessage + smallBuffer)
		defer c.t.large.put(large)
		copy(large, b)
		var more int
		more, err = readFull(r, large[n:])
		b = large[:n+more]
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	count := c.shared()
	if blank(b) { // JsSIP and SIP.js send CRLF CRLF as over TCP
		count.drops[DropKeepAlive].Add(1)
		if len(b) >= 4 {
			_ = c.enqueue([]byte("\r\n"))
		}
		return nil
	}
	*spoke = true
	count.messagesIn.Add(1)
	count.bytesIn.Add(uint64(len(b)))
	w := c.t.workers.Get().(*Worker)
	w.msg = Message{Bytes: b[:len(b):len(b)], From: c.peer, Listener: c.l, Flow: c.flow, Worker: w}
	c.t.handler.Handle(&w.msg)
	w.msg = Message{}
	c.t.workers.Put(w)
	return nil
}

// readFull reads until b is full, with a nil error, or the message ends, with io.EOF.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

func (w *wsConn) reason(err error, spoke bool) CloseReason {
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig):
		return CloseOversize
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return ClosePeer
	case !w.inside && spoke:
		return CloseIdle
	}
	return CloseSlow
}

// writeFrames sends each message of the queue as one frame, and all frames in one write. The write deadline of the socket limits it.
func (c *conn) writeFrames(q *queue) error {
	if len(q.ends) == 1 {
		return writeFrame(c.ws, q.b)
	}
	frames := c.t.queues.Get().(*queue)
	defer c.t.release(frames)
	defer c.wc.hold(nil)
	c.wc.hold(frames)
	start := 0
	for _, end := range q.ends {
		if err := writeFrame(c.ws, q.b[start:end]); err != nil {
			return err
		}
		start = end
	}
	return c.wc.flush()
}

func writeFrame(ws *websocket.Conn, b []byte) error {
	// RFC 7118 section 4.2: text where the message is UTF-8, binary otherwise.
	kind := websocket.MessageBinary
	if utf8.Valid(b) {
		kind = websocket.MessageText
	}
	return ws.Write(context.Background(), kind, b)
}

// pingAll pings the connections of a listener, so that dead peers and forgetful HTTP proxies are noticed.
func (l *Listener) pingAll(ctx context.Context) {
	tick := time.NewTicker(max(l.t.cfg.PingInterval/pingSlices, time.Millisecond))
	defer tick.Stop()
	for slice := Flow(0); ; slice = (slice + 1) % pingSlices {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range l.t.conns.all(l) {
			if c.flow%pingSlices == slice {
				c.ping(ctx)
			}
		}
	}
}

func (c *conn) ping(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.ready || c.ws == nil {
		return
	}
	ws := c.ws
	c.writer.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, c.t.cfg.WriteTimeout)
		defer cancel()
		_ = ws.Ping(ctx) // the read deadline notices a missing pong
	})
}

// upgradeWriter is the http.ResponseWriter and http.Hijacker of one upgrade request.
type upgradeWriter struct {
	nc     *wsConn
	br     *bufio.Reader
	header http.Header
	wrote  bool
}

func (w *upgradeWriter) Header() http.Header { return w.header }

func (w *upgradeWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	if status != http.StatusSwitchingProtocols {
		w.header.Set("Connection", "close")
	}
	bw := bufio.NewWriterSize(w.nc, 1024)
	fmt.Fprintf(bw, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = w.header.Write(bw)
	_, _ = bw.WriteString("\r\n")
	_ = bw.Flush() // a failed write shows at the next read
}

func (w *upgradeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.nc.Write(b)
}

func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.nc, bufio.NewReadWriter(w.br, bufio.NewWriterSize(w.nc, smallBuffer)), nil
}
