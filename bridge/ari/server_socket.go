package ari

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// A socket that does not take a message for so long is dead; one that is idle is asked as often.
const (
	socketWrite = 5 * time.Second
	socketPing  = 20 * time.Second
)

// client is one event socket.
type client struct {
	patience time.Duration // of one write
	out      chan []byte
	stop     context.CancelFunc
}

// queue hands a message to the writer, or cuts the client if too many wait.
func (c *client) queue(body []byte) bool {
	select {
	case c.out <- body:
		return true
	default:
		c.stop()
		return false
	}
}

// events is GET /ari/events: it registers the applications and stays until the socket ends.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var apps []string
	for name := range strings.SplitSeq(query.Get("app"), ",") {
		if name != "" && !slices.Contains(apps, name) {
			apps = append(apps, name)
		}
	}
	if len(apps) == 0 {
		refuse(w, http.StatusBadRequest, "HTTP request is missing param: [app]")
		return
	}
	if !s.admit() {
		refuse(w, http.StatusServiceUnavailable, "Too many event sockets")
		return
	}
	defer s.sockets.Done()
	defer s.release()
	ctx, stop := context.WithCancel(s.life)
	defer stop()
	// The applications are there before the client hears that it is connected: it may count on events from then on.
	c := &client{patience: s.cfg.WriteTimeout, out: make(chan []byte, s.cfg.Queue), stop: stop}
	s.register(c, apps, truth(query.Get("subscribeAll")))
	defer s.unregister(c)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ari"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxBody)

	written := make(chan struct{})
	go func() {
		defer close(written)
		defer stop()
		c.write(ctx, conn)
	}()
	s.read(ctx, conn, c)
	stop()
	<-written
}

// truth reads a truth value as Asterisk does.
func truth(text string) bool {
	return (&Request{values: map[string][]string{"v": {text}}}).Bool("v")
}

// admit counts a socket in, if there is room and the server still runs.
func (s *Server) admit() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.life.Err() != nil || s.hub.sockets >= s.cfg.Clients {
		return false
	}
	s.hub.sockets++
	s.sockets.Add(1)
	return true
}

func (s *Server) release() {
	s.hub.mu.Lock()
	s.hub.sockets--
	s.hub.mu.Unlock()
}

// register makes the client the one of its applications. The client before is told and loses them.
func (s *Server) register(c *client, apps []string, all bool) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for _, name := range apps {
		a := s.hub.apps[name]
		if a == nil {
			a = &application{subs: map[string]bool{}}
			s.hub.apps[name] = a
		}
		if old := a.client; old != nil && old != c {
			s.tellLocked(old, name, "ApplicationReplaced", nil)
		}
		a.client, a.all = c, all
	}
}

// unregister leaves the applications that have channels, for the next socket.
func (s *Server) unregister(c *client) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for name, a := range s.hub.apps {
		if a.client != c {
			continue
		}
		a.client = nil
		if len(a.subs) == 0 {
			delete(s.hub.apps, name)
		}
	}
}

// write sends what is queued, and asks now and then if the client is still there.
func (c *client) write(ctx context.Context, conn *websocket.Conn) {
	ping := time.NewTicker(socketPing)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case body := <-c.out:
			err = c.limited(ctx, func(limit context.Context) error { return conn.Write(limit, websocket.MessageText, body) })
		case <-ping.C:
			err = c.limited(ctx, conn.Ping)
		}
		if err != nil {
			return
		}
	}
}

// limited gives a write its time from now on, however long there was nothing to write.
func (c *client) limited(ctx context.Context, write func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	return write(limit)
}

// read takes REST requests until the socket ends, one after the other, so that their order is the client's.
func (s *Server) read(ctx context.Context, conn *websocket.Conn, c *client) {
	for {
		kind, body, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			continue
		}
		if out := s.rest(ctx, body); out != nil && !c.queue(out) {
			s.hub.dropped.Add(1)
			return
		}
	}
}

// rest runs one REST request and prints its answer (Asterisk 22: res_ari/ari_websocket_requests.c).
func (s *Server) rest(ctx context.Context, body []byte) []byte {
	var in restRequest
	w := &memory{status: http.StatusOK, header: http.Header{}}
	if err := json.Unmarshal(body, &in); err != nil || in.Type != "RESTRequest" {
		refuse(w, http.StatusBadRequest, "Message is no RESTRequest")
	} else if r, err := in.http(ctx); err != nil {
		refuse(w, http.StatusBadRequest, "Invalid URI or method")
	} else {
		s.answer(w, r)
	}
	out := map[string]any{
		"type": "RESTResponse", "transaction_id": in.TransactionID, "request_id": in.RequestID, "uri": in.URI,
		"status_code": w.status, "reason_phrase": http.StatusText(w.status),
	}
	if w.body.Len() > 0 {
		out["content_type"], out["message_body"] = w.header.Get("Content-Type"), w.body.String()
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return text
}

// http makes the request that HTTP would have brought.
func (in *restRequest) http(ctx context.Context) (*http.Request, error) {
	path, rawQuery, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(in.URI, "/"), "ari/"), "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, err
	}
	for _, q := range in.Query {
		query.Add(q.Name, q.Value)
	}
	r, err := http.NewRequestWithContext(ctx, in.Method, "/ari/"+path+"?"+query.Encode(), strings.NewReader(in.Body))
	if err != nil {
		return nil, err
	}
	if in.ContentType != "" {
		r.Header.Set("Content-Type", in.ContentType)
	}
	return r, nil
}

// memory is a ResponseWriter for an answer that travels in a message.
type memory struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) WriteHeader(status int)      { m.status = status }
func (m *memory) Write(b []byte) (int, error) { return m.body.Write(b) }
